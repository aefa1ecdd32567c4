# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Attention decoders as teachers: what they write, that their scores are right, and what is refused."""

import json
import tarfile

import pytest
import soundfile
import tiny
import tiny_aed
import tiny_scores
import torch
from built_once import built_once
from killed_scoring import assert_it_continues, kill_in_the_middle
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.attention_prompt import AttentionPrompt
from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.manifest import read_manifest, write_manifest
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.evaluation.error_rates import score as error_rates
from nemo_oracle_kd.labelling.format import read_header, row_hash

PROMPT = [f'{slot}={value}' for slot, value in tiny_aed.PROMPT.items()]


@pytest.fixture(scope='module')
def aed_teacher(tone_corpus, tmp_path_factory):
    """An attention decoder that has learned the tones, as a `.nemo` file."""

    def build(folder):
        model = tiny_aed.aed_model(folder / 'tokenizers', width=32)
        tiny_aed.teach(model, tone_corpus, steps=80)
        model.save_to(str(folder / 'aed.nemo'))

    return built_once(tmp_path_factory, 'aed', build) / 'aed.nemo'


def _words(teacher, manifest, output, *options, prompt=PROMPT):
    words = ['--teacher', teacher, '--manifest', manifest, '--output', output, '--device', 'cpu', *options]
    return ['score', *map(str, words), *(['--prompt', *prompt] if prompt else [])]


def _score(*arguments, prompt=PROMPT):
    return main(_words(*arguments, prompt=prompt))


@pytest.fixture(scope='module')
def scored(aed_teacher, tone_corpus, tmp_path_factory):
    """The tone corpus, labelled by NeMo's beam search."""
    output = tmp_path_factory.mktemp('scored') / 'out.jsonl'
    assert _score(aed_teacher, tone_corpus, output, '--nbest', 4, '--batch-size', 5) == 0
    return output


@torch.no_grad()
def _states(model, row):
    """Outputs of the encoder for one utterance, and their mask."""
    signal = torch.from_numpy(soundfile.read(row['audio_filepath'], dtype='float32')[0]).unsqueeze(0)
    return model.forward(input_signal=signal, input_signal_length=torch.tensor([signal.shape[1]]))[2:]


@torch.no_grad()
def _sum_over_tokens(model, states, text):
    """`log P(text, end | audio, prompt)`, one utterance and one token at a time, through the parts of the decoder."""
    special, tokenizer = model.tokenizer.special_tokens, model.tokenizer
    names = ('startoftranscript', 'en', 'transcribe', 'en', 'nopnc')
    prefix = [special[f'<|{name}|>'] for name in names]
    total = 0.0
    for token in [*tokenizer.text_to_ids(text, 'en'), special['<|endoftext|>']]:
        embedded = model.transf_decoder.embedding(torch.tensor([prefix]))
        hidden, _ = model.transf_decoder.decoder(embedded, torch.ones(1, len(prefix)), *states)
        logits = hidden[0, -1] @ model.log_softmax.mlp.layer0.weight.T + model.log_softmax.mlp.layer0.bias
        total += float(torch.log_softmax(logits.double(), 0)[token])
        prefix.append(token)
    return total


def test_scores_are_the_sum_over_the_tokens_of_the_text_and_its_end(aed_teacher, scored):
    model = restore_frozen(str(aed_teacher))
    rows = read_manifest(scored)
    states = [_states(model, row) for row in rows[:8]]
    for row, of_one in zip(rows, states):
        for entry in row['teacher_nbest']:
            expected = _sum_over_tokens(model, of_one, entry['text'])
            assert entry['log_prob'] == pytest.approx(expected, rel=1e-4, abs=6e-4)
        assert row['teacher_tokens'] == len(model.tokenizer.text_to_ids(row['text'], 'en'))
    # six decimals, so that the rounding of the file does not hide an error of 1e-4 in a score near zero
    from nemo_oracle_kd.bridge.attention import score_attention
    from nemo_oracle_kd.bridge.audio import AudioSpan, audio_batch, read_audio
    from nemo_oracle_kd.bridge.encode import encode_audio
    from nemo_oracle_kd.bridge.sequence_scores import Hypotheses

    prompt = AttentionPrompt(model, tiny_aed.PROMPT)
    texts = [[row['reference_text'], 'd', ''][: 3 - (i % 2)] for i, row in enumerate(rows[:5])]
    audio = encode_audio(model, audio_batch([read_audio(AudioSpan.of_row(row), tiny.SAMPLE_RATE) for row in rows[:5]]))
    hypotheses = Hypotheses.from_lists([[prompt.encode(text) for text in of_one] for of_one in texts])
    expected = [[_sum_over_tokens(model, heard, text) for text in of_one] for heard, of_one in zip(states, texts)]
    for max_cells in (50_000, 300):
        found = score_attention(model, prompt, audio, hypotheses, max_cells)
        for of_one, values in zip(expected, found, strict=True):
            assert values[: len(of_one)].tolist() == pytest.approx(of_one, rel=1e-4)
            assert values[len(of_one) :].tolist() == [-torch.inf] * (3 - len(of_one))


def test_rows_hold_an_nbest_list_and_the_header_says_what_was_scored(aed_teacher, tone_corpus, scored, tmp_path):
    before, after = read_manifest(tone_corpus), read_manifest(scored)
    for old, new in zip(before, after, strict=True):
        values, texts = zip(*((entry['log_prob'], entry['text']) for entry in new['teacher_nbest']))
        assert new['reference_text'] == old['text'] and new['teacher_row'] == row_hash(new)
        assert list(values) == sorted(values, reverse=True) and values[0] <= 0 and len(set(texts)) == len(texts)
        assert (new['text'], new['teacher_log_prob']) == (texts[0], values[0])
    assert sum(len(row['teacher_nbest']) for row in after) > 2 * len(after)
    references = [row['text'] for row in before]
    assert error_rates(references, [row['text'] for row in after]).cer < 25.0
    header = read_header(scored)
    assert header['teacher']['class'] == 'EncDecMultiTaskModel' and header['teacher']['head'] == 'attention'
    assert header['teacher']['prompt'] == {'source_lang': 'en', 'task': 'asr', 'target_lang': 'en', 'pnc': 'no'}
    assert 'end token | audio, prompt' in header['teacher']['scores'] and header['decoding']['strategy'] == 'beam'
    assert _score(aed_teacher, tone_corpus, tmp_path / 'greedy.jsonl', '--nbest', 1) == 0
    greedy = read_manifest(tmp_path / 'greedy.jsonl')
    assert read_header(tmp_path / 'greedy.jsonl')['decoding']['strategy'] == 'greedy_batch'
    assert error_rates(references, [row['text'] for row in greedy]).cer < 25.0
    assert all(one['teacher_log_prob'] <= row['teacher_log_prob'] + 0.0011 for one, row in zip(greedy, after))


def test_neither_texts_nor_scores_depend_on_the_batch(aed_teacher, tone_corpus, scored, tmp_path):
    assert _score(aed_teacher, tone_corpus, tmp_path / 'one.jsonl', '--nbest', 4, '--batch-size', 1) == 0
    for one, five in zip(read_manifest(tmp_path / 'one.jsonl'), read_manifest(scored)):
        mine, others = ({e['text']: e['log_prob'] for e in row['teacher_nbest']} for row in (one, five))
        assert mine.keys() == others.keys()
        assert all(mine[text] == pytest.approx(others[text], abs=0.0011) for text in mine)


def test_references_and_lists_of_others_are_scored_and_texts_it_cannot_write_are_left_out(
    aed_teacher, tone_corpus, scored, tmp_path, capsys
):
    output, again = tmp_path / 'reference.jsonl', tmp_path / 'again.jsonl'
    assert _score(aed_teacher, tone_corpus, output, '--reference') == 0
    known = {
        (r['audio_filepath'], e['text']): e['log_prob'] for r in read_manifest(scored) for e in r['teacher_nbest']
    }
    both = [
        (row['teacher_log_prob'], known[row['audio_filepath'], row['text']])
        for row in read_manifest(output)
        if (row['audio_filepath'], row['text']) in known
    ]
    assert len(both) > 8 and all(a == pytest.approx(b, abs=0.0011) for a, b in both)
    assert _score(aed_teacher, scored, again, '--rescore') == 0
    texts = [[{e['text'] for e in row['teacher_nbest']} for row in read_manifest(path)] for path in (scored, again)]
    assert texts[0] == texts[1]
    rows = read_manifest(tone_corpus)[:4]
    for row, text in zip(rows, ('ab x', 'a <|en|>', 'a ' * 100)):
        row['text'] = text
    write_manifest(tmp_path / 'odd.jsonl', rows)
    assert _score(aed_teacher, tmp_path / 'odd.jsonl', tmp_path / 'odd_out.jsonl', '--reference') == 2
    assert '3 of 4 rows' in capsys.readouterr().err
    assert _score(aed_teacher, tmp_path / 'odd.jsonl', tmp_path / 'o.jsonl', '--reference', '--skip-unwritable') == 0
    assert [row['text'] for row in read_manifest(tmp_path / 'o.jsonl')] == [rows[3]['text']]


def test_parts_join_and_another_prompt_is_another_teacher(aed_teacher, tone_corpus, tmp_path, capsys):
    output = tmp_path / 'out.jsonl'
    for part in (0, 1):
        assert _score(aed_teacher, tone_corpus, output, '--reference', '--shards', 2, '--shard', part) == 0
    assert main(['score', '--merge', str(output)]) == 0
    assert len(read_manifest(output)) == 16
    assert _score(aed_teacher, tone_corpus, output, '--reference') == 0  # finished already
    assert 'nothing left to score' in capsys.readouterr().out
    assert _score(aed_teacher, tone_corpus, output, '--reference', prompt=[*PROMPT[:2], 'pnc=yes']) == 2
    assert 'made by a different run (fingerprint was' in capsys.readouterr().err


def test_a_killed_run_continues_and_ends_with_the_same_bytes(aed_teacher, tone_corpus, tmp_path):
    whole, killed = tmp_path / 'whole.jsonl', tmp_path / 'killed.jsonl'
    options = ['--nbest', 2, '--batch-size', 1]
    assert _score(aed_teacher, tone_corpus, whole, *options) == 0
    words = _words(aed_teacher, tone_corpus, killed, *options)
    kill_in_the_middle(words, tone_corpus, killed)
    assert _score(aed_teacher, tone_corpus, killed, *options, prompt=[*PROMPT[:2], 'pnc=yes']) == 2, 'another prompt'
    assert_it_continues(words, killed, whole)


def test_students_learn_from_the_scores(scored):
    objectives = {'hard': {}, 'full_sum': {}, 'full_sum_norm': {}}
    options = {'label_loss': {'weight': 0.0}}
    logged, _, gradients = tiny_scores.fit(scored, tiny_scores.distillation(objectives, **options), kind='ctc')
    assert all(logged[name] > 0 for name in objectives)
    assert sum(float(gradient.abs().sum()) for gradient in gradients.values()) > 0


@pytest.mark.parametrize(
    'prompt, sentence',
    [
        ([], 'has no value for source_lang, target_lang, pnc: state what is spoken'),
        ([*PROMPT, 'speaker=me'], "Unknown slot of the prompt of EncDecMultiTaskModel 'speaker'"),
        (
            ['source_lang=en', 'target_lang=xx', 'pnc=no'],
            'does not know this prompt (source_lang=en task=asr target_lang=xx',
        ),
        ([*PROMPT[:2], 'pnc=perhaps'], 'does not know this prompt'),
        (['en'], "'en' is not a slot of a prompt: write SLOT=VALUE"),
    ],
)
def test_prompts_that_ask_for_nothing_are_refused(prompt, sentence, aed_teacher, tone_corpus, tmp_path, capsys):
    assert _score(aed_teacher, tone_corpus, tmp_path / 'out.jsonl', prompt=prompt) == 2
    error = capsys.readouterr().err
    assert sentence in error and 'Traceback' not in error


def test_the_prompt_of_canary_2_and_defaults_of_the_model(tmp_path):
    model = tiny_aed.aed_model(tmp_path, 'canary2')
    prompt = AttentionPrompt(model, {**tiny_aed.PROMPT, 'pnc': 'yes'})
    names = 'startofcontext startoftranscript emo:undefined en en pnc noitn notimestamp nodiarize'
    assert model.tokenizer.ids_to_tokens(prompt.context) == [f'<|{name}|>' for name in names.split()]
    assert prompt.decode(prompt.encode('ab cd')).strip() == 'ab cd' and prompt.encode('') == []
    model.change_prompt(
        prompt_defaults=[{'role': 'user', 'slots': {'source_lang': 'en', 'target_lang': 'en', 'pnc': 'no'}}]
    )
    with pytest.raises(ConfigError, match='has no value for'):
        # NeMo keeps the defaults in the config, and reads them when the prompt is set again
        AttentionPrompt(model, {})
    model.change_prompt('canary2')
    assert AttentionPrompt(model, {}).slots == {**prompt.slots, 'pnc': 'no'}


def test_the_search_leaves_the_model_as_it_was_and_options_of_lattices_are_refused(
    aed_teacher, tone_teacher, tone_corpus, tmp_path, capsys
):
    from nemo_oracle_kd.labelling.model_scorer import model_scorer
    from nemo_oracle_kd.labelling.scorer import ScoringSettings

    model = restore_frozen(str(aed_teacher))
    row = read_manifest(tone_corpus)[0]
    signal = torch.from_numpy(soundfile.read(row['audio_filepath'], dtype='float32')[0])
    for nbest in (1, 2):
        model_scorer(model, ScoringSettings(nbest=nbest, prompt=tiny_aed.PROMPT)).score([row], [signal])
        # NeMo's search turns dropout on, with which the scores would be random
        assert not any(module.training for module in model.modules())
    assert _score(aed_teacher, tone_corpus, tmp_path / 'out.jsonl', '--head', 'ctc') == 2
    assert '--head ctc chooses among CTC and transducer heads' in capsys.readouterr().err
    assert _score(tone_teacher, tone_corpus, tmp_path / 'out.jsonl') == 2
    assert 'EncDecCTCModel reads no prompt: leave --prompt out' in capsys.readouterr().err


def test_check_says_what_such_a_teacher_can_serve(aed_teacher, tone_teacher, tone_corpus, scored, capsys):
    check = ['check', str(tone_teacher), str(aed_teacher), '--objectives']
    assert main([*check, 'full_sum', '--manifest', str(tone_corpus)]) == 1
    printed = capsys.readouterr().out
    assert 'full_sum can learn from the stored scores of an attention decoder' in printed
    assert printed.count('problem:') == 1
    assert main([*check, 'frame_kl', 'lattice', 'encoder']) == 1
    printed = capsys.readouterr().out
    assert 'frame_kl, lattice, encoder compares frames, lattices or encoders' in printed
    assert main([*check, 'full_sum', '--manifest', str(scored)]) == 1
    assert 'depend on its prompt as well' in capsys.readouterr().out
    objectives = ['hard', 'full_sum', 'full_sum_norm']
    assert main(['check', str(tone_teacher), '--objectives', *objectives, '--manifest', str(scored)]) == 0
    assert 'ready to distil hard, full_sum, full_sum_norm' in capsys.readouterr().out


@pytest.mark.parametrize('part', ['transf_decoder', 'head', 'tokenizer.custom_tokenizer'])
def test_a_file_that_names_code_is_refused(part, aed_teacher, tone_corpus, tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'files'
    folder.mkdir()
    with tarfile.open(aed_teacher) as archive:
        archive.extractall(folder, filter='data')
    config = OmegaConf.load(folder / 'model_config.yaml')
    OmegaConf.update(config, f'{part}._target_', 'nemo_oracle_kd.corpus.outputs.write_text_atomically')
    OmegaConf.save(config, folder / 'model_config.yaml')
    with tarfile.open(tmp_path / 'evil.nemo', 'w') as archive:
        archive.add(folder, arcname='.')
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob('*'))
    assert _score(tmp_path / 'evil.nemo', tone_corpus, tmp_path / 'out.jsonl') == 2
    error = capsys.readouterr().err
    assert 'names code that NeMo does not admit' in error and 'Traceback' not in error
    assert sorted(tmp_path.rglob('*')) == before
    assert json.loads(tone_corpus.read_text().splitlines()[0])['text']

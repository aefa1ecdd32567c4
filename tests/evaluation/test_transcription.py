# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of transcription with a tiny NeMo model that has learnt its tones."""

import json
import math

import numpy as np
import pytest
import soundfile
import tiny
import tiny_aed
import tiny_oracle

from nemo_oracle_kd.evaluation.error_rates import read_transcriptions, score
from nemo_oracle_kd.evaluation.transcription import load_model, transcribe_manifest


@pytest.fixture(scope='module')
def trained(tone_teacher, tone_corpus):
    """A saved model that knows the corpus, and the corpus."""
    return tone_teacher, tone_corpus


@pytest.mark.integration
def test_a_trained_model_transcribes_in_the_order_of_the_manifest(trained, tmp_path):
    model_path, manifest = trained
    rows = transcribe_manifest(
        load_model(model_path), manifest, tmp_path / 'sub' / 'out.jsonl', batch_size=5, progress=False
    )
    manifest_rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [row['text'] for row in rows] == [row['text'] for row in manifest_rows]
    read, references, hypotheses = read_transcriptions(tmp_path / 'sub' / 'out.jsonl')
    assert read == rows
    assert score(references, hypotheses).cer < 25.0  # would be far above if answers and utterances were mixed up


@pytest.mark.integration
def test_separators_in_a_text_are_no_line_ends_and_a_broken_file_is_a_sentence(trained, tmp_path):
    model_path, manifest = trained
    row = json.loads(manifest.read_text().splitlines()[0])
    odd, broken = tmp_path / 'odd.jsonl', tmp_path / 'broken.wav'
    odd.write_text(json.dumps({**row, 'note': 'a\u2028b\x85c'}, ensure_ascii=False) + '\n')
    rows = transcribe_manifest(load_model(model_path), odd, tmp_path / 'out.jsonl', progress=False)
    assert read_transcriptions(tmp_path / 'out.jsonl')[0] == rows
    broken.write_text('no audio')
    odd.write_text(json.dumps({**row, 'audio_filepath': str(broken)}) + '\n')
    with pytest.raises(ValueError, match='1 of 1 rows of .* have no audio .*broken.wav cannot be read'):
        transcribe_manifest(load_model(model_path), odd, progress=False)


@pytest.mark.integration
def test_a_row_with_an_offset_is_cut_out_of_its_file(trained, tmp_path):
    model_path, manifest = trained
    first, second = (json.loads(line) for line in manifest.read_text().splitlines()[:2])
    parts = [soundfile.read(row['audio_filepath'])[0] for row in (first, second)]
    both = tmp_path / 'both.wav'
    soundfile.write(both, [*parts[0], *parts[1]], tiny.SAMPLE_RATE, subtype='PCM_16')
    rows = [
        {'audio_filepath': 'both.wav', 'offset': 0, 'duration': first['duration'], 'text': first['text']},
        {
            'audio_filepath': 'both.wav',
            'offset': first['duration'],
            'duration': second['duration'],
            'text': second['text'],
        },
    ]
    (tmp_path / 'parts.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    model = load_model(model_path)
    whole = transcribe_manifest(model, manifest, progress=False)[1]['pred_text']
    assert transcribe_manifest(model, tmp_path / 'parts.jsonl', progress=False)[1]['pred_text'] == whole != ''


@pytest.mark.integration
@pytest.mark.parametrize('offset', [{}, {'offset': 0}, {'offset': None}])
def test_a_duration_shorter_than_the_file_cuts_it_off(offset, trained, tmp_path):
    first, second = (json.loads(line) for line in trained[1].read_text().splitlines()[:2])
    parts = [soundfile.read(row['audio_filepath'])[0] for row in (first, second)]
    soundfile.write(tmp_path / 'both.wav', [*parts[0], *parts[1]], tiny.SAMPLE_RATE, subtype='PCM_16')
    (tmp_path / 'part.jsonl').write_text(json.dumps({**first, 'audio_filepath': 'both.wav', **offset}) + '\n')
    model = load_model(trained[0])
    alone = transcribe_manifest(model, trained[1], progress=False)[0]['pred_text']
    assert transcribe_manifest(model, tmp_path / 'part.jsonl', progress=False)[0]['pred_text'] == alone != ''


@pytest.mark.integration
def test_a_recording_with_two_channels_is_mixed_to_one(trained, tmp_path):
    row = json.loads(trained[1].read_text().splitlines()[0])
    signal = soundfile.read(row['audio_filepath'])[0]
    soundfile.write(tmp_path / 'two.wav', np.stack([signal, signal], axis=1), tiny.SAMPLE_RATE, subtype='PCM_16')
    (tmp_path / 'two.jsonl').write_text(json.dumps({**row, 'audio_filepath': 'two.wav'}) + '\n')
    model = load_model(trained[0])
    alone = transcribe_manifest(model, trained[1], progress=False)[0]['pred_text']
    assert transcribe_manifest(model, tmp_path / 'two.jsonl', progress=False)[0]['pred_text'] == alone


@pytest.mark.integration
@pytest.mark.parametrize(
    'samples, change, sentence',
    [
        ([], {}, 'has 0 s of audio and an offset of 0 s'),
        ([0.0] * 80, {'offset': 1.5}, 'has 0.01 s of audio and an offset of 1.5 s'),
        ([float('nan')] * 8000, {}, 'not finite numbers'),
    ],
)
def test_a_row_without_audio_is_no_error_of_the_model(samples, change, sentence, trained, tmp_path):
    row = json.loads(trained[1].read_text().splitlines()[0])
    soundfile.write(tmp_path / 'odd.wav', np.array(samples), tiny.SAMPLE_RATE, subtype='FLOAT')
    odd = tmp_path / 'odd.jsonl'
    odd.write_text(''.join(json.dumps(r) + '\n' for r in (row, {**row, 'audio_filepath': 'odd.wav', **change})))
    with pytest.raises(ValueError, match=sentence):
        transcribe_manifest(load_model(trained[0]), odd, tmp_path / 'out.jsonl', progress=False)
    assert not (tmp_path / 'out.jsonl').exists()


@pytest.mark.integration
@pytest.mark.parametrize('kind', ['ctc', 'rnnt', 'hybrid'])
def test_models_of_sub_words_are_evaluated_from_their_files(kind, trained, tmp_path, capsys):
    from nemo.collections.asr import models

    from nemo_oracle_kd.cli.main import main

    tokenizer = tiny.train_tokenizer(tmp_path / 'tokenizer')
    options = {'hidden': 8, 'stride': 4}
    config = tiny.ctc_config(**options) if kind == 'ctc' else tiny.rnnt_config(hybrid=kind == 'hybrid', **options)
    build, cls = {
        'ctc': (tiny.ctc_model, models.EncDecCTCModelBPE),
        'rnnt': (tiny.rnnt_model, models.EncDecRNNTBPEModel),
        'hybrid': (tiny.rnnt_model, models.EncDecHybridRNNTCTCBPEModel),
    }[kind]
    build(tiny.with_tokenizer(config, tokenizer), cls=cls).save_to(str(tmp_path / 'model.nemo'))
    kept = tmp_path / 'kept.jsonl'
    words = ['evaluate', str(tmp_path / 'model.nemo'), '--manifest', str(trained[1]), '--output', str(kept)]
    assert main(words) == 0
    assert 'model' in capsys.readouterr().out and len(read_transcriptions(kept)[0]) == 16


@pytest.mark.integration
def test_systems_are_paired_by_their_audio_and_never_over_other_references(trained, tmp_path, capsys):
    from nemo_oracle_kd.cli.main import main

    rows = transcribe_manifest(load_model(trained[0]), trained[1], tmp_path / 'a.jsonl', progress=False)

    def comparison(name, content):
        (tmp_path / f'{name}.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in content))
        status = main(['evaluate', str(tmp_path / 'a.jsonl'), str(tmp_path / f'{name}.jsonl')])
        return status, ''.join(capsys.readouterr())

    status, printed = comparison('turned', rows[::-1])
    assert status == 0 and f'0/0/{len(rows)}' in printed, 'the same answers in another order are the same system'
    moved = [{**row, 'audio_filepath': row['audio_filepath'].replace('/', '/x/')} for row in rows[::-1]]
    assert comparison('moved', moved)[0] == 0
    swapped = [{**row, 'text': other['text']} for row, other in zip(rows, [*rows[1:], rows[0]])]
    for name, content, sentence in (
        ('swapped', swapped, 'utterance 1 of a has the reference'),
        ('fewer', rows[1:], 'a has 16 utterances and fewer 15, but they are not the same'),
        ('other', [{**row, 'audio_filepath': f'{i}x.wav'} for i, row in enumerate(rows)], 'not the same utterances'),
        ('nameless', [{'text': row['text'], 'pred_text': ''} for row in rows[::-1]], 'needs the same references'),
    ):
        status, printed = comparison(name, content)
        assert status == 2 and sentence in printed and ' p ' not in printed


@pytest.mark.integration
def test_an_oracle_teacher_is_given_the_transcripts_in_the_order_of_its_audio(trained):
    from nemo_oracle_kd.models import EncDecOracleCTCModel

    model = tiny.ctc_model(tiny_oracle.oracle_config(), cls=EncDecOracleCTCModel).eval()
    rows = transcribe_manifest(model, trained[1], batch_size=5, progress=False)
    for row in rows[:2]:
        (alone,) = model.transcribe([row['audio_filepath']], transcripts=[row['text']], verbose=False)
        assert row['pred_text'] == alone.text


@pytest.mark.integration
def test_a_model_saved_with_beam_search_is_decoded_greedily(trained):
    model = load_model(trained[0])
    greedy = [row['pred_text'] for row in transcribe_manifest(model, trained[1], progress=False)]
    model.cfg.decoding.strategy = 'beam_batch'
    assert [row['pred_text'] for row in transcribe_manifest(model, trained[1], progress=False)] == greedy
    assert model.cfg.decoding.strategy == 'greedy_batch'


@pytest.mark.unit
def test_missing_models_and_bad_batch_sizes_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model at"):
        load_model(tmp_path / 'absent.nemo')
    with pytest.raises(ValueError, match='batch_size'):
        transcribe_manifest(None, 'x', batch_size=0)


@pytest.mark.integration
def test_evaluate_refuses_a_model_whose_training_diverged(trained, tmp_path, capsys):
    from nemo_oracle_kd.cli.main import main

    model, path = load_model(trained[0]), tmp_path / 'diverged.nemo'
    model.decoder.decoder_layers[0].bias[0] = math.inf
    model.save_to(str(path))
    assert main(['evaluate', str(path), '--manifest', str(trained[1]), '--output', str(tmp_path / 'out.jsonl')]) == 2
    error = capsys.readouterr().err
    assert f"'{path}' has NaN or infinity in 1 of its" in error and 'before its training diverged' in error
    assert not (tmp_path / 'out.jsonl').exists()


@pytest.mark.integration
def test_evaluate_refuses_an_attention_decoder(trained, tmp_path, capsys):
    from nemo_oracle_kd.cli.main import main

    tiny_aed.aed_model(tmp_path / 'tokenizers').save_to(str(tmp_path / 'aed.nemo'))
    assert main(['evaluate', str(tmp_path / 'aed.nemo'), '--manifest', str(trained[1])]) == 2
    assert 'EncDecMultiTaskModel has neither a CTC nor a transducer head: use a CTC' in capsys.readouterr().err


@pytest.mark.integration
def test_evaluate_command_prints_rates_and_a_paired_comparison(trained, tmp_path, capsys):
    from nemo_oracle_kd.cli.main import main

    untrained = tmp_path / 'untrained.nemo'
    tiny.ctc_model(tiny.ctc_config(hidden=48)).save_to(str(untrained))
    options = ['--manifest', str(trained[1]), '--output-dir', str(tmp_path), '--json', str(tmp_path / 'scores.json')]
    models = [str(trained[0]), str(untrained)]  # the baseline may be among them
    assert main(['evaluate', *models, '--baseline', str(untrained), *options]) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if ' [' in line] == ['untrained', 'teacher', 'teacher']
    scores = json.loads((tmp_path / 'scores.json').read_text())
    assert scores['baseline'] == 'untrained' and scores['comparisons']['teacher']['difference'] < 0
    assert f"{scores['systems']['teacher']['wer']:.1f} [" in printed
    assert f"{scores['comparisons']['teacher']['difference']:+.1f} [" in printed
    assert scores['systems']['teacher']['parameters'] == scores['systems']['untrained']['parameters'] > 1000

    kept = [str(tmp_path / 'untrained.jsonl'), str(tmp_path / 'teacher.jsonl')]
    assert main(['evaluate', *kept]) == 0  # from kept transcriptions, without the models
    again = capsys.readouterr().out
    assert f"{scores['systems']['teacher']['wer']:.1f} [" in again


@pytest.mark.unit
@pytest.mark.parametrize(
    'arguments, message',
    [
        (['absent.nemo', '--manifest', 'm'], "no file 'absent.nemo'"),
        (['{model}'], 'add --manifest'),
        (['{model}', '{manifest}', '--manifest', 'm', '--output', 'o'], 'of one MODEL alone'),
        (['{model}', '--manifest', 'absent.jsonl'], 'manifest absent.jsonl does not exist'),
        (['{model}', '--manifest', '{folder}'], 'is a folder'),
        (['{model}', '--manifest', '{manifest}', '--output', '{model}'], '--output {model} is an input'),
        (['{model}', '--manifest', '{manifest}', '--json', '{manifest}'], '--json {manifest} is an input'),
        (['{manifest}', '--json', '{folder}/../{name}/model.jsonl', '--overwrite'], 'is an input'),
        (['{model}', '--manifest', '{manifest}', '--output-dir', '{folder}'], 'model.jsonl is an input'),
        (['{model}', '--manifest', '{manifest}', '--json', '/proc/none/x.json'], 'cannot be written'),
        (['{model}', '--manifest', '{manifest}', '--output', '{folder}/o', '--json', '{folder}/o'], 'the same file'),
    ],
)
def test_evaluate_refuses_bad_command_lines_before_loading_a_model(tmp_path, capsys, arguments, message):
    from nemo_oracle_kd.cli.main import main

    model = tmp_path / 'model.nemo'
    model.write_bytes(b'not loaded')
    manifest = tmp_path / 'model.jsonl'
    manifest.write_text('precious')
    names = {'model': model, 'manifest': manifest, 'folder': tmp_path, 'name': tmp_path.name}
    assert main(['evaluate', *(argument.format(**names) for argument in arguments)]) != 0
    assert message.format(**names) in capsys.readouterr().err
    assert manifest.read_text() == 'precious' and model.read_bytes() == b'not loaded'

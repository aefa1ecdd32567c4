# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Whisper as a teacher: what its segments mean, what is refused, and, where a model is there, that its scores are right.

The last two tests need faster-whisper, espeak and a model: set NEMO_ORACLE_KD_WHISPER to its folder.
"""

import math
import os
from importlib.metadata import PackageNotFoundError

import pytest
import soundfile
from killed_scoring import assert_it_continues, kill_in_the_middle

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.manifest import read_manifest, write_manifest
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling import whisper
from nemo_oracle_kd.labelling.format import read_header
from nemo_oracle_kd.labelling.normalisation import Alphabet, Normaliser
from nemo_oracle_kd.labelling.scorer import ScoringSettings
from nemo_oracle_kd.labelling.whisper import WhisperScorer, check_whisper
from nemo_oracle_kd.labelling.whisper_segments import text_of_segments


def _segment(text, tokens, avg_logprob, seek=0, **fields):
    defaults = {'no_speech_prob': 0.1, 'compression_ratio': 1.0, 'temperature': 0.0}
    return {'text': text, 'tokens': tokens, 'avg_logprob': avg_logprob, 'seek': seek, **defaults, **fields}


def test_the_mean_becomes_the_sum_over_the_tokens_and_the_end_of_each_window():
    text, values, fields = text_of_segments([_segment(' One two.', [1, 2, 3], -0.5, compression_ratio=0.7)])
    assert text == ' One two.' and values == {'log_prob': -0.5 * 4, 'tokens': 3}
    assert fields.pop('confidence') == round(math.exp(-0.5), 4)
    assert fields == {'no_speech_prob': 0.1, 'compression_ratio': 0.7, 'temperature': 0.0}
    # two segments of one window share the mean of the window, and a second window has an end of its own
    segments = [
        _segment(' One', [1], -0.5),
        _segment(' two', [2, 3], -0.5, no_speech_prob=0.6),
        _segment(' three', [4], -0.2, seek=3000),
    ]
    text, values, fields = text_of_segments(segments)
    assert (text, values['tokens']) == (' One two three', 4)
    assert values['log_prob'] == pytest.approx(-0.5 * 4 - 0.2 * 2)
    assert fields['confidence'] == pytest.approx(math.exp(-2.4 / 6), abs=1e-4) and fields['no_speech_prob'] == 0.6


@pytest.mark.parametrize(
    'options, sentence',
    [
        ([], 'needs faster-whisper: install it with `pip install'),
        (['--nbest', '2'], 'faster-whisper gives one text per utterance'),
        (['--reference'], 'faster-whisper scores no given text'),
        (['--kernel', 'exact'], '--kernel belongs to'),
    ],
)
def test_what_whisper_cannot_do_is_refused(options, sentence, tone_corpus, tmp_path, monkeypatch, capsys):
    def installed(name):
        if not options:
            raise PackageNotFoundError(name)
        return '1.2.1'

    monkeypatch.setattr(whisper, 'version', installed)
    for file in ('model.bin', 'config.json', 'tokenizer.json'):
        (tmp_path / file).touch()
    words = ['--manifest', str(tone_corpus), '--output', str(tmp_path / 'out.jsonl'), '--device', 'cpu']
    assert main(['score', '--teacher', f'whisper:{tmp_path}', *words, *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error and 'Traceback' not in error


def test_folders_that_are_none_and_options_of_others_are_refused(
    tone_teacher, tone_corpus, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(whisper, 'version', lambda name: '1.2.1')
    for name in (str(tmp_path / 'absent'), './absent', '', str(tone_corpus)):
        with pytest.raises(ConfigError, match='there is no folder'):
            check_whisper(f'whisper:{name}')
    with pytest.raises(ConfigError, match='holds no model.bin and no config.json and no tokenizer.json'):
        check_whisper(f'whisper:{tmp_path}')
    words = ['score', '--manifest', str(tone_corpus), '--output', str(tmp_path / 'out.jsonl'), '--teacher']
    assert main([*words, str(tone_teacher), '--alphabet', 'abc']) == 2
    assert "--normalizer and --alphabet are for Whisper's texts" in capsys.readouterr().err


@pytest.mark.parametrize(
    'prompt, languages, sentence',
    [
        ({}, ['en', 'de'], 'knows 2 languages: state the spoken one with --prompt language=en'),
        ({'language': 'xx'}, ['en', 'de'], "does not know the language 'xx'"),
        ({'task': 'sing'}, ['en'], "task is transcribe or translate, not 'sing'"),
        ({'pnc': 'no'}, ['en'], "has no slot 'pnc': state language and task"),
    ],
)
def test_a_prompt_states_the_language(prompt, languages, sentence):
    with pytest.raises(ConfigError, match=sentence):
        whisper.spoken(prompt, languages)
    assert whisper.spoken({}, ['en']) == {'language': 'en', 'task': 'transcribe'}


def _sum_over_tokens(scorer, signal, tokens):
    """The score of tokens and end, from the logits of each step, among the tokens that the search admits."""
    import numpy as np
    from faster_whisper.audio import pad_or_trim
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens

    model = scorer.pipeline.model
    tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task='transcribe', language='en')
    encoded = model.encode(pad_or_trim(model.feature_extractor(signal)[..., :-1]))
    prompt = model.get_prompt(tokenizer, [], without_timestamps=True)
    options = {'suppress_blank': False, 'suppress_tokens': [], 'return_logits_vocab': True}
    logits = model.model.generate(encoded, [prompt + tokens], beam_size=1, **options)[0].logits[0]
    total = 0.0
    for position, token in enumerate([*tokens, tokenizer.eot]):
        step = np.asarray(logits[position], dtype=np.float64).reshape(-1)
        step[list(get_suppressed_tokens(tokenizer, scorer.options['suppress_tokens']))] = -np.inf
        if position == 0:
            step[[tokenizer.encode(' ')[0], tokenizer.eot]] = -np.inf
        total += (step - np.logaddexp.reduce(step))[token]
    return total


@pytest.mark.integration
@pytest.mark.skipif('NEMO_ORACLE_KD_WHISPER' not in os.environ, reason='needs a Whisper model')
def test_a_real_whisper_labels_and_its_scores_are_sums_over_tokens(tmp_path, capsys):
    pytest.importorskip('faster_whisper')
    from nemo_oracle_kd.bridge.audio import AudioSpan, read_audio

    words = ['synthesize', str(tmp_path / 'corpus'), '--train', '4', '--dev', '1', '--test', '1', '--seed', '3']
    assert main(words) == 0
    rows = read_manifest(next((tmp_path / 'corpus').rglob('train*.jsonl')))
    write_manifest(tmp_path / 'in.jsonl', rows)
    source = f"whisper:{os.environ['NEMO_ORACLE_KD_WHISPER']}"
    letters = "abcdefghijklmnopqrstuvwxyz'"
    options = [
        '--manifest',
        str(tmp_path / 'in.jsonl'),
        '--prompt',
        'language=en',
        '--alphabet',
        letters,
        '--device',
        'cpu',
    ]
    for size in (1, 4):
        output = ['--output', str(tmp_path / f'{size}.jsonl'), '--batch-size', str(size)]
        assert main(['score', '--teacher', source, *options, *output]) == 0
    one, four = (read_manifest(tmp_path / f'{size}.jsonl') for size in (1, 4))
    assert [row['text'] for row in one] == [row['text'] for row in four]
    assert [row['teacher_log_prob'] for row in one] == pytest.approx(
        [row['teacher_log_prob'] for row in four], abs=2e-3
    )
    assert set(''.join(row['text'] for row in one)) <= set(letters + ' ')
    assert read_header(tmp_path / '1.jsonl')['decoding']['numerals'] == 'words'
    scorer = WhisperScorer(
        source,
        ScoringSettings(nbest=1, beam_size=5, prompt={'language': 'en'}),
        Normaliser(alphabet=Alphabet(letters)),
    )
    for row, scored in zip(rows, one):
        signal = read_audio(AudioSpan.of_row(row), scorer.sample_rate).numpy()
        (segment,) = scorer.pipeline.transcribe(signal, vad_filter=False, **scorer.options)[0]
        assert scored['teacher_tokens'] == len(segment.tokens)
        expected = _sum_over_tokens(scorer, signal, segment.tokens)
        assert scored['teacher_log_prob'] == pytest.approx(expected, rel=5e-4)
    for file in ('model.bin', 'config.json', 'tokenizer.json'):
        (tmp_path / file).touch()
    with pytest.raises(ConfigError, match='cannot be loaded as a Whisper model'):
        WhisperScorer(f'whisper:{tmp_path}', scorer.settings, scorer.normaliser)
    # longer than a window: cut at pauses, and every window has an end of its own
    samples, rate = soundfile.read(rows[0]['audio_filepath'])
    long = [float(x) for x in samples] * (int(40 * rate / len(samples)) + 1)
    soundfile.write(tmp_path / 'long.wav', long, rate, subtype='PCM_16')
    (found,) = scorer.score([{**rows[0]}], [read_audio(AudioSpan(str(tmp_path / 'long.wav')), scorer.sample_rate)])
    assert len(found['text'].split()) > 3 * len(one[0]['text'].split()) and found['teacher_log_prob'] < 0


@pytest.mark.integration
@pytest.mark.skipif('NEMO_ORACLE_KD_WHISPER' not in os.environ, reason='needs a Whisper model')
def test_a_killed_run_of_a_real_whisper_continues_and_ends_with_the_same_bytes(tone_corpus, tmp_path):
    pytest.importorskip('faster_whisper')
    manifest = tmp_path / 'in.jsonl'
    write_manifest(manifest, read_manifest(tone_corpus)[:6])
    source = f"whisper:{os.environ['NEMO_ORACLE_KD_WHISPER']}"

    def words(output):
        options = ['--prompt', 'language=en', '--batch-size', '1', '--device', 'cpu']
        return ['score', '--teacher', source, '--manifest', str(manifest), '--output', str(output), *options]

    whole, killed = tmp_path / 'whole.jsonl', tmp_path / 'killed.jsonl'
    assert main(words(whole)) == 0
    kill_in_the_middle(words(killed), manifest, killed, least=2)
    assert_it_continues(words(killed), killed, whole)

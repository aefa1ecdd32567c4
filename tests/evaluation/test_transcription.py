# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of transcription with a tiny NeMo model that has learnt its tones."""

import json

import pytest
import soundfile
import tiny
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
    with pytest.raises(ValueError, match='cannot be read .*broken.wav'):
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
def test_evaluate_command_prints_rates_and_a_paired_comparison(trained, tmp_path, capsys):
    from nemo_oracle_kd.cli.main import main

    untrained = tmp_path / 'untrained.nemo'
    tiny.ctc_model(tiny.ctc_config(hidden=48)).save_to(str(untrained))
    options = ['--manifest', str(trained[1]), '--output-dir', str(tmp_path), '--json', str(tmp_path / 'scores.json')]
    assert main(['evaluate', str(trained[0]), '--baseline', str(untrained), *options]) == 0
    printed = capsys.readouterr().out
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
        (['{model}', '{model}', '--manifest', 'm', '--output', 'o'], 'is for one MODEL'),
        (['{model}', '--manifest', 'absent.jsonl'], "no manifest at 'absent.jsonl'"),
    ],
)
def test_evaluate_refuses_bad_command_lines_before_loading_a_model(tmp_path, capsys, arguments, message):
    from nemo_oracle_kd.cli.main import main

    model = tmp_path / 'model.nemo'
    model.write_bytes(b'not loaded')
    assert main(['evaluate', *(argument.format(model=model) for argument in arguments)]) != 0
    assert message in capsys.readouterr().err

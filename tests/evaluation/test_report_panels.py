# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the panels made from models, with a tiny CTC model and a tiny oracle teacher."""

import numpy as np
import pytest
import tiny
import tiny_oracle

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.evaluation.diagnosis.diagnosis import Condition, Diagnosis
from nemo_oracle_kd.evaluation.diagnosis.verdict import HeardShare
from nemo_oracle_kd.evaluation.report import Report, build_report
from nemo_oracle_kd.evaluation.report_panels import diagnosis_parts, hear, model_panels, typical_utterance


@pytest.fixture(scope='module')
def material(tmp_path_factory):
    """A student, an oracle teacher and a corpus."""
    from nemo_oracle_kd.models import EncDecOracleCTCModel

    folder = tmp_path_factory.mktemp('panels')
    manifest = tiny.write_tone_corpus(folder, count=3)
    models = {'student': folder / 'student.nemo', 'oracle': folder / 'oracle.nemo'}
    tiny.ctc_model(tiny.ctc_config()).save_to(str(models['student']))
    tiny.ctc_model(tiny_oracle.oracle_config(), cls=EncDecOracleCTCModel).save_to(str(models['oracle']))
    return models, manifest


@pytest.mark.integration
@pytest.mark.parametrize('offset', [{}, {'offset': 0}])
def test_a_duration_shorter_than_the_file_cuts_off_what_is_heard(offset, material):
    from nemo_oracle_kd.evaluation.transcription import load_model

    models, manifest = material
    row, student = read_manifest(manifest)[0], load_model(models['student'])
    whole = hear(student, row).features.shape[1]
    half = hear(student, {**row, 'duration': row['duration'] / 2, **offset}).features.shape[1]
    assert abs(half - whole / 2) <= 1


@pytest.mark.integration
def test_an_oracle_hears_with_its_transcript_and_shows_its_attention(material):
    from nemo_oracle_kd.evaluation.transcription import load_model

    models, manifest = material
    row = read_manifest(manifest)[0]
    heard = hear(load_model(models['oracle']), row)
    assert ''.join(heard.read) == row['text']
    assert heard.attention.shape == (len(heard.posteriors), len(row['text']) + 1)
    np.testing.assert_allclose(heard.attention.sum(axis=1), 1.0, rtol=1e-4)
    np.testing.assert_allclose(heard.posteriors.sum(axis=1), 1.0, rtol=1e-4)
    student = hear(load_model(models['student']), row)
    assert student.attention is None and student.read == []
    assert student.features.shape[1] == pytest.approx(2 * len(student.posteriors), abs=2)


@pytest.mark.integration
def test_panels_of_models_and_diagnosis_fit_into_a_report(material):
    models, manifest = material
    alignments, attention = model_panels(models, manifest, utterance=1, colours={'student': '#123123'})
    assert len(alignments) == len(attention) == 1
    assert [axis.get_title(loc='left') for axis in alignments[0].figure.axes[1:]] == ['student', 'oracle']
    assert alignments[0].figure.axes[1].lines[0].get_color() == '#123123'
    diagnosis = Diagnosis(
        utterances=3,
        conditions={'true_text': Condition(0.2, 5.0), 'swapped_text': Condition(4.0, 75.0, 80.0, 60.0)},
        copied_share_swapped=0.1,
        copied_share_silent=0.0,
        text_gain=0.6,
        wrong_text_gain=0.9,
        heard={
            'emitted_other_audio': HeardShare(0.05, 0.8, 0.85, 0.94, 0.94, 0.9, 0.97),
            'scored_other_audio': HeardShare(3.0, 3.0, 2.9, -0.03),
        },
        verdict='listens',
        reasons=['one reason', 'another'],
    )
    parts, verdict = diagnosis_parts(diagnosis)
    assert parts[0].rows[1] == ["another utterance's text", '4.00', '75.0', '80.0']
    assert parts[1].rows == [
        ["label errors, another utterance's audio", '94', '[90, 97]'],
        ["loss, another utterance's audio", '–', '–'],
    ]
    assert verdict == 'The teacher listens: one reason; another.'
    systems = {'a': {'wer': [50.0], 'cer': [20.0], 'parameters': 10, 'train_seconds': [1.0]}}
    page = build_report(
        Report('T', {'systems': systems}, alignments=alignments, attention=attention, diagnosis=parts, verdict=verdict)
    )
    assert page.count('<svg') == 4 and verdict in page


@pytest.mark.unit
def test_the_typical_utterance_is_one_of_median_length():
    rows = [{'text': 'aaaaaa'}, {'text': 'a'}, {'text': 'aaa'}]
    assert typical_utterance(rows) is rows[2]

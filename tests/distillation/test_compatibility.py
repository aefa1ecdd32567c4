# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which pairs of student and teacher are refused, and with which fix."""

import dataclasses

import pytest
import tiny

from nemo_oracle_kd.bridge.model import ModelDescription, describe
from nemo_oracle_kd.distillation.compatibility import compare
from nemo_oracle_kd.distillation.families.lattice import lattice_problems
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.losses.lattice import LatticeConfig

MODEL = ModelDescription('EncDecCTCModel', (' ', 'a', 'b'), None, {'ctc': 3}, 16000, 0.04, False)


def _problems(objectives=('frame_kl',), resampling='none', student=MODEL, **teacher):
    return compare(student, dataclasses.replace(MODEL, **teacher), objectives, resampling).problems


def test_equal_models_have_no_problem():
    report = compare(MODEL, MODEL, ['frame_kl', 'guided_ctc'])
    assert report.problems == [] and all(agrees for *_, agrees in report.rows)
    report.raise_problems()
    assert 'vocabulary' in str(report) and '40 ms' in str(report)


@pytest.mark.parametrize(
    'teacher, sentence',
    [
        ({'vocabulary': (' ', 'b', 'a')}, "label 1 is 'a' in the student and 'b' in the teacher"),
        ({'vocabulary': (' ', 'a', 'b', 'c'), 'blanks': {'ctc': 4}}, 'the student has 3 labels and the teacher 4'),
        ({'tokenizer': 'abc'}, 'the tokenizers differ'),
        ({'blanks': {'ctc': 0}}, 'blank is 3 in the student and 0 in the teacher'),
        ({'sample_rate': 8000}, 'model.sample_rate=8000'),
        ({'frame_seconds': 0.08}, 'set teacher.time_resampling'),
    ],
)
def test_a_difference_that_matters_is_refused_with_the_fix(teacher, sentence):
    problems = _problems(**teacher)
    assert len(problems) == 1 and sentence in problems[0]


def test_resampling_allows_another_frame_rate():
    assert _problems(resampling='linear', frame_seconds=0.08) == []


def test_an_oracle_is_a_teacher_and_never_a_student():
    assert _problems(reads_transcript=True) == []
    assert 'audio alone' in _problems(student=dataclasses.replace(MODEL, reads_transcript=True))[0]


def test_an_unknown_frame_rate_is_left_to_the_check_of_the_lengths():
    assert _problems(frame_seconds=None) == []


def test_the_blank_that_matters_is_that_of_the_head_that_is_compared():
    hybrid = dataclasses.replace(MODEL, blanks={'ctc': 3, 'transducer': 5}, heads=('ctc', 'transducer'))
    multiblank = {'blanks': {'transducer': 5}, 'heads': ('transducer',)}
    assert _problems(['lattice'], student=hybrid, **multiblank) == []
    assert _problems(['frame_kl'], student=hybrid) == []
    assert 'blank is 3 in the student and 4 in the teacher' in _problems(student=hybrid, blanks={'ctc': 4})[0]
    assert '3 (ctc), 5 (transducer)' in str(compare(hybrid, MODEL, ['frame_kl']))


def test_all_problems_are_raised_together():
    report = compare(MODEL, dataclasses.replace(MODEL, sample_rate=8000, frame_seconds=0.08), ['softmax_l2'])
    with pytest.raises(ConfigError) as caught:
        report.raise_problems()
    assert len(caught.value.messages) == 2


TRANSDUCER = dataclasses.replace(MODEL, name='EncDecRNNTModel', blanks={'transducer': 3}, heads=('transducer',))


def test_scores_of_texts_compare_across_vocabularies_frames_and_heads():
    other = {'vocabulary': ('x',), 'tokenizer': 'abc', 'blanks': {'transducer': 1}, 'heads': ('transducer',)}
    assert _problems(['full_sum'], frame_seconds=0.08, **other) == []
    assert _problems(['full_sum', 'hard', 'full_sum_norm'], student=TRANSDUCER) == []


def test_frame_objectives_need_a_ctc_head_on_both_sides():
    assert 'not trained with a CTC head' in _problems(student=TRANSDUCER)[0]
    assert (
        'the teacher (EncDecCTCModel) has no CTC head' in _problems(blanks={'transducer': 3}, heads=('transducer',))[0]
    )


def test_an_oracle_is_no_teacher_of_scores():
    (problem,) = _problems(['full_sum', 'frame_kl'], reads_transcript=True)
    assert problem.startswith('full_sum takes the teacher') and 'reads audio alone' in problem


def test_stored_scores_have_nothing_to_be_compared_with():
    report = compare(TRANSDUCER, None, ['full_sum'])
    assert report.problems == [] and 'scores of the manifest' in str(report) and 'transducer' in str(report)


def test_a_hybrid_multiblank_student_learns_from_a_plain_multiblank_teacher():
    student, teacher = (
        tiny.rnnt_model(tiny.rnnt_config(kind='multiblank_rnnt', hybrid=hybrid)) for hybrid in (True, False)
    )
    assert compare(describe(student), describe(teacher), ['lattice']).problems == []
    assert list(lattice_problems(student, teacher, {'lattice': LatticeConfig()}, 'none')) == []

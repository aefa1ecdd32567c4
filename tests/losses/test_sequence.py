# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The NeMo shells of the sequence objectives: types, configs, and that each computes what its functional does."""

import math

import pytest
import torch

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.losses.sequence import SEQUENCE_OBJECTIVES
from nemo_oracle_kd.strict_config import build_or_raise

TOKENS, TEACHER_TOKENS = torch.tensor([4, 2, 0, 5]), torch.tensor([3, 2, 1, 4])


def _loss(name, **options):
    config, loss = SEQUENCE_OBJECTIVES[name]
    return loss(build_or_raise(config, options, f'objectives.{name}'))


def _scores(*values):
    return torch.tensor(values, dtype=torch.float64)


def _texts():
    """One text per utterance; the third has no alignment in the student, the fourth none in the teacher."""
    return {
        'student_nll': _scores(9.0, 3.0, math.inf, 7.0).requires_grad_(),
        'teacher_nll': _scores(2.0, 5.0, 1.0, math.inf).requires_grad_(),
        'target_lengths': TOKENS,
        'teacher_lengths': TEACHER_TOKENS,
    }


def _lists():
    """Three texts per utterance; of the third one text is left, of the fourth nothing."""
    student = [[9.0, 3.0, 4.0], [2.0, 5.0, 6.0], [1.0, math.inf, 2.0], [math.inf, math.inf, math.inf]]
    teacher = [[2.0, 5.0, 3.0], [1.0, 1.5, math.inf], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    return {
        'student_nll': _scores(*student).requires_grad_(),
        'teacher_nll': _scores(*teacher).requires_grad_(),
        'mask': torch.tensor([[True, True, True], [True, True, True], [True, True, False], [True, True, True]]),
        'teacher_lengths': TEACHER_TOKENS,
    }


@pytest.mark.parametrize('name, case', [('hard', _texts), ('full_sum', _texts), ('full_sum_norm', _lists)])
def test_every_objective_gives_one_finite_value_per_utterance_and_no_gradient_to_the_teacher(name, case):
    given = case()
    losses = _loss(name)(**given)
    assert losses.shape == (4,) and losses.isfinite().all()
    losses.sum().backward()
    assert given['student_nll'].grad[0].abs().sum() > 0 and given['student_nll'].grad.isfinite().all()
    assert given['teacher_nll'].grad is None


def test_hard_is_the_score_of_the_text_and_zero_where_it_has_no_alignment():
    given, loss = _texts(), _loss('hard')
    losses = loss(**given)
    losses.sum().backward()
    assert losses.tolist() == [9.0, 3.0, 0.0, 7.0]
    assert given['student_nll'].grad.tolist() == [1.0, 1.0, 0.0, 1.0]
    assert loss.comparable(given['student_nll'], given['teacher_nll']).tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    'options, expected',
    [
        ({}, [7.0, 2.0]),
        ({'distance': 'mse'}, [49.0, 4.0]),
        ({'distance': 'huber', 'huber_width': 4.0}, [5.0, 0.5]),
        ({'dead_zone': 3.0}, [4.0, 0.0]),
        ({'teacher_scale': 2.0}, [5.0, 7.0]),
        ({'normalization': 'token'}, [9 / 4 - 2 / 3, 5 / 2 - 3 / 2]),
    ],
)
def test_full_sum_is_the_distance_that_its_options_say(options, expected):
    given, loss = _texts(), _loss('full_sum', **options)
    losses = loss(**given)
    assert losses.tolist() == pytest.approx([*expected, 0.0, 0.0], rel=1e-12)
    assert loss.comparable(given['student_nll'], given['teacher_nll']).tolist() == [True, True, False, False]
    losses.sum().backward()
    assert (given['student_nll'].grad[2:] == 0).all()


@pytest.mark.parametrize('over', F.NBEST_OVER)
@pytest.mark.parametrize('distance', F.FULL_SUM_DISTANCES)
def test_full_sum_norm_is_its_functional(distance, over):
    given = _lists()
    loss = _loss('full_sum_norm', distance=distance, huber_width=0.5, dead_zone=0.1, over=over)
    student, teacher, mask = given['student_nll'], given['teacher_nll'].detach(), given['mask']
    expected = F.full_sum_norm_distance(student, teacher, mask, distance, 0.5, 0.1, over)
    torch.testing.assert_close(loss(**given), expected, rtol=0, atol=0)
    assert loss.comparable(student, teacher, mask).tolist() == [True, True, False, False]


def test_a_scale_takes_the_teachers_list_to_a_power_and_leaves_its_confidence():
    given = _lists()
    scaled = {**given, 'teacher_nll': given['teacher_nll'] * 0.5}
    torch.testing.assert_close(_loss('full_sum_norm', teacher_scale=0.5)(**given), _loss('full_sum_norm')(**scaled))
    given, sure = _texts(), {'mode': 'probability', 'sharpness': 2.0}
    plain, weighed = (_loss('full_sum', teacher_scale=2.0, **more)(**given) for more in ({}, {'confidence': sure}))
    weights = (-2.0 * given['teacher_nll'] / given['teacher_lengths']).exp()
    torch.testing.assert_close(weighed[:2], (plain * weights)[:2])


def test_the_first_posterior_of_a_list_by_hand():
    given = _lists()
    student, teacher = ([-x for x in given[f'{side}_nll'][0].tolist()] for side in ('student', 'teacher'))
    posteriors = [scores[0] - math.log(sum(map(math.exp, scores))) for scores in (student, teacher)]
    assert _loss('full_sum_norm')(**given)[0].item() == pytest.approx(abs(posteriors[0] - posteriors[1]), rel=1e-12)


@pytest.mark.parametrize('name, case', [('hard', _texts), ('full_sum', _texts), ('full_sum_norm', _lists)])
def test_the_confidence_is_that_of_the_teacher_in_the_text_per_token_of_its_own(name, case):
    confidence = {'mode': 'probability', 'sharpness': 2.0, 'floor': 0.1}
    given = case()
    plain, weighted = _loss(name)(**given), _loss(name, confidence=confidence)(**given)
    best = given['teacher_nll'].detach()
    best = best[:, 0] if best.dim() == 2 else best
    expected = [
        0.1 + 0.9 * math.exp(-2.0 * nll / tokens) for nll, tokens in zip(best.tolist(), TEACHER_TOKENS.tolist())
    ]
    assert weighted.tolist() == pytest.approx((plain * _scores(*expected)).tolist(), rel=1e-12)
    weighted.sum().backward()
    assert given['teacher_nll'].grad is None


@pytest.mark.parametrize('name, case', [('hard', _texts), ('full_sum', _texts), ('full_sum_norm', _lists)])
def test_the_weight_may_be_a_field_of_the_rows(name, case):
    values = _scores(0.25, 1.0, 0.5, 0.0)
    given = case()
    plain = _loss(name)(**given)
    weighted = _loss(name, confidence={'mode': 'value', 'field': 'agreement'})(**given, field=values)
    assert weighted.tolist() == pytest.approx((plain * values).tolist(), rel=1e-12)
    doubtful = _loss(name, confidence={'mode': 'probability', 'field': 'doubt'})(**given, field=values)
    assert doubtful.tolist() == pytest.approx((plain * (-values).exp()).tolist(), rel=1e-12)


@pytest.mark.parametrize(
    'name, options, sentence',
    [
        ('full_sum', {'distance': 'l2'}, "objectives.full_sum.distance` is 'l2': choose one of l1, mse, huber"),
        ('full_sum', {'huber_width': 0.0}, 'huber_width` must be a finite number greater than 0'),
        ('full_sum', {'teacher_scale': 0.0}, 'teacher_scale` must be a finite number greater than 0'),
        ('full_sum_norm', {'teacher_scale': math.inf}, 'teacher_scale` must be a finite number greater than 0'),
        ('full_sum', {'dead_zone': -1.0}, 'dead_zone` must be a finite number of at least 0'),
        ('full_sum', {'normalization': 'nbest'}, 'or the objective full_sum_norm to normalise over the N-best list'),
        ('full_sum_norm', {'over': 'best'}, "over` is 'best': choose one of first, all"),
        ('full_sum_norm', {'nbest': 1}, 'a single text always has posterior 1: use 2 or more'),
        ('full_sum_norm', {'distance': 'kl'}, 'choose one of l1, mse, huber'),
        ('hard', {'confidence': 'certain'}, "confidence.mode` is 'certain': choose one of constant"),
        ('hard', {'confidence': {'mode': 'sigmoid', 'sharpness': math.inf}}, 'sharpness` must be a finite number'),
        ('hard', {'confidence': {'mode': 'sigmoid', 'threshold': math.nan}}, 'threshold` must be a finite number'),
        ('hard', {'confidence': {'floor': 1.5}}, 'floor` must lie between 0 and 1'),
        ('hard', {'confidence': 'value'}, 'confidence.field` is missing: name the entry'),
        ('hard', {'confidence': {'field': 'agreement'}}, 'field` has no effect with mode constant'),
        ('hard', {'distance': 'l1'}, "Unknown key 'distance'"),
    ],
)
def test_options_that_do_not_exist_are_refused_with_the_fix(name, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        _loss(name, **options)


def test_neural_types_refuse_scores_of_another_shape():
    given = _texts()
    with pytest.raises((TypeError, ValueError)):
        _loss('full_sum')(**{**given, 'student_nll': given['student_nll'].unsqueeze(1)})

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Full-sum distances: the paper's gradients, the defined values where there is nothing to compare, and the errors."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_oracle_kd.functional import (
    CONFIDENCE_MODES,
    FULL_SUM_DISTANCES,
    confidence_weight,
    ctc_full_sum,
    full_sum_comparable,
    full_sum_distance,
    full_sum_norm_comparable,
    full_sum_norm_distance,
    nbest_log_posteriors,
    rnnt_full_sum,
)

INF = math.inf
kinds = pytest.mark.parametrize('kind', FULL_SUM_DISTANCES)
scores = st.floats(0, 500, allow_nan=False)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def gradient(function, *inputs):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    return torch.autograd.grad(function(*inputs).sum(), inputs)


def test_distances_have_the_values_of_their_definitions():
    student, teacher = tensor(5.0, 3.0, 2.0, 7.5), tensor(3.0, 3.0, 2.5, 8.0)
    assert full_sum_distance(student, teacher).tolist() == [2.0, 0.0, 0.5, 0.5]
    assert full_sum_distance(student, teacher, 'mse').tolist() == [4.0, 0.0, 0.25, 0.25]
    assert full_sum_distance(student, teacher, 'huber').tolist() == [1.5, 0.0, 0.125, 0.125]
    assert full_sum_distance(student, teacher, 'huber', huber_width=0.5).tolist() == [1.75, 0.0, 0.25, 0.25]
    assert full_sum_distance(student, teacher, 'l1', dead_zone=0.5).tolist() == [1.5, 0.0, 0.0, 0.0]
    assert full_sum_distance(student, teacher, 'mse', dead_zone=0.5).tolist() == [2.25, 0.0, 0.0, 0.0]


@settings(max_examples=50, deadline=None)
@given(student=scores, teacher=scores, dead_zone=st.sampled_from([0.0, 0.5, 20.0]))
def test_the_gradient_of_l1_is_the_sign_and_zero_in_the_dead_zone(student, teacher, dead_zone):
    student, teacher = tensor(student), tensor(teacher)
    delta = float(student - teacher)
    expected = 0.0 if abs(delta) <= dead_zone else math.copysign(1.0, delta)
    (found,) = gradient(lambda s: full_sum_distance(s, teacher, 'l1', dead_zone=dead_zone), student)
    assert found.item() == expected


@kinds
@pytest.mark.parametrize('dead_zone', [0.0, 0.3])
def test_the_gradient_is_exactly_zero_at_equal_scores(kind, dead_zone):
    score = tensor(0.0, 3.1, 412.7)
    (found,) = gradient(lambda s: full_sum_distance(s, score, kind, dead_zone=dead_zone), score)
    assert found.tolist() == [0.0, 0.0, 0.0]


TARGETS, LABELS, FRAMES = torch.tensor([[0, 1], [2, 2]]), torch.tensor([2, 1]), torch.tensor([4, 3])


def rnnt(logits):
    return rnnt_full_sum(logits, TARGETS, FRAMES, LABELS, 3)


def ctc(logits):
    return ctc_full_sum(logits.log_softmax(-1), TARGETS, FRAMES, LABELS, 3)


@pytest.mark.parametrize(('loss', 'shape'), [(rnnt, (2, 4, 3, 4)), (ctc, (2, 4, 4))], ids=['rnnt', 'ctc'])
def test_the_gradient_is_that_of_the_loss_times_the_slope_of_the_distance(loss, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nll = loss(x)
    teacher = nll + tensor(-1.0, 1.0)  # the student is less confident than the first, more than the second
    (plain,) = gradient(loss, x)
    (found,) = gradient(lambda y: full_sum_distance(loss(y), teacher), x)
    sign = tensor(1.0, -1.0).view(2, *[1] * (x.dim() - 1))
    assert torch.equal(found, sign * plain) and plain.abs().max() > 0.1
    (found,) = gradient(lambda y: full_sum_distance(loss(y), teacher, 'mse'), x)
    assert torch.allclose(found, 2 * sign * plain, atol=1e-12)
    (found,) = gradient(lambda y: full_sum_distance(loss(y), nll), x)
    assert found.abs().max() == 0


def test_huber_lies_below_l1_and_its_slope_never_exceeds_one():
    student, teacher = torch.linspace(0, 6, 61, dtype=torch.float64), torch.full((61,), 3.0, dtype=torch.float64)
    huber = full_sum_distance(student, teacher, 'huber', huber_width=2.0)
    assert (huber <= full_sum_distance(student, teacher) + 1e-12).all()
    (slope,) = gradient(lambda s: full_sum_distance(s, teacher, 'huber', huber_width=2.0), student)
    assert torch.allclose(slope, ((student - teacher) / 2.0).clamp(-1, 1), atol=1e-12)


def test_per_token_scores_are_compared_per_token_of_each_tokenizer():
    student, teacher, lengths = tensor(10.0, 4.0), tensor(4.0, 2.0), torch.tensor([5, 0])
    found = full_sum_distance(student, teacher, normalization='token', target_lengths=lengths)
    assert torch.allclose(found, tensor(1.2, 2.0))
    found = full_sum_distance(
        student,
        teacher,
        normalization='token',
        target_lengths=lengths,
        teacher_target_lengths=torch.tensor([2, 0]),
    )
    assert torch.allclose(found, tensor(0.0, 2.0))


@kinds
def test_a_text_without_alignment_costs_nothing_moves_nothing_and_is_reported(kind):
    student, teacher = tensor(INF, 2.0, INF, 2.0), tensor(1.0, INF, INF, 1.0)
    assert full_sum_comparable(student, teacher).tolist() == [False, False, False, True]
    found = full_sum_distance(student, teacher, kind, normalization='token', target_lengths=torch.ones(4))
    assert found[:3].tolist() == [0.0, 0.0, 0.0] and found[3] > 0
    (moved,) = gradient(lambda s: full_sum_distance(s, teacher, kind), student)
    assert moved[:3].tolist() == [0.0, 0.0, 0.0] and moved[3] > 0


def test_an_utterance_too_short_for_its_labels_keeps_the_gradient_of_the_others():
    log_probs = torch.randn(2, 3, 4, dtype=torch.float64).log_softmax(-1)
    targets, labels, frames = torch.tensor([[0, 0], [0, 1]]), torch.tensor([2, 2]), torch.tensor([2, 3])
    nll = lambda x: ctc_full_sum(x, targets, frames, labels, 3)  # noqa: E731
    assert nll(log_probs)[0] == INF
    (found,) = gradient(lambda x: full_sum_distance(nll(x), tensor(1.0, 0.0)), log_probs)
    assert found.isfinite().all() and found[0].abs().max() == 0 and found[1].abs().max() > 0


def test_nan_is_not_hidden():
    student = tensor(math.nan, 1.0)
    assert full_sum_distance(student, tensor(1.0, 1.0)).isnan().tolist() == [True, False]
    both = torch.stack([student, student.flip(0)])
    assert full_sum_norm_distance(both, torch.zeros(2, 2)).isnan().all()


def test_the_teacher_gets_no_gradient():
    student, teacher = tensor(3.0, 2.0).requires_grad_(), tensor(1.0, 1.0).requires_grad_()
    full_sum_distance(student, teacher).sum().backward()
    full_sum_norm_distance(student.view(1, 2), teacher.view(1, 2)).sum().backward()
    assert student.grad is not None and teacher.grad is None


def test_results_are_float32_except_for_float64_input():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        expected = torch.float64 if dtype == torch.float64 else torch.float32
        nll = torch.tensor([[3.0, 4.0]], dtype=dtype)
        assert full_sum_distance(nll[0], tensor(1.0, 1.0)).dtype == expected
        assert full_sum_norm_distance(nll, tensor(1.0, 2.0).view(1, 2)).dtype == expected
        assert confidence_weight(nll[0], torch.tensor([1, 2]), 'probability').dtype == expected


@kinds
@pytest.mark.parametrize('over', ['first', 'all'])
def test_normalised_distances_have_the_values_of_their_definition(kind, over):
    torch.manual_seed(1)
    student, teacher = torch.rand(3, 4, dtype=torch.float64) * 9, torch.rand(3, 4, dtype=torch.float64) * 9
    found = full_sum_norm_distance(student, teacher, kind=kind, over=over)
    for b in range(3):
        p, q = (-student[b]).exp(), (-teacher[b]).exp()
        delta = (q / q.sum()).log() - (p / p.sum()).log()
        each = full_sum_distance(delta, torch.zeros_like(delta), kind)
        assert torch.allclose(found[b], each[0] if over == 'first' else each.mean())


def test_the_normalised_gradient_is_that_of_maximum_mutual_information():
    torch.manual_seed(2)
    student, teacher = torch.rand(5, 3, dtype=torch.float64) * 4, torch.rand(5, 3, dtype=torch.float64) * 4
    posterior = nbest_log_posteriors(student).exp()
    sign = (nbest_log_posteriors(teacher) - nbest_log_posteriors(student)).sign()
    one = torch.eye(3, dtype=torch.float64)
    (found,) = gradient(lambda s: full_sum_norm_distance(s, teacher), student)
    assert torch.allclose(found, sign[:, :1] * (one[0] - posterior), atol=1e-12)
    (found,) = gradient(lambda s: full_sum_norm_distance(s, teacher, over='all'), student)
    expected = sum(sign[:, n : n + 1] * (one[n] - posterior) for n in range(3)) / 3
    assert torch.allclose(found, expected, atol=1e-12)
    assert sign[:, 0].unique().numel() == 2, 'both signs must occur'


@kinds
@pytest.mark.parametrize('over', ['first', 'all'])
def test_gradients_agree_with_finite_differences(kind, over):
    torch.manual_seed(3)
    student = (torch.rand(2, 3, dtype=torch.float64) * 5).requires_grad_()
    teacher = torch.rand(2, 3, dtype=torch.float64) * 5
    assert torch.autograd.gradcheck(
        lambda s: full_sum_norm_distance(s, teacher, kind=kind, over=over, dead_zone=0.1), student
    )
    assert torch.autograd.gradcheck(lambda s: full_sum_distance(s, teacher[:, 0], kind, dead_zone=0.1), student[:, 0])


@kinds
@pytest.mark.parametrize('over', ['first', 'all'])
def test_the_normalised_gradient_is_exactly_zero_at_equal_posteriors_and_in_the_dead_zone(kind, over):
    nll = tensor(1.0, 2.5, 300.0).view(1, 3)
    (found,) = gradient(lambda s: full_sum_norm_distance(s, nll, kind=kind, over=over), nll)
    assert (found == 0).all()
    near = nll + tensor(0.0, 0.1, -0.1)
    (found,) = gradient(lambda s: full_sum_norm_distance(s, nll, kind=kind, over=over, dead_zone=0.5), near)
    assert (found == 0).all()
    (found,) = gradient(lambda s: full_sum_norm_distance(s, nll, kind=kind, over=over), near)
    assert (found != 0).any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), shift=st.floats(-300, 300), kind=st.sampled_from(FULL_SUM_DISTANCES))
def test_what_all_hypotheses_have_in_common_cancels(seed, shift, kind):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.rand(2, 2, 4, dtype=torch.float64, generator=generator) * 8
    plain = full_sum_norm_distance(student, teacher, kind=kind)
    assert torch.allclose(full_sum_norm_distance(student + shift, teacher - shift, kind=kind), plain, atol=1e-9)


@pytest.mark.parametrize('garbage', [math.nan, INF, -INF, 0.0])
@pytest.mark.parametrize('over', ['first', 'all'])
def test_padding_hypotheses_change_nothing(garbage, over):
    torch.manual_seed(4)
    student, teacher = torch.rand(2, 3, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64)
    (expected,) = gradient(lambda s: full_sum_norm_distance(s, teacher, over=over), student)
    mask = torch.tensor([[True, True, True, False]] * 2)
    longer, other = (torch.nn.functional.pad(x, (0, 1), value=garbage) for x in (student, teacher))
    value = full_sum_norm_distance(longer, other, mask, over=over)
    assert torch.equal(value, full_sum_norm_distance(student, teacher, over=over))
    (found,) = gradient(lambda s: full_sum_norm_distance(s, other, mask, over=over), longer)
    assert torch.equal(found[:, :3], expected) and (found[:, 3] == 0).all()


@pytest.mark.parametrize('over', ['first', 'all'])
def test_hypotheses_without_alignment_have_posterior_zero(over):
    student, teacher = tensor(1.0, 2.0, INF).view(1, 3), tensor(1.0, 2.5, 0.5).view(1, 3)
    assert nbest_log_posteriors(student)[0, 2] == -INF
    normaliser = math.log(math.exp(-1.0) + math.exp(-2.5) + math.exp(-0.5))
    expected = abs(-1.0 - normaliser - (-1.0 - math.log(math.exp(-1.0) + math.exp(-2.0))))
    assert full_sum_norm_distance(student, teacher).item() == pytest.approx(expected)
    (found,) = gradient(lambda s: full_sum_norm_distance(s, teacher, over=over), student)
    assert found.isfinite().all() and found[0, 2] == 0 and found[0, 0] != 0


ONE_LEFT = torch.tensor([[True, False, False]] * 4)


@pytest.mark.parametrize(
    ('over', 'mask', 'expected'),
    [
        ('first', None, [False, False, False, False]),
        ('all', None, [True, False, True, False]),
        ('all', ONE_LEFT, [False, False, False, False]),
        ('all', torch.zeros(4, 3), [False, False, False, False]),
    ],
)
def test_rows_with_nothing_to_compare_are_zero_and_reported(over, mask, expected):
    student = torch.stack([tensor(INF, 1.0, 2.0), tensor(1.0, INF, INF), tensor(1.0, 2.0, 3.0), tensor(INF, INF, INF)])
    teacher = torch.stack([tensor(1.0, 2.0, 3.5), tensor(1.0, 2.0, 3.0), tensor(INF, 2.0, 3.0), tensor(1.0, 2.0, 3.0)])
    assert full_sum_norm_comparable(student, teacher, mask, over).tolist() == expected
    value = full_sum_norm_distance(student, teacher, mask, over=over)
    assert (value != 0).tolist() == expected
    (found,) = gradient(lambda s: full_sum_norm_distance(s, teacher, mask, over=over), student)
    assert found.isfinite().all() and (found != 0).any(1).tolist() == expected


def test_confidence_weights_are_constant_by_default_and_fall_with_the_score_per_token():
    nll, lengths = tensor(0.0, 10.0, 40.0, INF, 1.0), torch.tensor([0, 10, 10, 10, 0])
    assert confidence_weight(nll, lengths).tolist() == [1.0] * 5
    expected = [1.0, math.exp(-1.0), math.exp(-4.0), 0.0, math.exp(-1.0)]
    assert confidence_weight(nll, lengths, 'probability').tolist() == pytest.approx(expected)
    found = confidence_weight(nll, lengths, 'sigmoid', sharpness=2.0, threshold=1.0)
    assert found.tolist() == pytest.approx([1 / (1 + math.exp(-2)), 0.5, 1 / (1 + math.exp(6)), 0.0, 0.5])
    values = tensor(0.9, 0.5, 1.0, 0.0, 0.1)
    for mode in CONFIDENCE_MODES:
        weight = confidence_weight(nll, lengths, mode, floor=0.2, values=values if mode == 'value' else None)
        assert weight[3] == (1.0 if mode == 'constant' else 0.2) and ((weight >= 0.2) & (weight <= 1)).all()


def test_confidence_weights_may_be_those_of_another_measure():
    nll, lengths, values = tensor(1.0, 2.0, 3.0), torch.tensor([1, 1, 1]), tensor(0.0, 0.25, 1.0)
    weights = partial(confidence_weight, nll, lengths, values=values)
    assert weights(mode='value', sharpness=2.0).tolist() == [0.0, 0.0625, 1.0]
    assert weights(mode='value', floor=0.5).tolist() == [0.5, 0.625, 1.0]
    assert weights(mode='probability').tolist() == pytest.approx([1.0, math.exp(-0.25), math.exp(-1.0)])
    assert weights(mode='sigmoid', threshold=0.25).tolist()[1] == 0.5
    assert weights(mode='constant').tolist() == [1.0] * 3
    with pytest.raises(ValueError, match="mode 'value' need values"):
        confidence_weight(nll, lengths, 'value')


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: full_sum_distance(tensor(1.0), tensor(1.0), 'l2'), 'Unknown full-sum distance'),
        (lambda: full_sum_distance(tensor(1.0), tensor(1.0), dead_zone=-1.0), 'dead zone'),
        (lambda: full_sum_distance(tensor(1.0), tensor(1.0), 'huber', huber_width=0.0), 'Huber width'),
        (lambda: full_sum_distance(tensor(1.0), tensor(1.0), normalization='nbest'), 'full_sum_norm_distance'),
        (lambda: full_sum_distance(tensor(1.0), tensor(1.0), normalization='token'), 'needs target_lengths'),
        (lambda: full_sum_distance(tensor(1.0), tensor(1.0, 2.0)), 'must both have shape'),
        (lambda: full_sum_norm_distance(torch.ones(2, 1), torch.ones(2, 1)), 'single hypothesis'),
        (lambda: full_sum_norm_distance(torch.ones(2, 2), torch.ones(2, 3)), 'must both have shape'),
        (lambda: full_sum_norm_distance(torch.ones(2, 2), torch.ones(2, 2), over='top'), "over='top'"),
        (lambda: nbest_log_posteriors(torch.ones(2, 2), torch.ones(2, 3)), 'mask'),
        (lambda: confidence_weight(tensor(1.0), torch.ones(1), 'linear'), 'Unknown confidence weight'),
        (lambda: confidence_weight(tensor(1.0), torch.ones(1), floor=2.0), 'floor'),
        (lambda: confidence_weight(tensor(1.0), torch.ones(1), sharpness=0.0), 'sharpness'),
        (lambda: confidence_weight(tensor(1.0), torch.ones(2)), 'shape of the scores'),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Frame divergences against loops written by hand, and their invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_oracle_kd.functional import (
    blank_frame_weights,
    ctc_occupancy,
    frame_agreement,
    frame_entropy,
    frame_kl,
    guided_ctc,
    occupancy_kl,
    softmax_l2,
)
from nemo_oracle_kd.functional.reference.ctc import (
    reference_frame_kl,
    reference_guided_ctc,
    reference_occupancy_kl,
    reference_softmax_l2,
)

FEW = settings(max_examples=20, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**31 - 1)
BLANK = 2


def occupancy_of(teacher, lengths):
    """Occupancy of the transcript `0 1` under the teacher; the utterance of length 1 has no alignment."""
    batch = teacher.shape[0]
    targets = torch.tensor([[0, 1]]).expand(batch, 2)
    return ctc_occupancy(teacher.log_softmax(dim=2), targets, lengths, torch.full((batch,), 2), BLANK)


LOSSES = {
    'frame_kl': frame_kl,
    'frame_kl at temperature 2': lambda s, t, n: frame_kl(s, t, n, temperature=2.0),
    'softmax_l2': softmax_l2,
    'softmax_l2 at temperature 0.5': lambda s, t, n: softmax_l2(s, t, n, temperature=0.5),
    'guided_ctc': lambda s, t, n: guided_ctc(s, t, n, BLANK),
    'occupancy_kl': lambda s, t, n: occupancy_kl(s, occupancy_of(t, n), n),
}
REFERENCES = {
    'frame_kl': reference_frame_kl,
    'frame_kl at temperature 2': lambda s, t: reference_frame_kl(s, t, 2.0),
    'softmax_l2': reference_softmax_l2,
    'softmax_l2 at temperature 0.5': lambda s, t: reference_softmax_l2(s, t, 0.5),
    'guided_ctc': lambda s, t: reference_guided_ctc(s, t, BLANK),
    'occupancy_kl': lambda s, t: reference_occupancy_kl(
        s, occupancy_of(t.unsqueeze(0), torch.tensor([t.shape[0]]))[0]
    ),
}
EVERY_LOSS = pytest.mark.parametrize('name', LOSSES)


def random_pair(seed, batch=8, frames=5, vocabulary=4):
    g = torch.Generator().manual_seed(seed)
    student, teacher = 2 * torch.randn(2, batch, frames, vocabulary, dtype=torch.float64, generator=g)
    return student, teacher, torch.randint(frames + 1, (batch,), generator=g)


def value_and_gradient(name, student, teacher, lengths):
    student = student.detach().clone().requires_grad_()
    value = LOSSES[name](student, teacher, lengths)
    value.sum().backward()
    return value.detach(), student.grad


@EVERY_LOSS
def test_value_equals_the_loop_written_by_hand(name):
    student, teacher, lengths = random_pair(0)
    value = LOSSES[name](student, teacher, lengths)
    expected = [REFERENCES[name](s[:n], t[:n]) for s, t, n in zip(student, teacher, lengths, strict=True)]
    assert value.shape == (8,) and value.tolist() == pytest.approx(expected, abs=1e-12)


@EVERY_LOSS
def test_gradcheck_passes(name):
    student, teacher, lengths = random_pair(1, batch=4)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, teacher, lengths), (student,))


@EVERY_LOSS
@FEW
@given(seed=SEEDS)
def test_nan_in_the_padding_changes_neither_value_nor_gradient(name, seed):
    student, teacher, lengths = random_pair(seed)
    clean = value_and_gradient(name, student, teacher, lengths)
    for row, n in enumerate(lengths):
        student[row, n:] = [math.nan, math.inf, -math.inf, 1e300][row % 4]
        teacher[row, n:] = [-math.inf, math.nan, 1e300, math.inf][row % 4]
    value, gradient = value_and_gradient(name, student, teacher, lengths)
    assert torch.equal(value, clean[0]) and torch.equal(gradient, clean[1])


@EVERY_LOSS
@FEW
@given(seed=SEEDS)
def test_splitting_a_batch_or_padding_it_further_changes_nothing(name, seed):
    student, teacher, lengths = random_pair(seed)
    whole = value_and_gradient(name, student, teacher, lengths)
    for parts in (2, 8):
        pieces = zip(*(x.chunk(parts) for x in (student, teacher, lengths)), strict=True)
        values, gradients = zip(*(value_and_gradient(name, *piece) for piece in pieces), strict=True)
        assert torch.allclose(torch.cat(values), whole[0], atol=1e-12, rtol=0)
        assert torch.allclose(torch.cat(gradients), whole[1], atol=1e-12, rtol=0)
    longer = [torch.nn.functional.pad(x, (0, 0, 0, 7), value=3.0) for x in (student, teacher)]
    assert torch.allclose(LOSSES[name](*longer, lengths), whole[0], atol=1e-12, rtol=0)


@EVERY_LOSS
@FEW
@given(seed=SEEDS, constant=st.floats(-100, 100))
def test_a_constant_on_the_logits_changes_nothing(name, seed, constant):
    student, teacher, lengths = random_pair(seed)
    plain = value_and_gradient(name, student, teacher, lengths)
    moved = value_and_gradient(name, student + constant, teacher - constant, lengths)
    assert torch.allclose(moved[0], plain[0], atol=1e-10) and torch.allclose(moved[1], plain[1], atol=1e-10)


@pytest.mark.parametrize('name', ['frame_kl', 'frame_kl at temperature 2', 'softmax_l2'])
@FEW
@given(seed=SEEDS)
def test_identical_teacher_and_student_give_value_zero_and_gradient_zero(name, seed):
    student, _, lengths = random_pair(seed)
    value, gradient = value_and_gradient(name, student, student.clone(), lengths)
    assert torch.equal(value, torch.zeros(8).double())
    assert gradient.abs().max() < 1e-14


@FEW
@given(seed=SEEDS)
def test_divergences_are_never_negative(seed):
    student, teacher, lengths = random_pair(seed)
    for name in ('frame_kl', 'softmax_l2', 'occupancy_kl'):
        assert (LOSSES[name](student, teacher, lengths) > -1e-12).all()


@EVERY_LOSS
def test_the_teacher_receives_no_gradient(name):
    student, teacher, lengths = random_pair(3)
    student.requires_grad_()
    teacher.requires_grad_()
    LOSSES[name](student, teacher, lengths).sum().backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


@EVERY_LOSS
@pytest.mark.parametrize('dtype, tolerance', [(torch.float16, 5e-3), (torch.bfloat16, 5e-2)])
def test_narrow_types_stay_finite_and_close_to_float32(name, dtype, tolerance):
    student, teacher, lengths = (x.float() if x.is_floating_point() else x for x in random_pair(4, frames=40))
    exact, _ = value_and_gradient(name, student, teacher, lengths)
    value, gradient = value_and_gradient(name, student.to(dtype), teacher.to(dtype), lengths)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    assert torch.isfinite(gradient).all() and torch.allclose(value, exact, rtol=tolerance, atol=tolerance)


@EVERY_LOSS
def test_autocast_changes_nothing(name):
    student, teacher, lengths = (x.float() if x.is_floating_point() else x for x in random_pair(8))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = value_and_gradient(name, student, teacher, lengths)
    outside = value_and_gradient(name, student, teacher, lengths)
    assert torch.equal(inside[0], outside[0]) and torch.equal(inside[1], outside[1])


def test_the_temperature_flattens_both_sides_and_its_square_keeps_the_gradient():
    """At a high temperature `tau ** 2 * KL` tends to half the squared distance of the centred logits over V."""
    student, teacher, lengths = random_pair(5)
    student, teacher = (x - x.mean(dim=2, keepdim=True) for x in (student, teacher))
    lengths = torch.full_like(lengths, 5)
    limit = (student - teacher).square().sum(dim=(1, 2)) / (2 * 4)
    assert torch.allclose(frame_kl(student, teacher, lengths, temperature=1e4), limit, rtol=1e-3)
    halved = softmax_l2(student / 2, teacher / 2, lengths)
    assert torch.allclose(softmax_l2(student, teacher, lengths, temperature=2.0), halved)


@pytest.mark.parametrize('loss', [frame_kl, softmax_l2])
def test_frame_weights_scale_single_frames_and_zero_removes_even_infinite_ones(loss):
    student, teacher, _ = random_pair(6)
    lengths = torch.full((8,), 5)
    per_frame = torch.stack(
        [loss(student[:, t : t + 1], teacher[:, t : t + 1], torch.ones(8, dtype=torch.long)) for t in range(5)], dim=1
    )
    weights = torch.tensor([0.0, 1.0, 0.5, 2.0, 0.0]).expand(8, 5)
    student[:, 0, 0], student[:, 4, 1] = -math.inf, -math.inf
    student.requires_grad_()
    value = loss(student, teacher, lengths, frame_weights=weights)
    value.sum().backward()
    assert torch.allclose(value, (per_frame * weights).sum(dim=1))
    assert torch.isfinite(student.grad).all() and torch.equal(student.grad[:, [0, 4]], torch.zeros(8, 2, 4).double())
    assert torch.allclose(
        loss(student, teacher, lengths, frame_weights=torch.ones(8, 5)), loss(student, teacher, lengths)
    )


def test_impossible_teacher_classes_cost_nothing_and_impossible_student_classes_cost_infinity():
    half = torch.tensor([[[0.5, 0.5, 0.0]]]).log()
    full = torch.tensor([[[0.25, 0.25, 0.5]]]).log().requires_grad_()
    value = frame_kl(full, half, torch.tensor([1]))
    value.sum().backward()
    assert value.item() == pytest.approx(math.log(2)) and torch.isfinite(full.grad).all()
    assert frame_kl(half, full.detach(), torch.tensor([1])).item() == math.inf
    assert frame_kl(half, half, torch.tensor([1])).item() == 0


def test_guided_ctc_counts_the_posterior_of_the_teachers_spikes_by_hand():
    student = torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]]]).log()
    teacher = torch.tensor([[[0.9, 0.05, 0.05], [0.9, 0.1, 0.0], [0.0, 0.1, 0.9]]]).log()
    # The teacher spikes 0, 0, 2; with blank 2 the student's 0.7 and 0.1 count.
    assert guided_ctc(student, teacher, torch.tensor([3]), blank=2).item() == pytest.approx(-0.8)
    assert guided_ctc(student, teacher, torch.tensor([3]), blank=0).item() == pytest.approx(-0.4)


def test_an_utterance_without_alignment_adds_nothing_to_the_occupancy_divergence():
    student, teacher, _ = random_pair(7)
    lengths = torch.tensor([1, 5, 5, 5, 5, 5, 5, 5])
    value, gradient = value_and_gradient('occupancy_kl', student, teacher, lengths)
    assert value[0] == 0 and torch.equal(gradient[0], torch.zeros(5, 4).double()) and (value[1:] > 0).all()


def test_entropy_is_the_mean_over_valid_frames():
    log_probs = torch.zeros(3, 4, 8)
    log_probs[0, 0, 3] = 1e4  # one certain frame of two
    log_probs[0, 2:] = math.nan
    entropy = frame_entropy(log_probs, torch.tensor([2, 4, 0]))
    assert entropy.tolist() == pytest.approx([math.log(8) / 2, math.log(8), 0.0])


def test_agreement_is_the_share_of_valid_frames_with_the_same_label():
    a = torch.nn.functional.one_hot(torch.tensor([[0, 1, 2, 0], [1, 1, 1, 1], [0, 0, 0, 0]]), 3).float()
    b = torch.nn.functional.one_hot(torch.tensor([[0, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0]]), 3).float()
    a[1, 2:] = math.nan
    assert frame_agreement(a, b, torch.tensor([4, 2, 0])).tolist() == [0.75, 0.5, 0.0]


def test_input_that_does_not_fit_is_refused_with_the_fix():
    x, lengths = torch.zeros(2, 4, 3), torch.tensor([4, 4])
    with pytest.raises(ValueError, match='same tokenizer'):
        frame_kl(x, torch.zeros(2, 4, 5), lengths)
    with pytest.raises(ValueError, match='resample_frames'):
        softmax_l2(x, torch.zeros(2, 8, 3), lengths)
    with pytest.raises(ValueError, match='temperature must be positive'):
        frame_kl(x, x, lengths, temperature=0.0)
    with pytest.raises(ValueError, match='frame_weights must have shape'):
        frame_kl(x, x, lengths, frame_weights=torch.ones(2, 3))
    with pytest.raises(ValueError, match='lengths must have shape'):
        guided_ctc(x, x, torch.tensor([4]), 0)
    with pytest.raises(ValueError, match=r'shape \[B, T, V\]'):
        occupancy_kl(x, x[0], lengths)


@pytest.mark.parametrize(
    'lengths, sentence',
    [
        (torch.tensor([4, 5]), r'lengths must lie between 0 and 4, got \[4, 5\]'),
        (torch.tensor([4, -1]), 'lengths must lie between 0 and 4'),
        (torch.tensor([1.0, 0.5]), 'lengths must hold integers, got torch.float32'),
    ],
)
@pytest.mark.parametrize(
    'function',
    [
        frame_kl,
        softmax_l2,
        occupancy_kl,
        frame_agreement,
        lambda s, t, n: guided_ctc(s, t, n, BLANK),
        lambda s, t, n: frame_entropy(s, n),
        lambda s, t, n: blank_frame_weights(t, n, BLANK),
    ],
)
def test_lengths_that_cannot_be_are_refused(function, lengths, sentence):
    x = torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match=sentence):
        function(x, x, lengths)


@pytest.mark.parametrize('blank', [-1, 3, 99])
def test_a_blank_that_does_not_exist_is_refused(blank):
    x, lengths = torch.zeros(2, 4, 3), torch.tensor([4, 4])
    with pytest.raises(ValueError, match=f'Blank {blank} does not exist among the 3 classes'):
        guided_ctc(x, x, lengths, blank)
    with pytest.raises(ValueError, match=f'Blank {blank} does not exist among the 3 classes'):
        blank_frame_weights(x, lengths, blank, 'drop')


@pytest.mark.parametrize('where', ['one class of a frame', 'a frame', 'an infinite logit'])
@EVERY_LOSS
def test_a_broken_teacher_shows_in_the_value_and_does_not_spread_to_the_student(name, where):
    """Defect: NaN was logged as 0.0, or trained on as a label, and its gradient made the student's weights NaN."""
    student, teacher = torch.randn(2, 3, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([6, 4, 5])
    student.requires_grad_()
    intact = LOSSES[name](student, teacher, lengths)
    (expected,) = torch.autograd.grad(intact[1:].sum(), student)
    if where == 'one class of a frame':
        teacher[0, 2, 3] = math.nan
    elif where == 'a frame':
        teacher[0, 2] = math.nan
    else:
        teacher[0, 2, 1] = math.inf
        if name == 'guided_ctc':  # which an argmax understands
            return
    value = LOSSES[name](student, teacher, lengths)
    assert value[0].isnan() and torch.equal(value[1:], intact[1:])
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert torch.equal(gradient, expected) and (gradient[0] == 0).all()
    (unweighted,) = torch.autograd.grad((0.0 * LOSSES[name](student, teacher, lengths)).sum(), student)
    assert unweighted.isfinite().all()
    assert frame_entropy(teacher, lengths).isnan().tolist() == [True, False, False]

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Full sum and occupancy: gradients, invariances, types, degenerate and bad input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_oracle_kd.functional import ctc_best_path, ctc_full_sum, ctc_occupancy, label_log_prior

FEW = settings(max_examples=25, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**31 - 1)


def random_batch(seed: int, batch: int = 8, frames: int = 9, labels: int = 3, vocabulary: int = 5):
    """Utterances of all lengths, feasible or not, blank at a random place, labels repeated often."""
    g = torch.Generator().manual_seed(seed)
    blank = int(torch.randint(vocabulary, (1,), generator=g))
    log_probs = torch.randn(batch, frames, vocabulary, dtype=torch.float64, generator=g)
    targets = torch.randint(vocabulary - 1, (batch, labels), generator=g)
    targets = targets + (targets >= blank)
    input_lengths = torch.randint(frames + 1, (batch,), generator=g)
    target_lengths = torch.randint(labels + 1, (batch,), generator=g)
    return log_probs, targets, input_lengths, target_lengths, blank


def value_and_gradient(log_probs, *rest):
    log_probs = log_probs.detach().clone().requires_grad_()
    nll = ctc_full_sum(log_probs, *rest)
    nll.sum().backward()
    return nll.detach(), log_probs.grad


@pytest.mark.parametrize('blank', [0, 1, 3])
def test_gradcheck_passes_on_scores_that_are_not_normalised(blank):
    torch.manual_seed(0)
    log_probs = torch.randn(4, 5, 4, dtype=torch.float64, requires_grad=True)
    free = torch.tensor([k for k in range(4) if k != blank])
    targets = free[torch.tensor([[0, 0, 1], [0, 1, 2], [2, 2, 2], [1, 0, 0]])]
    lengths = torch.tensor([5, 4, 5, 3]), torch.tensor([3, 3, 2, 0])
    assert torch.autograd.gradcheck(lambda x: ctc_full_sum(x, targets, *lengths, blank), (log_probs,))


def test_value_and_gradient_equal_torch_ctc_loss_behind_a_log_softmax():
    torch.manual_seed(0)
    logits = torch.randn(5, 30, 12, dtype=torch.float64)
    targets = torch.randint(1, 12, (5, 8))
    lengths = torch.tensor([30, 25, 17, 20, 30]), torch.tensor([8, 8, 5, 0, 1])
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    nll = ctc_full_sum(mine.log_softmax(dim=2), targets, *lengths, 0)
    expected = torch.nn.functional.ctc_loss(
        theirs.log_softmax(dim=2).transpose(0, 1), targets, *lengths, blank=0, reduction='none'
    )
    (nll.sum() + nll.square().sum()).backward()
    (expected.sum() + expected.square().sum()).backward()
    assert torch.allclose(nll, expected, rtol=1e-12)
    assert torch.allclose(mine.grad, theirs.grad, rtol=1e-9, atol=1e-9)


@FEW
@given(SEEDS)
def test_nan_in_the_padding_changes_neither_value_nor_gradient(seed):
    log_probs, targets, input_lengths, target_lengths, blank = random_batch(seed)
    clean = value_and_gradient(log_probs, targets, input_lengths, target_lengths, blank)
    dirty, garbage = log_probs.clone(), targets.clone()
    for row in range(len(dirty)):
        dirty[row, input_lengths[row] :] = [math.nan, math.inf, -math.inf, 1e300][row % 4]
        garbage[row, target_lengths[row] :] = [-1, 10**6, blank, 0][row % 4]
    rest = garbage, input_lengths, target_lengths, blank
    value, gradient = value_and_gradient(dirty, *rest)
    assert torch.equal(value, clean[0]) and torch.equal(gradient, clean[1])
    assert torch.equal(
        ctc_occupancy(dirty, *rest), ctc_occupancy(log_probs, targets, input_lengths, target_lengths, blank)
    )
    assert torch.equal(
        ctc_best_path(dirty, *rest), ctc_best_path(log_probs, targets, input_lengths, target_lengths, blank)
    )


@FEW
@given(SEEDS)
def test_splitting_a_batch_changes_nothing(seed):
    log_probs, targets, input_lengths, target_lengths, blank = random_batch(seed)
    whole = value_and_gradient(log_probs, targets, input_lengths, target_lengths, blank)
    for parts in (2, 8):
        pieces = zip(*(x.chunk(parts) for x in (log_probs, targets, input_lengths, target_lengths)), strict=True)
        values, gradients = zip(*(value_and_gradient(*piece, blank) for piece in pieces), strict=True)
        assert torch.allclose(torch.cat(values), whole[0], atol=1e-12, rtol=0)
        assert torch.allclose(torch.cat(gradients), whole[1], atol=1e-12, rtol=0)


@FEW
@given(SEEDS, st.floats(-50, 50))
def test_a_constant_on_the_logits_cancels_in_the_log_softmax_and_counts_without_it(seed, constant):
    log_probs, targets, input_lengths, target_lengths, blank = random_batch(seed)
    rest = targets, input_lengths, target_lengths, blank
    plain = ctc_full_sum(log_probs.log_softmax(dim=2), *rest)
    assert torch.allclose(ctc_full_sum((log_probs + constant).log_softmax(dim=2), *rest), plain, atol=1e-10)
    raised = ctc_full_sum(log_probs + constant, *rest)
    assert torch.allclose(raised, ctc_full_sum(log_probs, *rest) - constant * input_lengths.double(), atol=1e-10)
    assert torch.allclose(ctc_occupancy(log_probs + constant, *rest), ctc_occupancy(log_probs, *rest), atol=1e-10)


@FEW
@given(SEEDS)
def test_the_gradient_is_the_negative_occupancy(seed):
    batch = random_batch(seed)
    _, gradient = value_and_gradient(*batch)
    assert torch.allclose(gradient, -ctc_occupancy(*batch), atol=1e-14)


def test_the_label_prior_is_the_mean_posterior_with_one_more_frame_for_every_class():
    log_probs = torch.tensor([[[0.7, 0.3, 0.0], [0.9, 0.05, 0.05], [0.0, 0.0, 1.0]]]).double().log()
    prior = label_log_prior(log_probs.expand(2, -1, -1), torch.tensor([2, 3])).exp()
    expected = torch.tensor([[2.6, 1.35, 1.05], [2.6, 1.35, 2.05]]).double() / torch.tensor([[5.0], [6.0]])
    torch.testing.assert_close(prior, expected)


def test_a_share_of_the_label_prior_moves_occupancy_from_the_blank_to_the_label():
    log_probs = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.95, 0.05]]]).double().log()
    rest = torch.tensor([[1]]), torch.tensor([4]), torch.tensor([1]), 0
    fairer = log_probs - 0.5 * label_log_prior(log_probs, rest[1]).unsqueeze(1)
    plain, moved = (ctc_occupancy(given, *rest)[0, :, 1].sum() for given in (log_probs, fairer))
    assert moved > plain + 0.05


def test_an_infeasible_utterance_gives_inf_and_gradient_zero_and_spares_its_neighbours():
    torch.manual_seed(0)
    log_probs = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    targets, lengths = torch.tensor([[1, 1, 1], [1, 2, 1]]), torch.tensor([4, 4])
    nll = ctc_full_sum(log_probs, targets, lengths, torch.tensor([3, 3]), 0)
    nll.square().sum().backward()
    assert nll[0] == math.inf and torch.isfinite(nll[1])
    assert torch.equal(log_probs.grad[0], torch.zeros(4, 3).double())
    assert torch.isfinite(log_probs.grad).all() and log_probs.grad[1].abs().sum() > 0


def test_no_labels_score_the_all_blank_path_and_no_frames_score_zero_or_inf():
    torch.manual_seed(0)
    log_probs = torch.randn(3, 4, 3, requires_grad=True)
    nll = ctc_full_sum(log_probs, torch.full((3, 2), 1), torch.tensor([3, 0, 0]), torch.tensor([0, 0, 1]), blank=2)
    nll[:2].sum().backward()
    assert nll.tolist() == pytest.approx([-log_probs[0, :3, 2].sum().item(), 0.0, math.inf])
    assert math.copysign(1, nll[1].item()) == 1
    assert log_probs.grad.sum() == -3 and torch.equal(log_probs.grad[0, :3, 2], -torch.ones(3))


@pytest.mark.parametrize('batch, frames, labels', [(0, 4, 2), (2, 0, 0), (2, 0, 2), (2, 4, 0), (0, 0, 0)])
def test_empty_axes_are_defined(batch, frames, labels):
    log_probs = torch.zeros(batch, frames, 3, requires_grad=True)
    zero = torch.zeros(batch, dtype=torch.long)
    rest = torch.zeros(batch, labels, dtype=torch.long), zero, zero, 0
    nll = ctc_full_sum(log_probs, *rest)
    nll.sum().backward()
    assert torch.equal(nll, torch.zeros(batch)) and torch.equal(log_probs.grad, torch.zeros(batch, frames, 3))
    assert ctc_occupancy(log_probs, *rest).shape == (batch, frames, 3)
    assert ctc_best_path(log_probs, *rest).shape == (batch, frames)


@pytest.mark.parametrize('dtype, tolerance', [(torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_narrow_types_lose_nothing_but_the_rounding_of_their_input(dtype, tolerance):
    torch.manual_seed(0)
    exact = torch.randn(3, 150, 20).log_softmax(dim=2)
    rest = torch.randint(1, 20, (3, 20)), torch.tensor([150, 140, 90]), torch.tensor([20, 20, 15]), 0
    narrow = exact.to(dtype).requires_grad_()
    nll = ctc_full_sum(narrow, *rest)
    nll.sum().backward()
    assert nll.dtype == torch.float32 and narrow.grad.dtype == dtype
    assert torch.isfinite(narrow.grad).all()
    assert torch.equal(nll, ctc_full_sum(narrow.float(), *rest))
    assert torch.allclose(nll, ctc_full_sum(exact, *rest), rtol=tolerance)
    assert torch.allclose(narrow.grad.float(), -ctc_occupancy(exact, *rest), atol=20 * tolerance)


def test_float32_stays_close_to_float64_on_a_long_utterance():
    torch.manual_seed(0)
    log_probs = (4 * torch.randn(2, 1000, 30, dtype=torch.float64)).log_softmax(dim=2)
    rest = torch.randint(1, 30, (2, 100)), torch.tensor([1000, 900]), torch.tensor([100, 80]), 0
    assert torch.allclose(ctc_full_sum(log_probs.float(), *rest).double(), ctc_full_sum(log_probs, *rest), rtol=2e-7)
    occupancy = ctc_occupancy(log_probs.float(), *rest)
    assert occupancy.dtype == torch.float32
    assert torch.allclose(occupancy.sum(dim=2)[0], torch.ones(1000), atol=1e-6)
    # A recursion in float32 is off by 5e-4 here: the scores reach six thousand nats.
    assert (occupancy.double() - ctc_occupancy(log_probs, *rest)).abs().max() < 5e-6


def test_the_lattice_skips_only_between_different_labels():
    """Three frames fit `a b` with a skip and `a a` in one way only, through the blank."""
    log_probs = torch.zeros(2, 3, 3, dtype=torch.float64)
    lengths = torch.tensor([3, 3]), torch.tensor([2, 2])
    nll = ctc_full_sum(log_probs, torch.tensor([[1, 2], [1, 1]]), *lengths, 0)
    assert nll.tolist() == pytest.approx([-math.log(5), 0.0])


def test_autocast_changes_nothing():
    batch = random_batch(1)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = value_and_gradient(*batch), ctc_occupancy(*batch)
    outside = value_and_gradient(*batch), ctc_occupancy(*batch)
    assert torch.equal(inside[0][0], outside[0][0]) and torch.equal(inside[0][1], outside[0][1])
    assert torch.equal(inside[1], outside[1])


def test_nan_in_a_valid_frame_is_not_hidden():
    log_probs = torch.zeros(1, 3, 3)
    log_probs[0, 1] = math.nan
    assert torch.isnan(ctc_full_sum(log_probs, torch.tensor([[1]]), torch.tensor([3]), torch.tensor([1]), 0)).all()


def test_integer_types_of_targets_and_lengths_do_not_matter():
    log_probs, targets, input_lengths, target_lengths, blank = random_batch(0)
    expected = ctc_full_sum(log_probs, targets, input_lengths, target_lengths, blank)
    narrow = ctc_full_sum(log_probs, targets.int(), input_lengths.int(), target_lengths.short(), blank)
    assert torch.equal(expected, narrow)


@pytest.mark.parametrize(
    'change, sentence',
    [
        ({'log_probs': torch.zeros(2, 4)}, r'log_probs must have shape \[B, T, V\]'),
        ({'log_probs': torch.zeros(2, 4, 3, dtype=torch.long)}, 'floating point'),
        ({'targets': torch.ones(2, dtype=torch.long)}, r'targets must have shape \[B, U\]'),
        ({'targets': torch.ones(2, 2)}, 'targets must hold integers'),
        ({'input_lengths': torch.tensor([4])}, 'input_lengths must have shape'),
        ({'input_lengths': torch.tensor([4, 5])}, r'input_lengths must lie in 0\.\.4'),
        ({'target_lengths': torch.tensor([1, 3])}, r'target_lengths must lie in 0\.\.2'),
        ({'target_lengths': torch.tensor([-1, 1])}, r'target_lengths must lie in 0\.\.2'),
        ({'targets': torch.tensor([[1, 3], [1, 1]])}, 'check that tokenizer and blank id belong to this model'),
        ({'targets': torch.tensor([[1, 0], [1, 1]])}, 'other than blank = 0'),
        ({'blank': 3}, 'blank = 3 lies outside the vocabulary'),
    ],
)
@pytest.mark.parametrize('function', [ctc_full_sum, ctc_occupancy, ctc_best_path])
def test_input_that_does_not_fit_is_refused_with_a_sentence(function, change, sentence):
    arguments = {
        'log_probs': torch.zeros(2, 4, 3),
        'targets': torch.ones(2, 2, dtype=torch.long),
        'input_lengths': torch.tensor([4, 4]),
        'target_lengths': torch.tensor([2, 2]),
        'blank': 0,
    }
    with pytest.raises(ValueError, match=sentence):
        function(**(arguments | change))

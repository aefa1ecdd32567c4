# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Full sum, occupancy and best path against the enumeration of all alignments, in float64."""

import math

import pytest
import torch

from nemo_oracle_kd.functional import (
    collapse_path,
    ctc_best_path,
    ctc_full_sum,
    ctc_occupancy,
    enumerate_ctc_alignments,
)
from nemo_oracle_kd.functional.reference.ctc import (
    reference_ctc_best_path,
    reference_ctc_full_sum,
    reference_ctc_occupancy,
    reference_ctc_recursion,
)

VOCABULARY = 4
# Transcripts in "letters"; the test maps a, b, c to the ids that the blank leaves free.
TRANSCRIPTS = ['', 'a', 'aa', 'ab', 'aba', 'aab', 'abb', 'aaa', 'abc', 'abca', 'aabb']
BLANKS = pytest.mark.parametrize('blank', [0, 2, VOCABULARY - 1], ids=['first', 'middle', 'last'])


def one_batch(blank: int, seed: int = 0):
    """Every transcript with every number of frames from 0 to 6, padded to one batch; scores are not normalised."""
    ids = [k for k in range(VOCABULARY) if k != blank]
    cases = [([ids['abc'.index(letter)] for letter in text], frames) for text in TRANSCRIPTS for frames in range(7)]
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(len(cases), 6, VOCABULARY, dtype=torch.float64, generator=generator) * 2
    targets = torch.full((len(cases), 4), -1)
    for row, (labels, _) in enumerate(cases):
        targets[row, : len(labels)] = torch.tensor(labels, dtype=torch.long)
    input_lengths = torch.tensor([frames for _, frames in cases])
    target_lengths = torch.tensor([len(labels) for labels, _ in cases])
    return cases, (log_probs, targets, input_lengths, target_lengths, blank)


def minimal_frames(labels: list[int]) -> int:
    return len(labels) + sum(a == b for a, b in zip(labels, labels[1:], strict=False))


def test_the_enumeration_lists_the_alignments_known_by_hand():
    assert enumerate_ctc_alignments([1], 2, blank=0) == [(0, 1), (1, 0), (1, 1)]
    assert enumerate_ctc_alignments([1, 1], 3, blank=0) == [(1, 0, 1)]
    assert enumerate_ctc_alignments([1, 1], 2, blank=0) == []
    assert enumerate_ctc_alignments([], 2, blank=3) == [(3, 3)]
    assert enumerate_ctc_alignments([], 0, blank=0) == [()]


@pytest.mark.parametrize('labels, frames', [('ab', 5), ('aa', 5), ('abc', 4), ('', 3)])
def test_the_number_of_alignments_follows_the_binomial_formula(labels, frames):
    repeats = sum(a == b for a, b in zip(labels, labels[1:], strict=False))
    expected = math.comb(frames + len(labels) - repeats, 2 * len(labels))
    assert len(enumerate_ctc_alignments([ord(letter) for letter in labels], frames, blank=0)) == expected


@BLANKS
def test_full_sum_equals_the_sum_over_all_alignments_and_the_textbook_recursion(blank):
    cases, batch = one_batch(blank)
    nll = ctc_full_sum(*batch)
    assert nll.dtype == torch.float64
    for row, (labels, frames) in enumerate(cases):
        scores = batch[0][row, :frames]
        assert nll[row].item() == pytest.approx(reference_ctc_full_sum(scores, labels, blank).item(), abs=1e-12)
        assert nll[row].item() == pytest.approx(reference_ctc_recursion(scores, labels, blank), abs=1e-12)
        assert math.isinf(nll[row]) == (frames < minimal_frames(labels))


@BLANKS
def test_gradient_equals_autograd_through_all_alignments(blank):
    cases, (log_probs, *rest) = one_batch(blank, seed=1)
    log_probs.requires_grad_()
    weights = torch.linspace(0.5, 2, len(cases), dtype=torch.float64)
    nll = ctc_full_sum(log_probs, *rest)
    (nll * weights).sum().backward()
    for row, (labels, frames) in enumerate(cases):
        twin = log_probs[row, :frames].detach().requires_grad_()
        slow = reference_ctc_full_sum(twin, labels, blank)
        expected = torch.zeros_like(log_probs[row])
        if frames >= max(minimal_frames(labels), 1):
            expected[:frames] = torch.autograd.grad(slow * weights[row], twin)[0]
        assert torch.allclose(log_probs.grad[row], expected, atol=1e-12, rtol=0)


@BLANKS
def test_occupancy_equals_the_share_of_the_alignments_and_its_rows_sum_to_one(blank):
    cases, batch = one_batch(blank, seed=2)
    occupancy = ctc_occupancy(*batch)
    for row, (labels, frames) in enumerate(cases):
        expected = reference_ctc_occupancy(batch[0][row, :frames], labels, blank)
        assert torch.allclose(occupancy[row, :frames], expected, atol=1e-12, rtol=0)
        assert torch.equal(occupancy[row, frames:], torch.zeros_like(occupancy[row, frames:]))
        sums = occupancy[row, :frames].sum(dim=1)
        feasible = frames >= minimal_frames(labels)
        assert torch.allclose(sums, torch.full_like(sums, float(feasible)), atol=1e-12, rtol=0)


@BLANKS
def test_best_path_is_the_most_probable_alignment(blank):
    cases, batch = one_batch(blank, seed=3)
    path = ctc_best_path(*batch)
    labels_back, counts = collapse_path(path, blank)
    for row, (labels, frames) in enumerate(cases):
        expected = reference_ctc_best_path(batch[0][row, :frames], labels, blank)
        if expected is None:
            assert path[row].tolist() == [-1] * 6
        else:
            assert path[row].tolist() == list(expected) + [-1] * (6 - frames)
            assert labels_back[row, : counts[row]].tolist() == labels


def test_alignments_of_probability_zero_do_not_count():
    """A frame that forbids some labels (-inf) leaves the other alignments; forbidding all leaves none."""
    log_probs = torch.zeros(2, 3, 3, dtype=torch.float64)
    log_probs[0, 1, 0] = -math.inf  # no blank in the middle frame
    log_probs[1, :, 1] = -math.inf  # label 1 nowhere
    log_probs.requires_grad_()
    lengths = torch.tensor([3, 3])
    nll = ctc_full_sum(log_probs, torch.tensor([[1, 2], [1, 2]]), lengths, torch.tensor([2, 2]), 0)
    nll.sum().backward()
    # (1,1,2) (1,2,2) (1,2,0) (0,1,2) remain of five.
    assert nll[0].item() == pytest.approx(-math.log(4)) and nll[1] == math.inf
    assert torch.isfinite(log_probs.grad).all() and torch.equal(log_probs.grad[1], torch.zeros(3, 3).double())
    assert log_probs.grad[0, 1].tolist() == pytest.approx([0, -0.5, -0.5])

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Slow, readable float64 versions of the CTC functions, one utterance at a time, for tests and for reading.

The brute-force functions share nothing with the fast path, not even the lattice. They list every label sequence of the
utterance's length and keep those that collapse to the transcript.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    'enumerate_ctc_alignments',
    'reference_ctc_full_sum',
    'reference_ctc_occupancy',
    'reference_ctc_best_path',
    'reference_ctc_recursion',
    'reference_frame_kl',
    'reference_softmax_l2',
    'reference_guided_ctc',
    'reference_occupancy_kl',
]


def enumerate_ctc_alignments(targets: Sequence[int], T: int, blank: int) -> list[tuple[int, ...]]:
    """All label sequences of T frames that the CTC mapping collapses to `targets`.

    With K distinct labels the work is (K + 1) ** T, so this is for tiny T only.

    Args:
        targets: labels without blanks.
        T: number of frames.
        blank: id of the blank.

    Returns:
        the alignments in lexicographic order; empty if there is none.
    """
    wanted = [int(label) for label in targets]
    alphabet = sorted({*wanted, blank})
    return [path for path in itertools.product(alphabet, repeat=T) if _collapse(path, blank) == wanted]


def reference_ctc_full_sum(log_probs: Tensor, targets: Sequence[int], blank: int) -> Tensor:
    """Negative log of the sum over all alignments. `log_probs` is `[T, V]`; the result is a differentiable scalar."""
    log_probs = log_probs.double()
    scores = [_score(log_probs, path) for path in enumerate_ctc_alignments(targets, log_probs.shape[0], blank)]
    return -torch.stack(scores).logsumexp(dim=0) if scores else log_probs.new_full((), math.inf)


def reference_ctc_occupancy(log_probs: Tensor, targets: Sequence[int], blank: int) -> Tensor:
    """Share of the probability that passes through each label in each frame. `log_probs` and the result are `[T, V]`."""
    log_probs = log_probs.double()
    occupancy = torch.zeros_like(log_probs)
    total = 0.0
    for path in enumerate_ctc_alignments(targets, log_probs.shape[0], blank):
        probability = math.exp(float(_score(log_probs, path)))
        total += probability
        for t, label in enumerate(path):
            occupancy[t, label] += probability
    return occupancy / total if total > 0 else occupancy


def reference_ctc_best_path(log_probs: Tensor, targets: Sequence[int], blank: int) -> tuple[int, ...] | None:
    """The most probable alignment of `log_probs [T, V]`, or None if there is none."""
    log_probs = log_probs.double()
    paths = enumerate_ctc_alignments(targets, log_probs.shape[0], blank)
    return max(paths, key=lambda path: float(_score(log_probs, path)), default=None)


def reference_ctc_recursion(log_probs: Tensor, targets: Sequence[int], blank: int) -> float:
    """Negative log-likelihood of `log_probs [T, V]` by the textbook recursion in probabilities, cell by cell."""
    probs = log_probs.detach().double().exp().tolist()
    labels = [blank]
    for label in targets:
        labels += [int(label), blank]
    if not probs:
        return 0.0 if len(labels) == 1 else math.inf
    alpha = [probs[0][label] if s < 2 else 0.0 for s, label in enumerate(labels)]
    for frame in probs[1:]:
        previous = alpha
        alpha = []
        for s, label in enumerate(labels):
            reached = previous[s]
            if s >= 1:
                reached += previous[s - 1]
            if s >= 2 and label != blank and label != labels[s - 2]:
                reached += previous[s - 2]
            alpha.append(reached * frame[label])
    likelihood = sum(alpha[-2:])
    return -math.log(likelihood) if likelihood > 0 else math.inf


def reference_frame_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> float:
    """`temperature ** 2 * sum_t KL(teacher || student)` of logits `[T, V]`, term by term."""
    total = 0.0
    for q, p in zip(_softmax_rows(student, temperature), _softmax_rows(teacher, temperature), strict=True):
        total += sum(p_k * math.log(p_k / q_k) for p_k, q_k in zip(p, q, strict=True) if p_k > 0)
    return temperature**2 * total


def reference_softmax_l2(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> float:
    """`sum_t sum_k (p - q) ** 2` of logits `[T, V]`, term by term."""
    total = 0.0
    for q, p in zip(_softmax_rows(student, temperature), _softmax_rows(teacher, temperature), strict=True):
        total += sum((p_k - q_k) ** 2 for p_k, q_k in zip(p, q, strict=True))
    return total


def reference_guided_ctc(student: Tensor, teacher: Tensor, blank: int) -> float:
    """Minus the student's posterior of the teacher's spikes, for logits `[T, V]`."""
    total = 0.0
    for q, p in zip(_softmax_rows(student), _softmax_rows(teacher), strict=True):
        spike = p.index(max(p))
        if spike != blank:
            total -= q[spike]
    return total


def reference_occupancy_kl(student: Tensor, occupancy: Tensor) -> float:
    """`sum_t KL(gamma || student)` for logits and an occupancy `[T, V]`."""
    total = 0.0
    for q, gamma in zip(_softmax_rows(student), occupancy.double().tolist(), strict=True):
        total += sum(g_k * math.log(g_k / q_k) for g_k, q_k in zip(gamma, q, strict=True) if g_k > 0)
    return total


def _collapse(path: Sequence[int], blank: int) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label != blank]


def _score(log_probs: Tensor, path: Sequence[int]) -> Tensor:
    return sum((log_probs[t, label] for t, label in enumerate(path)), log_probs.new_zeros(()))


def _softmax_rows(logits: Tensor, temperature: float = 1.0) -> list[list[float]]:
    rows = []
    for row in (logits.detach().double() / temperature).tolist():
        largest = max(row)
        exponentials = [math.exp(value - largest) for value in row]
        rows.append([value / sum(exponentials) for value in exponentials])
    return rows

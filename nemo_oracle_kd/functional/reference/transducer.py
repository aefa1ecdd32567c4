# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Slow, readable versions of the transducer losses, in float64, one utterance and one node at a time.

There are two levels. `transducer_reference` walks over the nodes as the papers write it. `enumerate_alignments` lists
every single alignment, so that sums, occupancies and best paths can be counted by hand on tiny lattices. Neither shares
code with the fast implementations. `rnnt_steps`, `multiblank_steps` and `tdt_steps` define the three transducers: which
steps can be taken from a node, where they lead, and how they score.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

__all__ = [
    'enumerate_alignments',
    'transducer_reference',
    'brute_force_full_sum',
    'rnnt_steps',
    'multiblank_steps',
    'tdt_steps',
]

Step = tuple[str, int, int, Tensor]
"""Name of a step, the frame and the position at which it arrives, and its log-score (a scalar tensor)."""

Steps = Callable[[int, int], list[Step]]
"""Gives the steps that leave node (t, u)."""


def rnnt_steps(logits: Tensor, target: list[int], blank: int) -> Steps:
    """RNN-T (Graves 2012): a label stays in the frame, a blank reads one. `logits [T, U+1, V]` of one utterance."""
    log_probs = logits.double().log_softmax(-1)

    def steps(t: int, u: int) -> list[Step]:
        found = [('blank', t + 1, u, log_probs[t, u, blank])]
        if u < len(target):
            found.append(('label', t, u + 1, log_probs[t, u, target[u]]))
        return found

    return steps


def multiblank_steps(
    logits: Tensor, target: list[int], blank: int, big_blank_durations: list[int], sigma: float = 0.0
) -> Steps:
    """Multi-blank (arXiv 2211.03541): as RNN-T, and big blanks that read several frames. `logits [T, U+1, V]`."""
    log_probs = logits.double().log_softmax(-1) - sigma

    def steps(t: int, u: int) -> list[Step]:
        found = [('blank', t + 1, u, log_probs[t, u, blank])]
        for i, duration in enumerate(big_blank_durations):
            found.append((f'blank{duration}', t + duration, u, log_probs[t, u, blank - 1 - i]))
        if u < len(target):
            found.append(('label', t, u + 1, log_probs[t, u, target[u]]))
        return found

    return steps


def tdt_steps(
    logits: Tensor, duration_logits: Tensor, target: list[int], blank: int, durations: list[int], sigma: float = 0.0
) -> Steps:
    """TDT (arXiv 2304.06795): a label or a blank, with a duration. `duration_logits [T, U+1, D]` of one utterance."""
    log_probs = logits.double().log_softmax(-1) - sigma
    duration_log_probs = duration_logits.double().log_softmax(-1)

    def steps(t: int, u: int) -> list[Step]:
        found = []
        for i, duration in enumerate(durations):
            if duration > 0:
                score = log_probs[t, u, blank] + duration_log_probs[t, u, i]
                found.append((f'blank{duration}', t + duration, u, score))
            if u < len(target):
                score = log_probs[t, u, target[u]] + duration_log_probs[t, u, i]
                found.append((f'label{duration}', t + duration, u + 1, score))
        return found

    return steps


def transducer_reference(steps: Steps, frames: int, labels: int) -> Tensor:
    """Negative log-likelihood of one utterance by a walk over its nodes. Differentiable.

    Args:
        steps: one of the definitions above.
        frames: T.
        labels: U.

    Returns:
        scalar in nats, float64; `inf` if no alignment exists.
    """
    arriving: dict[tuple[int, int], list[Tensor]] = {(0, 0): [torch.zeros((), dtype=torch.float64)]}
    for t in range(frames):
        for u in range(labels + 1):
            if (t, u) not in arriving:
                continue
            here = torch.logsumexp(torch.stack(arriving[t, u]), 0)
            for name, next_t, next_u, score in steps(t, u):
                if next_t < frames or (next_t == frames and name.startswith('blank')):
                    arriving.setdefault((next_t, next_u), []).append(here + score)
    if frames == 0 or (frames, labels) not in arriving:
        return torch.full((), math.inf, dtype=torch.float64)
    return -torch.logsumexp(torch.stack(arriving[frames, labels]), 0)


def enumerate_alignments(
    steps: Steps, frames: int, labels: int
) -> Iterator[tuple[list[tuple[str, int, int]], Tensor]]:
    """Lists every alignment of one utterance: its steps as (name, frame, position), and its log-score."""

    def extend(t: int, u: int, path: list[tuple[str, int, int]], score: Tensor):
        if t == frames:
            # The last step is a blank: a label never leads to the end.
            if u == labels and path and path[-1][0].startswith('blank'):
                yield path, score
            return
        for name, next_t, next_u, step_score in steps(t, u):
            if next_t <= frames:
                yield from extend(next_t, next_u, [*path, (name, t, u)], score + step_score)

    yield from extend(0, 0, [], torch.zeros((), dtype=torch.float64))


def brute_force_full_sum(steps: Steps, frames: int, labels: int) -> Tensor:
    """Negative log-likelihood of one utterance as the sum over the list of all its alignments."""
    scores = [score for _, score in enumerate_alignments(steps, frames, labels)]
    if not scores:
        return torch.full((), math.inf, dtype=torch.float64)
    return -torch.logsumexp(torch.stack(scores), 0)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Estimates which share of the gap between a student without the unlabelled speech and one with its true labels a system recovers.

With the error rates ``a`` of the student alone, ``c`` of the ceiling (all true labels) and ``s`` of the system, the share is ``(a - s) /
(a - c)``: 0 is as good as alone, 1 as good as the true labels. Its interval is a bootstrap that draws training seeds and utterances with
replacement, the same ones for all three. Where the gap itself is not sure to exist, no share can be given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from nemo_oracle_kd.evaluation.error_rates import ErrorCounts
from nemo_oracle_kd.evaluation.significance import weighted_draws

__all__ = ['Recovery', 'recovered']

#: share of the draws in which there may be no gap
MOST_WITHOUT_GAP = 0.025


@dataclass(frozen=True)
class Recovery:
    """The share of a gap that a system recovers.

    Attributes:
        share: 1 is the whole gap; ``None`` if there is no gap.
        low: lower end of the 95 % interval; ``None`` if too many draws have no gap.
        high: upper end.
        gap: the gap in points of the error rate.
        without_gap: share of the draws in which the ceiling is not below the student alone.
    """

    share: float | None
    low: float | None
    high: float | None
    gap: float
    without_gap: float

    def as_dict(self) -> dict:
        """Plain numbers, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.low is None:
            return 'no sure gap'
        return f'{100 * self.share:.0f} % [{100 * self.low:.0f}, {100 * self.high:.0f}]'


def recovered(
    alone: Sequence[ErrorCounts],
    system: Sequence[ErrorCounts],
    ceiling: Sequence[ErrorCounts],
    resamples: int = 2000,
    seed: int = 0,
) -> Recovery:
    """Computes the share of the gap that a system recovers.

    Args:
        alone: errors of the student without the unlabelled speech, one entry per seed.
        system: errors of the system, of the same seeds and utterances.
        ceiling: errors of the student that was told the true labels.
        resamples: number of draws.
        seed: seed of the draws.

    Raises:
        ValueError: other seeds or utterances, or fewer than 100 resamples.
    """
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}, too few for an interval: set at least 100")
    runs = [alone, system, ceiling]
    lengths = np.asarray(alone[0].reference_lengths, dtype=float)
    same = all(np.array_equal(one.reference_lengths, lengths) for of_system in runs for one in of_system)
    if len({len(of_system) for of_system in runs}) != 1 or not same:
        raise ValueError(
            "the three systems have other seeds or utterances: give runs of the same seeds on one test set"
        )
    errors = np.array([[one.errors for one in of_system] for of_system in runs], dtype=float)  # [3, S, N]

    def rates(seeds: np.ndarray, utterances: np.ndarray) -> np.ndarray:
        """Error rates ``[3, R]`` in percent, with how often each seed and utterance counts."""
        counted = np.einsum('ksn,rn,rs->kr', errors, utterances, seeds, optimize=True)
        return 100.0 * counted / (seeds.sum(axis=1) * (utterances @ lengths))

    drawn = np.concatenate([rates(*one) for one in weighted_draws(*errors.shape[1:], resamples, seed)], axis=1)
    a, s, c = rates(np.ones((1, errors.shape[1])), np.ones((1, errors.shape[2])))[:, 0]
    there = drawn[0] > drawn[2]
    without_gap = float(1.0 - there.mean())
    low, high = None, None
    if a > c and without_gap <= MOST_WITHOUT_GAP:
        shares = (drawn[0] - drawn[1])[there] / (drawn[0] - drawn[2])[there]
        low, high = (float(end) for end in np.quantile(shares, [0.025, 0.975]))
    share = float((a - s) / (a - c)) if a > c else None
    return Recovery(share, low, high, float(a - c), without_gap)

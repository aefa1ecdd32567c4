# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Computes how many times the seconds of one kind of teacher another kind needs for students of the same WER.

Students of teachers with several budgets form a curve: student WER over teacher seconds. Each curve is the mean over the seeds,
made non-increasing by isotonic regression and interpolated linearly over the logarithm of the seconds. ``g(w)`` is the least number
of seconds at which it reaches WER ``w``. The ratio of two curves is ``exp`` of the mean of ``log g_slow(w) - log g_fast(w)`` over the WERs that
both curves reach. Its interval is a bootstrap that draws seeds and utterances with replacement, the same ones for both curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from nemo_oracle_kd.evaluation.significance import weighted_draws

__all__ = ['BudgetCurve', 'SpeedUp', 'compare_speed']

#: WERs at which the inverse curves are compared
GRID = 200
#: share of the resamples that may have no common WER
MOST_UNDECIDED = 0.05


@dataclass(frozen=True)
class BudgetCurve:
    """The errors of the students of one kind of teacher.

    Attributes:
        seconds: ``[K]`` seconds of the teachers, increasing.
        errors: ``[K, S, N]`` word errors per budget, seed and utterance.
        lengths: ``[N]`` words of the references.

    Raises:
        ValueError: fewer than two budgets, budgets that do not increase, shapes that do not match, or no reference word.
    """

    seconds: np.ndarray
    errors: np.ndarray
    lengths: np.ndarray

    def __post_init__(self) -> None:
        seconds, errors, lengths = (np.asarray(value) for value in (self.seconds, self.errors, self.lengths))
        if len(seconds) < 2 or not (np.diff(seconds) > 0).all() or seconds[0] <= 0:
            raise ValueError(
                f"the budgets of a curve are {seconds.tolist()} seconds: give at least two, increasing from above 0"
            )
        if errors.ndim != 3 or errors.shape[0] != len(seconds) or errors.shape[2] != len(lengths):
            raise ValueError(
                f"the errors have the shape {list(errors.shape)} for {len(seconds)} budgets and {len(lengths)} utterances: give "
                "[budgets, seeds, utterances]"
            )
        if lengths.sum() <= 0:
            raise ValueError("all references are empty, so there is no WER: give transcripts with words")

    def wer(self, seeds: np.ndarray | None = None, utterances: np.ndarray | None = None) -> np.ndarray:
        """Mean WER over the seeds, in percent.

        Args:
            seeds: ``[R, S]`` how often each seed counts; by default once.
            utterances: ``[R, N]`` how often each utterance counts; by default once.

        Returns:
            ``[R, K]``.
        """
        seeds = np.ones((1, self.errors.shape[1])) if seeds is None else seeds
        utterances = np.ones((1, len(self.lengths))) if utterances is None else utterances
        errors = np.einsum('ksn,rn->rks', self.errors.astype(float), utterances, optimize=True)
        errors = np.einsum('rks,rs->rk', errors, seeds) / seeds.sum(axis=1, keepdims=True)
        return 100.0 * errors / (utterances @ self.lengths)[:, None]


@dataclass(frozen=True)
class SpeedUp:
    """How many times the seconds of the fast kind of teacher the slow kind needs.

    Attributes:
        ratio: of the seconds; ``None`` if the curves have no WER in common.
        low: lower end of its 95 % interval; ``None`` if too many resamples have no common WER.
        high: upper end.
        common: lowest and highest WER that both curves reach, in percent; ``None`` if there is none.
        undecided: share of the resamples without a common WER.
        seeds: number of seeds.
        utterances: number of utterances.
    """

    ratio: float | None
    low: float | None
    high: float | None
    common: tuple[float, float] | None
    undecided: float
    seeds: int
    utterances: int

    @property
    def sure(self) -> bool:
        """Whether a ratio can be given: there is an interval, and it does not contain 1."""
        return self.ratio is not None and self.low is not None and not self.low <= 1.0 <= self.high

    def sentence(self, slow: str, fast: str) -> str:
        """The finding in one sentence; ``slow`` and ``fast`` name the two kinds of teachers."""
        if self.common is None:
            return (
                f"No ratio can be given for {slow} and {fast}: within these budgets their students have no word error rate in "
                "common."
            )
        at = f"at equal word error rates of the students ({self.common[0]:.1f} to {self.common[1]:.1f} %)"
        drawn = f"{self.utterances} utterances" + (f" and {self.seeds} seeds" if self.seeds > 1 else ' of one seed')
        if self.low is None:
            return (
                f"No ratio can be given for {slow} and {fast}: {100 * self.undecided:.0f} % of the resamples of {drawn} have no word "
                "error rate in common."
            )
        interval = f"95 % interval {self.low:.2g} to {self.high:.2g} over {drawn}"
        if not self.sure:
            return f"No ratio can be given for {slow} and {fast}: {at} it is {self.ratio:.2g}, and its interval contains 1 ({interval})."
        if self.ratio < 1:
            interval = f"95 % interval {1 / self.high:.2g} to {1 / self.low:.2g} over {drawn}"
            return (
                f"{fast[0].upper()}{fast[1:]} needs {1 / self.ratio:.2g} times the seconds of {slow} {at}; {interval}."
            )
        return f"{slow[0].upper()}{slow[1:]} needs {self.ratio:.2g} times the seconds of {fast} {at}; {interval}."


def compare_speed(slow: BudgetCurve, fast: BudgetCurve, resamples: int = 2000, seed: int = 0) -> SpeedUp:
    """Computes the ratio of the seconds of two kinds of teachers at equal WER of their students.

    Args:
        slow: students of the kind that is expected to need more seconds.
        fast: students of the other kind, with the same seeds and utterances; the budgets may differ.
        resamples: number of bootstrap draws.
        seed: seed of the draws.

    Raises:
        ValueError: other seeds or utterances, or fewer than 100 resamples.
    """
    if slow.errors.shape[1:] != fast.errors.shape[1:] or not np.array_equal(slow.lengths, fast.lengths):
        raise ValueError(
            f"the two curves have {slow.errors.shape[1]} and {fast.errors.shape[1]} seeds and {len(slow.lengths)} and "
            f"{len(fast.lengths)} utterances, or other references: give both the same"
        )
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}, too few for an interval: set at least 100")
    found = _log_ratio(slow, fast, slow.wer()[0], fast.wer()[0])
    drawn = []
    for seeds, utterances in weighted_draws(*slow.errors.shape[1:], resamples, seed):
        rows = zip(slow.wer(seeds, utterances), fast.wer(seeds, utterances))
        drawn += [_log_ratio(slow, fast, *row) for row in rows]
    values = [one[0] for one in drawn if one is not None]
    undecided = 1.0 - len(values) / len(drawn)
    low, high = (None, None)
    if found is not None and undecided <= MOST_UNDECIDED:
        low, high = (float(end) for end in np.exp(np.quantile(values, [0.025, 0.975])))
    return SpeedUp(
        ratio=None if found is None else float(np.exp(found[0])),
        low=low,
        high=high,
        common=None if found is None else found[1],
        undecided=undecided,
        seeds=slow.errors.shape[1],
        utterances=len(slow.lengths),
    )


def _log_ratio(
    slow: BudgetCurve, fast: BudgetCurve, slow_wer: np.ndarray, fast_wer: np.ndarray
) -> tuple[float, tuple[float, float]] | None:
    """Mean difference of the log-seconds at the common WERs, with their range; ``None`` if there is none."""
    slow_wer, fast_wer = non_increasing(slow_wer), non_increasing(fast_wer)
    low, high = max(slow_wer[-1], fast_wer[-1]), min(slow_wer[0], fast_wer[0])
    if not low < high:
        return None
    wers = low + (np.arange(GRID) + 0.5) / GRID * (high - low)
    difference = _log_seconds(slow.seconds, slow_wer, wers) - _log_seconds(fast.seconds, fast_wer, wers)
    return float(difference.mean()), (float(low), float(high))


def _log_seconds(seconds: np.ndarray, curve: np.ndarray, wers: np.ndarray) -> np.ndarray:
    """The least log-seconds at which a non-increasing curve reaches each WER, which lies strictly between its ends."""
    logs = np.log(np.asarray(seconds, dtype=float))
    after = (curve[None, :] <= wers[:, None]).argmax(axis=1)  # first budget that is good enough; never budget 0
    before = after - 1
    share = (curve[before] - wers) / (curve[before] - curve[after])
    return logs[before] + share * (logs[after] - logs[before])


def non_increasing(values: Sequence[float]) -> np.ndarray:
    """The nearest non-increasing sequence in least squares (isotonic regression)."""
    return isotonic_regression(np.asarray(values, dtype=float), increasing=False).x

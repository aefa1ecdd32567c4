# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Estimates the uncertainty of a WER, and of the difference of two WERs, by resampling utterances.

All methods resample whole utterances, because errors within one utterance depend on each other:

* **Bootstrap interval** (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
  ICASSP 2004): draws ``N`` utterances with replacement, computes the corpus rate, and repeats; the interval holds the
  middle 95 % of the rates.
* **Paired bootstrap**: uses the same draw for both systems, so that the difficulty of an utterance cancels. It gives the
  interval of the difference and a p-value, which is twice the share of draws on the less frequent side of zero.
* **Matched-pairs permutation test** (after Gillick and Cox, "Some statistical issues in the comparison of speech
  recognition algorithms", ICASSP 1989, with random sign flips instead of the normal approximation): if A and B were the
  same system, swapping their outputs on any utterance would be equally likely. The p-value is the share of random swaps
  whose difference is at least as large as the observed one.

All methods are seeded, so that the same counts give the same numbers. With 130 utterances each takes some tens of
milliseconds.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nemo_oracle_kd.evaluation.error_rates import ErrorCounts

_CELLS_PER_CHUNK = 4_000_000  # limits the indices held at a time to 32 MB of int64, whatever the size of the corpus
_WEIGHTED_ROWS = 250


@dataclass(frozen=True)
class Interval:
    """An error rate in percent with the ends of its bootstrap interval."""

    rate: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return f"{self.rate:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True)
class PairedComparison:
    """System B against system A (the baseline) on the same utterances; rates in percent.

    Attributes:
        rate_a: error rate of the baseline.
        rate_b: error rate of the system.
        difference: ``rate_b - rate_a`` in points; negative means B is better.
        low: lower end of the paired bootstrap interval of the difference.
        high: upper end of that interval.
        relative: relative change in percent, ``100 * difference / rate_a``; ``None`` if A makes no error.
        p_bootstrap: two-sided p-value of the paired bootstrap.
        p_permutation: two-sided p-value of the matched-pairs permutation test. This is the one to quote.
        wins: utterances on which B makes fewer errors than A.
        losses: utterances on which B makes more errors.
        ties: utterances with equally many errors.
    """

    rate_a: float
    rate_b: float
    difference: float
    low: float
    high: float
    relative: float | None
    p_bootstrap: float
    p_permutation: float
    wins: int
    losses: int
    ties: int

    def as_dict(self) -> dict:
        """Plain numbers, for JSON."""
        return asdict(self)


def _check(resamples: int, level: float = 0.95) -> None:
    if resamples < 100:
        raise ValueError(f"resamples is {resamples}, too few for an interval or a p-value: set at least 100")
    if not 0.0 < level < 1.0:
        raise ValueError(f"the level of the interval is {level}: set a share between 0 and 1, such as 0.95")


def bootstrap_draws(rng: np.random.Generator, utterances: int, resamples: int) -> Iterator[np.ndarray]:
    """Yields index arrays ``[r, N]`` that together hold ``resamples`` draws with replacement."""
    rows = max(1, _CELLS_PER_CHUNK // max(utterances, 1))
    for start in range(0, resamples, rows):
        yield rng.integers(0, utterances, size=(min(rows, resamples - start), utterances))


def weighted_draws(seeds: int, utterances: int, resamples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields ``[r, S]`` and ``[r, N]``: how often each training seed and each utterance is drawn with replacement."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _WEIGHTED_ROWS):
        rows = min(_WEIGHTED_ROWS, resamples - start)
        yield tuple(rng.multinomial(count, np.full(count, 1.0 / count), size=rows) for count in (seeds, utterances))


def bootstrap_interval(counts: ErrorCounts, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of a corpus error rate.

    Args:
        counts: errors per utterance, ``N`` rows.
        level: share of the draws that lie within the interval.
        resamples: number of draws.
        seed: seed of the draws.

    Returns:
        The rate of the corpus and the interval, in percent.

    Raises:
        ValueError: all references are empty, or a setting is out of range.
    """
    _check(resamples, level)
    rate = counts.rate
    errors, lengths = counts.errors, counts.reference_lengths
    rng = np.random.default_rng(seed)
    rates = []
    for index in bootstrap_draws(rng, len(counts), resamples):
        total = lengths[index].sum(axis=1)
        # A draw of empty references alone has no rate, so it is left out instead of being counted as perfect.
        rates.append(100.0 * errors[index].sum(axis=1)[total > 0] / total[total > 0])
    low, high = np.quantile(np.concatenate(rates), [(1 - level) / 2, (1 + level) / 2])
    return Interval(rate, float(low), float(high), level)


def permutation_p_value(differences: np.ndarray, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of the matched-pairs (sign-flip) permutation test.

    Args:
        differences: ``[N]`` errors of B minus errors of A, per utterance.
        resamples: number of random sign patterns.
        seed: seed of the patterns.

    Returns:
        ``(1 + #{|flipped sum| >= |observed sum|}) / (1 + resamples)``; exactly 1.0 if no utterance differs.

    Raises:
        ValueError: fewer than 100 resamples.
    """
    _check(resamples)
    differences = np.asarray(differences, dtype=np.int64)
    differences = differences[differences != 0]  # flipping the sign of zero changes nothing
    if len(differences) == 0:
        return 1.0
    observed = abs(int(differences.sum()))
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS_PER_CHUNK // len(differences))
    as_large = 0
    for start in range(0, resamples, rows):
        signs = 2 * rng.integers(0, 2, size=(min(rows, resamples - start), len(differences))) - 1
        as_large += int((np.abs(signs @ differences) >= observed).sum())
    return (1 + as_large) / (1 + resamples)


def aligned(
    baseline: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], names: tuple[str, str]
) -> list[Mapping[str, Any]]:
    """Sorts a system's transcriptions into the order of the baseline's, so that the two can be paired.

    Rows are identified by ``audio_filepath`` and ``offset``. If the folders differ, because a corpus was moved, the names of
    the files are compared instead of the paths. Rows without audio must hold the same references in the same order.

    Args:
        baseline: rows with ``text`` (the reference) of system A.
        rows: rows of system B.
        names: names of A and B for messages.

    Returns:
        The rows of B in the order of A.

    Raises:
        ValueError: the two do not cover the same utterances, or their references differ.
    """
    if not all(row.get('audio_filepath') for row in (*baseline, *rows)):
        ordered = list(rows)
    else:
        ordered = _in_order(baseline, rows, str) or _in_order(baseline, rows, os.path.basename)
    fix = "transcribe the same manifest with both systems"
    if ordered is None or len(ordered) != len(baseline):
        raise ValueError(
            f"{names[0]} has {len(baseline)} utterances and {names[1]} {len(rows)}, but they are not the same utterances, which a "
            f"paired comparison needs: {fix}"
        )
    for number, (a, b) in enumerate(zip(baseline, ordered), start=1):
        if str(a['text']).split() != str(b['text']).split():
            raise ValueError(
                f"utterance {number} of {names[0]} has the reference {a['text']!r}, but {b['text']!r} in {names[1]}, and a paired "
                f"comparison needs the same references: {fix}"
            )
    return ordered


def _in_order(
    baseline: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], name: Callable[[str], str]
) -> list[Mapping[str, Any]] | None:
    """The rows in the baseline's order, or None if they cover other audio."""

    def keys(of: Sequence[Mapping[str, Any]]) -> list[tuple]:
        seen: Counter = Counter()
        result = []
        for row in of:
            key = (name(row['audio_filepath']), row.get('offset') or 0)
            seen[key] += 1  # numbers rows that occur more than once
            result.append((*key, seen[key]))
        return result

    wanted, there = keys(baseline), dict(zip(keys(rows), rows))
    return [there[key] for key in wanted] if set(wanted) == set(there) else None


def compare(
    baseline: ErrorCounts, system: ErrorCounts, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> PairedComparison:
    """Compares a system with a baseline on the same utterances.

    Args:
        baseline: errors of system A, ``N`` rows.
        system: errors of system B on the same utterances in the same order.
        level: level of the interval of the difference.
        resamples: number of draws of each method.
        seed: seed of both methods.

    Returns:
        The difference with its interval and both p-values. Identical systems give difference 0 and p = 1.

    Raises:
        ValueError: the two do not cover the same utterances, or all references are empty.
    """
    _check(resamples, level)
    if not np.array_equal(baseline.reference_lengths, system.reference_lengths):
        raise ValueError(
            f"the baseline has {len(baseline)} utterances and the system {len(system)}, and their reference lengths differ: give "
            "both systems on the same utterances in the same order"
        )
    rate_a, rate_b = baseline.rate, system.rate
    differences, lengths = system.errors - baseline.errors, baseline.reference_lengths
    rng = np.random.default_rng(seed)
    parts = []
    for index in bootstrap_draws(rng, len(baseline), resamples):
        total = lengths[index].sum(axis=1)
        parts.append(100.0 * differences[index].sum(axis=1)[total > 0] / total[total > 0])
    drawn = np.concatenate(parts)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    side = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return PairedComparison(
        rate_a=rate_a,
        rate_b=rate_b,
        difference=rate_b - rate_a,
        low=float(low),
        high=float(high),
        relative=100.0 * (rate_b - rate_a) / rate_a if rate_a > 0 else None,
        # Adding 1 to both counts keeps p above 0, which a finite number of draws cannot prove.
        p_bootstrap=min(1.0, 2.0 * (1 + side) / (1 + len(drawn))),
        p_permutation=permutation_p_value(differences, resamples, seed),
        wins=int((differences < 0).sum()),
        losses=int((differences > 0).sum()),
        ties=int((differences == 0).sum()),
    )

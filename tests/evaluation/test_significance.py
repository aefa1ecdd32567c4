# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the resampling methods, against exact enumeration where the corpus is small enough."""

import itertools

import numpy as np
import pytest

from nemo_oracle_kd.evaluation.error_rates import ErrorCounts
from nemo_oracle_kd.evaluation.significance import bootstrap_interval, compare, permutation_p_value


def make_counts(errors, lengths):
    errors, lengths = np.asarray(errors, dtype=np.int64), np.asarray(lengths, dtype=np.int64)
    zeros = np.zeros_like(errors)
    return ErrorCounts(errors, zeros, zeros, lengths)


@pytest.mark.unit
def test_interval_equals_the_exact_bootstrap_distribution_of_three_utterances():
    counts = make_counts([0, 1, 4], [2, 3, 5])
    rates = sorted(
        100 * counts.errors[list(draw)].sum() / counts.reference_lengths[list(draw)].sum()
        for draw in itertools.product(range(3), repeat=3)
    )
    interval = bootstrap_interval(counts, level=0.8, resamples=50_000)
    exact_low, exact_high = np.quantile(rates, [0.1, 0.9], method='inverted_cdf')
    assert interval.rate == pytest.approx(50.0)
    assert interval.low == pytest.approx(exact_low)
    assert interval.high == pytest.approx(exact_high)


@pytest.mark.unit
def test_interval_covers_the_true_rate_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    covered = 0
    for corpus in range(200):
        interval = bootstrap_interval(
            make_counts(rng.binomial(6, 0.3, 150), np.full(150, 6)), resamples=400, seed=corpus
        )
        covered += interval.low <= 30.0 <= interval.high
    assert 180 <= covered <= 200


@pytest.mark.unit
def test_permutation_p_value_equals_exact_enumeration_of_all_sign_patterns():
    differences = np.array([3, -1, 2, 2, 0, 1, -2])
    observed = abs(differences.sum())
    exact = np.mean(
        [abs(np.dot(signs, differences)) >= observed for signs in itertools.product([-1, 1], repeat=len(differences))]
    )
    assert permutation_p_value(differences, resamples=100_000) == pytest.approx(exact, abs=0.01)


@pytest.mark.unit
def test_identical_systems_differ_by_nothing_with_p_one():
    counts = make_counts([1, 0, 2], [3, 3, 3])
    result = compare(counts, counts)
    assert (result.difference, result.low, result.high) == (0.0, 0.0, 0.0)
    assert result.p_bootstrap == 1.0 and result.p_permutation == 1.0
    assert (result.wins, result.losses, result.ties) == (0, 0, 3)


@pytest.mark.unit
def test_a_clearly_better_system_is_significant_and_order_decides_the_sign():
    rng = np.random.default_rng(0)
    a = make_counts(rng.binomial(8, 0.5, 130), np.full(130, 8))
    b = make_counts(rng.binomial(8, 0.3, 130), np.full(130, 8))
    better, worse = compare(a, b), compare(b, a)
    assert better.difference < 0 and better.high < 0 and better.p_permutation < 0.01 and better.p_bootstrap < 0.01
    assert worse.difference == pytest.approx(-better.difference)
    assert worse.p_permutation == pytest.approx(better.p_permutation, abs=1e-3)
    assert better.relative == pytest.approx(100 * better.difference / a.rate)
    assert better.wins + better.losses + better.ties == 130


@pytest.mark.unit
def test_p_values_of_equal_systems_are_small_about_as_rarely_as_they_should_be():
    rng = np.random.default_rng(3)
    small = 0
    for corpus in range(200):
        differences = rng.binomial(6, 0.3, 60) - rng.binomial(6, 0.3, 60)
        small += permutation_p_value(differences, resamples=200, seed=corpus) <= 0.1
    assert 5 <= small <= 38  # 20 expected; 0.1 % tails of the binomial distribution and some


@pytest.mark.unit
def test_same_seed_gives_the_same_numbers():
    counts = make_counts([0, 2, 1, 3], [4, 4, 2, 6])
    assert bootstrap_interval(counts, seed=5) == bootstrap_interval(counts, seed=5)
    other = make_counts([1, 2, 0, 3], [4, 4, 2, 6])
    assert compare(counts, other, seed=5) == compare(counts, other, seed=5)


@pytest.mark.unit
def test_draws_of_empty_references_only_are_left_out():
    interval = bootstrap_interval(make_counts([1, 1], [0, 4]), resamples=2000)
    assert np.isfinite([interval.low, interval.high]).all()


@pytest.mark.unit
def test_bad_input_is_refused_in_a_sentence():
    counts = make_counts([1], [2])
    with pytest.raises(ValueError, match='same utterances'):
        compare(counts, make_counts([1, 1], [2, 2]))
    with pytest.raises(ValueError, match='all references are empty'):
        bootstrap_interval(make_counts([1], [0]))
    with pytest.raises(ValueError, match='set at least 100'):
        bootstrap_interval(counts, resamples=10)
    with pytest.raises(ValueError, match='level'):
        bootstrap_interval(counts, level=95)


@pytest.mark.unit
def test_a_perfect_baseline_has_no_relative_change():
    assert compare(make_counts([0, 0], [2, 2]), make_counts([1, 0], [2, 2])).relative is None

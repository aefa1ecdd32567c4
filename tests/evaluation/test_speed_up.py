# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The ratio of teacher seconds at equal student WER: by hand, on planted curves, and when none can be given."""

import itertools

import numpy as np
import pytest

from nemo_oracle_kd.evaluation.speed_up import BudgetCurve, compare_speed, non_increasing

pytestmark = pytest.mark.unit
SLOW, FAST = 'the conventional teacher', 'the oracle teacher'


def exact(seconds, wers, seeds=1):
    """A curve of one utterance of 100 words, whose WERs have no noise."""
    return BudgetCurve(np.array(seconds), np.array(wers)[:, None, None].repeat(seeds, 1), np.array([100]))


def noisy(seconds, wers, seed=0, utterances=400, seeds=3):
    """A curve whose utterances of 10 words err at random with the given rates."""
    rng = np.random.default_rng(seed)
    errors = [rng.binomial(10, wer / 100, size=(seeds, utterances)) for wer in wers]
    return BudgetCurve(np.array(seconds), np.array(errors), np.full(utterances, 10))


def test_curves_that_are_shifted_by_a_factor_have_that_ratio():
    found = compare_speed(exact([1, 10], [40, 20]), exact([0.1, 1], [40, 20]))
    assert found.ratio == pytest.approx(10) and found.common == (20, 40)
    assert found.low == pytest.approx(10) == found.high and found.sure and found.undecided == 0


def test_curves_of_the_same_budgets_are_compared_where_both_have_the_same_wer():
    # slow reaches w after 100 ** ((50 - w) / 20) seconds, fast after 100 ** ((40 - w) / 20)
    found = compare_speed(exact([1, 100], [50, 30]), exact([1, 100], [40, 20]))
    assert found.ratio == pytest.approx(10) and found.common == (30, 40)


def test_a_curve_that_rises_and_falls_is_compared_by_its_isotonic_fit():
    assert non_increasing([3, 1, 2, 0]).tolist() == [3, 1.5, 1.5, 0]
    assert non_increasing([1, 2, 3]).tolist() == [2, 2, 2]
    bumpy = exact([1, 10, 100, 1000], [40, 25, 35, 20])
    fitted = exact([1, 10, 100, 1000], [40, 30, 30, 20])
    assert compare_speed(bumpy, fitted).ratio == pytest.approx(1)
    # least seconds: on its plateau at 30 the fitted curve is reached after 10, not after 100
    straight = exact([1, 10, 1000], [40, 30, 20])
    for wers in ([40, 30], [30, 20]):
        part = exact([1, 10], wers)
        assert compare_speed(fitted, part).common == tuple(reversed(wers))
    assert compare_speed(straight, fitted).ratio == pytest.approx(
        np.exp(-0.5 * (np.log(1000) - np.log(100)) / 2), rel=0.01
    )


def test_the_isotonic_fit_is_the_nearest_of_all_non_increasing_sequences():
    values = np.random.default_rng(1).normal(size=4)
    others = np.array(list(itertools.product(np.linspace(-2, 2, 25), repeat=4)))
    others = others[(np.diff(others) <= 0).all(axis=1)]
    best = np.square(others - values).sum(axis=1).min()
    fit = non_increasing(values)
    assert (np.diff(fit) <= 0).all() and np.square(fit - values).sum() <= best


def test_a_planted_ratio_lies_in_its_interval_and_is_stated():
    seconds = np.array([25, 50, 100, 200, 400])
    wers = 60 - 8 * np.log2(seconds / 25)
    slow, fast = noisy(seconds, wers, 0), noisy(seconds, wers - 8 * np.log2(3), 1)
    found = compare_speed(slow, fast)
    assert found.low < 3 < found.high and 1 < found.low and found.high < 5 and found.sure
    assert found.seeds == 3 and found.utterances == 400
    sentence = found.sentence(SLOW, FAST)
    assert sentence.startswith(
        f'The conventional teacher needs {found.ratio:.2g} times the seconds of the oracle teacher'
    )
    assert f'95 % interval {found.low:.2g} to {found.high:.2g} over 400 utterances and 3 seeds' in sentence
    assert compare_speed(slow, fast) == found  # the draws are seeded
    turned = compare_speed(fast, slow)
    assert turned.ratio == pytest.approx(1 / found.ratio)
    assert turned.sentence(SLOW, FAST).startswith('The oracle teacher needs')


def test_the_interval_covers_the_seeds_too():
    seconds, wers = [25, 100, 400], [60, 44, 28]
    calm = noisy(seconds, wers, 0, utterances=2000)
    offsets = np.array([-6, 0, 6])[None, :, None] * np.ones_like(calm.errors) / 10
    wild = BudgetCurve(calm.seconds, calm.errors + offsets, calm.lengths)
    widths = []
    for curve in (calm, wild):
        other = noisy(seconds, np.array(wers) - 12, 1, utterances=2000)
        found = compare_speed(curve, other)
        widths.append(np.log(found.high / found.low))
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize('level', [45.0, 20.0])
def test_equal_curves_give_no_ratio(level):
    seconds = [25, 50, 100, 200]
    wers = [level, level - 5, level - 8, level - 9]
    found = compare_speed(noisy(seconds, wers, 0), noisy(seconds, wers, 1))
    assert found.low < 1 < found.high and not found.sure
    assert found.sentence(SLOW, FAST).startswith(
        'No ratio can be given for the conventional teacher and the oracle teacher: at'
    )
    assert 'its interval contains 1' in found.sentence(SLOW, FAST)


def test_curves_without_a_common_wer_give_no_ratio():
    found = compare_speed(exact([1, 10], [60, 50]), exact([1, 10], [40, 30]))
    assert (found.ratio, found.low, found.common, found.sure) == (None, None, None, False)
    assert 'within these budgets their students have no word error rate in common' in found.sentence(SLOW, FAST)


def test_curves_that_touch_in_some_resamples_alone_give_no_ratio():
    found = compare_speed(noisy([1, 10], [60, 50], 2, 50, 1), noisy([1, 10], [52, 40], 3, 50, 1))
    assert found.ratio > 1 and 0.05 < found.undecided < 1 and found.low is None and not found.sure
    sentence = found.sentence(SLOW, FAST)
    assert (
        sentence.startswith('No ratio can be given')
        and '11 % of the resamples of 50 utterances of one seed' in sentence
    )


@pytest.mark.parametrize(
    'arguments, message',
    [
        (([1], [[[1]]], [10]), 'the budgets of a curve are'),
        (([2, 1], [[[1]], [[1]]], [10]), 'increasing from above 0'),
        (([0, 1], [[[1]], [[1]]], [10]), 'increasing from above 0'),
        (([1, 2], [[[1]]], [10]), r'the errors have the shape \[1, 1, 1\] for 2 budgets'),
        (([1, 2], [[[1]], [[1]]], [0]), 'all references are empty'),
    ],
)
def test_curves_that_are_none_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BudgetCurve(*map(np.array, arguments))


def test_curves_of_other_utterances_and_too_few_resamples_are_refused():
    with pytest.raises(ValueError, match='2 and 1 seeds'):
        compare_speed(exact([1, 2], [4, 3], seeds=2), exact([1, 2], [4, 3]))
    with pytest.raises(ValueError, match='resamples is 10'):
        compare_speed(exact([1, 2], [4, 3]), exact([1, 2], [4, 3]), resamples=10)

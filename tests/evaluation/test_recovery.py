# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The share of a gap that is recovered, its interval, and its picture."""

import numpy as np
import pytest

from nemo_oracle_kd.evaluation.error_rates import ErrorCounts
from nemo_oracle_kd.evaluation.recovery import recovered
from nemo_oracle_kd.evaluation.recovery_plot import between_alone_and_ceiling


def _runs(rate, seeds=3, utterances=60, seed=0):
    rng = np.random.default_rng(seed)
    lengths = np.full(utterances, 10)
    zeros = np.zeros(utterances, dtype=np.int64)
    return [ErrorCounts(rng.binomial(10, rate, utterances), zeros, zeros, lengths) for _ in range(seeds)]


def test_the_share_is_that_of_the_rates_and_its_interval_covers_the_truth():
    alone, system, ceiling = _runs(0.8), _runs(0.5, seed=1), _runs(0.4, seed=2)
    found = recovered(alone, system, ceiling)
    a, s, c = (np.mean([one.rate for one in runs]) for runs in (alone, system, ceiling))
    assert found.share == pytest.approx((a - s) / (a - c)) and found.gap == pytest.approx(a - c)
    assert found.low < 0.75 < found.high and found.high - found.low < 0.3 and found.without_gap == 0
    assert str(found) == f'{100 * found.share:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]'
    assert recovered(alone, alone, ceiling).share == 0 and recovered(alone, ceiling, ceiling).share == 1
    # an interval over more seeds that differ is wider than that over copies of one of them
    copies = [[runs[0]] * 3 for runs in (alone, system, ceiling)]
    varied = [[*runs[:2], *_runs(rate, 1, seed=9)] for runs, rate in ((alone, 0.7), (system, 0.6), (ceiling, 0.3))]
    widths = [found.high - found.low for found in (recovered(*copies), recovered(*varied))]
    assert widths[0] < widths[1]


def test_without_a_sure_gap_no_interval_is_given():
    level = recovered(_runs(0.5), _runs(0.5, seed=1), _runs(0.5, seed=2))
    assert level.low is None and level.without_gap > 0.025 and str(level) == 'no sure gap'
    wrong_way = recovered(_runs(0.4), _runs(0.4, seed=1), _runs(0.8, seed=2))
    assert wrong_way.share is None and wrong_way.low is None and wrong_way.gap < 0


def test_other_utterances_or_seeds_and_too_few_draws_are_refused():
    with pytest.raises(ValueError, match='other seeds or utterances'):
        recovered(_runs(0.5), _runs(0.5, seeds=2), _runs(0.5))
    with pytest.raises(ValueError, match='other seeds or utterances'):
        recovered(_runs(0.5), _runs(0.5, utterances=50), _runs(0.5))
    with pytest.raises(ValueError, match='resamples is 10'):
        recovered(_runs(0.5), _runs(0.5), _runs(0.5), resamples=10)


def test_the_picture_has_a_row_for_each_student_and_a_panel_for_the_lengths():
    figure = between_alone_and_ceiling({'hard': [50, 52]}, [60, 61], [45, 46], {'hard': {100: [55], 200: [50]}})
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ['alone', 'hard', 'all true labels']
    assert right.lines[0].get_xydata().tolist() == [[100, 55], [200, 50]]
    assert len(between_alone_and_ceiling({'hard': [50]}, [60], [45]).axes) == 1
    with pytest.raises(ValueError, match='no students to draw'):
        between_alone_and_ceiling({}, [60], [45])

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The picture of student WER over seconds: what is drawn where, and that it can be told apart in grey."""

import numpy as np
import pytest

from nemo_oracle_kd.evaluation.speed_plot import BudgetPoint, student_over_seconds

pytestmark = pytest.mark.unit
CURVES = {
    'conventional': [BudgetPoint([30.0, 34.0], 150.0, 50.0), BudgetPoint([40.0, 44.0], 125.0, 25.0)],
    'oracle': [BudgetPoint([36.0, 38.0], 126.0, 25.0), BudgetPoint([28.0, 29.0], 151.0, 50.0)],
    'one stage': [BudgetPoint([31.0, 33.0], 130.0)],
}


def lines(axis):
    return {line.get_label(): line for line in axis.lines if not line.get_label().startswith('_')}


def test_means_are_drawn_over_the_seconds_of_the_teacher_and_over_all_seconds():
    figure = student_over_seconds(CURVES, [45.0, 49.0])
    left, right = figure.axes
    assert left.get_xscale() == right.get_xscale() == 'log'
    np.testing.assert_allclose(lines(left)['conventional'].get_xydata(), [(25, 42), (50, 32)])
    np.testing.assert_allclose(lines(left)['student alone'].get_ydata(), [47, 47])
    assert set(lines(left)) == {'student alone', 'conventional', 'oracle'}
    np.testing.assert_allclose(lines(right)['conventional'].get_xydata(), [(125, 42), (150, 32)])
    np.testing.assert_allclose(lines(right)['one stage'].get_xydata(), [(130, 32)])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ['student alone', 'conventional', 'oracle', 'one stage']


def test_bands_reach_from_the_best_to_the_worst_seed():
    left, right = student_over_seconds(CURVES, [45.0, 49.0]).axes
    bands = [band.get_paths()[0].get_extents() for band in left.collections]
    assert sorted((band.y0, band.y1) for band in bands) == [(28, 38), (30, 44)]
    alone = left.patches[0].get_extents().transformed(left.transData.inverted())
    assert (round(alone.y0), round(alone.y1)) == (45, 49)
    bar = [line.get_segments()[0] for line in right.collections if hasattr(line, 'get_segments')]
    np.testing.assert_allclose(bar, [[(130, 31), (130, 33)]])


def test_kinds_differ_without_their_colour_and_have_the_same_style_in_both_panels():
    left, right = student_over_seconds(CURVES, [45.0]).axes
    marks = {(str(line.get_linestyle()), line.get_marker()) for line in lines(right).values()}
    assert len(marks) == 3
    for name in ('conventional', 'oracle'):
        one, other = lines(left)[name], lines(right)[name]
        assert (one.get_color(), one.get_marker()) == (other.get_color(), other.get_marker())


def test_ticks_are_budgets_that_do_not_lie_on_one_another():
    _, right = student_over_seconds(CURVES, [45.0]).axes
    ticks = right.get_xticks()
    assert ticks[0] == 125 and all(after >= 1.25 * before for before, after in zip(ticks, ticks[1:]))


def test_nothing_to_draw_is_refused():
    for curves, alone in (({}, [1.0]), ({'a': []}, [1.0]), (CURVES, [])):
        with pytest.raises(ValueError, match='nothing to draw'):
            student_over_seconds(curves, alone)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the picture of students over their teachers."""

import numpy as np
import pytest

from nemo_oracle_kd.evaluation.teacher_plot import student_over_teacher

TEACHERS = {'good': 20.0, 'bad': 60.0, 'middle': 40.0}
HARD = {'bad': [50.0, 54.0], 'good': [30.0, 31.0], 'middle': [40.0, 41.0]}


@pytest.mark.unit
def test_a_method_is_a_line_of_means_over_its_teachers_from_the_best_to_the_worst():
    figure = student_over_teacher(TEACHERS, {'hard': HARD}, alone=[45.0, 47.0], labels={'hard': 'pseudo-labels'})
    axis = figure.axes[0]
    diagonal, alone, hard = axis.lines[:3]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    np.testing.assert_array_equal(alone.get_ydata(), [46.0, 46.0])
    np.testing.assert_allclose(hard.get_xydata(), [(20, 30.5), (40, 40.5), (60, 52)])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ['as good as its teacher', 'student alone', 'pseudo-labels']
    assert [text.get_text() for text in axis.texts] == ['good', 'middle', 'bad']
    assert len({text.xyann[1] for text in axis.texts}) == 1
    low, high = axis.get_ylim()
    assert low < 30 and high > 54 and axis.get_xlim()[0] < 20 < 60 < axis.get_xlim()[1]


@pytest.mark.unit
def test_names_of_teachers_that_are_nearly_as_good_do_not_lie_on_one_another():
    teachers = {'M': 52.0, 'L': 53.0, 'S': 20.0}
    figure = student_over_teacher(teachers, {'hard': {name: [40.0] for name in teachers}})
    heights = {text.get_text(): text.xyann[1] for text in figure.axes[0].texts}
    assert heights['S'] == heights['M'] > heights['L'] + 10


@pytest.mark.unit
def test_a_method_with_two_teachers_is_two_points():
    figure = student_over_teacher(TEACHERS, {'hard': HARD, 'mse': {'good': [33.0], 'bad': [58.0]}})
    lines = {
        line.get_linestyle()
        for line in figure.axes[0].lines
        if len(line.get_xdata()) == 2 and line.get_marker() == 's'
    }
    assert lines == {'None'}


@pytest.mark.unit
def test_a_student_of_an_unknown_teacher_and_no_student_are_refused():
    with pytest.raises(ValueError, match='students of nobody, but no WER'):
        student_over_teacher(TEACHERS, {'hard': {'nobody': [1.0]}})
    with pytest.raises(ValueError, match='no students to draw'):
        student_over_teacher(TEACHERS, {})

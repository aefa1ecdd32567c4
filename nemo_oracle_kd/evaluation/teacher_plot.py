# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Draws student WER over teacher WER for a distillation from good and bad teachers, as figure 1 of arXiv 2303.05958 does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nemo_oracle_kd.evaluation.figure_style import COLOURS, FOREGROUND, MARKERS, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['student_over_teacher']


@styled
def student_over_teacher(
    teachers: Mapping[str, float],
    students: Mapping[str, Mapping[str, Sequence[float]]],
    alone: Sequence[float] = (),
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the test WER of students over that of their teachers, with one line for each method.

    Below the diagonal a student is better than its teacher.

    Args:
        teachers: WER of each teacher, percent.
        students: WER by method and teacher, percent, one value per seed. A method with three or more teachers is drawn as a
            line through the means, with a bar from the best to the worst seed; a method with fewer as separate points.
        alone: WER of the student without a teacher, percent, one value per seed; drawn as a horizontal line.
        labels: names of the methods and teachers.

    Raises:
        ValueError: there are no students, or a student's teacher has no WER.
    """
    labels = labels or {}
    unknown = sorted({name for of_method in students.values() for name in of_method} - set(teachers))
    if unknown:
        raise ValueError(
            f"there are students of {', '.join(unknown)}, but no WER of these teachers: add it to teachers"
        )
    values = [wer for of_method in students.values() for wers in of_method.values() for wer in wers]
    if not values:
        raise ValueError("there are no students to draw: give at least one method with one teacher")
    figure, axes = new_figure(8.0, 5.6)
    axis = axes[0, 0]
    drawn = [teachers[name] for name in dict.fromkeys(name for of_method in students.values() for name in of_method)]
    left, right = min(drawn), max(drawn)
    margin = max(0.08 * (right - left), 1.0)
    low, high = min([*values, *alone]), max([*values, *alone])
    axis.plot([0, 200], [0, 200], color=FOREGROUND, linewidth=1.0, linestyle=':', label='as good as its teacher')
    if len(alone):
        mean = float(np.mean(alone))
        axis.axhspan(min(alone), max(alone), color=COLOURS[0], alpha=0.12, linewidth=0)
        axis.axhline(mean, color=COLOURS[0], linewidth=1.6, linestyle='--', label='student alone')
    for number, (method, of_method) in enumerate(students.items()):
        colour = COLOURS[1 + number % (len(COLOURS) - 1)]
        names = sorted(of_method, key=teachers.__getitem__)
        # the methods are drawn side by side, so that the bars of one teacher's students do not hide one another
        places = [teachers[name] + (number - (len(students) - 1) / 2) * 0.12 * margin for name in names]
        means = [float(np.mean(of_method[name])) for name in names]
        ends = [
            [m - min(of_method[n]) for n, m in zip(names, means)],
            [max(of_method[n]) - m for n, m in zip(names, means)],
        ]
        axis.errorbar(
            places,
            means,
            yerr=np.maximum(ends, 0.0),
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            markersize=6,
            linewidth=1.8,
            elinewidth=1.0,
            capsize=2.5,
            linestyle='-' if len(names) > 2 else 'none',
            label=labels.get(method, method),
        )
    room = max(0.08 * (high - low), 1.0)
    axis.set_xlim(left - margin, right + margin)
    axis.set_ylim(low - room, high + 2 * room)
    before, row = -math.inf, 0
    for name in sorted({name for of_method in students.values() for name in of_method}, key=teachers.__getitem__):
        # the names of teachers with nearly the same WER go below one another
        row = row + 1 if teachers[name] - before < 0.05 * (right - left + 2 * margin) else 0
        before = teachers[name]
        axis.annotate(
            labels.get(name, name),
            (teachers[name], 1.0),
            xycoords=('data', 'axes fraction'),
            xytext=(0, -4 - 12 * row),
            textcoords='offset points',
            ha='center',
            va='top',
            fontweight='bold',
        )
    axis.set_xlabel("teacher's test WER (%)")
    axis.set_ylabel("student's test WER (%)")
    axis.grid(color=FOREGROUND, alpha=0.12, linewidth=0.6)
    figure.legend(*axis.get_legend_handles_labels(), loc='outside lower center', ncols=3)
    return figure

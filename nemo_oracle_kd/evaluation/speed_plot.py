# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Draws student WER over the seconds of its teacher, and over the seconds of teacher and student together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nemo_oracle_kd.evaluation.figure_style import COLOURS, FOREGROUND, new_figure, styled, styles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ['BudgetPoint', 'student_over_seconds']


@dataclass(frozen=True)
class BudgetPoint:
    """Students of one budget.

    Attributes:
        wer: percent, one value per seed.
        total_seconds: mean seconds of teacher and student together.
        teacher_seconds: seconds of the teacher; ``None`` for a student without one.
    """

    wer: Sequence[float]
    total_seconds: float
    teacher_seconds: float | None = None


@styled
def student_over_seconds(
    curves: Mapping[str, Sequence[BudgetPoint]], alone: Sequence[float], title: str = ''
) -> Figure:
    """Draws two panels with logarithmic seconds: of the teacher (left), and of teacher and student together (right).

    Args:
        curves: by label, the points of one kind of students. Kinds whose points have no teacher are in the right panel only.
        alone: percent, the student alone, one value per seed; a horizontal band in the left panel.
        title: title of the figure.

    Returns:
        The figure. A band around a line reaches from the best to the worst seed. Kinds differ in colour, line style and marker.

    Raises:
        ValueError: there is no curve, or no value for the student alone.
    """
    if not any(len(points) for points in curves.values()) or not len(alone):
        raise ValueError("there is nothing to draw: give at least one curve with a point, and the student alone")
    figure, axes = new_figure(10.4, 4.6, 1, 2, sharey=True)
    left, right = axes[0]
    styles = styles_of(['student alone', *curves])
    left.axhspan(min(alone), max(alone), color=COLOURS[0], alpha=0.18, linewidth=0)
    left.axhline(float(np.mean(alone)), color=COLOURS[0], linewidth=1.4, linestyle=(0, (1, 1)), label='student alone')
    for name, points in curves.items():
        taught = [point for point in points if point.teacher_seconds is not None]
        _draw(left, [point.teacher_seconds for point in taught], taught, styles[name], name)
        _draw(right, [point.total_seconds for point in points], points, styles[name], name)
    for axis, label in ((left, 'seconds of the teacher'), (right, 'seconds of teacher and student')):
        axis.set_xscale('log')
        axis.set_xlabel(f'{label} (processor, log scale)')
        axis.grid(color=FOREGROUND, alpha=0.12, linewidth=0.6, which='both')
        ticks = sorted({round(float(x)) for line in axis.lines for x in line.get_xdata() if x > 1})
        _label_ticks(axis, ticks)
    left.set_ylabel("student's test WER (%)")
    if title:
        left.set_title(title)
    handles = {label: handle for axis in (left, right) for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc='outside lower center', ncols=3, handlelength=4)
    return figure


def _draw(axis: Axes, seconds: Sequence[float], points: Sequence[BudgetPoint], style, name: str) -> None:
    if not points:
        return
    order = np.argsort(seconds)
    seconds, points = [seconds[k] for k in order], [points[k] for k in order]
    means = [float(np.mean(point.wer)) for point in points]
    lows, highs = [min(point.wer) for point in points], [max(point.wer) for point in points]
    axis.fill_between(seconds, lows, highs, color=style.colour, alpha=0.13, linewidth=0)
    if len(points) == 1:  # a band has no width there
        axis.vlines(seconds, lows, highs, color=style.colour, linewidth=1.2)
    axis.plot(
        seconds,
        means,
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markersize=6,
        linewidth=1.8,
        label=name,
    )


def _label_ticks(axis: Axes, seconds: Sequence[int]) -> None:
    """Ticks at the budgets, as plain numbers, those left out that would lie on one another."""
    shown: list[int] = []
    for one in seconds:
        if not shown or one >= 1.25 * shown[-1]:
            shown.append(one)
    axis.set_xticks(shown, [str(one) for one in shown])
    axis.minorticks_off()

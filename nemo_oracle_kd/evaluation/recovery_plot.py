# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Draws the error rates of students of unlabelled speech between the student alone and the ceiling, and over training length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nemo_oracle_kd.evaluation.figure_style import COLOURS, FOREGROUND, new_figure, styled, styles_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['between_alone_and_ceiling']


@styled
def between_alone_and_ceiling(
    students: Mapping[str, Sequence[float]],
    alone: Sequence[float],
    ceiling: Sequence[float],
    lengths: Mapping[str, Mapping[int, Sequence[float]]] | None = None,
    rate: str = 'CER',
) -> Figure:
    """Draws each student's seeds and mean between two lines; with lengths, a second panel over the number of updates.

    Args:
        students: by label, percent, one value per seed.
        alone: percent, the student without the unlabelled speech, one value per seed.
        ceiling: percent, the student with all true labels, one value per seed.
        lengths: by label and number of updates, percent, one value per seed.
        rate: name of the error rate.

    Raises:
        ValueError: there are no students.
    """
    if not students:
        raise ValueError("there are no students to draw: give at least one system with its error rates")
    columns = 2 if lengths else 1
    options = {'width_ratios': [1.5, 1.0]} if lengths else {}
    figure, axes = new_figure(6.4 * columns**0.7, 1.6 + 0.34 * (len(students) + 2), 1, columns, gridspec_kw=options)
    left = axes[0, 0]
    rows = {'alone': alone, **students, 'all true labels': ceiling}
    for place, (name, values) in enumerate(rows.items()):
        colour = COLOURS[0] if name not in students else COLOURS[2]
        left.plot(values, [place] * len(values), 'o', color=colour, markersize=4, alpha=0.55)
        left.plot([float(np.mean(values))], [place], 'D', color=colour, markersize=8)
    for values in (alone, ceiling):
        left.axvline(float(np.mean(values)), color=COLOURS[0], linewidth=1.2, linestyle='--')
    left.set_yticks(range(len(rows)), list(rows))
    left.invert_yaxis()
    left.set_xlabel(f'{rate} (%): seeds and mean')
    left.grid(color=FOREGROUND, alpha=0.12, linewidth=0.6, axis='x')
    if lengths:
        right, styles = axes[0, 1], styles_of(['', *lengths])
        for name, points in lengths.items():
            updates = sorted(points)
            style = styles[name]
            means = [float(np.mean(points[count])) for count in updates]
            ends = [[min(points[count]) for count in updates], [max(points[count]) for count in updates]]
            right.fill_between(updates, *ends, color=style.colour, alpha=0.13, linewidth=0)
            right.plot(updates, means, color=style.colour, linestyle=style.line, marker=style.marker, label=name)
        ticks = sorted({count for points in lengths.values() for count in points})
        right.set_xscale('log')
        right.set_xticks(ticks, [str(count) for count in ticks])
        right.minorticks_off()
        right.set_xlabel('updates (log scale)')
        right.set_ylabel(f'{rate} (%)')
        right.grid(color=FOREGROUND, alpha=0.12, linewidth=0.6)
        right.legend(loc='lower center', bbox_to_anchor=(0.5, 1.0), fontsize='small')
    return figure

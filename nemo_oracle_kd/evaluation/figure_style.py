# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""How the figures of this package look: fonts, the colour, line and marker of each system, SVG and PNG.

No state, no display: the figures are made without pyplot and drawn by Agg or SVG, so the same data give the same
bytes. matplotlib is an optional dependency. Text and axes have one colour, :data:`FOREGROUND`, which the HTML report
replaces by the colour of the page's text; that is what makes the figures readable on a dark page.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOREGROUND = '#20262f'
# Nine hues that stay apart for colour-blind readers, light enough for a dark page and dark enough for a white one.
COLOURS = ('#7d8590', '#e08e1b', '#2f81d6', '#c25b8f', '#1fa187', '#8f6fd1', '#b5862a', '#d1493f', '#5b6b2e')
# Five lines and eight markers: forty systems differ in one of them, also printed in grey.
LINES = ('-', '--', '-.', ':', (0, (6, 1.5, 1, 1.5, 1, 1.5)))
MARKERS = 'osD^vPX*'
_STYLE = {
    'font.family': 'sans-serif',
    'font.sans-serif': ['DejaVu Sans'],
    'font.size': 10,
    'axes.titlesize': 10.5,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'axes.labelsize': 9.5,
    'xtick.labelsize': 9,
    'ytick.labelsize': 9,
    'legend.frameon': False,
    'legend.fontsize': 9,
    'figure.facecolor': 'none',
    'axes.facecolor': 'none',
    'savefig.facecolor': 'none',
    'svg.fonttype': 'path',
    'svg.hashsalt': 'nemo_oracle_kd',
    **dict.fromkeys(
        ('text.color', 'axes.labelcolor', 'axes.edgecolor', 'axes.titlecolor', 'xtick.color', 'ytick.color'),
        FOREGROUND,
    ),
}


def _matplotlib():
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise ImportError("Figures need matplotlib, which is not installed: pip install matplotlib") from error
    return matplotlib


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options) -> tuple[Figure, np.ndarray]:
    """A figure with axes ``[rows, columns]``, sizes in inches."""
    matplotlib = _matplotlib()
    figure = matplotlib.figure.Figure(figsize=(width, height), layout='constrained')
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def styled(function):
    """Runs a figure function with the style of this module, leaving the user's own style alone."""

    @functools.wraps(function)
    def inner(*args, **keywords):
        with _matplotlib().rc_context(_STYLE):
            return function(*args, **keywords)

    return inner


def to_svg(figure: Figure) -> str:
    """SVG text of a figure; the same figure gives the same text."""
    buffer = io.StringIO()
    with _matplotlib().rc_context(_STYLE):
        figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    return buffer.getvalue()


def save_png(figure: Figure, path, dpi: int = 150) -> None:
    """Writes a figure as PNG on a white ground."""
    with _matplotlib().rc_context(_STYLE):
        figure.savefig(path, format='png', dpi=dpi, facecolor='white', metadata={'Software': None})


@dataclass(frozen=True)
class SystemStyle:
    """How one system is drawn, in every figure of a report alike; line and marker tell it apart without colour.

    Attributes:
        colour: one of `COLOURS`.
        line: matplotlib's line style.
        marker: one of `MARKERS`.
    """

    colour: str
    line: str | tuple
    marker: str


def styles_of(names: Sequence[str]) -> dict[str, SystemStyle]:
    """One style for each system, by its place among `names`: hand the names of all systems of a report to every figure."""
    return {
        name: SystemStyle(COLOURS[k % len(COLOURS)], LINES[k % len(LINES)], MARKERS[k % len(MARKERS)])
        for k, name in enumerate(names)
    }

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Sets the style of all figures: fonts, the colour, line and marker of each system, and the output as SVG or PNG.

The figures are made without pyplot and drawn by Agg or SVG. They need no display and leave no global state behind, and the
same data give the same bytes. matplotlib is an optional dependency. Text and axes share one colour, :data:`FOREGROUND`, which
the HTML report replaces by the colour of the page's text, so that figures are readable on a dark page.
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
# Nine hues that colour-blind readers can tell apart, light enough for a dark page and dark enough for a white one.
COLOURS = ('#7d8590', '#e08e1b', '#2f81d6', '#c25b8f', '#1fa187', '#8f6fd1', '#b5862a', '#d1493f', '#5b6b2e')
# Five line styles and eight markers make forty pairs, so that systems can be told apart when printed in grey.
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
        raise ImportError("matplotlib is not installed, but figures need it: run pip install matplotlib") from error
    return matplotlib


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options) -> tuple[Figure, np.ndarray]:
    """Makes a figure of the given size in inches, with axes ``[rows, columns]``."""
    matplotlib = _matplotlib()
    figure = matplotlib.figure.Figure(figsize=(width, height), layout='constrained')
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def styled(function):
    """Decorates a figure function so that it uses this module's style and leaves the user's own unchanged."""

    @functools.wraps(function)
    def inner(*args, **keywords):
        with _matplotlib().rc_context(_STYLE):
            return function(*args, **keywords)

    return inner


def to_svg(figure: Figure) -> str:
    """Returns a figure as SVG text; the same figure always gives the same text."""
    buffer = io.StringIO()
    with _matplotlib().rc_context(_STYLE):
        figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    return buffer.getvalue()


def save_png(figure: Figure, path, dpi: int = 150) -> None:
    """Writes a figure as PNG on a white background."""
    with _matplotlib().rc_context(_STYLE):
        figure.savefig(path, format='png', dpi=dpi, facecolor='white', metadata={'Software': None})


@dataclass(frozen=True)
class SystemStyle:
    """How one system is drawn in every figure of a report; line and marker identify it without colour.

    Attributes:
        colour: one of `COLOURS`.
        line: matplotlib's line style.
        marker: one of `MARKERS`.
    """

    colour: str
    line: str | tuple
    marker: str


def styles_of(names: Sequence[str]) -> dict[str, SystemStyle]:
    """Returns one style per system, chosen by its position in `names`.

    Every figure of a report must be given the same `names`, so that a system looks the same in all of them.
    """
    return {
        name: SystemStyle(COLOURS[k % len(COLOURS)], LINES[k % len(LINES)], MARKERS[k % len(MARKERS)])
        for k, name in enumerate(names)
    }

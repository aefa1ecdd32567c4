# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Draws whether an oracle listens over the course of its training: its losses on held-out rows, and the heard share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nemo_oracle_kd.evaluation.diagnosis.verdict import Thresholds
from nemo_oracle_kd.evaluation.figure_style import COLOURS, FOREGROUND, LINES, MARKERS, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['listening_plot']

LOSSES = {
    'own': 'own text read, own audio',
    'other': "other's text read, own audio",
    'chance': "other's text not read",
    'silence': 'own text read, silence',
}


@styled
def listening_plot(history: Mapping[int, Mapping[str, float]]) -> Figure:
    """Draws the losses in nats per label and the heard share with its interval, over optimizer steps.

    Args:
        history: step -> `own`, `other`, `chance`, `silence` and, where it is defined, `heard_share` with `heard_share_low` and
            `heard_share_high`.
    """
    figure, axes = new_figure(9.6, 3.9, 1, 2)
    losses, shares = axes[0]
    steps = sorted(history)
    for number, (name, label) in enumerate(LOSSES.items()):
        values = [history[step][name] for step in steps]
        style = {'color': COLOURS[number], 'linestyle': LINES[number], 'marker': MARKERS[number]}
        losses.plot(steps, values, markersize=4.5, label=label, **style)
    losses.set_ylabel('loss of the text (nats per label)')
    losses.set_ylim(bottom=0)
    losses.legend()
    known = [step for step in steps if 'heard_share' in history[step]]
    low, middle, high = (
        [history[step][name] for step in known] for name in ('heard_share_low', 'heard_share', 'heard_share_high')
    )
    shares.fill_between(known, low, high, color=COLOURS[2], alpha=0.2, linewidth=0)
    shares.plot(known, middle, color=COLOURS[2], marker=MARKERS[0], markersize=4.5)
    for limit, label in ((Thresholds.listens, 'listens above'), (Thresholds.copies, 'copies below')):
        shares.axhline(limit, color=FOREGROUND, linewidth=0.8, linestyle=':')
        shares.text(1.0, limit, label, transform=shares.get_yaxis_transform(), ha='right', va='bottom', fontsize=8)
    shares.set_ylabel("heard share (other's text), 95 % interval")
    shares.set_ylim(-0.5, 2.0)
    for axis in (losses, shares):
        axis.set_xlabel('updates')
        axis.grid(color=FOREGROUND, alpha=0.12, linewidth=0.6)
    return figure

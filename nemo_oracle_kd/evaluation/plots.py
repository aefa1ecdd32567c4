# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Draws the figures of the report; each is a function from plain arrays to a matplotlib ``Figure``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nemo_oracle_kd.evaluation.figure_style import COLOURS, FOREGROUND, SystemStyle, new_figure, styled, styles_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def learning_curves(
    curves: Mapping[str, Sequence[Sequence[Mapping]]],
    labels: Mapping[str, str] | None = None,
    styles: Mapping[str, SystemStyle] | None = None,
) -> Figure:
    """Draws validation WER over updates and over seconds of training.

    Args:
        curves: by system, one curve per seed; a curve is the rows of ``curve.jsonl`` with ``val_wer`` in percent.
        labels: names of the systems in the legend.
        styles: styles of the systems; by default those of :func:`styles_of` for the given systems.

    Returns:
        Two panels side by side, with one line per system and seed, and one colour, line style and marker per system.
    """
    figure, axes = new_figure(9.6, 3.9, 1, 2, sharey=True)
    styles, labels = styles or styles_of(list(curves)), labels or {}
    for name, runs in curves.items():
        for number, rows in enumerate(runs):
            rows = [row for row in rows if row.get('val_wer') is not None]
            for axis, key in zip(axes[0], ('update', 'seconds')):
                axis.plot(
                    [row[key] for row in rows],
                    [row['val_wer'] for row in rows],
                    color=styles[name].colour,
                    linestyle=styles[name].line,
                    marker=styles[name].marker,
                    markersize=4.5,
                    markevery=max(1, len(rows) // 8),
                    linewidth=1.8 if len(runs) == 1 else 1.2,
                    alpha=1.0 if len(runs) == 1 else 0.8,
                    label=labels.get(name, name) if number == 0 else None,
                )
    for axis, text in zip(axes[0], ('updates', 'seconds of training (without validation)')):
        axis.set_xlabel(text)
        axis.set_xlim(left=0)
        axis.grid(color=FOREGROUND, alpha=0.12, linewidth=0.6)
    axes[0, 0].set_ylabel('validation WER (%)')
    axes[0, 0].set_ylim(0, 105)
    legend = figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc='outside lower center', ncols=3, handlelength=4
    )
    for line in legend.get_lines():
        line.set(linewidth=2.0, alpha=1.0)
    return figure


@styled
def wer_bars(
    wers: Mapping[str, Sequence[float]],
    intervals: Mapping[str, Sequence[float]] | None = None,
    labels: Mapping[str, str] | None = None,
    styles: Mapping[str, SystemStyle] | None = None,
) -> Figure:
    """Draws the mean WER of each system as a horizontal bar, with its interval as a line and each seed as a dot.

    Args:
        wers: percent, by system, one value per seed.
        intervals: percent, by system, the two ends.
        labels: names of the systems.
        styles: styles of the systems; by default those of :func:`styles_of` for the given systems.
    """
    figure, axes = new_figure(9.6, 0.9 + 0.42 * len(wers))
    axis, labels, styles = axes[0, 0], labels or {}, styles or styles_of(list(wers))
    places = np.arange(len(wers))
    means = [float(np.mean(values)) for values in wers.values()]
    axis.barh(places, means, height=0.62, color=[styles[name].colour for name in wers], alpha=0.85)
    right = max(means)
    for place, (name, values) in zip(places, wers.items()):
        end = means[place]
        if intervals and name in intervals:
            low, high = intervals[name]
            axis.plot([low, high], [place, place], color=FOREGROUND, linewidth=1.6, solid_capstyle='butt')
            end = max(end, high)
        if len(values) > 1:
            axis.plot(values, [place] * len(values), 'o', color=FOREGROUND, markersize=3.2, alpha=0.75)
            end = max(end, *values)
        axis.annotate(
            f'{means[place]:.1f}',
            (end, place),
            xytext=(6, 0),
            textcoords='offset points',
            va='center',
            fontweight='bold',
        )
        right = max(right, end)
    axis.set_yticks(places, [labels.get(name, name) for name in wers])
    axis.tick_params(axis='y', length=0)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.1 * right)
    axis.set_xlabel('test WER (%), lower is better')
    axis.grid(axis='x', color=FOREGROUND, alpha=0.12, linewidth=0.6)
    return figure


@dataclass(frozen=True)
class Track:
    """The frame posteriors of one CTC model for an utterance.

    Attributes:
        name: name of the model.
        posteriors: ``[T, V + 1]`` probabilities, not logarithms.
        labels: the ``V`` labels as they are drawn.
        blank: index of the blank.
        frame_seconds: seconds from one frame to the next.
        colour: colour of the line; by default a different one for each track.
    """

    name: str
    posteriors: np.ndarray
    labels: Sequence[str]
    blank: int
    frame_seconds: float
    colour: str | None = None

    def spikes(self) -> list[tuple[int, str]]:
        """Returns frame and label of every run of the greedy path, at the frame where the label is most probable."""
        best = self.posteriors.argmax(axis=1)
        found, start = [], 0
        for frame in range(1, len(best) + 1):
            if frame == len(best) or best[frame] != best[start]:
                if best[start] != self.blank:
                    peak = start + int(self.posteriors[start:frame, best[start]].argmax())
                    found.append((peak, self.labels[best[start] - (best[start] > self.blank)]))
                start = frame
        return found


@styled
def alignments(spectrogram: np.ndarray, hop_seconds: float, tracks: Sequence[Track], transcript: str = '') -> Figure:
    """Draws what several models emit over time, under the spectrogram of the utterance.

    Args:
        spectrogram: ``[F, T]`` log energies, low frequencies first; the number of frames may differ from those of the
            models.
        hop_seconds: seconds from one spectrogram frame to the next.
        tracks: the models, from top to bottom. Each track shows ``1 - p(blank)`` as an area, and the emitted labels at
            their frames.
        transcript: the reference, used as the title.
    """
    rows = 1 + len(tracks)
    figure, axes = new_figure(
        9.6, 1.9 + 0.95 * len(tracks), rows, 1, sharex=True, gridspec_kw={'height_ratios': [2.0] + [1.0] * len(tracks)}
    )
    seconds = spectrogram.shape[1] * hop_seconds
    low, high = np.quantile(spectrogram, [0.05, 0.995])
    top = axes[0, 0]
    top.imshow(
        spectrogram,
        origin='lower',
        aspect='auto',
        extent=(0, seconds, 0, spectrogram.shape[0]),
        cmap='magma',
        vmin=low,
        vmax=high,
        interpolation='nearest',
    )
    top.set_ylabel('frequency')
    top.set_yticks([])
    if transcript:
        top.set_title(f'“{transcript}”')
    for number, (axis, track) in enumerate(zip(axes[1:, 0], tracks)):
        colour = track.colour or COLOURS[number % len(COLOURS)]
        time = (np.arange(len(track.posteriors)) + 0.5) * track.frame_seconds
        activity = 1.0 - track.posteriors[:, track.blank]
        axis.fill_between(time, 0.0, activity, color=colour, alpha=0.35, linewidth=0)
        axis.plot(time, activity, color=colour, linewidth=1.1)
        for frame, label in track.spikes():
            # U+2423 is the usual symbol for a space, which would be invisible.
            axis.text(time[frame], 1.06, label if label.strip() else '␣', ha='center', va='bottom', fontsize=8.5)
        axis.set_ylim(0, 1.45)
        axis.set_yticks([0, 1])
        axis.set_title(track.name, fontsize=9.5, color=colour, pad=2)
    axes[-1, 0].set_xlim(0, seconds)
    axes[-1, 0].set_xlabel('seconds')
    return figure


@styled
def attention_map(
    attention: np.ndarray, labels: Sequence[str], frame_seconds: float, title: str = 'cross-attention'
) -> Figure:
    """Draws which label each encoder frame attends to.

    Args:
        attention: ``[T, U]`` weights; the rows sum to one.
        labels: ``U`` labels, from bottom to top.
        frame_seconds: seconds from one encoder frame to the next.
        title: title of the figure.

    Raises:
        ValueError: the numbers of labels and columns differ.
    """
    if attention.ndim != 2 or attention.shape[1] != len(labels):
        raise ValueError(
            f"the attention has the shape {list(attention.shape)} for {len(labels)} labels: give [T, U] with one column per label"
        )
    figure, axes = new_figure(9.6, min(4.8, max(2.6, 1.1 + 0.16 * len(labels))))
    axis = axes[0, 0]
    image = axis.imshow(
        attention.T,
        origin='lower',
        aspect='auto',
        extent=(0, attention.shape[0] * frame_seconds, -0.5, len(labels) - 0.5),
        cmap='viridis',
        vmin=0.0,
        vmax=max(float(attention.max()), 1e-6),
        interpolation='nearest',
    )
    axis.set_yticks(range(len(labels)), [label if label.strip() else '␣' for label in labels], fontsize=8)
    axis.tick_params(axis='y', length=0)
    axis.set_xlabel('seconds of audio')
    axis.set_ylabel('label read')
    axis.set_title(title)
    bar = figure.colorbar(image, ax=axis, fraction=0.03, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    return figure


@styled
def copying_bars(
    rates: Mapping[str, Mapping[str, float]], unit: str = 'WER (%)', colours: Mapping[str, str] | None = None
) -> Figure:
    """Draws the results of teachers under each condition of the copying diagnosis.

    Args:
        rates: by teacher, the value under each condition (true text, another utterance's text, no text, silent audio). All
            teachers need the same conditions.
        unit: label of the axis.
        colours: colours of the teachers.
    """
    conditions = list(next(iter(rates.values())))
    figure, axes = new_figure(9.6, 1.0 + 0.34 * len(conditions) * max(1, len(rates)))
    axis, colours = axes[0, 0], colours or dict(zip(rates, [COLOURS[2], *COLOURS]))
    height = 0.8 / len(rates)
    for number, (name, values) in enumerate(rates.items()):
        places = np.arange(len(conditions)) + (number - (len(rates) - 1) / 2) * height
        lengths = [values[condition] for condition in conditions]
        axis.barh(places, lengths, height=0.92 * height, color=colours[name], alpha=0.85, label=name)
        for place, length in zip(places, lengths):
            axis.annotate(
                f'{length:.1f}', (length, place), xytext=(5, 0), textcoords='offset points', va='center', fontsize=9
            )
    axis.set_yticks(range(len(conditions)), conditions)
    axis.tick_params(axis='y', length=0)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.12 * max(max(values.values()) for values in rates.values()) + 1e-6)
    axis.set_xlabel(unit)
    axis.grid(axis='x', color=FOREGROUND, alpha=0.12, linewidth=0.6)
    if len(rates) > 1:
        figure.legend(*axis.get_legend_handles_labels(), loc='outside lower center', ncols=len(rates))
    return figure

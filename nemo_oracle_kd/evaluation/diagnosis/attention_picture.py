# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Draws the attention picture of a diagnosis: which labels the teacher attends to, with its audio and with silence."""

import io
from pathlib import Path

import numpy as np

from nemo_oracle_kd.corpus.outputs import write_bytes_atomically
from nemo_oracle_kd.evaluation.diagnosis.attention import Example

__all__ = ['save_attention_picture']

_MAX_TICKS = 40
_TEACHER, _REFERENCE = '#ff5a36', '#3fd0ff'


def save_attention_picture(examples: list[Example], path: str | Path, verdict: str) -> Path:
    """Draws one column per utterance: spectrogram with spikes, cross-attention, cross-attention with silent audio.

    A teacher that listens follows the text along the audio and loses its place in silence. A copying teacher draws the
    same line in both.

    Args:
        examples: utterances of a diagnosis.
        path: PNG file, written whole or not at all.
        verdict: verdict for the title.

    Returns:
        The path.

    Raises:
        ValueError: there are no examples.
    """
    # A figure with its own canvas leaves matplotlib's global backend alone and needs no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not examples:
        raise ValueError(
            "there is no utterance to draw, because none had enough frames for its text: check the manifest"
        )
    figure = Figure(figsize=(6.2 * len(examples), 9.0), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(examples), squeeze=False, height_ratios=[1, 1.6, 1.6])
    for column, example in enumerate(examples):
        extent = (0.0, example.seconds)
        top = axes[0, column]
        top.imshow(
            example.features, origin='lower', aspect='auto', cmap='magma', extent=(*extent, 0, len(example.features))
        )
        for times, colour, name in (
            (example.reference_spikes, _REFERENCE, 'audio only'),
            (example.spikes, _TEACHER, 'teacher'),
        ):
            if times is not None:
                low, high = (0.0, 0.5) if colour == _TEACHER else (0.5, 1.0)
                for k, time in enumerate(times):
                    top.axvline(time, low, high, color=colour, linewidth=1.2, label=name if k == 0 else None)
        top.set_title(example.text if len(example.text) <= 60 else example.text[:57] + '...', fontsize=10)
        top.set_ylabel('mel band')
        top.legend(loc='upper right', fontsize=7)
        scale = max(float(example.attention.max()), float(example.silent_attention.max()))
        for row, attention, title in (
            (1, example.attention, 'cross-attention'),
            (2, example.silent_attention, 'cross-attention, silent audio'),
        ):
            _draw_attention(axes[row, column], attention, example, title, scale)
        axes[2, column].set_xlabel('seconds')
    figure.suptitle(f'Oracle teacher: {verdict}')
    picture = io.BytesIO()
    figure.savefig(picture, format='png', dpi=110)
    write_bytes_atomically(path, picture.getvalue())
    return Path(path)


def _draw_attention(axis, attention: np.ndarray, example: Example, title: str, scale: float) -> None:
    """Draws `attention` `[T, U + 1]` as labels over time, with colours up to `scale`; the first row is "no text"."""
    names = ['no text', *(label if label != ' ' else '␣' for label in example.labels)]
    axis.imshow(
        attention.T,
        origin='lower',
        aspect='auto',
        cmap='viridis',
        vmin=0.0,
        vmax=scale,
        extent=(0.0, example.seconds, 0, len(names)),
    )
    if len(names) <= _MAX_TICKS:
        axis.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7)
    axis.plot(example.spikes, np.arange(len(example.spikes)) + 1.5, '.', color=_TEACHER, markersize=4)
    axis.set_title(title, fontsize=9)

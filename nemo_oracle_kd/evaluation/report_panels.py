# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Panels of the report that come from models: what they emit when, what the teacher attends to, and its diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nemo_oracle_kd.bridge.audio import AudioSpan, read_audio
from nemo_oracle_kd.bridge.model import describe
from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.evaluation import plots
from nemo_oracle_kd.evaluation.diagnosis.conditions import CONDITIONS
from nemo_oracle_kd.evaluation.diagnosis.diagnosis import Diagnosis
from nemo_oracle_kd.evaluation.diagnosis.verdict import HEARD_SHARES, VERDICTS
from nemo_oracle_kd.evaluation.figure_style import COLOURS
from nemo_oracle_kd.evaluation.report import Panel, Table
from nemo_oracle_kd.evaluation.transcription import load_model


@dataclass(frozen=True)
class Hearing:
    """One utterance as one model takes it.

    Attributes:
        features: log-mel features ``[F, T']``.
        posteriors: probabilities ``[T, V + 1]``.
        attention: cross-attention ``[T, U + 1]``, mean of layers and heads, column 0 being "no text"; ``None`` for a
            model that reads no transcript.
        read: the ``U`` labels of the transcript; empty for a model that reads none.
    """

    features: np.ndarray
    posteriors: np.ndarray
    attention: np.ndarray | None
    read: list[str]


@torch.no_grad()
def hear(model: Any, row: Mapping[str, Any]) -> Hearing:
    """Runs a CTC model on one row of a manifest; an oracle is given the row's text.

    Args:
        model: a restored NeMo CTC model or oracle teacher.
        row: row of a manifest with absolute ``audio_filepath`` and ``text``.
    """
    facts = describe(model)
    device = next(model.parameters()).device
    batch = read_audio(AudioSpan.of_row(row), facts.sample_rate)[None].to(device)
    lengths = torch.tensor([batch.shape[1]], device=device)
    model.eval()
    features, feature_lengths = model.preprocessor(input_signal=batch, length=lengths)
    attention, read = None, []
    if facts.reads_transcript:
        labels = model.encode_text(row['text'])
        read = [facts.vocabulary[label] for label in labels]
        answer = model.forward_branches(
            input_signal=batch,
            input_signal_length=lengths,
            transcript=torch.tensor([list(labels)], dtype=torch.long, device=device),
            transcript_length=torch.tensor([len(labels)], device=device),
            return_attention=True,
        )
        log_probs, frames = answer.log_probs, int(answer.lengths[0])
        if answer.attention:
            attention = torch.stack(list(answer.attention)).mean(dim=(0, 2))[0, :frames].cpu().numpy()
    else:
        log_probs, frames, _ = model.forward(input_signal=batch, input_signal_length=lengths)
        frames = int(frames[0])
    return Hearing(
        features[0, :, : int(feature_lengths[0])].cpu().numpy(),
        log_probs[0, :frames].softmax(dim=-1).cpu().numpy(),
        attention,
        read,
    )


def typical_utterance(rows: list[dict]) -> dict:
    """The row whose transcript has the median number of characters; of equals the first."""
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index]['text']), index))
    return rows[order[len(order) // 2]]


def model_panels(
    models: Mapping[str, str | Path],
    manifest: str | Path,
    utterance: int | None = None,
    colours: Mapping[str, str] | None = None,
) -> tuple[list[Panel], list[Panel]]:
    """Alignments of several models under one spectrogram, and the cross-attention of those that read the transcript.

    Args:
        models: what to call a model -> its ``.nemo``, from top to bottom.
        manifest: where the utterance is taken from.
        utterance: number of its row, from 0; by default one of median length.
        colours: colour by the same names: those of :attr:`nemo_oracle_kd.evaluation.report.Report.styles`.

    Returns:
        The panels for ``Report.alignments`` and for ``Report.attention``.
    """
    rows = read_manifest(manifest)
    row = typical_utterance(rows) if utterance is None else rows[utterance]
    tracks, attention = [], []
    features, hop = None, 0.01
    for name, path in models.items():
        model = load_model(path)
        facts, heard = describe(model), hear(model, row)
        seconds = facts.frame_seconds
        if seconds is None:  # an encoder that does not tell: its frames cover the utterance evenly
            seconds = heard.features.shape[1] * model.cfg.preprocessor.window_stride / len(heard.posteriors)
        colour = (colours or {}).get(name)
        tracks.append(plots.Track(name, heard.posteriors, facts.vocabulary, facts.blanks['ctc'], seconds, colour))
        if features is None:
            features, hop = heard.features, float(model.cfg.preprocessor.window_stride)
        if heard.attention is not None:
            figure = plots.attention_map(heard.attention, ['none', *heard.read], seconds, f'cross-attention, {name}')
            caption = (
                "A teacher that listens moves through the text as the audio does: the bright band rises "
                "from left to right. "
                "The lowest row is where it looks when no label helps."
            )
            attention.append(Panel(figure, caption, 'cross-attention over time'))
    caption = (
        "The line is the probability that something other than blank is emitted; the labels stand at the "
        "frames at which the "
        "greedy path emits them."
    )
    return [Panel(plots.alignments(features, hop, tracks, row['text']), caption, 'emission over time')], attention


def diagnosis_parts(diagnosis: Diagnosis, colour: str = COLOURS[2]) -> tuple[list[Panel | Table], str]:
    """Table, bars and verdict of a copying diagnosis.

    Args:
        diagnosis: of :func:`nemo_oracle_kd.evaluation.diagnosis.diagnosis.diagnose`.
        colour: of the teacher, the one that it has elsewhere in the report.

    Returns:
        Values for ``Report.diagnosis`` and ``Report.verdict``.
    """

    def percent(value: float | None) -> str:
        return '–' if value is None else f'{value:.1f}'

    rows = [
        [CONDITIONS.get(key, key), f'{one.loss:.2f}', percent(one.wer_spoken), percent(one.wer_given)]
        for key, one in diagnosis.conditions.items()
    ]
    table = Table(
        ['the teacher is given', 'loss per label', 'WER, spoken text', 'WER, given text'],
        rows,
        f"Loss of the spoken text in nats; error rates in percent over {diagnosis.utterances} utterances.",
    )
    bars = plots.copying_bars(
        {'teacher': {CONDITIONS.get(key, key): one.wer_spoken for key, one in diagnosis.conditions.items()}},
        'WER against the spoken text (%)',
        {'teacher': colour},
    )
    caption = (
        "A teacher that copied would do well with the true text over silence, and repeat another utterance's text."
    )
    heard = Table(
        ['wrong audio, measure', 'share heard (%)', '95 % interval'],
        [
            [HEARD_SHARES[name], *(['–', '–'] if share.value is None else str(share).replace(' %', '').split(' ', 1))]
            for name, share in diagnosis.heard.items()
        ],
        "100: wrong audio costs the text that the teacher reads all that it gained; 0: the text comes out all the same.",
    )
    verdict = f"{VERDICTS[diagnosis.verdict]}: {'; '.join(diagnosis.reasons)}."
    return [table, *([heard] if heard.rows else []), Panel(bars, caption, 'bar chart of the diagnosis')], verdict

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Makes the panels of the report that need models: their emissions over time, the cross-attention and the diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nemo_oracle_kd.bridge.model import describe
from nemo_oracle_kd.evaluation import plots
from nemo_oracle_kd.evaluation.diagnosis.conditions import CONDITIONS
from nemo_oracle_kd.evaluation.diagnosis.diagnosis import Diagnosis
from nemo_oracle_kd.evaluation.diagnosis.verdict import HEARD_SHARES, VERDICTS
from nemo_oracle_kd.evaluation.figure_style import COLOURS
from nemo_oracle_kd.evaluation.inputs import inputs_of, reworded
from nemo_oracle_kd.evaluation.report import Panel, Table
from nemo_oracle_kd.evaluation.transcription import load_model


@dataclass(frozen=True)
class Hearing:
    """One model's features and outputs for one utterance.

    Attributes:
        features: log-mel features ``[F, T']``.
        posteriors: probabilities ``[T, V + 1]``.
        attention: cross-attention ``[T, U + 1]``, averaged over layers and heads, whose column 0 is "no text"; ``None`` for
            a model that reads no transcript.
        read: the ``U`` labels of the transcript; empty for a model that reads none.
    """

    features: np.ndarray
    posteriors: np.ndarray
    attention: np.ndarray | None
    read: list[str]


@torch.no_grad()
def hear(model: Any, row: Mapping[str, Any]) -> Hearing:
    """Runs a CTC model on one row of a manifest; an oracle teacher also gets the row's text.

    Args:
        model: a restored NeMo CTC model or oracle teacher.
        row: row of a manifest with an absolute ``audio_filepath`` and a ``text``.
    """
    facts = describe(model)
    device = next(model.parameters()).device
    batch = inputs_of(model).signal(row)[None].to(device)
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
    """Returns the row whose transcript has the median number of characters, the first one of several."""
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index]['text']), index))
    return rows[order[len(order) // 2]]


def model_panels(
    models: Mapping[str, str | Path],
    manifest: str | Path,
    utterance: int | None = None,
    colours: Mapping[str, str] | None = None,
) -> tuple[list[Panel], list[Panel]]:
    """Draws the emissions of several models under one spectrogram, and the cross-attention of oracle teachers.

    Args:
        models: name of a model -> its ``.nemo``, from top to bottom.
        manifest: manifest that holds the utterance.
        utterance: index of its row, from 0; by default a row of median length.
        colours: name of a model -> its colour, as in :attr:`nemo_oracle_kd.evaluation.report.Report.styles`.

    Returns:
        The panels for ``Report.alignments`` and for ``Report.attention``.
    """
    row: dict[str, Any] = {}
    wording: Mapping[str, str] = {}
    tracks, attention = [], []
    features, hop = None, 0.01
    for name, path in models.items():
        model = load_model(path)
        if not row:
            rows, wording = inputs_of(model).rows(manifest), inputs_of(model).wording
            row = typical_utterance(rows) if utterance is None else rows[utterance]
        facts, heard = describe(model), hear(model, row)
        seconds = facts.frame_seconds
        if seconds is None:  # the encoder does not state its stride: its frames are spread evenly over the utterance
            seconds = heard.features.shape[1] * model.cfg.preprocessor.window_stride / len(heard.posteriors)
        colour = (colours or {}).get(name)
        tracks.append(plots.Track(name, heard.posteriors, facts.vocabulary, facts.blanks['ctc'], seconds, colour))
        if features is None:
            features, hop = heard.features, float(model.cfg.preprocessor.window_stride)
        if heard.attention is not None:
            figure = plots.attention_map(heard.attention, ['none', *heard.read], seconds, f'cross-attention, {name}')
            caption = (
                "A teacher that listens moves through the text with the audio, so that the bright band rises from left to "
                "right. In the lowest row it attends to no label."
            )
            attention.append(_reworded_panel(Panel(figure, caption, 'cross-attention over time'), wording))
    caption = (
        "The line is the probability of emitting a label, that is, anything but blank; each label stands at the frame at "
        "which the greedy path emits it."
    )
    panel = Panel(plots.alignments(features, hop, tracks, row['text']), caption, 'emission over time')
    return [_reworded_panel(panel, wording)], attention


def _reworded_panel(panel: Panel, wording: Mapping[str, str]) -> Panel:
    """A panel whose text and axes name the inputs of the model as they are called."""
    for axes in panel.figure.axes:
        axes.set_xlabel(reworded(axes.get_xlabel(), wording))
        axes.set_ylabel(reworded(axes.get_ylabel(), wording))
    return replace(panel, caption=reworded(panel.caption, wording), alternative=reworded(panel.alternative, wording))


def diagnosis_parts(diagnosis: Diagnosis, colour: str = COLOURS[2]) -> tuple[list[Panel | Table], str]:
    """Makes the tables, bars and verdict of a copying diagnosis.

    Args:
        diagnosis: result of :func:`nemo_oracle_kd.evaluation.diagnosis.diagnosis.diagnose`.
        colour: colour of the teacher, as elsewhere in the report.

    Returns:
        Values for ``Report.diagnosis`` and ``Report.verdict``.
    """

    say = diagnosis.say

    def percent(value: float | None) -> str:
        return '–' if value is None else f'{value:.1f}'

    names = {key: say(CONDITIONS.get(key, key)) for key in diagnosis.conditions}
    rows = [
        [names[key], f'{one.loss:.2f}', percent(one.wer_spoken), percent(one.wer_given)]
        for key, one in diagnosis.conditions.items()
    ]
    table = Table(
        ['the teacher is given', 'loss per label', say('WER, spoken text'), 'WER, given text'],
        rows,
        say(f"Loss of the spoken text in nats; error rates in percent over {diagnosis.utterances} utterances."),
    )
    bars = plots.copying_bars(
        {'teacher': {names[key]: one.wer_spoken for key, one in diagnosis.conditions.items()}},
        say('WER against the spoken text (%)'),
        {'teacher': colour},
    )
    caption = "A teacher that copies has few errors with the true text and silent audio, and repeats another utterance's text."
    heard = Table(
        [say('wrong audio, measure'), say('share heard (%)'), '95 % interval'],
        [
            [
                say(HEARD_SHARES[name]),
                *(['–', '–'] if share.value is None else str(share).replace(' %', '').split(' ', 1)),
            ]
            for name, share in diagnosis.heard.items()
        ],
        say(
            "100: with wrong audio, the text that the teacher reads is no better than chance; 0: it is as good as with its own audio."
        ),
    )
    verdict = f"{VERDICTS[diagnosis.verdict]}: {'; '.join(diagnosis.reasons)}."
    if diagnosis.caution:
        verdict += f' Caution: {diagnosis.caution}.'
    panel = Panel(bars, say(caption), 'bar chart of the diagnosis')
    return [table, *([heard] if heard.rows else []), panel], say(verdict)

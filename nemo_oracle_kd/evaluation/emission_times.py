# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures when a model emits the labels of the true texts, and how far its alignments are from those of another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nemo_oracle_kd.bridge.audio import AudioSpan, audio_batch, read_audio
from nemo_oracle_kd.bridge.emissions import emission_frames
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses
from nemo_oracle_kd.bridge.signals import Transcripts
from nemo_oracle_kd.bridge.vocabulary import TextCodec

__all__ = ['AlignmentDistance', 'alignment_distance', 'label_frames']

BATCH = 25


@dataclass(frozen=True)
class AlignmentDistance:
    """How far two alignments of the same labels are apart.

    Attributes:
        mean_ms: mean absolute difference of the emission times, milliseconds.
        within_frame: share of the labels that are at most one frame apart.
        labels: number of labels that both models emit.
    """

    mean_ms: float
    within_frame: float
    labels: int


@torch.no_grad()
def label_frames(model: Any, rows: Sequence[Mapping[str, Any]], head: str = 'auto') -> torch.Tensor:
    """Frame in which each label of the true texts is emitted on the model's most probable alignments.

    Args:
        model: a NeMo model in eval mode; an oracle teacher also reads the texts.
        rows: rows of a manifest with absolute ``audio_filepath`` and ``text``.
        head: ``auto``, ``ctc`` or ``rnnt``.

    Returns:
        ``[1, labels]``, int64, the labels of all rows one after another; -1 for those of an utterance without any alignment.

    Raises:
        ValueError: audio that cannot be read, or a text with characters that the model does not know.
    """
    chosen = find_head(model, head)
    codec, found = TextCodec(model, chosen.vocabulary), []
    device = next(model.parameters()).device
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        batch = audio_batch([read_audio(AudioSpan.of_row(row), model.cfg.sample_rate) for row in part], device)
        texts = Hypotheses.from_lists([[codec.encode(row['text'], row.get('lang'))] for row in part], device)
        labels, lengths = texts.labels[:, 0], texts.lengths[:, 0]
        heard = encode_audio(model, replace(batch, transcripts=Transcripts(labels, lengths)))
        frames = emission_frames(model, chosen, heard, labels, lengths).cpu()
        found += [row[:length] for row, length in zip(frames, lengths.tolist())]
    return torch.cat(found)[None]


def alignment_distance(frames: torch.Tensor, reference: torch.Tensor, frame_seconds: float) -> AlignmentDistance:
    """Compares the emission times of two models of one frame rate.

    Args:
        frames: ``[1, labels]`` of :func:`label_frames`.
        reference: the same of the other model.
        frame_seconds: seconds from one frame to the next.

    Raises:
        ValueError: the two are not of the same labels, or no label is emitted by both.
    """
    if frames.shape != reference.shape:
        raise ValueError(
            f"the alignments hold {frames.numel()} and {reference.numel()} labels: give those of the same texts in the same "
            "labels"
        )
    both = (frames >= 0) & (reference >= 0)
    if not bool(both.any()):
        raise ValueError(
            "no label is emitted by both models, so their alignments cannot be compared: give longer audio"
        )
    apart = (frames - reference).abs()[both].double()
    return AlignmentDistance(
        1000.0 * frame_seconds * float(apart.mean()), float((apart <= 1).double().mean()), int(both.sum())
    )

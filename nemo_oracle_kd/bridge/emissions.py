# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The labels that a model emits and the frames in which it emits them, for CTC heads and transducers alike."""

from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.bridge.model import Head
from nemo_oracle_kd.bridge.sequence_scores import MAX_CELLS, Lattices
from nemo_oracle_kd.bridge.signals import EncodedAudio
from nemo_oracle_kd.functional.ctc_paths import collapse_path, ctc_best_path, ctc_greedy_path, spike_times

__all__ = ['ctc_emission_frames', 'emission_frames', 'greedy_labels']


@torch.no_grad()
def emission_frames(
    model: Any, head: Head, audio: EncodedAudio, labels: Tensor, lengths: Tensor, max_cells: int = MAX_CELLS
) -> Tensor:
    """The frame in which each label is emitted on the most probable alignment.

    Args:
        model: a NeMo model in eval mode; a CTC head does not need it.
        head: the head of the model that is meant.
        audio: output of `encode_audio`.
        labels: `[B, U]`, padded with anything.
        lengths: `[B]` valid labels.
        max_cells: joint cells (frames x label positions) of a transducer held at a time.

    Returns:
        `[B, U]`, int64; -1 in the padding and for an utterance without any alignment.
    """
    if head.transducer is None:
        return ctc_emission_frames(audio, labels, lengths, head.blank)
    every = torch.arange(len(labels))
    frames = Lattices(model, head, audio).best_path(every, labels, lengths, max_cells).label_frames
    missing = labels.shape[1] - frames.shape[1]
    return torch.nn.functional.pad(frames, (0, missing), value=-1)


@torch.no_grad()
def ctc_emission_frames(audio: EncodedAudio, labels: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """The same for a CTC head: the frame in which each label begins on the most probable alignment.

    Args:
        audio: output of a model with a CTC head.
        labels: `[B, U]`, padded with anything.
        lengths: `[B]` valid labels.
        blank: id of the blank.

    Returns:
        `[B, U]`, int64; -1 in the padding and for an utterance without any alignment.
    """
    frames, counts = spike_times(ctc_best_path(audio.posteriors, labels, audio.lengths, lengths, blank), blank)
    frames = torch.where((counts == lengths.to(counts.device))[:, None], frames, -1)
    return torch.nn.functional.pad(frames, (0, labels.shape[1] - frames.shape[1]), value=-1)


@torch.no_grad()
def greedy_labels(model: Any, head: Head, audio: EncodedAudio) -> list[list[int]]:
    """The labels that the model emits: by greedy search for a CTC head, by the model's own decoding for a transducer.

    Args:
        model: a NeMo model in eval mode; a CTC head does not need it.
        head: the head of the model that is meant.
        audio: output of `encode_audio`.
    """
    if head.transducer is None:
        labels, counts = collapse_path(ctc_greedy_path(audio.log_probs, audio.lengths), head.blank)
        return [row[:count].tolist() for row, count in zip(labels, counts)]
    hypotheses = model.decoding.rnnt_decoder_predictions_tensor(audio.encoded, audio.lengths, return_hypotheses=True)
    best = [one[0] if isinstance(one, list) else one for one in hypotheses]
    # All kinds of blank come after the labels.
    return [[int(k) for k in one.y_sequence if int(k) < len(head.vocabulary)] for one in best]

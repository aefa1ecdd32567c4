# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The best alignment of a transcript in a transducer lattice, with the frame in which every label is emitted."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import compute_dtype
from nemo_oracle_kd.functional.transducer.multiblank import multiblank_arc_scores, multiblank_arcs
from nemo_oracle_kd.functional.transducer.recursion import Arc, best_arcs
from nemo_oracle_kd.functional.transducer.rnnt import RNNT_ARCS, rnnt_arc_scores
from nemo_oracle_kd.functional.transducer.tdt import tdt_arc_scores, tdt_arcs

__all__ = ['TransducerPath', 'arc_best_path', 'rnnt_best_path', 'multiblank_best_path', 'tdt_best_path']


@dataclass
class TransducerPath:
    """The single most probable alignment of every transcript of a batch.

    Attributes:
        score: `[B]` log-probability of the alignment, natural log; `-inf` if there is none.
        label_frames: `[B, U]` frame in which each label is emitted; -1 in the padding and if there is no alignment.
        label_durations: `[B, U]` frames that the label itself reads: 0 except in a TDT; -1 as above.
        step_frames: `[B, L]` frame of every step of the alignment, in order, padded with -1.
        step_labels: `[B, L]` number of labels emitted by the step: 1 for a label, 0 for a blank, padded with -1.
        step_durations: `[B, L]` frames read by the step, padded with -1.
    """

    score: Tensor
    label_frames: Tensor
    label_durations: Tensor
    step_frames: Tensor
    step_labels: Tensor
    step_durations: Tensor


def rnnt_best_path(
    logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int
) -> TransducerPath:
    """Best alignment of an RNN-T. Not differentiable. Arguments and errors as in `rnnt_full_sum`."""
    with torch.no_grad():
        scores = rnnt_arc_scores(logits, targets, logit_lengths, target_lengths, blank)
    return arc_best_path(scores, RNNT_ARCS, logit_lengths, target_lengths, logits.dtype)


def multiblank_best_path(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    big_blank_durations: list[int] | tuple[int, ...],
    sigma: float = 0.0,
) -> TransducerPath:
    """Best alignment of a multi-blank transducer. Arguments and errors as in `multiblank_full_sum`."""
    arcs = multiblank_arcs(big_blank_durations)
    with torch.no_grad():
        scores = multiblank_arc_scores(logits, targets, logit_lengths, target_lengths, blank, len(arcs) - 2, sigma)
    return arc_best_path(scores, arcs, logit_lengths, target_lengths, logits.dtype)


def tdt_best_path(
    logits: Tensor,
    duration_logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    durations: list[int] | tuple[int, ...],
    sigma: float = 0.0,
) -> TransducerPath:
    """Best alignment of a TDT, durations included. Arguments and errors as in `tdt_full_sum`."""
    with torch.no_grad():
        scores = tdt_arc_scores(
            logits, duration_logits, targets, logit_lengths, target_lengths, blank, durations, sigma
        )
    return arc_best_path(scores, tdt_arcs(durations), logit_lengths, target_lengths, logits.dtype)


def arc_best_path(
    scores: Tensor, arcs: tuple[Arc, ...], logit_lengths: Tensor, target_lengths: Tensor, dtype: torch.dtype
) -> TransducerPath:
    score, path, frames = best_arcs(scores, arcs, logit_lengths, target_lengths)
    # One more entry, -1, so that the padding of the path picks itself.
    emits = torch.tensor([arc.labels for arc in arcs] + [-1], device=path.device)[path]
    reads = torch.tensor([arc.frames for arc in arcs] + [-1], device=path.device)[path]
    labels = scores.shape[-1] - 1
    # Blanks and padding go to one column more, which is cut off.
    position = torch.where(emits == 1, (emits == 1).cumsum(1) - 1, labels)
    blank_row = path.new_full((path.shape[0], labels + 1), -1)
    return TransducerPath(
        score=score.to(compute_dtype(dtype)),
        label_frames=blank_row.scatter(1, position, frames)[:, :labels],
        label_durations=blank_row.scatter(1, position, reads)[:, :labels],
        step_frames=frames,
        step_labels=emits,
        step_durations=reads,
    )

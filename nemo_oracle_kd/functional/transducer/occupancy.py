# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Occupancies of a transducer lattice: how much of a transcript's probability passes through every node and arc.

The occupancy of an arc is the derivative of log P(y|x) with respect to the arc's log-score. Of the arcs that leave
node (t, u) it says how probable it is that the alignment, given the transcript, takes them there. Nothing here is
differentiable: occupancies serve as targets, weights and pictures.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import compute_dtype
from nemo_oracle_kd.functional.transducer.multiblank import multiblank_arc_scores, multiblank_arcs
from nemo_oracle_kd.functional.transducer.recursion import forward_backward
from nemo_oracle_kd.functional.transducer.rnnt import RNNT_ARCS, rnnt_arc_scores
from nemo_oracle_kd.functional.transducer.tdt import tdt_arc_scores, tdt_arcs

__all__ = ['TransducerOccupancy', 'rnnt_occupancy', 'multiblank_occupancy', 'tdt_occupancy']


@dataclass
class TransducerOccupancy:
    """Occupancies of a batch of lattices, zero in the padding and for transcripts without a path.

    Over a whole utterance the labels sum to U. In an RNN-T, whose blanks read one frame, the blanks of every frame sum
    to one. Float64 for float64 logits and float32 otherwise.

    Attributes:
        node: `[B, T, U+1]` probability that the alignment visits (t, u); the sum of the arcs that leave it.
        label: `[B, T, U+1]` of emitting label u+1 in frame t; TDT: `[B, T, U+1, D]`, by duration.
        blank: `[B, T, U+1]` of the blank; multi-blank: `[B, T, U+1, 1 + big blanks]`, the standard blank first;
            TDT: `[B, T, U+1, D]`, by duration, zero for duration 0.
    """

    node: Tensor
    label: Tensor
    blank: Tensor


@torch.no_grad()
def rnnt_occupancy(
    logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int
) -> TransducerOccupancy:
    """Occupancies of an RNN-T lattice. Arguments and errors as in `rnnt_full_sum`."""
    scores = rnnt_arc_scores(logits, targets, logit_lengths, target_lengths, blank)
    lattice = forward_backward(scores, RNNT_ARCS, logit_lengths, target_lengths)
    label, blanks = lattice.occupancy(RNNT_ARCS).to(compute_dtype(logits.dtype))
    return TransducerOccupancy(label + blanks, label, blanks)


@torch.no_grad()
def multiblank_occupancy(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    big_blank_durations: list[int] | tuple[int, ...],
    sigma: float = 0.0,
) -> TransducerOccupancy:
    """Occupancies of a multi-blank lattice. Arguments and errors as in `multiblank_full_sum`."""
    arcs = multiblank_arcs(big_blank_durations)
    scores = multiblank_arc_scores(logits, targets, logit_lengths, target_lengths, blank, len(arcs) - 2, sigma)
    lattice = forward_backward(scores, arcs, logit_lengths, target_lengths)
    occupancy = lattice.occupancy(arcs).to(compute_dtype(logits.dtype))
    return TransducerOccupancy(occupancy.sum(0), occupancy[0], occupancy[1:].movedim(0, -1).contiguous())


@torch.no_grad()
def tdt_occupancy(
    logits: Tensor,
    duration_logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    durations: list[int] | tuple[int, ...],
    sigma: float = 0.0,
) -> TransducerOccupancy:
    """Occupancies of a TDT lattice. Arguments and errors as in `tdt_full_sum`."""
    arcs = tdt_arcs(durations)
    scores = tdt_arc_scores(logits, duration_logits, targets, logit_lengths, target_lengths, blank, durations, sigma)
    lattice = forward_backward(scores, arcs, logit_lengths, target_lengths)
    occupancy = lattice.occupancy(arcs).to(compute_dtype(logits.dtype)).movedim(0, -1)
    label = occupancy[..., : len(durations)].contiguous()
    blanks = torch.zeros_like(label)
    blanks[..., [i for i, duration in enumerate(durations) if duration > 0]] = occupancy[..., len(durations) :]
    return TransducerOccupancy(occupancy.sum(-1), label, blanks)

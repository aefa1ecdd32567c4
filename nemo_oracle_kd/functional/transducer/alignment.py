# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Alignments of a transcript in the lattice of any kind of transducer: occupancies and the best path.

The occupancy of an arc is the derivative of log P(y|x) with respect to the arc's log-score. It is the posterior
probability, given the transcript, that the alignment takes this arc from node (t, u).

A lattice is given as the logits of all its cells, or as the joint that computes them. From a joint the logits are
computed for some frames at a time and dropped again, because an alignment needs only about two log-probabilities per
cell. Nothing here is differentiable: occupancies and paths serve as targets, weights and pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.joint import JointTensors
from nemo_oracle_kd.functional.lattice.stored import StoredLattice
from nemo_oracle_kd.functional.tensors import compute_dtype
from nemo_oracle_kd.functional.transducer.kinds import Transducer
from nemo_oracle_kd.functional.transducer.recursion import Arc, ForwardBackward, best_arcs, forward_backward

__all__ = [
    'Lattice',
    'TransducerOccupancy',
    'TransducerPath',
    'best_path_of_arcs',
    'transducer_best_path',
    'transducer_forward_backward',
    'transducer_occupancy',
]

Lattice = Tensor | Sequence[Tensor] | JointTensors | StoredLattice
"""Logits `[B, T, U+1, outputs]`, the logits of each softmax, the joint that computes them, or what is stored of them."""

CPU_NUMBERS = 1 << 20
"""Logits held at a time on a CPU, four megabytes in float32."""

DEVICE_NUMBERS = 1 << 25
"""Logits held at a time elsewhere."""


@dataclass
class TransducerOccupancy:
    """Occupancies of a batch of lattices, zero in the padding and for transcripts without a path.

    Over a whole utterance the labels sum to U. In an RNN-T, whose blanks read one frame, the blanks of every frame sum
    to one. The tensors are float64 for float64 logits and float32 otherwise.

    Attributes:
        node: `[B, T, U+1]` probability that the alignment visits (t, u); the sum of the arcs that leave it.
        label: `[B, T, U+1]` probability of emitting label u+1 in frame t; TDT: `[B, T, U+1, D]`, by duration.
        blank: `[B, T, U+1]` probability of the blank; multi-blank: `[B, T, U+1, 1 + big blanks]`, the standard blank first;
            TDT: `[B, T, U+1, D]`, by duration, zero for duration 0.
    """

    node: Tensor
    label: Tensor
    blank: Tensor


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


@torch.no_grad()
def transducer_occupancy(
    transducer: Transducer,
    lattice: Lattice,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    sigma: float = 0.0,
) -> TransducerOccupancy:
    """Share of a transcript's probability that passes through every node and arc.

    Args:
        transducer: the kind, with its blank and durations.
        lattice: logits or joint; the dropout of a joint is ignored.
        targets: `[B, U]` labels without blanks.
        logit_lengths: `[B]` valid frames.
        target_lengths: `[B]` valid labels.
        sigma: as in `transducer_full_sum`.

    Raises:
        ValueError: if shapes, lengths or labels do not match.
    """
    scores = _arc_scores(transducer, lattice, targets, logit_lengths, target_lengths, sigma)
    occupancy = forward_backward(scores, transducer.arcs, logit_lengths, target_lengths).occupancy(transducer.arcs)
    labels, blanks = transducer.labels_and_blanks(occupancy.to(scores.dtype))
    return TransducerOccupancy(occupancy.sum(0).to(scores.dtype), labels, blanks)


@torch.no_grad()
def transducer_best_path(
    transducer: Transducer,
    lattice: Lattice,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    sigma: float = 0.0,
) -> TransducerPath:
    """The best alignment of the targets, with the frame in which every label is emitted.

    Arguments and errors as in `transducer_occupancy`.
    """
    scores = _arc_scores(transducer, lattice, targets, logit_lengths, target_lengths, sigma)
    return best_path_of_arcs(scores, transducer.arcs, logit_lengths, target_lengths)


@torch.no_grad()
def transducer_forward_backward(
    transducer: Transducer, lattice: Lattice, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor
) -> ForwardBackward:
    """Forward and backward scores of all nodes, in float64. Arguments and errors as in `transducer_occupancy`.

    Returns:
        `alpha` and `beta` are `[B, T+1, U+1]`; node (T_b, U_b) is the end behind the last blank, `-inf` where no path
        passes. `scores` is `[K, B, T, U+1]`, in the order of `transducer.arcs`.
    """
    scores = _arc_scores(transducer, lattice, targets, logit_lengths, target_lengths)
    return forward_backward(scores, transducer.arcs, logit_lengths, target_lengths)


def best_path_of_arcs(
    scores: Tensor, arcs: tuple[Arc, ...], logit_lengths: Tensor, target_lengths: Tensor
) -> TransducerPath:
    """The best alignment for given scores of the arcs, `[K, B, T, U+1]`."""
    score, path, frames = best_arcs(scores, arcs, logit_lengths, target_lengths)
    # The extra entry -1 is the one that the padding of the path, also -1, selects.
    emits = torch.tensor([arc.labels for arc in arcs] + [-1], device=path.device)[path]
    reads = torch.tensor([arc.frames for arc in arcs] + [-1], device=path.device)[path]
    labels = scores.shape[-1] - 1
    # Blanks and padding are written to an extra column, which is cut off.
    position = torch.where(emits == 1, (emits == 1).cumsum(1) - 1, labels)
    empty = path.new_full((path.shape[0], labels + 1), -1)
    return TransducerPath(
        score=score.to(compute_dtype(scores.dtype)),
        label_frames=empty.scatter(1, position, frames)[:, :labels],
        label_durations=empty.scatter(1, position, reads)[:, :labels],
        step_frames=frames,
        step_labels=emits,
        step_durations=reads,
    )


def _arc_scores(
    transducer: Transducer,
    lattice: Lattice,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    sigma: float = 0.0,
) -> Tensor:
    """Arc scores `[K, B, T, U+1]`; those of a joint are computed for some frames at a time."""
    if isinstance(lattice, StoredLattice):
        return transducer.combine(*lattice.arc_parts())
    if not isinstance(lattice, JointTensors):
        return transducer.arc_scores(lattice, targets, logit_lengths, target_lengths, sigma)
    if lattice.arcs is not None and not sigma:
        return transducer.combine(*lattice.arcs)
    joint = _one_type(replace(lattice.detach(), dropout=0.0))
    batch, frames, positions = *joint.encoder.shape[:2], joint.prediction.shape[1]
    numbers = CPU_NUMBERS if joint.encoder.device.type == 'cpu' else DEVICE_NUMBERS
    step = max(1, numbers // (batch * positions * max(joint.weight.shape)))
    scores = []
    for start in range(0, frames, step):
        part = replace(joint, encoder=joint.encoder[:, start : start + step])
        logits = part.logits().to(joint.weight.dtype)
        inside = (logit_lengths - start).clamp(0, logits.shape[1])
        scores.append(transducer.arc_scores(logits, targets, inside, target_lengths, sigma))
    return torch.cat(scores, 2)


def _one_type(joint: JointTensors) -> JointTensors:
    """The joint in one number type: under autocast the projections are in half precision and the weights are not."""
    dtype = joint.value_dtype
    bias = None if joint.bias is None else joint.bias.to(dtype)
    return replace(
        joint,
        encoder=joint.encoder.to(dtype),
        prediction=joint.prediction.to(dtype),
        weight=joint.weight.to(dtype),
        bias=bias,
    )

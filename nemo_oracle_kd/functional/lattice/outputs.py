# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the outputs of a joint stand for, and the alignments of a lattice that is never built.

An RNN-T joint is one softmax over labels and blank, a multi-blank joint one over labels and several blanks, a TDT joint
two softmaxes, of tokens and of durations. Best path and occupancy of any of them need two or so log-probabilities per
cell: the logits are computed some frames at a time and dropped again.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.joint import JointTensors
from nemo_oracle_kd.functional.tensors import compute_dtype
from nemo_oracle_kd.functional.transducer.multiblank import multiblank_arc_scores, multiblank_arcs
from nemo_oracle_kd.functional.transducer.paths import TransducerPath, arc_best_path
from nemo_oracle_kd.functional.transducer.recursion import Arc, forward_backward
from nemo_oracle_kd.functional.transducer.rnnt import RNNT_ARCS, rnnt_arc_scores
from nemo_oracle_kd.functional.transducer.tdt import tdt_arc_scores, tdt_arcs

__all__ = ['TRANSDUCERS', 'Softmax', 'TransducerOutputs', 'joint_arc_scores', 'joint_best_path', 'joint_occupancy']

TRANSDUCERS = ('rnnt', 'multiblank', 'tdt')

CPU_NUMBERS = 1 << 20
"""Logits held at a time on a CPU, four megabytes in float32."""

DEVICE_NUMBERS = 1 << 25
"""Logits held at a time elsewhere."""


@dataclass(frozen=True)
class Softmax:
    """One distribution of a joint.

    Attributes:
        start: its first output.
        stop: one past its last.
        blanks: ids of its blanks; empty for the durations of a TDT, which are no classes of a transcript.
    """

    start: int
    stop: int
    blanks: tuple[int, ...]


@dataclass(frozen=True)
class TransducerOutputs:
    """What the outputs of a joint stand for.

    Attributes:
        kind: 'rnnt', 'multiblank' or 'tdt'.
        blank: id of the standard blank. The big blank of `durations[i]` is `blank - 1 - i`; the durations of a TDT are
            the outputs after the blank.
        durations: frames per big blank of a multi-blank joint or per duration output of a TDT; else empty.
    """

    kind: str
    blank: int
    durations: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in TRANSDUCERS:
            raise ValueError(f"Unknown transducer '{self.kind}'; choose one of {', '.join(TRANSDUCERS)}.")
        if bool(self.durations) != (self.kind != 'rnnt'):
            raise ValueError(
                f"A joint of kind '{self.kind}' with the durations {list(self.durations)} does not exist."
            )

    @property
    def softmaxes(self) -> tuple[Softmax, ...]:
        """The distributions of a cell. They are independent, so that their divergences add up."""
        end = self.blank + 1
        if self.kind == 'tdt':
            return Softmax(0, end, (self.blank,)), Softmax(end, end + len(self.durations), ())
        return (Softmax(0, end, tuple(self.blank - i for i in range(1 + len(self.durations)))),)

    @property
    def arcs(self) -> tuple[Arc, ...]:
        """The kinds of arcs of the lattice, in the order of `joint_arc_scores`."""
        if self.kind == 'tdt':
            return tdt_arcs(self.durations)
        return multiblank_arcs(self.durations) if self.kind == 'multiblank' else RNNT_ARCS


@torch.no_grad()
def joint_arc_scores(
    joint: JointTensors, outputs: TransducerOutputs, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor
) -> Tensor:
    """Log-scores of the arcs of the targets' lattice, `[K, B, T, U+1]`; not differentiable, without dropout.

    Args:
        joint: the joint's tensors.
        outputs: what its outputs stand for.
        targets: `[B, U]` labels.
        logit_lengths: `[B]` valid frames.
        target_lengths: `[B]` valid labels.

    Raises:
        ValueError: on shapes, lengths or labels that do not fit together.
    """
    joint = _one_type(replace(joint.detach(), dropout=0.0))
    batch, frames, positions = *joint.encoder.shape[:2], joint.prediction.shape[1]
    numbers = CPU_NUMBERS if joint.encoder.device.type == 'cpu' else DEVICE_NUMBERS
    step = max(1, numbers // (batch * positions * max(joint.weight.shape)))
    scores = []
    for start in range(0, frames, step):
        part = replace(joint, encoder=joint.encoder[:, start : start + step])
        logits = part.logits().to(joint.weight.dtype)
        inside = (logit_lengths - start).clamp(0, logits.shape[1])
        scores.append(_arc_scores(logits, outputs, targets, inside, target_lengths))
    return torch.cat(scores, 2)


def joint_best_path(
    joint: JointTensors, outputs: TransducerOutputs, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor
) -> TransducerPath:
    """The best alignment of the targets. Arguments and errors as in `joint_arc_scores`."""
    scores = joint_arc_scores(joint, outputs, targets, logit_lengths, target_lengths)
    return arc_best_path(scores, outputs.arcs, logit_lengths, target_lengths, scores.dtype)


def joint_occupancy(
    joint: JointTensors, outputs: TransducerOutputs, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor
) -> Tensor:
    """Probability that an alignment of the targets visits each node, `[B, T, U+1]`; zero where there is no alignment.

    Arguments and errors as in `joint_arc_scores`.
    """
    scores = joint_arc_scores(joint, outputs, targets, logit_lengths, target_lengths)
    lattice = forward_backward(scores, outputs.arcs, logit_lengths, target_lengths)
    return lattice.occupancy(outputs.arcs).sum(0).to(scores.dtype)


def _one_type(joint: JointTensors) -> JointTensors:
    """Under autocast the projections are in half precision and the weights are not."""
    dtype = compute_dtype(torch.promote_types(joint.encoder.dtype, joint.weight.dtype))
    bias = None if joint.bias is None else joint.bias.to(dtype)
    return replace(
        joint,
        encoder=joint.encoder.to(dtype),
        prediction=joint.prediction.to(dtype),
        weight=joint.weight.to(dtype),
        bias=bias,
    )


def _arc_scores(
    logits: Tensor, outputs: TransducerOutputs, targets: Tensor, frames: Tensor, target_lengths: Tensor
) -> Tensor:
    blank, durations = outputs.blank, outputs.durations
    if outputs.kind == 'tdt':
        tokens, steps = logits.split([blank + 1, len(durations)], dim=-1)
        return tdt_arc_scores(tokens, steps, targets, frames, target_lengths, blank, durations)
    if outputs.kind == 'multiblank':
        return multiblank_arc_scores(logits, targets, frames, target_lengths, blank, len(durations))
    return rnnt_arc_scores(logits, targets, frames, target_lengths, blank)

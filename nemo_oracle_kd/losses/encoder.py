# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Objectives that compare the encoders of two transducers, without prediction networks.

They cost one value per frame instead of one per cell, and do not depend on the transcript.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.losses.schedule import WeightSchedule
from nemo_oracle_kd.losses.traits import ObjectiveTraits
from nemo_oracle_kd.losses.transducer_side import TransducerSide

__all__ = ['DISTANCES', 'EncoderConfig', 'EncoderLoss', 'RepresentationConfig', 'RepresentationLoss']

DISTANCES = ('l2', 'cosine', 'similarity')


@dataclass
class EncoderConfig:
    """`sum_t 1/V ||z~_t - z_t||^2` of encoder logits: those of the joint without a prediction network (arXiv 2106.07734).

    The paper's weight is 1, for a teacher that is trained together with the student. There a frozen teacher helped little.
    """

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(1.0), metadata={'help': 'factor in the training loss'}
    )
    shift: int = field(
        default=0, metadata={'help': 'student frame t is compared with the teacher this many frames earlier'}
    )


@dataclass
class RepresentationConfig:
    """`sum_t d(h~_t, h_t)` of the encoders' outputs. The models need no common vocabulary.

    `l2` (mean over dimensions) and `cosine` need outputs of equal size. `similarity` works for encoders of any size. It
    compares how similar each frame is to all others: d is the mean over t' of `(cos(h~_t, h~_t') - cos(h_t, h_t'))^2`.
    """

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(1.0), metadata={'help': 'factor in the training loss'}
    )
    distance: str = field(default='similarity', metadata={'help': f'one of {", ".join(DISTANCES)}'})
    shift: int = field(
        default=0, metadata={'help': 'student frame t is compared with the teacher this many frames earlier'}
    )

    def problems(self, path: str) -> Iterator[str]:
        if self.distance not in DISTANCES:
            yield f"`{path}.distance` is {self.distance!r}: choose one of {', '.join(DISTANCES)}"


class _EncoderDistillationLoss(ObjectiveTraits, torch.nn.Module, ABC):
    """Base of the encoder objectives, which sum over the frames that have a partner.

    Arguments as in `LatticeDistillationLoss`.
    """

    family = 'lattice'
    needs_teacher_lattice = True
    reads_text = False
    cached_signals = ('encoder',)
    reads: str = 'joint'

    def __init__(self, config, transducer: F.Transducer, name: str = 'encoder'):
        super().__init__()
        self.config = config
        self.transducer = transducer
        self.statistics: dict[str, Tensor] = {}

    def forward(
        self, student: TransducerSide, teacher: TransducerSide, targets: Tensor, target_lengths: Tensor, step: int = 0
    ) -> Tensor:
        """The objective of each utterance, `[B]`, before the factor `weight`."""
        frames = student.encoded.shape[1]
        partner = F.teacher_frame_map(student.lengths, student.lengths, frames, self.config.shift)
        return self.per_utterance(student, teacher, partner)

    @abstractmethod
    def per_utterance(self, student: TransducerSide, teacher: TransducerSide, partner: Tensor) -> Tensor:
        """The value of a subclass: `[B]`, summed over the frames whose `partner [B, T]` is not -1."""


def _paired(ours: Tensor, theirs: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Student frames and their partners, both `[B, T, D]` in at least float32; zero, not NaN, where there is no partner."""
    exists = (partner >= 0).unsqueeze(2)
    index = partner.clamp(min=0).unsqueeze(2).expand(-1, -1, theirs.shape[2])
    moved = theirs.detach().gather(1, index)
    dtype = F.compute_dtype(ours.dtype)
    ours, moved = (torch.where(exists, x, torch.zeros_like(x)).to(dtype) for x in (ours, moved))
    return ours, moved


class EncoderLoss(_EncoderDistillationLoss):
    """Squared distance of encoder logits, see :class:`EncoderConfig`."""

    def per_utterance(self, student: TransducerSide, teacher: TransducerSide, partner: Tensor) -> Tensor:
        """Squared distance of logits, `[B]`. Their mean over classes is removed, so a constant added to them changes nothing."""
        ours, theirs = _paired(student.joint.encoder, teacher.joint.encoder, partner)
        tokens = self.transducer.softmaxes[0]
        ours = _logits(student.joint.head(tokens.start, tokens.stop), ours)
        theirs = _logits(teacher.joint.head(tokens.start, tokens.stop).detach(), theirs)
        difference = torch.where((partner >= 0).unsqueeze(2), ours - theirs, torch.zeros_like(ours))
        return difference.square().mean(2).sum(1)


def _logits(joint: F.JointTensors, encoder: Tensor) -> Tensor:
    """Outputs of the joint for a prediction of zero, `[B, T, V]`, with mean zero over the classes."""
    hidden = getattr(torch, joint.activation)(encoder)
    bias = None if joint.bias is None else joint.bias.to(encoder.dtype)
    logits = torch.nn.functional.linear(hidden, joint.weight.to(encoder.dtype), bias).to(encoder.dtype)
    return logits - logits.mean(2, keepdim=True)


class RepresentationLoss(_EncoderDistillationLoss):
    """Distance of encoder outputs, see :class:`RepresentationConfig`."""

    needs_same_vocabulary = False
    reads = 'encoder'

    def per_utterance(self, student: TransducerSide, teacher: TransducerSide, partner: Tensor) -> Tensor:
        """The configured distance, summed over frames: `[B]`."""
        ours, theirs = _paired(student.encoded, teacher.encoded, partner)
        if self.config.distance == 'l2':
            return (ours - theirs).square().mean(2).sum(1)
        exists = (partner >= 0).to(ours.dtype)
        ours, theirs = torch.nn.functional.normalize(ours, dim=2), torch.nn.functional.normalize(theirs, dim=2)
        if self.config.distance == 'cosine':
            return ((1.0 - (ours * theirs).sum(2)) * exists).sum(1)
        difference = ours @ ours.transpose(1, 2) - theirs @ theirs.transpose(1, 2)
        return difference.square().sum((1, 2)) / exists.sum(1).clamp(min=1)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""CTC distillation objectives over frame posteriors, as NeMo losses with neural types.

Each objective is one config dataclass and one :class:`FrameDistillationLoss`. All return one value per utterance, `[B]`,
summed over its valid frames. The mathematics is in `nemo_oracle_kd.functional`. The teacher is always detached.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from nemo.core.classes import Loss, typecheck
from nemo.core.neural_types import LabelsType, LengthsType, LogprobsType, LossType, NeuralType

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.losses.schedule import WeightSchedule
from nemo_oracle_kd.losses.temperature import temperature_problems
from nemo_oracle_kd.losses.traits import ObjectiveTraits

__all__ = [
    'BlankFramesConfig',
    'FRAME_OBJECTIVES',
    'FrameDistillationLoss',
    'FrameKLConfig',
    'FrameKLLoss',
    'GuidedCTCConfig',
    'GuidedCTCLoss',
    'OccupancyConfig',
    'OccupancyLoss',
    'SoftmaxL2Config',
    'SoftmaxL2Loss',
]


@dataclass
class BlankFramesConfig:
    """How to weight blank frames, those at which the teacher's best label is blank. In peaky CTC posteriors most are."""

    mode: str = field(
        default='keep',
        metadata={'help': 'keep all frames, drop blank frames, keep a window around spikes, or weight blank frames'},
    )
    window: int = field(default=1, metadata={'help': 'window: blank frames kept on each side of a spike'})
    weight: float = field(default=0.1, metadata={'help': 'weight: factor of a blank frame'})

    @classmethod
    def from_scalar(cls, mode) -> 'BlankFramesConfig':
        return cls(mode=str(mode))

    def problems(self, path: str) -> Iterator[str]:
        if self.mode not in F.BLANK_MODES:
            yield f"`{path}.mode` is {self.mode!r}: choose one of {', '.join(F.BLANK_MODES)}"
        if self.window < 0:
            yield f"`{path}.window` must be at least 0 frames, not {self.window}"
        if not (math.isfinite(self.weight) and self.weight >= 0):
            yield f"`{path}.weight` must be a finite number of at least 0, not {self.weight}"

    def frame_weights(self, teacher_log_probs: torch.Tensor, lengths: torch.Tensor, blank: int):
        """`[B, T]` weights, or `None` when every frame counts alike."""
        if self.mode == 'keep':
            return None
        return F.blank_frame_weights(
            teacher_log_probs, lengths, blank, mode=self.mode, window=self.window, weight=self.weight
        )


@dataclass
class FrameKLConfig:
    """`sum_t KL(P~_t || P_t)`: the classical distillation of posteriors (Hinton et al. 2015), frame by frame.

    Unlike the cross-entropy that some public code calls KL, it is zero for identical models. Its sum over frames is large
    compared with the CTC loss, hence the weight below 1. A sharp teacher needs a temperature (docs/experiments/an4.md).
    """

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(0.6), metadata={'help': 'factor in the training loss'}
    )
    temperature: float = field(
        default=2.0, metadata={'help': 'divides the logits of both models; the value is multiplied by T^2'}
    )
    blank: BlankFramesConfig = field(default_factory=BlankFramesConfig, metadata={'help': 'frames of blank'})

    def problems(self, path: str) -> Iterator[str]:
        yield from temperature_problems(self.temperature, path)


@dataclass
class SoftmaxL2Config:
    """`sum_t ||P~_t - P_t||^2`: softmax-level distillation, SKD (TutorNet, arXiv 2008.00671)."""

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(0.25), metadata={'help': 'factor in the training loss'}
    )
    temperature: float = field(default=1.0, metadata={'help': 'divides the logits of both models'})
    blank: BlankFramesConfig = field(default_factory=BlankFramesConfig, metadata={'help': 'frames of blank'})

    def problems(self, path: str) -> Iterator[str]:
        yield from temperature_problems(self.temperature, path)


@dataclass
class GuidedCTCConfig:
    """`-sum_t P(k~_t | t)` over frames where the teacher's best label `k~_t` is not blank (arXiv 1904.08311)."""

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(1.0), metadata={'help': 'factor in the training loss'}
    )


@dataclass
class OccupancyConfig:
    """`sum_t KL(gamma_t || P_t)`, where `gamma` is the teacher's CTC occupancy of the transcript.

    This is the control for the oracle teacher: the forward-backward posterior of any teacher also brings the transcript
    into the targets of the student (sequence-trained CTC teachers: Huang et al. 2018).
    """

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(0.05), metadata={'help': 'factor in the training loss'}
    )
    prior_scale: float = field(
        default=0.0,
        metadata={
            'help': "power of the teacher's label prior by which its posteriors are divided before the alignment; 0: none"
        },
    )

    def problems(self, path: str) -> Iterator[str]:
        if not 0.0 <= self.prior_scale <= 1.0:  # false for NaN
            yield f"`{path}.prior_scale` must be between 0 (no prior) and 1, such as 0.3, not {self.prior_scale}"


class FrameDistillationLoss(ObjectiveTraits, Loss):
    """Base of the frame objectives.

    Args:
        config: the objective's config.
        blank: id of the blank in both models.
    """

    family = 'frame'
    reads_text = False

    def __init__(self, config, blank: int):
        super().__init__()
        self.config = config
        self.blank = blank

    @property
    def input_types(self) -> dict[str, NeuralType] | None:
        """Neural types of the inputs."""
        return {
            "student_log_probs": NeuralType(('B', 'T', 'D'), LogprobsType()),
            "teacher_log_probs": NeuralType(('B', 'T', 'D'), LogprobsType()),
            "input_lengths": NeuralType(tuple('B'), LengthsType()),
            "targets": NeuralType(('B', 'T'), LabelsType()),
            "target_lengths": NeuralType(tuple('B'), LengthsType()),
        }

    @property
    def output_types(self) -> dict[str, NeuralType] | None:
        """Neural types of the outputs."""
        return {"losses": NeuralType(tuple('B'), LossType())}

    @typecheck()
    def forward(self, student_log_probs, teacher_log_probs, input_lengths, targets, target_lengths):
        """The objective of each utterance.

        Args:
            student_log_probs: `[B, T, V]`, natural log, with gradient.
            teacher_log_probs: `[B, T, V]`, natural log; detached here.
            input_lengths: `[B]` valid frames.
            targets: `[B, U]` labels of the transcript.
            target_lengths: `[B]` valid labels.

        Returns:
            `[B]`, before the factor `weight`, summed over frames.
        """
        return self.per_utterance(
            student_log_probs, teacher_log_probs.detach(), input_lengths, targets, target_lengths
        )

    @abstractmethod
    def per_utterance(self, student_log_probs, teacher_log_probs, input_lengths, targets, target_lengths):
        """The value of a subclass, `[B]`. Arguments as in `forward`, with the teacher detached."""


class _WeightedFrameLoss(FrameDistillationLoss):
    """Base of the losses with a temperature and with weights of the frames that the teacher calls blank."""

    cached_signals = ('ctc_topk',)
    distance: Callable[..., torch.Tensor]

    def per_utterance(self, student_log_probs, teacher_log_probs, input_lengths, targets, target_lengths):
        """The distance of the posteriors of all frames, `[B]`."""
        return self.distance(
            student_log_probs,
            teacher_log_probs,
            input_lengths,
            temperature=self.config.temperature,
            frame_weights=self.config.blank.frame_weights(teacher_log_probs, input_lengths, self.blank),
        )


class FrameKLLoss(_WeightedFrameLoss):
    """`temperature^2 sum_t w_t KL(P~_t || P_t)`, see :class:`FrameKLConfig`."""

    distance = staticmethod(F.frame_kl)


class SoftmaxL2Loss(_WeightedFrameLoss):
    """`sum_t w_t ||P~_t - P_t||^2`, see :class:`SoftmaxL2Config`."""

    distance = staticmethod(F.softmax_l2)


class GuidedCTCLoss(FrameDistillationLoss):
    """Guided CTC training, see :class:`GuidedCTCConfig`."""

    cached_signals = ('best_path', 'ctc_topk')

    def per_utterance(self, student_log_probs, teacher_log_probs, input_lengths, targets, target_lengths):
        """`-sum_t P(k~_t | t)` over the teacher's non-blank frames, `[B]`."""
        return F.guided_ctc(student_log_probs, teacher_log_probs, input_lengths, self.blank)


class OccupancyLoss(FrameDistillationLoss):
    """Divergence from the CTC occupancy of the transcript, see :class:`OccupancyConfig`."""

    reads_text = True
    cached_signals = ('occupancy',)

    def per_utterance(self, student_log_probs, teacher_log_probs, input_lengths, targets, target_lengths):
        """`sum_t KL(gamma_t || P_t)`, `[B]`; 0 for an utterance that is too short for its labels."""
        log_probs = teacher_log_probs.log_softmax(dim=-1)  # changes nothing in log-probabilities
        if self.config.prior_scale:
            prior = F.label_log_prior(log_probs, input_lengths)
            log_probs = log_probs - self.config.prior_scale * prior.unsqueeze(1)
        occupancy = F.ctc_occupancy(log_probs, targets, input_lengths, target_lengths, self.blank)
        return F.occupancy_kl(student_log_probs, occupancy, input_lengths)


#: name in a config -> (config dataclass, loss class)
FRAME_OBJECTIVES: dict[str, tuple] = {
    'frame_kl': (FrameKLConfig, FrameKLLoss),
    'softmax_l2': (SoftmaxL2Config, SoftmaxL2Loss),
    'guided_ctc': (GuidedCTCConfig, GuidedCTCLoss),
    'occupancy': (OccupancyConfig, OccupancyLoss),
}

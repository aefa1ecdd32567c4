# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distillation objectives over whole label sequences, as NeMo losses with neural types (arXiv 2303.05958).

Each model contributes one number per text, `-log P(y|x)` summed over all alignments, so vocabulary, frame rate and kind of
head may differ. Each objective is one config dataclass and one `Loss`. All return one value per utterance, `[B]`. The
mathematics is in `nemo_oracle_kd.functional`. The teacher's numbers are constants. An utterance cannot be compared if its
labels have no alignment in one of the models. It gives 0 with gradient zero, and `comparable` is false for it.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from nemo.core.classes import Loss, typecheck
from nemo.core.neural_types import LengthsType, LossType, MaskType, NeuralType, VoidType

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.losses.schedule import WeightSchedule
from nemo_oracle_kd.losses.traits import ObjectiveTraits

__all__ = [
    'ConfidenceConfig',
    'FullSumConfig',
    'FullSumLoss',
    'FullSumNormConfig',
    'FullSumNormLoss',
    'HardConfig',
    'HardLoss',
    'SEQUENCE_OBJECTIVES',
    'SequenceDistillationLoss',
    'TextDistillationLoss',
]


@dataclass
class ConfidenceConfig:
    """How each utterance is weighted by the teacher's confidence, see `functional.confidence_weight`."""

    mode: str = field(
        default='constant',
        metadata={
            'help': 'constant (1 for all), probability (mean per token), sigmoid (a soft cut), or value (of a field)'
        },
    )
    sharpness: float = field(default=1.0, metadata={'help': 'how fast the weight falls with the nats per token'})
    threshold: float = field(default=1.0, metadata={'help': 'sigmoid: nats per token at which the weight is one half'})
    floor: float = field(default=0.0, metadata={'help': 'the smallest weight, 0 to 1'})
    field: str | None = field(
        default=None,
        metadata={'help': "an entry of the rows' teacher_fields that is read instead of the nats per token"},
    )

    @classmethod
    def from_scalar(cls, mode) -> 'ConfidenceConfig':
        return cls(mode=str(mode))

    def problems(self, path: str) -> Iterator[str]:
        if self.mode not in F.CONFIDENCE_MODES:
            yield f"`{path}.mode` is {self.mode!r}: choose one of {', '.join(F.CONFIDENCE_MODES)}"
        if not (math.isfinite(self.sharpness) and self.sharpness > 0):
            yield f"`{path}.sharpness` must be a finite number greater than 0, not {self.sharpness}"
        if not math.isfinite(self.threshold):
            yield f"`{path}.threshold` must be a finite number, not {self.threshold}"
        if not 0 <= self.floor <= 1:
            yield f"`{path}.floor` must lie between 0 and 1, not {self.floor}"
        if self.mode == 'value' and self.field is None:
            yield f"`{path}.field` is missing: name the entry of the rows' teacher_fields that is the weight, such as confidence"
        if self.mode == 'constant' and self.field is not None:
            yield f"`{path}.field` has no effect with mode constant: set the mode to value, probability or sigmoid"

    def weights(
        self, teacher_nll: torch.Tensor, teacher_lengths: torch.Tensor, values: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`[B]` weights between 0 and 1, without gradient; `values` are those of `field`."""
        return F.confidence_weight(
            teacher_nll, teacher_lengths, self.mode, self.sharpness, self.threshold, self.floor, values
        )


@dataclass
class DistanceConfig:
    """Options that all objectives over scores share: the weight, the distance and its shape."""

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(1.0), metadata={'help': 'factor in the training loss'}
    )
    distance: str = field(default='l1', metadata={'help': 'l1, mse, or huber (l1 that is quadratic near 0)'})
    huber_width: float = field(
        default=1.0, metadata={'help': 'huber: difference in nats at which quadratic turns into linear'}
    )
    dead_zone: float = field(default=0.0, metadata={'help': 'differences up to this many nats cost nothing'})
    teacher_scale: float = field(
        default=1.0,
        metadata={
            'help': "factor of the teacher's nats per text; above 1 for a teacher that is surer than the student can become"
        },
    )
    confidence: ConfidenceConfig = field(
        default_factory=ConfidenceConfig, metadata={'help': "weights by the teacher's confidence"}
    )

    def problems(self, path: str) -> Iterator[str]:
        if self.distance not in F.FULL_SUM_DISTANCES:
            yield f"`{path}.distance` is {self.distance!r}: choose one of {', '.join(F.FULL_SUM_DISTANCES)}"
        if not (math.isfinite(self.huber_width) and self.huber_width > 0):
            yield f"`{path}.huber_width` must be a finite number greater than 0, not {self.huber_width}"
        if not (math.isfinite(self.dead_zone) and self.dead_zone >= 0):
            yield f"`{path}.dead_zone` must be a finite number of at least 0, not {self.dead_zone}"
        if not (math.isfinite(self.teacher_scale) and self.teacher_scale > 0):
            yield f"`{path}.teacher_scale` must be a finite number greater than 0, not {self.teacher_scale}"


@dataclass
class HardConfig:
    """`-log P(y~|x)` of the teacher's text `y~`, which is the `text` of the row: training on pseudo-labels."""

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(1.0), metadata={'help': 'factor in the training loss'}
    )
    confidence: ConfidenceConfig = field(
        default_factory=ConfidenceConfig, metadata={'help': "weights by the teacher's confidence"}
    )


@dataclass
class FullSumConfig(DistanceConfig):
    """`F(-log P~(y|x), -log P(y|x))`: full-sum distillation (arXiv 2303.05958, section 3.2)."""

    normalization: str = field(
        default='none', metadata={'help': 'none: nats per text; token: nats per token, in the tokens of each model'}
    )

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if self.normalization not in F.FULL_SUM_NORMALIZATIONS:
            yield (
                f"`{path}.normalization` is {self.normalization!r}: choose one of "
                f"{', '.join(F.FULL_SUM_NORMALIZATIONS)}, or the objective full_sum_norm to normalise over the N-best list"
            )


@dataclass
class FullSumNormConfig(DistanceConfig):
    """`F` of log-posteriors over the teacher's N-best list: sequence-discriminative distillation (arXiv 2303.05958, section 3.3)."""

    over: str = field(
        default='first', metadata={'help': "first: the teacher's best text (the paper); all: the mean over all texts"}
    )
    nbest: int = field(default=8, metadata={'help': 'number of texts of each utterance, the best first; at least 2'})

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if self.over not in F.NBEST_OVER:
            yield f"`{path}.over` is {self.over!r}: choose one of {', '.join(F.NBEST_OVER)}"
        if self.nbest < 2:
            yield (
                f"`{path}.nbest` is {self.nbest}, but a single text always has posterior 1: use 2 or more, or the objective "
                "full_sum"
            )


class SequenceDistillationLoss(ObjectiveTraits, Loss):
    """Base of the objectives over the texts of an utterance.

    Args:
        config: the objective's config.
    """

    family = 'sequence'
    needs_same_vocabulary = False
    needs_same_frame_rate = False

    def __init__(self, config):
        super().__init__()
        self.config = config

    @property
    def output_types(self) -> dict[str, NeuralType] | None:
        """Neural types of the outputs."""
        return {"losses": NeuralType(tuple('B'), LossType())}

    def scaled(self, teacher_nll: torch.Tensor) -> torch.Tensor:
        """The teacher's scores as they are compared with the student's, in nats."""
        return teacher_nll * getattr(self.config, 'teacher_scale', 1.0)

    def weighted(self, losses, teacher_nll, teacher_lengths, field=None):
        """Losses `[B]` weighted by the teacher's confidence in a text.

        Args:
            losses: `[B]`.
            teacher_nll: `[B]` score of the text, nats.
            teacher_lengths: `[B]` its tokens.
            field: `[B]` values of the config's `confidence.field`, where it names one.
        """
        if self.config.confidence.mode == 'constant':
            return losses
        return losses * self.config.confidence.weights(teacher_nll, teacher_lengths, field).to(losses)


class TextDistillationLoss(SequenceDistillationLoss):
    """Base of the objectives over one text per utterance."""

    @property
    def input_types(self) -> dict[str, NeuralType] | None:
        """Neural types of the inputs."""
        return {
            "student_nll": NeuralType(tuple('B'), LossType()),
            "teacher_nll": NeuralType(tuple('B'), VoidType()),
            "target_lengths": NeuralType(tuple('B'), LengthsType()),
            "teacher_lengths": NeuralType(tuple('B'), LengthsType()),
            "field": NeuralType(tuple('B'), VoidType(), optional=True),
        }

    @typecheck()
    def forward(self, student_nll, teacher_nll, target_lengths, teacher_lengths, field=None):
        """The objective of each utterance.

        Args:
            student_nll: `[B]` minus log-probability, nats, with gradient; `inf` where there is no alignment.
            teacher_nll: `[B]` the same under the teacher, a constant; `inf` where there is no alignment.
            target_lengths: `[B]` tokens of the text in the student's vocabulary.
            teacher_lengths: `[B]` tokens of the text in the teacher's vocabulary.
            field: `[B]` values of `confidence.field`, where it names one.

        Returns:
            `[B]`, before the factor `weight`.
        """
        losses = self.per_utterance(student_nll, self.scaled(teacher_nll.detach()), target_lengths, teacher_lengths)
        return self.weighted(losses, teacher_nll, teacher_lengths, field)

    @abstractmethod
    def per_utterance(self, student_nll, teacher_nll, target_lengths, teacher_lengths):
        """The value of a subclass, `[B]`. Arguments as in `forward`, with the teacher detached."""

    def comparable(self, student_nll, teacher_nll):
        """`[B]` bool: utterances with an alignment in both models."""
        return F.full_sum_comparable(student_nll, teacher_nll)


class HardLoss(TextDistillationLoss):
    """Training on pseudo-labels, see :class:`HardConfig`."""

    needs_stored_scores = True

    def per_utterance(self, student_nll, teacher_nll, target_lengths, teacher_lengths):
        """`-log P(y~|x)`, `[B]`; 0 where the text has no alignment."""
        return student_nll.masked_fill(student_nll.detach().isinf(), 0.0)

    def comparable(self, student_nll, teacher_nll):
        """`[B]` bool: utterances with an alignment."""
        return ~student_nll.detach().isinf()


class FullSumLoss(TextDistillationLoss):
    """Distance of full-sum scores, see :class:`FullSumConfig`."""

    reads_score = needs_true_likelihood = compares_own_loss = True

    def per_utterance(self, student_nll, teacher_nll, target_lengths, teacher_lengths):
        """The distance of the scores, `[B]`."""
        config = self.config
        return F.full_sum_distance(
            student_nll,
            teacher_nll,
            kind=config.distance,
            huber_width=config.huber_width,
            dead_zone=config.dead_zone,
            normalization=config.normalization,
            target_lengths=target_lengths,
            teacher_target_lengths=teacher_lengths,
        )


class FullSumNormLoss(SequenceDistillationLoss):
    """Distance of posteriors over an N-best list, see :class:`FullSumNormConfig`."""

    needs_stored_scores = needs_nbest = reads_score = needs_true_likelihood = True

    @property
    def input_types(self) -> dict[str, NeuralType] | None:
        """Neural types of the inputs."""
        return {
            "student_nll": NeuralType(('B', 'D'), LossType()),
            "teacher_nll": NeuralType(('B', 'D'), VoidType()),
            "mask": NeuralType(('B', 'D'), MaskType()),
            "teacher_lengths": NeuralType(tuple('B'), LengthsType()),
            "field": NeuralType(tuple('B'), VoidType(), optional=True),
        }

    @typecheck()
    def forward(self, student_nll, teacher_nll, mask, teacher_lengths, field=None):
        """The objective of each utterance.

        Args:
            student_nll: `[B, N]` minus log-probabilities of the teacher's texts, nats, with gradient.
            teacher_nll: `[B, N]` the same under the teacher, with its best text first; constants.
            mask: `[B, N]` true where there is a text.
            teacher_lengths: `[B]` tokens of the first text in the teacher's vocabulary.
            field: `[B]` values of `confidence.field`, where it names one.

        Returns:
            `[B]`, before the factor `weight`; 0 where there is nothing to compare.
        """
        config = self.config
        scores = self.scaled(teacher_nll.detach())
        losses = F.full_sum_norm_distance(
            student_nll, scores, mask, config.distance, config.huber_width, config.dead_zone, config.over
        )
        return self.weighted(losses, teacher_nll[:, 0], teacher_lengths, field)

    def comparable(self, student_nll, teacher_nll, mask):
        """`[B]` bool: utterances with at least two texts to compare."""
        return F.full_sum_norm_comparable(student_nll, teacher_nll, mask, self.config.over)


#: name in a config -> (config dataclass, loss class)
SEQUENCE_OBJECTIVES: dict[str, tuple] = {
    'hard': (HardConfig, HardLoss),
    'full_sum': (FullSumConfig, FullSumLoss),
    'full_sum_norm': (FullSumNormConfig, FullSumNormLoss),
}

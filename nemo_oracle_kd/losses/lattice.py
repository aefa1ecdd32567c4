# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Objectives that compare the lattices of two transducers, cell by cell.

Each objective is one config dataclass (`losses/lattice_settings.py`) and one :class:`LatticeDistillationLoss`. All return one
value per utterance, `[B]`. The formula of a cell is in `functional/lattice/distances.py`. The sum over cells, computed in
tiles without storing the lattice, is in `functional/lattice/divergence.py`. The objectives work on the whole batch, whether
or not NeMo's joint is fused with its loss. The teacher is always detached.
"""

from dataclasses import dataclass, replace

import torch
from nemo.utils import logging
from torch import Tensor

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.losses.delay import DelayEstimator
from nemo_oracle_kd.losses.encoder import EncoderConfig, EncoderLoss, RepresentationConfig, RepresentationLoss
from nemo_oracle_kd.losses.lattice_settings import (
    TEACHER_CELL_MODES,
    CollapsedLatticeConfig,
    LatticeConfig,
    OneBestPathConfig,
    TopKLatticeConfig,
)
from nemo_oracle_kd.losses.traits import ObjectiveTraits
from nemo_oracle_kd.losses.transducer_side import TransducerSide

__all__ = [
    'LATTICE_OBJECTIVES',
    'CollapsedLatticeLoss',
    'LatticeDistillationLoss',
    'LatticeLoss',
    'OneBestPathLoss',
    'TopKLatticeLoss',
]


@dataclass(frozen=True)
class _Comparison:
    """The lattices of one batch and how they are compared. The durations of a TDT are a second distribution in every cell."""

    student: F.JointTensors
    teacher: F.JointTensors
    transducer: F.Transducer
    targets: Tensor
    lengths: Tensor
    target_lengths: Tensor
    options: dict

    def divergence(self, weights: Tensor, teacher_frames: Tensor) -> Tensor:
        """The divergence of each utterance, `[B]`, differentiable."""
        return sum(self._each(F.lattice_divergence, weights, teacher_frames))

    def cells(self, weights: Tensor, teacher_frames: Tensor) -> Tensor:
        """The divergence of each cell, `[B, T, U+1]`, not differentiable."""
        return sum(self._each(F.lattice_cell_divergence, weights, teacher_frames))

    def _each(self, function, weights: Tensor, teacher_frames: Tensor) -> list[Tensor]:
        parts = []
        for softmax in self.transducer.softmaxes:
            options = self.options if softmax.blanks else {**self.options, 'bins': 'full'}
            parts.append(
                function(
                    self.student.head(softmax.start, softmax.stop),
                    self.teacher.head(softmax.start, softmax.stop),
                    self.targets,
                    self.lengths,
                    self.target_lengths,
                    softmax.blanks,
                    weights=weights,
                    teacher_frames=teacher_frames,
                    **options,
                )
            )
        return parts


class LatticeDistillationLoss(ObjectiveTraits, torch.nn.Module):
    """Base of the lattice objectives. It compares joints and not single tensors, so NeMo's typing does not apply.

    Args:
        config: the objective's config.
        transducer: what the outputs of both joints mean.
        name: name of the objective, for the log.
    """

    family = 'lattice'
    needs_teacher_lattice = True
    #: what it reads: the whole `lattice`, the `joint` without a prediction network, or the `encoder` alone
    reads: str = 'lattice'
    #: which classes are compared one by one, see `functional/lattice/distances.py`
    bins = 'full'

    def __init__(self, config: LatticeConfig, transducer: F.Transducer, name: str = 'lattice'):
        super().__init__()
        self.config = config
        self.transducer = transducer
        self.name = name
        self._first_call = True
        estimate = config.delay.mode == 'estimate'
        self.delay = DelayEstimator(config.delay.batches, name, config.delay.max_spread) if estimate else None
        #: what the last call measured, for the log
        self.statistics: dict[str, Tensor] = {}

    def forward(
        self, student: TransducerSide, teacher: TransducerSide, targets: Tensor, target_lengths: Tensor, step: int = 0
    ) -> Tensor:
        """The objective of each utterance.

        Args:
            student: the student's lattice, with gradient.
            teacher: the teacher's lattice on the student's frames (`common_frames`); detached here.
            targets: `[B, U]` labels of the transcript.
            target_lengths: `[B]` valid labels.
            step: number of optimizer steps so far.

        Returns:
            `[B]`, before the factor `weight`; zero without gradient while the delay is being estimated.
        """
        self.statistics = {}
        ours = student.joint if self.config.dropout else replace(student.joint, dropout=0.0)
        theirs = teacher.joint.detach()
        lengths, target_lengths = student.lengths, target_lengths.to(student.lengths.device)
        shift = self._shift(ours, theirs, targets, lengths, target_lengths, step)
        if shift is None:
            return torch.zeros_like(lengths, dtype=torch.float32) + 0.0 * ours.weight.sum()
        options = {
            'bins': self.bins,
            'divergence': self.config.divergence,
            'temperature': self.config.temperature,
            **self.bin_options(),
        }
        comparison = _Comparison(ours, theirs, self.transducer, targets, lengths, target_lengths, options)
        weights, moving = self._weights(comparison)
        frames = ours.encoder.shape[1]
        if not self.config.window.used:
            teacher_frames = F.teacher_frame_map(lengths, lengths, frames, shift)
            if moving:
                weights = F.to_student_frames(weights, teacher_frames)
            else:
                weights = weights * (teacher_frames >= 0).unsqueeze(2)
            self._count_uncompared(weights)
            return comparison.divergence(self._per_cell(weights), teacher_frames)
        trials = _trials(self._window(shift), lengths, weights, moving)
        self._count_uncompared(trials[0][2])
        found = F.best_shift(
            comparison.cells,
            comparison.divergence,
            [(shift, partners, self._per_cell(weights)) for shift, partners, weights in trials],
            mode=self.config.window.mode,
            unit=self.config.window.per,
            softness=self.config.window.softness,
        )
        self.statistics['shift'] = found.shift.detach().mean()
        return found.loss

    def bin_options(self) -> dict:
        """Options of `bins`, as keyword arguments of `lattice_divergence`."""
        return {}

    def _shift(self, student, teacher, targets, lengths, target_lengths, step: int) -> int | None:
        """The delay in frames, or `None` until it has been estimated."""
        if self.delay is None:
            return self.config.shift
        if self.delay.shift is None:
            if step < self.config.delay.from_step:
                return None
            arguments = (targets, lengths, target_lengths)
            paths = [F.transducer_best_path(self.transducer, joint, *arguments) for joint in (student, teacher)]
            self.delay.add(*(path.label_frames for path in paths))
        if self.delay.shift is not None:
            self.statistics['shift'] = lengths.new_tensor(self.delay.shift, dtype=torch.float32)
        return self.delay.shift

    def _window(self, shift: int) -> list[int]:
        return list(range(shift + self.config.window.first, shift + self.config.window.last + 1))

    def _weights(self, comparison: _Comparison) -> tuple[Tensor, bool]:
        """`[B, T, U+1]` weight of each cell, and whether the weights belong to the teacher's frames and move with them."""
        joint, lengths, target_lengths = comparison.student, comparison.lengths, comparison.target_lengths
        mode, options = self.config.cells.mode, self.config.cells
        frames, positions = joint.encoder.shape[1], joint.prediction.shape[1]
        cells = F.valid_cells(lengths, target_lengths, frames, positions)
        rest = (comparison.targets, lengths, target_lengths)
        if mode.endswith('_occupancy'):
            side = comparison.teacher if mode == 'teacher_occupancy' else comparison.student
            weights = F.occupancy_weights(F.transducer_occupancy(self.transducer, side, *rest).node, options.threshold)
        elif mode in ('path', 'band'):
            path = F.transducer_best_path(self.transducer, comparison.teacher, *rest)
            marked = F.path_cells(path.step_frames, path.step_labels, frames, positions)
            if mode == 'band':
                marked = F.band_cells(marked, options.before, options.after) & cells
            weights = marked
        else:
            weights = cells
        return weights.to(joint.value_dtype), mode in TEACHER_CELL_MODES

    def _per_cell(self, weights: Tensor) -> Tensor:
        """`[B, T, U+1]` weights of cells that have a partner. If the config says so, they turn the sum over cells into a mean."""
        if self.config.normalization != 'cells':
            return weights
        return weights / weights.sum((1, 2), keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)

    def _count_uncompared(self, weights: Tensor) -> None:
        """Records the share of utterances without any cell to compare, and warns if the first batch has some."""
        uncompared = (weights.sum((1, 2)) == 0).float().mean()
        self.statistics['uncompared'] = uncompared
        if self._first_call and bool(uncompared > 0):
            logging.warning(
                f"{self.name}: {100 * float(uncompared):.0f} % of the utterances of the first batch have no cell to compare "
                f"and contribute nothing: if they have a transcript, check {self.name}.shift and {self.name}.window, which "
                "count frames of the student"
            )
        self._first_call = False


def _trials(shifts: list[int], lengths: Tensor, weights: Tensor, moving: bool) -> list[tuple[int, Tensor, Tensor]]:
    """Shift, frame map and weights of every candidate. All are compared on the cells that have a partner under every shift."""
    frames = weights.shape[1]
    maps = [F.teacher_frame_map(lengths, lengths, frames, shift) for shift in shifts]
    if not moving:
        common = torch.stack([each >= 0 for each in maps]).all(0)
        weights = weights * common.unsqueeze(2)
        return [(shift, each, weights) for shift, each in zip(shifts, maps)]
    # These weights belong to the teacher: keep its frames that have a partner in the student under every shift.
    back = [F.teacher_frame_map(lengths, lengths, frames, -shift) for shift in shifts]
    common = torch.stack([each >= 0 for each in back]).all(0)
    weights = weights * common.unsqueeze(2)
    return [(shift, each, F.to_student_frames(weights, each)) for shift, each in zip(shifts, maps)]


class LatticeLoss(LatticeDistillationLoss):
    """Divergence of lattices over all classes, see :class:`LatticeConfig`."""


class TopKLatticeLoss(LatticeDistillationLoss):
    """Divergence of lattices over the teacher's best classes, see :class:`TopKLatticeConfig`."""

    bins = 'topk'
    cached_signals = ('lattice_topk',)

    def bin_options(self) -> dict:
        """The number of the teacher's best classes."""
        return {'top_k': self.config.top_k}


class CollapsedLatticeLoss(LatticeDistillationLoss):
    """Divergence of lattices over three classes, see :class:`CollapsedLatticeConfig`."""

    bins = 'collapsed'
    cached_signals = ('lattice_collapsed', 'lattice_topk')


class OneBestPathLoss(LatticeDistillationLoss):
    """Divergence of lattices on the best path, see :class:`OneBestPathConfig`."""

    cached_signals = ('best_path',)


#: name in a config -> (config dataclass, loss class)
LATTICE_OBJECTIVES: dict[str, tuple] = {
    'lattice': (LatticeConfig, LatticeLoss),
    'lattice_topk': (TopKLatticeConfig, TopKLatticeLoss),
    'lattice_collapsed': (CollapsedLatticeConfig, CollapsedLatticeLoss),
    'one_best_path': (OneBestPathConfig, OneBestPathLoss),
    'encoder': (EncoderConfig, EncoderLoss),
    'representation': (RepresentationConfig, RepresentationLoss),
}

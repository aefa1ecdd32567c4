# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Configuration of the lattice objectives: which cells count, and which frames of teacher and student are compared."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from nemo_oracle_kd.functional import LATTICE_DIVERGENCES, WINDOW_MODES, WINDOW_UNITS
from nemo_oracle_kd.losses.schedule import WeightSchedule
from nemo_oracle_kd.losses.temperature import temperature_problems

__all__ = [
    'CELL_MODES',
    'CellsConfig',
    'CollapsedLatticeConfig',
    'DelayConfig',
    'LatticeConfig',
    'OneBestPathConfig',
    'TopKLatticeConfig',
    'WindowConfig',
]

CELL_MODES = ('all', 'teacher_occupancy', 'student_occupancy', 'path', 'band')
#: modes whose weights belong to the teacher's frames and move with them
TEACHER_CELL_MODES = ('teacher_occupancy', 'path', 'band')
DELAY_MODES = ('given', 'estimate')
NORMALIZATIONS = ('none', 'cells')


def _choice(name: str, value: str, valid, path: str) -> Iterator[str]:
    if value not in valid:
        yield f"`{path}.{name}` is {value!r}: choose one of {', '.join(valid)}"


@dataclass
class CellsConfig:
    """Which cells of the lattice are compared."""

    mode: str = field(
        default='all',
        metadata={
            'help': "all: every cell; teacher_occupancy or student_occupancy: weighted by the probability that an alignment of the "
            "transcript visits the cell; path: cells on the teacher's best alignment; band: the path and cells around it"
        },
    )
    threshold: float = field(
        default=1e-3,
        metadata={'help': '*_occupancy: cells that are visited with less than this probability are left out'},
    )
    before: int = field(default=2, metadata={'help': 'band: frames before the path that count'})
    after: int = field(default=2, metadata={'help': 'band: frames after the path that count'})

    @classmethod
    def from_scalar(cls, mode) -> 'CellsConfig':
        return cls(mode=str(mode))

    def problems(self, path: str) -> Iterator[str]:
        yield from _choice('mode', self.mode, CELL_MODES, path)
        if not 0.0 <= self.threshold < 1.0:
            yield f"`{path}.threshold` must be at least 0 and less than 1, not {self.threshold}"
        if self.before < 0 or self.after < 0:
            yield f"`{path}` must have `before` and `after` of at least 0 frames, not {self.before} and {self.after}"


@dataclass
class DelayConfig:
    """How much later the student emits than the teacher: `given` by `shift`, or estimated in training."""

    mode: str = field(
        default='given',
        metadata={'help': "given: `shift` frames; estimate: from the emission times of both models' best alignments"},
    )
    batches: int = field(default=50, metadata={'help': 'estimate: number of training batches to estimate from'})
    from_step: int = field(
        default=0,
        metadata={
            'help': 'estimate: optimizer step at which to begin, because an untrained student has no emission times yet. '
            'Until the estimate is made, the objective is left out of the loss'
        },
    )
    max_spread: float | None = field(
        default=10.0,
        metadata={
            'help': 'estimate: distance of the quartiles of the delay, in frames, above which it is estimated again; null: never'
        },
    )

    @classmethod
    def from_scalar(cls, mode) -> 'DelayConfig':
        return cls(mode=str(mode))

    def problems(self, path: str) -> Iterator[str]:
        yield from _choice('mode', self.mode, DELAY_MODES, path)
        if self.batches < 1 or self.from_step < 0:
            yield f"`{path}` needs `batches` of at least 1 and `from_step` of at least 0, not {self.batches} and {self.from_step}"
        if self.max_spread is not None and not self.max_spread > 0:
            yield f"`{path}.max_spread` must be a number of frames above 0, or null to take every estimate, not {self.max_spread}"


@dataclass
class WindowConfig:
    """Search for the shift with the smallest divergence, from `shift + first` to `shift + last`; 0 to 0 means no search."""

    first: int = field(default=0, metadata={'help': 'first shift to try, relative to `shift`'})
    last: int = field(default=0, metadata={'help': 'last shift to try, relative to `shift`'})
    mode: str = field(
        default='minimum', metadata={'help': 'minimum: the best shift; soft: a soft minimum over the shifts'}
    )
    per: str = field(default='utterance', metadata={'help': 'what has a shift of its own: utterance or frame'})
    softness: float = field(
        default=0.1, metadata={'help': 'soft: scale of the divergence at which shifts are told apart, nats per cell'}
    )

    @classmethod
    def from_scalar(cls, last) -> 'WindowConfig':
        return cls(last=int(last))

    @property
    def used(self) -> bool:
        """Whether there is more than one shift."""
        return self.first != self.last

    def problems(self, path: str) -> Iterator[str]:
        yield from _choice('mode', self.mode, WINDOW_MODES, path)
        yield from _choice('per', self.per, WINDOW_UNITS, path)
        if self.first > self.last:
            yield f"`{path}.first` must be at most `{path}.last`, not {self.first} and {self.last}"
        if self.first == self.last != 0:
            yield f"`{path}` tries only one shift, {self.first}: set `shift` instead, or let `first` and `last` differ"
        if not (math.isfinite(self.softness) and self.softness > 0):
            yield f"`{path}.softness` must be a finite number greater than 0, not {self.softness}"


@dataclass
class LatticeConfig:
    """`sum_{t,u} D( P~(.|t,u), P(.|t,u) )`: soft distillation over the whole vocabulary (arXiv 2210.05793).

    `losses/lattice.py` computes it; D is in `functional/lattice/distances.py`. The default weight suits a sum over the cells
    of an utterance: 0.01 to 0.03 taught in every experiment (docs/experiments/causal_student.md). With `normalization: cells` a weight of 0.1 to 1 is suitable.
    """

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(0.01), metadata={'help': 'factor in the training loss'}
    )
    divergence: str = field(
        default='kl', metadata={'help': f'{", ".join(LATTICE_DIVERGENCES)}; kl is from teacher to student'}
    )
    temperature: float = field(
        default=1.0,
        metadata={
            'help': 'divides the logits of both models; the value is multiplied by T^2; 1 is best for transducers'
        },
    )
    cells: CellsConfig = field(default_factory=CellsConfig, metadata={'help': 'which cells count'})
    normalization: str = field(
        default='none', metadata={'help': 'none: sum over cells; cells: mean over cells by their weights'}
    )
    shift: int = field(
        default=0, metadata={'help': 'student frame t is compared with the teacher this many frames earlier'}
    )
    delay: DelayConfig = field(default_factory=DelayConfig, metadata={'help': 'given by `shift`, or estimated'})
    window: WindowConfig = field(default_factory=WindowConfig, metadata={'help': 'search for the best shift'})
    dropout: bool = field(
        default=True,
        metadata={'help': "drop hidden units of the student's joint here too, with the probability of the joint"},
    )

    def problems(self, path: str) -> Iterator[str]:
        yield from _choice('divergence', self.divergence, tuple(LATTICE_DIVERGENCES), path)
        yield from _choice('normalization', self.normalization, NORMALIZATIONS, path)
        yield from temperature_problems(self.temperature, path)
        if self.delay.mode == 'estimate' and self.shift:
            yield f"`{path}.shift` is {self.shift} and `{path}.delay` estimates it: remove one of them"
        if self.window.used and self.window.per == 'frame' and self.cells.mode in TEACHER_CELL_MODES:
            yield (
                f"`{path}.cells` is {self.cells.mode}, which belongs to the teacher's frames and moves with the shift: set "
                f"`{path}.window.per` to utterance, or `{path}.cells` to all or student_occupancy"
            )


@dataclass
class TopKLatticeConfig(LatticeConfig):
    """Like `lattice`, over the teacher's k best classes, the next label, the blanks, and all others as one class."""

    top_k: int = field(default=8, metadata={'help': "how many of the teacher's best classes are compared one by one"})

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if self.top_k < 1:
            yield f"`{path}.top_k` must be at least 1, not {self.top_k}: to compare none of them, use lattice_collapsed"


@dataclass
class CollapsedLatticeConfig(LatticeConfig):
    """Like `lattice`, over three classes: next label, blank, and all others (arXiv 2011.06110, with the paper's weight)."""

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(1e-3), metadata={'help': 'factor in the training loss'}
    )


@dataclass
class OneBestPathConfig(LatticeConfig):
    """Like `lattice`, on the cells of the teacher's best alignment of the transcript (arXiv 2110.03334, with weight 0.1)."""

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(0.1), metadata={'help': 'factor in the training loss'}
    )
    cells: CellsConfig = field(
        default_factory=lambda: CellsConfig('path'),
        metadata={'help': 'path, or band for the path and cells around it'},
    )

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if self.cells.mode not in ('path', 'band'):
            yield f"`{path}.cells` is {self.cells.mode}: choose path or band, or use the objective lattice"

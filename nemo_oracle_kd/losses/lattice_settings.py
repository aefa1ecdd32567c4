# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Options of the lattice objectives: which cells count, and which frames of teacher and student belong together."""

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
#: modes whose weights belong to the teacher's frames, and move with them
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
            'help': "all cells; teacher_occupancy or student_occupancy: weighted by how probably an alignment of the transcript "
            "visits them; path: those on the teacher's best alignment; band: and around it"
        },
    )
    threshold: float = field(
        default=1e-3, metadata={'help': '*_occupancy: cells visited with less than this probability are left out'}
    )
    before: int = field(default=2, metadata={'help': 'band: frames before the path'})
    after: int = field(default=2, metadata={'help': 'band: frames after the path'})

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
    """By how much the student emits later than the teacher: `given` by `shift`, or estimated in training."""

    mode: str = field(
        default='given',
        metadata={'help': "given: `shift` frames; estimate: from the emission times of both models' best alignments"},
    )
    batches: int = field(default=50, metadata={'help': 'estimate: from so many training batches'})
    from_step: int = field(
        default=0,
        metadata={
            'help': 'estimate: begin at this optimizer step; a student that begins from nothing has no emission times yet. '
            'Until the estimate is made the objective is left out of the loss'
        },
    )

    @classmethod
    def from_scalar(cls, mode) -> 'DelayConfig':
        return cls(mode=str(mode))

    def problems(self, path: str) -> Iterator[str]:
        yield from _choice('mode', self.mode, DELAY_MODES, path)
        if self.batches < 1 or self.from_step < 0:
            yield f"`{path}` needs `batches` of at least 1 and `from_step` of at least 0, not {self.batches} and {self.from_step}"


@dataclass
class WindowConfig:
    """A search for the shift with the least divergence, from `shift + first` to `shift + last`; 0 to 0 is no search."""

    first: int = field(default=0, metadata={'help': 'first shift that is tried, beyond `shift`'})
    last: int = field(default=0, metadata={'help': 'last shift that is tried, beyond `shift`'})
    mode: str = field(default='minimum', metadata={'help': 'minimum over the shifts, or soft (minimum)'})
    per: str = field(default='utterance', metadata={'help': 'what has a shift of its own: utterance or frame'})
    softness: float = field(default=0.1, metadata={'help': 'soft: nats per cell that make a shift a worse one'})

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
            yield f"`{path}` must have `first` up to `last`, not {self.first} and {self.last}"
        if self.first == self.last != 0:
            yield f"`{path}` tries one shift only: set `shift` instead, or give `first` and `last` apart"
        if not (math.isfinite(self.softness) and self.softness > 0):
            yield f"`{path}.softness` must be a finite number greater than 0, not {self.softness}"


@dataclass
class LatticeConfig:
    """`sum_{t,u} D( P~(.|t,u), P(.|t,u) )`: soft distillation over the whole vocabulary (arXiv 2210.05793).

    `losses/lattice.py` computes it; D is in `functional/lattice/distances.py`.

    The default weight suits a sum over the cells of an utterance; with `normalization: cells` take 0.1 to 1.
    """

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(1e-3), metadata={'help': 'factor in the training loss'}
    )
    divergence: str = field(
        default='kl', metadata={'help': f'{", ".join(LATTICE_DIVERGENCES)}; kl is from teacher to student'}
    )
    temperature: float = field(
        default=1.0, metadata={'help': 'divides the logits of both sides; value times T^2; 1 is best for transducers'}
    )
    cells: CellsConfig = field(default_factory=CellsConfig, metadata={'help': 'which cells count'})
    normalization: str = field(
        default='none', metadata={'help': 'none: sum over cells; cells: divided by the weight of all cells, a mean'}
    )
    shift: int = field(
        default=0, metadata={'help': 'student frame t is compared with what the teacher holds so many frames earlier'}
    )
    delay: DelayConfig = field(default_factory=DelayConfig, metadata={'help': 'given by `shift`, or estimated'})
    window: WindowConfig = field(default_factory=WindowConfig, metadata={'help': 'search for the best shift'})
    dropout: bool = field(
        default=True, metadata={'help': "drop hidden units of the student's joint here too, with its own probability"}
    )

    def problems(self, path: str) -> Iterator[str]:
        yield from _choice('divergence', self.divergence, tuple(LATTICE_DIVERGENCES), path)
        yield from _choice('normalization', self.normalization, NORMALIZATIONS, path)
        yield from temperature_problems(self.temperature, path)
        if self.delay.mode == 'estimate' and self.shift:
            yield f"`{path}.shift` is {self.shift} and `{path}.delay` estimates it: remove one of them"
        if self.window.used and self.window.per == 'frame' and self.cells.mode in TEACHER_CELL_MODES:
            yield (
                f"`{path}.cells` {self.cells.mode} belongs to the teacher's frames, which move with the shift: set "
                f"`{path}.window.per` to utterance, or `{path}.cells` to all or student_occupancy"
            )


@dataclass
class TopKLatticeConfig(LatticeConfig):
    """As `lattice`, over the teacher's k best classes, the next label, the blanks, and all others as one class."""

    top_k: int = field(default=8, metadata={'help': "how many of the teacher's best classes are compared one by one"})

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if self.top_k < 1:
            yield f"`{path}.top_k` must be at least 1, not {self.top_k}; for none of them take lattice_collapsed"


@dataclass
class CollapsedLatticeConfig(LatticeConfig):
    """As `lattice`, over three classes: next label, blank, and all others (arXiv 2011.06110, whose weight is the default)."""


@dataclass
class OneBestPathConfig(LatticeConfig):
    """As `lattice`, on the cells of the teacher's best alignment of the transcript (arXiv 2110.03334, weight 0.1)."""

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(0.1), metadata={'help': 'factor in the training loss'}
    )
    cells: CellsConfig = field(
        default_factory=lambda: CellsConfig('path'), metadata={'help': 'path, or band for a band around it'}
    )

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if self.cells.mode not in ('path', 'band'):
            yield f"`{path}.cells` is {self.cells.mode}: choose path or band here, or take the objective lattice"

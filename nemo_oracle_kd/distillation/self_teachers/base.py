# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What all self-teachers share: when they start, whose description they have, and which objectives they cannot serve."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo.utils import logging

from nemo_oracle_kd.bridge.model import describe
from nemo_oracle_kd.bridge.signals import AudioBatch, StudentStep
from nemo_oracle_kd.distillation.self_teachers.start import Start, ramp
from nemo_oracle_kd.distillation.teacher_settings import TeacherOptions
from nemo_oracle_kd.distillation.teachers import OwnLoss, Teacher
from nemo_oracle_kd.losses.objectives import objectives_of

__all__ = ['SelfTeacherConfig', 'StudentAsTeacher']


@dataclass
class SelfTeacherConfig(TeacherOptions):
    """Options that every self-teacher has; the field `self` chooses the kind."""

    self: str | None = field(default=None, metadata={'help': 'oracle, ema, view or context'})
    start_below: float | None = field(
        default=None,
        metadata={
            'help': "teach once the student's running label loss is below this many nats per label; null: at once"
        },
    )
    ramp: int = field(
        default=0, metadata={'help': 'optimizer steps over which the objectives then reach their full weight'}
    )

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if self.head != 'auto' or self.time_resampling != 'none':
            yield (
                f"`{path}`: head and time_resampling are for a teacher with outputs of its own, but this teacher is the "
                "student itself: remove them"
            )
        if self.start_below is not None and not (math.isfinite(self.start_below) and self.start_below > 0):
            yield f"`{path}.start_below` must be a number of nats above 0, or null to start at once, not {self.start_below}"
        if self.ramp < 0:
            yield f"`{path}.ramp` must be at least 0 steps, not {self.ramp}"

    @property
    def name(self) -> str:
        """Name of the teacher in the log."""
        return f'the student itself ({self.self})'


class StudentAsTeacher(Teacher):
    """Base class of the self-teachers. A kind implements :meth:`hear`, and :meth:`meet` if it has losses of its own.

    Args:
        config: options of the kind.

    Attributes:
        has_lattice: whether it serves objectives on lattices, for which `model` is read.
    """

    config_class = SelfTeacherConfig
    config: Any
    has_lattice: bool = False

    def __init__(self, config: SelfTeacherConfig):
        self.config = config
        self.student: Any = None
        self.model: Any = None
        self.start = Start(config.start_below)
        self.step = 0

    def bind(self, student: Any) -> None:
        """Keeps the student, and takes its description for that of the teacher."""
        self.student = student
        self.model = student if self.has_lattice and hasattr(student, 'joint') else None
        self.description = describe(student)

    def problems(self, objectives: Iterable[str]) -> Iterator[str]:
        """Refuses objectives over whole texts."""
        if names := ', '.join(objectives_of('sequence', objectives)):
            yield (
                f"{names} compares scores of texts, which a self-teacher does not give: use an objective on frames, such as "
                "frame_kl, or on lattices, such as one_best_path, or a teacher with weights of its own (teacher.restore_from)"
            )

    def expect(self, signals: set[str]) -> None:
        """Chooses the student's head with which it goes: the transducer if an objective reads lattices."""
        super().expect(signals)
        self.follows = 'transducer' if 'encoded' in self.signals else 'ctc'

    def release(self, student: Any) -> None:
        """Drops the references to the student."""
        self.student = self.model = None

    def begin(self, step: int) -> None:
        """Remembers the step."""
        self.step = step

    @property
    def readiness(self) -> float:
        """0 until the student has learned enough, then rising to 1."""
        return ramp(self.start.since, self.step, self.config.ramp)

    def own_losses(
        self, step: StudentStep, batch: AudioBatch, metrics: dict[str, Any] | None = None
    ) -> dict[str, OwnLoss]:
        """Updates the start condition with the student's loss, then calls :meth:`meet`."""
        if self.start.follow(step.label_losses, step.transcripts.lengths, self.step) and self.start.below is not None:
            logging.info(
                f"Step {self.step}: the student's label loss has fallen to {self.start.loss.value:.3g} nats per label, below "
                f"teacher.start_below = {self.start.below:g}. Distillation from {self.config.name} starts."
            )
        if metrics is not None:
            metrics['readiness'] = self.readiness
        return self.meet(step, batch, metrics)

    def meet(self, step: StudentStep, batch: AudioBatch, metrics: dict[str, Any] | None) -> dict[str, OwnLoss]:
        """Computes the losses of its own; the arguments are those of :meth:`own_losses`."""
        return {}

    def state(self) -> dict[str, Any]:
        """The running loss, and the step at which it started."""
        return {'start': self.start.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
        self.start.load_state(state['start'])

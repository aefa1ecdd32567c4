# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The state of a training step that the families of objectives share, besides the student's outputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio
from nemo_oracle_kd.distillation.teachers import Teacher

__all__ = ['StepContext']


@dataclass
class StepContext:
    """One training step.

    Attributes:
        step: number of optimizer steps done so far.
        with_statistics: whether this step is written to the log.
        teacher: the teacher beside the student; `None` with stored scores.
        batch: the audio as that teacher hears it.
        rows: manifest rows of the batch, in its order; `None` when nothing needs them.
        supervised: `[B]` bool, rows marked `"supervised": true`; `None` when none is.
        answers: the teacher's answers of this step, shared by all objectives and both heads of a hybrid student.
        metrics: values for the log, by name.
        suffix: end of the names in the log, which tells the heads of a hybrid student apart.
    """

    step: int
    with_statistics: bool = False
    teacher: Teacher | None = None
    batch: AudioBatch | None = None
    rows: list[Mapping[str, Any]] | None = None
    supervised: torch.Tensor | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, torch.Tensor | float] = field(default_factory=dict)
    suffix: str = ''

    def hear(self) -> EncodedAudio:
        """Returns the teacher's outputs for the batch, computed once per step for all objectives and heads.

        The teacher runs when the first head's loss is computed, not when the step begins, to share the student's autocast.
        """
        if 'heard' not in self.answers:
            self.answers['heard'] = self.teacher.hear(self.batch)
        return self.answers['heard']

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The mean of the student's weights over time teaches the student (mean teacher, arXiv 1703.01780).

    w_0 = student,   w_{n+1} = d_n w_n + (1 - d_n) student,   d_n = min(decay, (1 + n) / (10 + n))

once per optimizer step. Buffers with floating-point values are averaged too; other buffers are copied.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from nemo_oracle_kd.bridge.audio_path import AudioPath
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio
from nemo_oracle_kd.distillation.self_teachers.base import SelfTeacherConfig, StudentAsTeacher

__all__ = ['EMAConfig', 'EMATeacher']


@dataclass
class EMAConfig(SelfTeacherConfig):
    """Options of the averaged student."""

    start_below: float | None = field(
        default=1.0,
        metadata={
            'help': "teach once the student's running label loss is below this many nats per label; null: at once"
        },
    )
    ramp: int = field(
        default=100, metadata={'help': 'optimizer steps over which the objectives then reach their full weight'}
    )
    decay: float = field(default=0.999, metadata={'help': 'share of the old mean that is kept at each optimizer step'})

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if not 0.0 <= self.decay < 1.0:
            yield f"`{path}.decay` must be at least 0 and below 1, such as 0.999, not {self.decay}"


class EMATeacher(StudentAsTeacher):
    """A frozen copy of preprocessor, encoder and heads, which hears audio without augmentation, in eval mode."""

    config_class = EMAConfig
    has_lattice = True

    def __init__(self, config: EMAConfig):
        super().__init__(config)
        self.updates = 0
        self._updated_at: int | None = None

    def attach(self, student: Any) -> None:
        """Copies the modules."""
        self._path = AudioPath(student, self.signals)
        self.copy = self.model = self._path.frozen_copy()

    def release(self, student: Any) -> None:
        """Drops the references to the modules and to the copy."""
        super().release(student)
        self._path = self.copy = None

    def to(self, device: torch.device) -> 'EMATeacher':
        """Moves the copy."""
        self.copy.to(device)
        return self

    def begin(self, step: int) -> None:
        """Averages if an optimizer step was made since the last call. The first mean is the student itself."""
        super().begin(step)
        if step == self._updated_at:
            return
        if self._updated_at is None:  # weights may have been loaded since the copy was made
            self._average(0.0)
        else:
            self._average(min(self.config.decay, (1 + self.updates) / (10 + self.updates)))
            self.updates += 1
        self._updated_at = step

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        values = self._path.state_dict()
        for name, mean in self.copy.state_dict().items():
            value = values[name]
            if mean.is_floating_point() and decay > 0:
                mean.lerp_(value.to(mean.device), 1 - decay)
            else:
                mean.copy_(value)

    @torch.no_grad()
    def hear(self, batch: AudioBatch) -> EncodedAudio:
        """Runs the averaged student."""
        return self.copy(batch, augment=False)

    def state(self) -> dict[str, Any]:
        """Also the averaged weights."""
        weights = {name: value.detach().cpu().clone() for name, value in self.copy.state_dict().items()}
        return {**super().state(), 'mean': weights, 'updates': self.updates, 'updated_at': self._updated_at}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
        super().load_state(state)
        self.copy.load_state_dict(state['mean'])
        self.updates, self._updated_at = state['updates'], state['updated_at']

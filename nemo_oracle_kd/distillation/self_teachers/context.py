# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A streaming student at full attention context teaches itself at its streaming context.

The weights are the same. The teacher runs in eval mode on audio without augmentation and gets no gradient.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from nemo_oracle_kd.bridge.audio_path import AudioPath, attention_contexts, evaluating, full_attention
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio
from nemo_oracle_kd.distillation.self_teachers.base import SelfTeacherConfig, StudentAsTeacher

__all__ = ['ContextConfig', 'ContextTeacher']


@dataclass
class ContextConfig(SelfTeacherConfig):
    """Has only the options of all self-teachers."""


class ContextTeacher(StudentAsTeacher):
    """Runs the student's encoder a second time with unlimited attention. Convolutions stay as they are."""

    config_class = ContextConfig
    has_lattice = True

    def problems(self, objectives: Iterable[str]) -> Iterator[str]:
        """Also refuses a student whose attention is not limited."""
        yield from super().problems(objectives)
        contexts = attention_contexts(self.student)
        if all(set(context) == {-1} for context in contexts):
            yield (
                f"teacher.self: context needs an encoder whose attention a mask limits, and this one "
                f"({type(self.student.encoder).__name__}) has no limited att_context_size: use a cache-aware Conformer, or "
                "another kind of teacher.self"
            )

    def attach(self, student: Any) -> None:
        """Collects the student's modules from waveform to posteriors."""
        self._path = self.model = AudioPath(student, self.signals)

    def release(self, student: Any) -> None:
        """Drops the references to the modules."""
        super().release(student)
        self._path = None

    @torch.no_grad()
    def hear(self, batch: AudioBatch) -> EncodedAudio:
        """Runs the student at full context."""
        with evaluating(self._path), full_attention(self._path.encoder):
            return self._path(batch, augment=False)

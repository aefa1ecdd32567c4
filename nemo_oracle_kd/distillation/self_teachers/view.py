# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The student in a second view of the same audio: consistency regularisation of CTC (CR-CTC, arXiv 2410.05101).

    L = (CTC(a) + CTC(b)) / 2 + alpha * (D(sg(b), a) + D(sg(a), b)) / 2

with a and b the posteriors under two draws of SpecAugment, `sg` the stop-gradient operator and D the objective. CR-CTC uses
the frame-wise divergence at temperature 1 and alpha = 0.2.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.bridge.audio_path import AudioPath
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, StudentStep
from nemo_oracle_kd.distillation.self_teachers.base import SelfTeacherConfig, StudentAsTeacher
from nemo_oracle_kd.distillation.teachers import OwnLoss

__all__ = ['LABEL_SHARE', 'ViewConfig', 'ViewTeacher', 'consistent_views', 'single_view_problems']

#: factor of the label loss of each view
LABEL_SHARE = 0.5


@dataclass
class ViewConfig(SelfTeacherConfig):
    """Has only the options of all self-teachers."""


class ViewTeacher(StudentAsTeacher):
    """Runs the student a second time, in training mode and with gradient.

    Each direction of the objective has weight one half. Until `start_below` is reached there is no second view.
    """

    config_class = ViewConfig
    directions = (0.5, 0.5)
    label_share = LABEL_SHARE

    def problems(self, objectives: Iterable[str]) -> Iterator[str]:
        """Also refuses a student whose two views would be the same."""
        yield from super().problems(objectives)
        yield from single_view_problems(self.student, 'teacher.self: view')

    def attach(self, student: Any) -> None:
        """Collects the student's modules from waveform to posteriors."""
        self._path = AudioPath(student)
        self._heard: EncodedAudio | None = None

    def release(self, student: Any) -> None:
        """Drops the references to the modules."""
        super().release(student)
        self._path = self._heard = None

    def meet(self, step: StudentStep, batch: AudioBatch, metrics: dict[str, Any] | None) -> dict[str, OwnLoss]:
        """Returns the CTC loss of the second view."""
        if self.start.since is None:
            return {}
        self._heard = self._path(batch, augment=True)
        return {'view_loss': _label_loss(step, self._heard)}

    def hear(self, batch: AudioBatch) -> EncodedAudio:
        """Returns the second view of this step, with gradient."""
        heard, self._heard = self._heard, None
        return heard


def single_view_problems(student: Any, option: str) -> Iterator[str]:
    """Yields what keeps a student from having two views; `option` asked for them."""
    if getattr(student, 'spec_augmentation', None) is None:
        yield (
            f"{option} compares two draws of SpecAugment, and this student has none: add a spec_augment section to the model's "
            "config"
        )


def consistent_views(path: AudioPath, step: StudentStep, batch: AudioBatch, weight: float) -> dict[str, OwnLoss]:
    """The terms that CR-CTC adds to a step beside another teacher; the student's own label loss gets :data:`LABEL_SHARE`.

    Args:
        path: from the student's audio to its posteriors.
        step: of the first view.
        batch: the audio.
        weight: alpha, of the two divergences' mean.
    """
    other = path(batch, augment=True)
    one, two, lengths = step.log_probs.float(), other.posteriors, step.lengths
    both = F.frame_kl(one, two.detach(), lengths) + F.frame_kl(two, one.detach(), lengths)
    return {'view_loss': _label_loss(step, other), 'view_kl': OwnLoss(both / 2, weight)}


def _label_loss(step: StudentStep, view: EncodedAudio) -> OwnLoss:
    losses = step.score_frames(view.posteriors, view.lengths, step.transcripts)
    return OwnLoss(losses, LABEL_SHARE, scales_with_labels=True)

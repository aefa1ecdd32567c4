# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Objectives over frame posteriors: both CTC heads over the same frames."""

from collections.abc import Mapping

import torch
from torch import nn

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.bridge.signals import EncodedAudio, StudentStep, Transcripts
from nemo_oracle_kd.distillation.families.context import StepContext
from nemo_oracle_kd.losses.transducer_side import LENGTH_TOLERANCE

__all__ = ['FrameFamily']


class FrameFamily:
    """Compares the teacher's posteriors with those of the student's CTC head.

    Args:
        losses: name -> loss.
        time_resampling: the teacher's `time_resampling` setting.
    """

    #: heads of the student whose steps these objectives enter
    heads = ('ctc',)
    #: what it reads of the teacher
    signals = frozenset({'log_probs'})

    def __init__(self, losses: Mapping[str, nn.Module], time_resampling: str):
        self.losses_by_name = dict(losses)
        self.time_resampling = time_resampling

    def losses(self, step: StudentStep, context: StepContext, suffix: str = '') -> dict[str, torch.Tensor]:
        """Every objective, unweighted, `[B]`."""
        student, teacher = self._aligned(EncodedAudio(step.lengths, step.log_probs), context.hear())
        if context.with_statistics:
            context.metrics.update(_statistics(student, teacher))
        return self._compare(student, teacher, step.transcripts)

    def losses_back(self, step: StudentStep, context: StepContext) -> dict[str, torch.Tensor]:
        """The same with the roles swapped, `[B]`: the teacher learns from the student."""
        student, teacher = self._aligned(EncodedAudio(step.lengths, step.log_probs), context.hear())
        return self._compare(teacher, student, step.transcripts)

    def _compare(
        self, learner: EncodedAudio, guide: EncodedAudio, transcripts: Transcripts
    ) -> dict[str, torch.Tensor]:
        return {
            name: loss(
                student_log_probs=learner.posteriors.float(),
                teacher_log_probs=guide.posteriors,
                input_lengths=learner.lengths,
                targets=transcripts.labels,
                target_lengths=transcripts.lengths,
            )
            for name, loss in self.losses_by_name.items()
        }

    def _aligned(self, student: EncodedAudio, teacher: EncodedAudio) -> tuple[EncodedAudio, EncodedAudio]:
        """Both posteriors over the same frames: the teacher resampled, or both cut to the shorter."""
        if self.time_resampling != 'none':
            log_probs = F.resample_frames(
                teacher.posteriors,
                teacher.lengths,
                student.lengths,
                mode=self.time_resampling,
                max_target_length=student.log_probs.shape[1],
            )
            teacher = EncodedAudio(student.lengths, log_probs)
        difference = int((student.lengths - teacher.lengths).abs().max())
        if difference > LENGTH_TOLERANCE:
            raise ValueError(
                f"student and teacher give {student.lengths.tolist()} and {teacher.lengths.tolist()} frames for the same "
                "audio: set teacher.time_resampling to nearest or linear"
            )
        lengths = torch.minimum(student.lengths, teacher.lengths)
        frames = min(student.posteriors.shape[1], teacher.posteriors.shape[1])
        return (
            EncodedAudio(lengths, student.log_probs[:, :frames]),
            EncodedAudio(lengths, teacher.log_probs[:, :frames]),
        )


@torch.no_grad()
def _statistics(student: EncodedAudio, teacher: EncodedAudio) -> dict[str, torch.Tensor]:
    return {
        'student_entropy': F.frame_entropy(student.log_probs, student.lengths).mean(),
        'teacher_entropy': F.frame_entropy(teacher.log_probs, teacher.lengths).mean(),
        'agreement': F.frame_agreement(student.log_probs, teacher.log_probs, student.lengths).mean(),
    }

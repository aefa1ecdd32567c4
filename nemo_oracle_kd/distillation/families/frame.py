# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs the objectives that compare the frame posteriors of two CTC heads."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import nn

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.bridge.emissions import ctc_emission_frames
from nemo_oracle_kd.bridge.label_classes import LabelClasses
from nemo_oracle_kd.bridge.signals import EncodedAudio, StudentStep, Transcripts
from nemo_oracle_kd.distillation.families.context import StepContext
from nemo_oracle_kd.distillation.teacher_settings import ModelTeacherOptions, TeacherOptions
from nemo_oracle_kd.losses.delay import DelayEstimator
from nemo_oracle_kd.losses.transducer_side import LENGTH_TOLERANCE

__all__ = ['FrameFamily']


class FrameFamily:
    """Compares the teacher's posteriors with those of the student's CTC head.

    Args:
        losses: name -> loss.
        teacher: the options of the teacher.
        classes: of the labels of student and teacher, in which they are compared; `None` for the same labels.
    """

    #: heads of the student to whose losses these objectives are added
    heads = ('ctc',)
    #: fields of the teacher's `EncodedAudio` that are read
    signals = frozenset({'log_probs'})

    def __init__(self, losses: Mapping[str, nn.Module], teacher: TeacherOptions, classes: LabelClasses | None = None):
        self.losses_by_name = dict(losses)
        self.classes = classes
        self.time_resampling = teacher.time_resampling
        self.shift, self.delay, self._first_step = 0, None, 0
        if isinstance(teacher, ModelTeacherOptions):
            self.shift, self._first_step = teacher.shift, teacher.delay.from_step
            if teacher.delay.mode == 'estimate':
                self.delay = DelayEstimator(teacher.delay.batches, 'teacher', teacher.delay.max_spread)

    def losses(self, step: StudentStep, context: StepContext) -> dict[str, torch.Tensor]:
        """Computes every objective, unweighted, `[B]`."""
        student, teacher = self._aligned(EncodedAudio(step.lengths, step.log_probs), context.hear())
        shift = self._find_shift(student, teacher, step.transcripts, context)
        if shift is None:
            # a graph of zeros, for a step in which nothing else is trained
            nothing = student.posteriors.float().masked_fill(
                torch.ones_like(student.posteriors, dtype=torch.bool), 0.0
            )
            return dict.fromkeys(self.losses_by_name, nothing.sum((1, 2)))
        lengths = teacher.lengths
        teacher = teacher.over_frames(lambda frames: F.shift_frames(frames, lengths, shift))
        if context.with_statistics:
            context.metrics.update(_statistics(student, teacher))
        return self._compare(student, teacher, step.transcripts)

    def losses_back(self, step: StudentStep, context: StepContext) -> dict[str, torch.Tensor]:
        """Computes them with the roles swapped, `[B]`: the teacher learns from the student."""
        student, teacher = self._aligned(EncodedAudio(step.lengths, step.log_probs), context.hear())
        return self._compare(teacher, student, step.transcripts)

    def state(self) -> dict[str, int]:
        """State for a checkpoint: the estimated delay, in frames."""
        return {} if self.delay is None or self.delay.shift is None else {self.delay.name: self.delay.shift}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Restores the delay of a resumed training that is still configured to estimate one."""
        if self.delay is not None and self.delay.name in state:
            self.delay.shift = int(state[self.delay.name])

    def _find_shift(
        self, student: EncodedAudio, teacher: EncodedAudio, transcripts: Transcripts, context: StepContext
    ) -> int | None:
        """By how many frames the teacher is moved; `None` until that has been estimated."""
        if self.delay is None:
            return self.shift
        if self.delay.shift is None and context.step >= self._first_step:
            blank = next(iter(self.losses_by_name.values())).blank
            labels, lengths = transcripts.labels, transcripts.lengths
            self.delay.add(*(ctc_emission_frames(side, labels, lengths, blank) for side in (student, teacher)))
        if self.delay.shift is not None:
            context.metrics['teacher_shift'] = float(self.delay.shift)
        return self.delay.shift

    def _compare(
        self, learner: EncodedAudio, guide: EncodedAudio, transcripts: Transcripts
    ) -> dict[str, torch.Tensor]:
        return {
            name: loss(
                student_log_probs=learner.posteriors.float(),
                teacher_log_probs=guide.posteriors_beside(
                    learner.posteriors, getattr(loss.config, 'temperature', None)
                ),
                input_lengths=learner.lengths,
                targets=transcripts.labels,
                target_lengths=transcripts.lengths,
            )
            for name, loss in self.losses_by_name.items()
        }

    def _aligned(self, student: EncodedAudio, teacher: EncodedAudio) -> tuple[EncodedAudio, EncodedAudio]:
        """Both posteriors over the same frames: the teacher resampled, or both cut to the shorter."""
        if self.time_resampling != 'none':
            resampled = partial(
                F.resample_frames,
                lengths=teacher.lengths,
                target_lengths=student.lengths,
                mode=self.time_resampling,
                max_target_length=student.log_probs.shape[1],
            )
            teacher = teacher.over_frames(resampled, student.lengths)
        difference = int((student.lengths - teacher.lengths).abs().max())
        if difference > LENGTH_TOLERANCE:
            raise ValueError(
                f"student and teacher give {student.lengths.tolist()} and {teacher.lengths.tolist()} frames for the same "
                "audio: set teacher.time_resampling to nearest or linear"
            )
        lengths = torch.minimum(student.lengths, teacher.lengths)
        frames = min(student.frames, teacher.frames)
        sides = tuple(side.over_frames(lambda each: each[:, :frames], lengths) for side in (student, teacher))
        if self.classes is not None:
            count, of_labels = len(self.classes.names), (self.classes.student, self.classes.teacher)
            merged = (F.merge_labels(side.posteriors, lengths, own, count) for side, own in zip(sides, of_labels))
            sides = tuple(EncodedAudio(lengths, log_probs) for log_probs in merged)
        return sides


@torch.no_grad()
def _statistics(student: EncodedAudio, teacher: EncodedAudio) -> dict[str, torch.Tensor]:
    ours, theirs = student.posteriors, teacher.posteriors
    return {
        'student_entropy': F.frame_entropy(ours, student.lengths).mean(),
        'teacher_entropy': F.frame_entropy(theirs, teacher.lengths).mean(),
        'agreement': F.frame_agreement(ours, theirs, student.lengths).mean(),
    }

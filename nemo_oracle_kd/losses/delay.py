# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Estimates during training how much later the student emits than the teacher."""

import torch
from nemo.utils import logging
from torch import Tensor

from nemo_oracle_kd.functional import estimate_delay

__all__ = ['DelayEstimator']


class DelayEstimator:
    """Collects the emission times of both models over training batches and computes their median difference.

    A student that has learned nothing has emission times all over the utterance, and their median would ruin it. Such an estimate
    is known by its spread; it is thrown away, and the next batches make another.

    Args:
        batches: number of batches to collect.
        name: what the delay belongs to, for the log.
        max_spread: distance of the quartiles, in frames of the student, above which an estimate is thrown away; `None`: it is not.
    """

    def __init__(self, batches: int, name: str, max_spread: float | None = None):
        self.batches = batches
        self.name = name
        self.max_spread = max_spread
        #: the estimate in frames of the student; `None` until it is made
        self.shift: int | None = None
        self._student: list[Tensor] = []
        self._teacher: list[Tensor] = []

    def add(self, student_frames: Tensor, teacher_frames: Tensor) -> None:
        """Adds a batch. With the last batch the estimate is made and logged, or begins again.

        Args:
            student_frames: `[B, U]` frame of each label of the transcript on the student's best alignment; -1: none.
            teacher_frames: `[B, U]` the same of the teacher, in frames of the student.
        """
        self._student.append(student_frames.reshape(1, -1).cpu())
        self._teacher.append(teacher_frames.reshape(1, -1).cpu())
        if len(self._student) < self.batches:
            return
        student_frames, teacher_frames = _of_all_ranks(self._student), _of_all_ranks(self._teacher)
        if not bool(((student_frames >= 0) & (teacher_frames >= 0)).any()):
            return  # no batch had speech, so the next one tries again
        delay = estimate_delay(student_frames, teacher_frames)
        batches, self._student, self._teacher = len(self._student), [], []
        if self.max_spread is not None and delay.quartiles[1] - delay.quartiles[0] > self.max_spread:
            logging.warning(
                f"{self.name}: over {batches} batches {delay}. The quartiles are more than delay.max_spread = {self.max_spread:g} frames "
                "apart, so the student does not emit at certain times yet: the estimate is made again. To save these batches, "
                "set delay.from_step, or start the student from a checkpoint."
            )
            return
        self.shift = delay.shift
        logging.info(
            f"{self.name}: over {batches} batches {delay}. To skip the estimate next time, set shift: {delay.shift} and "
            "delay: given."
        )


def _of_all_ranks(frames: list[Tensor]) -> Tensor:
    """`[1, labels]` of all processes, so that each process of a distributed training makes the same estimate."""
    mine = torch.cat(frames, 1)
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return mine
    all_of_them: list[Tensor | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(all_of_them, mine)
    return torch.cat(all_of_them, 1)

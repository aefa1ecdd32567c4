# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""How much later one model emits than another, estimated from emission times of the same labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ['EmissionDelay', 'estimate_delay']


@dataclass(frozen=True)
class EmissionDelay:
    """Delay of the student behind the teacher in student frames; positive if the student is later.

    Attributes:
        shift: the median, rounded to frames: what to shift the teacher by.
        median: over the labels that count.
        mean: over them.
        quartiles: first and third, a measure of how well one shift can serve.
        labels: how many labels counted.
        per_utterance: `[B]` rounded median of each utterance; `shift` where an utterance has no label.
    """

    shift: int
    median: float
    mean: float
    quartiles: tuple[float, float]
    labels: int
    per_utterance: Tensor

    def __str__(self) -> str:
        low, high = self.quartiles
        return (
            f"the student emits {self.median:+.1f} frames after the teacher (mean {self.mean:+.1f}, quartiles "
            f"{low:+.1f} to {high:+.1f}, {self.labels} labels); shift {self.shift}"
        )


@torch.no_grad()
def estimate_delay(student_frames: Tensor, teacher_frames: Tensor, frame_ratio: float | Tensor = 1.0) -> EmissionDelay:
    """Compares when two models emit the same labels, for instance on their best paths.

    The median, since a few labels aligned far off must not move the shift. A label that one of the two emits in its very first
    frame does not count, as long as there are others: that model could not have been earlier, so the distance is only a bound.
    (A teacher that emits early has the whole first word there, and the student's best alignment as well, which makes zeros of
    nearly half of the labels of short utterances.)

    Args:
        student_frames: `[B, U]` frame in which the student emits each label, -1 where it does not.
        teacher_frames: `[B, U]` the same of the teacher, in its own frames.
        frame_ratio: student frames per teacher frame, one number or `[B]` (T_student / T_teacher).

    Returns:
        the delay.

    Raises:
        ValueError: if shapes differ or no label was emitted by both.
    """
    if student_frames.dim() != 2 or student_frames.shape != teacher_frames.shape:
        raise ValueError(
            f"Emission frames must have one shape [B, U], got {list(student_frames.shape)} and "
            f"{list(teacher_frames.shape)}; both models must be aligned to the same targets."
        )
    both = (student_frames >= 0) & (teacher_frames >= 0)
    if not bool(both.any()):
        raise ValueError("No label was emitted by both models, so there is no delay to estimate; align them first.")
    later = both & (student_frames > 0) & (teacher_frames > 0)
    both = later if bool(later.any()) else both
    ratio = torch.as_tensor(frame_ratio, dtype=torch.float64, device=student_frames.device).reshape(-1, 1)
    # Centres of frames, so that a ratio of 2 does not look like half a frame of delay.
    delay = (student_frames.double() + 0.5) - (teacher_frames.double() + 0.5) * ratio
    every = delay[both]
    low, median, high = torch.quantile(every, every.new_tensor([0.25, 0.5, 0.75])).tolist()
    shift = round(median)
    each = [round(float(d[m].quantile(0.5))) if bool(m.any()) else shift for d, m in zip(delay, both)]
    return EmissionDelay(
        shift=shift,
        median=median,
        mean=float(every.mean()),
        quartiles=(low, high),
        labels=int(both.sum()),
        per_utterance=torch.tensor(each, device=student_frames.device),
    )

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which frame of the teacher belongs to which frame of the student.

A streaming student emits later than a teacher that hears the whole utterance: the teacher's cell (t, u) belongs to the
student's (t + N, u) (arXiv 2303.05958; without the shift soft distillation hurts, arXiv 2110.03334). Frame rates may
differ as well. Both are expressed by one map, so that the divergence knows neither.
"""

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import length_mask

__all__ = ['teacher_frame_map', 'to_student_frames']


def teacher_frame_map(logit_lengths: Tensor, teacher_lengths: Tensor, frames: int, shift: int | Tensor = 0) -> Tensor:
    """Frame of the teacher for each frame of the student.

    Student frame t is compared with what the teacher holds `shift` student frames earlier. If an utterance has more or
    fewer frames in the teacher, it is resampled to the nearest frame: the centre of student frame t - shift,
    `(t - shift + 0.5) * T_teacher / T_student`, is looked up. (The student's first `shift` frames and the teacher's last
    ones then have no partner and are left out.)

    Args:
        logit_lengths: `[B]` valid frames of the student.
        teacher_lengths: `[B]` valid frames of the teacher.
        frames: padded T of the student.
        shift: by how many student frames the student is later; negative if it is earlier. One for all, or `[B]`.

    Returns:
        `[B, T]` integers, -1 where there is no partner and in the padding.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if logit_lengths.dim() != 1 or logit_lengths.shape != teacher_lengths.shape:
        raise ValueError(
            f"Both lengths must have shape [B], got {list(logit_lengths.shape)} and {list(teacher_lengths.shape)}."
        )
    device = logit_lengths.device
    if isinstance(shift, Tensor):
        if shift.shape not in (logit_lengths.shape, torch.Size([])):
            raise ValueError(f"shift must be one number or {list(logit_lengths.shape)}, got {list(shift.shape)}.")
        shift = shift.to(device).expand_as(logit_lengths).unsqueeze(1)
    own = logit_lengths.long().unsqueeze(1)
    theirs = teacher_lengths.to(device).long().unsqueeze(1)
    earlier = torch.arange(frames, device=device).unsqueeze(0) - shift
    # Integers throughout: equal lengths give the very same frame.
    partner = torch.div((2 * earlier + 1) * theirs, 2 * own.clamp(min=1), rounding_mode='floor')
    exists = length_mask(logit_lengths, frames) & (earlier >= 0) & (earlier < own) & (theirs > 0)
    return torch.where(exists, partner, torch.full_like(partner, -1))


def to_student_frames(values: Tensor, teacher_frames: Tensor) -> Tensor:
    """Brings cell values on the teacher's frames, such as its occupancy or path, to the student's.

    Args:
        values: `[B, T_teacher, U+1]`.
        teacher_frames: `[B, T]` from `teacher_frame_map`.

    Returns:
        `[B, T, U+1]`, zero (or false) where the student's frame has no partner.

    Raises:
        ValueError: if the batch sizes differ.
    """
    if values.dim() != 3 or values.shape[0] != teacher_frames.shape[0]:
        raise ValueError(
            f"Values must have shape [{teacher_frames.shape[0]}, T_teacher, U+1], got {list(values.shape)}."
        )
    teacher_frames = teacher_frames.to(values.device)
    index = teacher_frames.clamp(min=0).unsqueeze(2).expand(-1, -1, values.shape[2])
    moved = values.gather(1, index)
    return torch.where((teacher_frames >= 0).unsqueeze(2), moved, torch.zeros_like(moved))

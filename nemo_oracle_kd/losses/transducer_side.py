# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The outputs of one transducer for a batch, and the common frames on which two transducers are compared."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nemo_oracle_kd.functional import JointTensors, StoredLattice, teacher_frame_map

__all__ = ['LENGTH_TOLERANCE', 'TransducerSide', 'common_frames']

#: number of frames that may be cut off, because encoders of the same frame rate round lengths differently (padding)
LENGTH_TOLERANCE = 2


@dataclass(frozen=True)
class TransducerSide:
    """The outputs of a transducer for a batch.

    Attributes:
        joint: the joint's tensors, `encoder [B, T, H]` and `prediction [B, U+1, H]`, or the teacher's lattice as it was
            stored; `None` if no objective reads them.
        encoded: `[B, T, D]` output of the encoder; `None` where only a lattice was stored.
        lengths: `[B]` valid frames.
    """

    joint: JointTensors | StoredLattice | None
    encoded: Tensor | None
    lengths: Tensor


def common_frames(
    student: TransducerSide, teacher: TransducerSide, resampling: str
) -> tuple[TransducerSide, TransducerSide]:
    """Moves the teacher to the student's frames.

    The teacher's frames are resampled before anything is computed from them, so that its best path and its occupancy are
    those of the lattice that is compared.

    Args:
        student: the student's side.
        teacher: the teacher's side, without gradient.
        resampling: 'nearest', or 'none' if lengths differ only by rounding, so that the last frames are cut off.

    Raises:
        ValueError: if the lengths differ by more than `LENGTH_TOLERANCE` and there is no resampling.
    """
    theirs = teacher.lengths.to(student.lengths.device)
    if resampling == 'none':
        if int((student.lengths - theirs).abs().max()) > LENGTH_TOLERANCE:
            raise ValueError(
                f"student and teacher give {student.lengths.tolist()} and {theirs.tolist()} frames for the same audio: set "
                "teacher.time_resampling to nearest"
            )
        lengths = theirs = torch.minimum(student.lengths, theirs)
    else:
        lengths = student.lengths
    frames = student.encoded.shape[1]
    index = teacher_frame_map(lengths, theirs, frames).clamp(min=0)
    joint = None if teacher.joint is None else teacher.joint.pick_frames(index)
    encoded = teacher.encoded
    if encoded is not None:
        encoded = encoded.gather(1, index.unsqueeze(2).expand(-1, -1, encoded.shape[2]))
    return replace(student, lengths=lengths), TransducerSide(joint, encoded, lengths)

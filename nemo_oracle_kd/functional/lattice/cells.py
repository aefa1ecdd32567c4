# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which cells of a lattice are compared: how much each cell counts, and with which frame of the teacher it is compared.

**Weights**, `[B, T, U+1]`. All valid cells count alike, or they are weighted by an occupancy (cells that no alignment
visits do not count), or only the cells count that lie on the best path (arXiv 2110.03334) or in a band around it.
Occupancies and paths are computed elsewhere; here they become weights.

**Frames**. A streaming student emits later than a teacher that hears the whole utterance, so the teacher's cell (t, u)
corresponds to the student's (t + N, u) (arXiv 2303.05958; without the shift soft distillation hurts, arXiv 2110.03334).
Frame rates may differ as well. One map expresses both, so the divergence needs to know neither.
"""

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import length_mask

__all__ = [
    'band_cells',
    'next_labels',
    'occupancy_weights',
    'path_cells',
    'teacher_frame_map',
    'to_student_frames',
    'valid_cells',
]


def valid_cells(logit_lengths: Tensor, target_lengths: Tensor, frames: int, positions: int) -> Tensor:
    """Marks the valid cells of every utterance: t < T_b and u <= U_b.

    Args:
        logit_lengths: `[B]` valid frames.
        target_lengths: `[B]` valid labels.
        frames: padded T.
        positions: padded U + 1.

    Returns:
        bool `[B, T, U+1]`.
    """
    in_time = length_mask(logit_lengths, frames)
    in_labels = length_mask(target_lengths + 1, positions)
    return in_time.unsqueeze(2) & in_labels.unsqueeze(1)


def next_labels(targets: Tensor, target_lengths: Tensor, filler: int) -> Tensor:
    """The label that follows each position.

    Args:
        targets: `[B, U]` labels, padded with anything.
        target_lengths: `[B]` valid labels.
        filler: stands where there is no next label, as a rule the blank.

    Returns:
        `[B, U+1]` ids.
    """
    labels = targets.new_full((targets.shape[0], targets.shape[1] + 1), filler, dtype=torch.long)
    labels[:, :-1] = torch.where(length_mask(target_lengths.to(targets.device), targets.shape[1]), targets, filler)
    return labels


def occupancy_weights(occupancy: Tensor, threshold: float = 0.0) -> Tensor:
    """Weights from a node occupancy. Cells below the threshold get weight zero and are not computed at all.

    Args:
        occupancy: `[B, T, U+1]` posterior of visiting each node, of teacher or student.
        threshold: smallest occupancy that counts. Most cells of a trained model lie far below 1e-3.

    Returns:
        `[B, T, U+1]`, detached.

    Raises:
        ValueError: if the threshold does not lie in [0, 1].
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"The occupancy threshold must lie in [0, 1], got {threshold}.")
    occupancy = occupancy.detach()
    return torch.where(occupancy >= threshold, occupancy, torch.zeros_like(occupancy))


def path_cells(step_frames: Tensor, step_labels: Tensor, frames: int, positions: int) -> Tensor:
    """Marks the nodes that an alignment visits.

    Args:
        step_frames: `[B, L]` frame of every step of the alignment, in order, -1 in the padding.
        step_labels: `[B, L]` number of labels emitted by the step, 0 or 1, -1 in the padding.
        frames: padded T.
        positions: padded U + 1.

    Returns:
        bool `[B, T, U+1]`; no cell of an utterance without an alignment is marked.

    Raises:
        ValueError: if the shapes differ or the alignment leaves the lattice.
    """
    if step_frames.dim() != 2 or step_frames.shape != step_labels.shape:
        raise ValueError(
            f"step_frames and step_labels must have one shape [B, L], got {list(step_frames.shape)} and "
            f"{list(step_labels.shape)}; pass both from one alignment."
        )
    real = step_frames >= 0
    emitted = torch.where(real, step_labels, torch.zeros_like(step_labels))
    position = emitted.cumsum(1) - emitted
    if real.any() and (int(step_frames.max()) >= frames or int(position[real].max()) >= positions):
        raise ValueError(
            f"The alignment leaves a lattice of {frames} frames and {positions} positions; pass the sizes of its own lattice."
        )
    cells = torch.zeros(step_frames.shape[0], frames, positions, dtype=torch.bool, device=step_frames.device)
    utterance = torch.arange(step_frames.shape[0], device=cells.device).unsqueeze(1).expand_as(step_frames)
    cells[utterance[real], step_frames[real], position[real]] = True
    return cells


def band_cells(cells: Tensor, before: int, after: int) -> Tensor:
    """Widens marked cells in time.

    Args:
        cells: bool `[B, T, U+1]`, for example from `path_cells`.
        before: how many frames earlier still count.
        after: how many frames later still count.

    Returns:
        bool `[B, T, U+1]`: (t, u) is marked if any of (t - after, u) to (t + before, u) is marked in `cells`. It may
        reach into the padding, where `lattice_divergence` ignores it.

    Raises:
        ValueError: on a negative width.
    """
    if before < 0 or after < 0:
        raise ValueError(
            f"The band must extend 0 or more frames to either side, got before = {before} and after = {after}."
        )
    x = torch.nn.functional.pad(cells.transpose(1, 2).float(), (after, before))
    return torch.nn.functional.max_pool1d(x, before + after + 1, stride=1).transpose(1, 2) > 0


def teacher_frame_map(logit_lengths: Tensor, teacher_lengths: Tensor, frames: int, shift: int | Tensor = 0) -> Tensor:
    """Frame of the teacher for each frame of the student.

    Student frame t is compared with the teacher's output `shift` student frames earlier. If the teacher has more or fewer
    frames for an utterance, its nearest frame is taken: the one that holds the centre of student frame t - shift, at
    `(t - shift + 0.5) * T_teacher / T_student`. The first `shift` frames of the student and the last ones of the teacher
    then have no partner and are left out.

    Args:
        logit_lengths: `[B]` valid frames of the student.
        teacher_lengths: `[B]` valid frames of the teacher.
        frames: padded T of the student.
        shift: by how many student frames the student is later; negative if it is earlier. One number, or `[B]`.

    Returns:
        `[B, T]` integers, -1 where there is no partner and in the padding.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if logit_lengths.dim() != 1 or logit_lengths.shape != teacher_lengths.shape:
        raise ValueError(
            f"Both lengths must have shape [B], got {list(logit_lengths.shape)} and {list(teacher_lengths.shape)}; pass one per "
            "utterance."
        )
    device = logit_lengths.device
    if isinstance(shift, Tensor):
        if shift.shape not in (logit_lengths.shape, torch.Size([])):
            raise ValueError(f"shift must be one number or {list(logit_lengths.shape)}, got {list(shift.shape)}.")
        shift = shift.to(device).expand_as(logit_lengths).unsqueeze(1)
    own = logit_lengths.long().unsqueeze(1)
    theirs = teacher_lengths.to(device).long().unsqueeze(1)
    earlier = torch.arange(frames, device=device).unsqueeze(0) - shift
    # Integer arithmetic throughout, so that equal lengths map each frame exactly to itself.
    partner = torch.div((2 * earlier + 1) * theirs, 2 * own.clamp(min=1), rounding_mode='floor')
    exists = length_mask(logit_lengths, frames) & (earlier >= 0) & (earlier < own) & (theirs > 0)
    return torch.where(exists, partner, torch.full_like(partner, -1))


def to_student_frames(values: Tensor, teacher_frames: Tensor) -> Tensor:
    """Moves cell values from the teacher's frames, for example its occupancy or path, to the student's.

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

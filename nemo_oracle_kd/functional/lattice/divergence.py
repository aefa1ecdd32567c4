# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The divergence between the lattices of two transducers, computed exactly and without storing a lattice.

`sum over cells (t, u) of weight(t, u) * D(P_teacher(. | t, u), P_student(. | t, u))` is soft distillation of RNN-T
(arXiv 2210.05793; in its collapsed form arXiv 2011.06110). The lattice of posteriors, `[B, T, U+1, V]`, is never built.

This module checks the arguments and lists the cells to compare. The other parts are `distances.py` for the divergence D
and its classes, `tiles.py` for the loop over cells, `cells.py` for weights and frame maps, and `shifts.py` for a teacher
that emits earlier or later than the student.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.cells import next_labels, valid_cells
from nemo_oracle_kd.functional.lattice.distances import LatticeOptions
from nemo_oracle_kd.functional.lattice.joint import JointTensors, draw_dropout_seed
from nemo_oracle_kd.functional.lattice.stored import StoredLattice
from nemo_oracle_kd.functional.lattice.tiles import TilePlan, cells_per_tile, tiled_divergence, tiled_values
from nemo_oracle_kd.functional.lattice.triton import choose_backend
from nemo_oracle_kd.functional.tensors import length_mask

__all__ = ['lattice_divergence', 'lattice_cell_divergence']


def lattice_divergence(
    student: JointTensors,
    teacher: JointTensors | StoredLattice,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int | Sequence[int],
    weights: Tensor | None = None,
    teacher_frames: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Divergence of the student's lattice from the teacher's, summed over the valid cells t < T_b, u <= U_b.

    It is differentiable once with respect to the student's encoder, prediction, weight and bias; the teacher is detached.
    If all utterances enter the loss with the same factor, as in a sum or a mean, nothing is computed twice. To weight
    utterances or cells, pass `weights` and sum the result. Values in the padding, NaN included, change nothing.

    With `student.dropout` every tile draws a mask over the hidden units from `dropout_seed`. The gradient is that of the
    returned loss. Another tile size draws other masks.

    Args:
        student: joint of the student.
        teacher: joint of the teacher, with a hidden size of its own; no dropout. Or what is stored of its lattice, where that
            is enough for the bins, at the temperature of the options.
        targets: `[B, U]` labels.
        logit_lengths: `[B]` valid frames of the student.
        target_lengths: `[B]` valid labels.
        blank: id of the blank, or ids of all blanks of a multi-blank joint. Empty for a softmax of durations, which has no
            blank and is compared with bins 'full'.
        weights: `[B, T, U+1]` weight of each cell on the student's frames, detached: a boolean mask, an occupancy, or None
            for all valid cells. Cells of weight zero are not computed.
        teacher_frames: `[B, T]` frame of the teacher with which each frame of the student is compared, -1 for none, from
            `teacher_frame_map`. None compares equal frames, for models with the same frame rate.
        **options: the fields of `LatticeOptions`: bins, divergence, temperature and more.

    Returns:
        `[B]` in nats, float64 for float64 input and float32 otherwise; zero for an utterance without cells.

    Raises:
        ValueError: if shapes, vocabularies, lengths, labels or options do not match.
    """
    plan = _plan_tiles(
        student,
        teacher,
        targets,
        logit_lengths,
        target_lengths,
        blank,
        (weights, teacher_frames),
        LatticeOptions(**options),
    )
    return tiled_divergence(student, plan)


@torch.no_grad()
def lattice_cell_divergence(
    student: JointTensors,
    teacher: JointTensors | StoredLattice,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int | Sequence[int],
    weights: Tensor | None = None,
    teacher_frames: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """The weighted terms of `lattice_divergence`, `[B, T, U+1]`, zero elsewhere. Not differentiable.

    They serve pictures and the choice between alignments, and cost half as much as the divergence with its gradient.
    Arguments, options and errors as in `lattice_divergence`.
    """
    plan = _plan_tiles(
        student,
        teacher,
        targets,
        logit_lengths,
        target_lengths,
        blank,
        (weights, teacher_frames),
        LatticeOptions(**options),
    )
    values = tiled_values(student, plan)
    if plan.weights is not None:
        values = values * plan.weights
    batch, frames = student.encoder.shape[:2]
    result = torch.zeros(batch, frames, plan.labels.shape[1], dtype=plan.dtype, device=values.device)
    result.view(-1)[plan.cells] = values
    return result


@torch.no_grad()
def _plan_tiles(
    student: JointTensors,
    teacher: JointTensors | StoredLattice,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int | Sequence[int],
    cells: tuple[Tensor | None, Tensor | None],
    options: LatticeOptions,
) -> TilePlan:
    """Checks the arguments of `lattice_divergence` and lists the cells to compare; `cells` is (weights, frame map)."""
    weights, teacher_frames = cells
    device = student.encoder.device
    batch, frames, positions = *student.encoder.shape[:2], student.prediction.shape[1]
    blanks = [blank] if isinstance(blank, int) else [int(b) for b in blank]
    _check_models(student, teacher, targets, blanks, teacher_frames)
    logit_lengths, target_lengths = logit_lengths.to(device), target_lengths.to(device)
    _check_lengths(logit_lengths, target_lengths, batch, frames, positions)

    labels = next_labels(targets.to(device), target_lengths, blanks[0] if blanks else 0)
    if not blanks and options.bins != 'full':
        raise ValueError(
            "Outputs without a blank, such as the durations of a TDT, are compared with bins='full' only."
        )
    if blanks and (
        options.bins != 'full' or device.type == 'cpu'
    ):  # on an accelerator this check would force a synchronisation
        _check_labels(labels, target_lengths, blanks, student.classes)

    wanted = valid_cells(logit_lengths, target_lengths, frames, positions)
    if weights is not None:
        if weights.shape != wanted.shape:
            raise ValueError(
                f"weights must have shape {list(wanted.shape)}, one per cell of the student, got "
                f"{list(weights.shape)}; move weights on the teacher's frames with to_student_frames."
            )
        wanted = wanted & (weights.to(device) != 0)
    if teacher_frames is not None:
        teacher_frames = teacher_frames.to(device)
        wanted = wanted & (teacher_frames >= 0).unsqueeze(2)
    elif teacher.shape[1] != frames:
        raise ValueError(
            f"The student has {frames} frames and the teacher {teacher.shape[1]}; map them with "
            "teacher_frames=teacher_frame_map(...)."
        )
    listed = wanted.view(-1).nonzero().squeeze(1)
    dtype = student.value_dtype
    if weights is not None:
        weights = None if weights.dtype == torch.bool else weights.to(device).reshape(-1)[listed].to(dtype)
    matmul_dtype = options.matmul_dtype
    if matmul_dtype is None:
        half = device.type != 'cpu' and student.encoder.dtype in (torch.float16, torch.bfloat16)
        matmul_dtype = student.encoder.dtype if half else dtype
    seed = options.dropout_seed
    if student.dropout and seed is None:
        seed = draw_dropout_seed()
    # the kernel reads products of a joint
    backend = 'torch' if isinstance(teacher, StoredLattice) else options.backend
    kernel = (options.bins, options.divergence, student.classes, dtype, matmul_dtype, device)
    return TilePlan(
        teacher=teacher.detach(),
        teacher_frames=teacher_frames,
        cells=listed,
        weights=weights,
        labels=labels,
        blanks=torch.tensor(blanks, device=device),
        dtype=dtype,
        options=replace(
            options,
            temperature=float(options.temperature),
            tile_cells=options.tile_cells or cells_per_tile(student.classes, device),
            matmul_dtype=matmul_dtype,
            dropout_seed=seed or 0,
            backend=choose_backend(backend, *kernel),
        ),
    )


def _check_models(
    student: JointTensors,
    teacher: JointTensors | StoredLattice,
    targets: Tensor,
    blanks: list[int],
    teacher_frames: Tensor | None,
) -> None:
    batch, positions = student.prediction.shape[:2]
    if student.classes != teacher.classes:
        raise ValueError(
            f"Student and teacher have {student.classes} and {teacher.classes} classes; distil the lattice of models "
            "with one tokenizer and one type of joint, or use a full-sum objective, which needs neither."
        )
    if (teacher.shape[0], teacher.shape[2]) != (batch, positions):
        raise ValueError(
            f"The prediction networks of student and teacher ran over [B, U+1] = {[batch, positions]} and "
            f"{[teacher.shape[0], teacher.shape[2]]}; run both on the same targets."
        )
    if targets.shape != (batch, positions - 1):
        raise ValueError(
            f"targets must have shape {[batch, positions - 1]} for prediction outputs of shape [B, U+1, H] with "
            f"U+1 = {positions}, got {list(targets.shape)}; pass the targets that the prediction network has read."
        )
    if teacher.dropout:
        raise ValueError("The teacher must not drop hidden units; put it into evaluation mode and pass dropout=0.")
    if not all(0 <= b < student.classes for b in blanks):
        raise ValueError(
            f"The blank must be one of the {student.classes} classes, got {blanks}; pass the model's own blank id."
        )
    if teacher_frames is not None:
        if teacher_frames.shape != student.encoder.shape[:2]:
            raise ValueError(
                f"teacher_frames must have shape {list(student.encoder.shape[:2])}, one per frame of the student, got "
                f"{list(teacher_frames.shape)}."
            )
        if teacher_frames.numel() and int(teacher_frames.max()) >= teacher.shape[1]:
            raise ValueError(
                f"teacher_frames names frame {int(teacher_frames.max())}, but the teacher has {teacher.shape[1]} frames; "
                "pass the teacher's own lengths to teacher_frame_map."
            )


def _check_lengths(logit_lengths: Tensor, target_lengths: Tensor, batch: int, frames: int, positions: int) -> None:
    for name, lengths, longest in (
        ('logit_lengths', logit_lengths, frames),
        ('target_lengths', target_lengths, positions - 1),
    ):
        if lengths.shape != (batch,):
            raise ValueError(f"{name} must have shape [{batch}], one per utterance, got {list(lengths.shape)}.")
        if batch and (int(lengths.min()) < 0 or int(lengths.max()) > longest):
            raise ValueError(f"{name} must lie between 0 and {longest}, got {lengths.tolist()}.")


def _check_labels(labels: Tensor, target_lengths: Tensor, blanks: list[int], classes: int) -> None:
    real = labels[length_mask(target_lengths, labels.shape[1])]
    if real.numel() == 0:
        return
    if int(real.min()) < 0 or int(real.max()) >= classes:
        raise ValueError(f"Labels must lie between 0 and {classes - 1}, got {int(real.min())} to {int(real.max())}.")
    if any(bool((real == b).any()) for b in blanks):
        raise ValueError("The targets contain the blank; leave blanks out, or pass the model's own blank id.")

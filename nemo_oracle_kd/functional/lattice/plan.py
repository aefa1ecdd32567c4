# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""From the arguments of a lattice divergence to the list of cells to compare; all that can be refused is refused here."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.bins import LATTICE_BINS
from nemo_oracle_kd.functional.lattice.cells import valid_cells
from nemo_oracle_kd.functional.lattice.distances import LATTICE_DIVERGENCES
from nemo_oracle_kd.functional.lattice.joint import JointTensors, draw_dropout_seed
from nemo_oracle_kd.functional.lattice.tiles import TilePlan, cells_per_tile
from nemo_oracle_kd.functional.lattice.triton import choose_backend
from nemo_oracle_kd.functional.tensors import compute_dtype, length_mask

__all__ = ['plan_tiles']


@torch.no_grad()
def plan_tiles(
    student: JointTensors,
    teacher: JointTensors,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int | Sequence[int],
    *,
    bins: str = 'full',
    divergence: str = 'kl',
    temperature: float = 1.0,
    top_k: int = 8,
    weights: Tensor | None = None,
    teacher_frames: Tensor | None = None,
    tile_cells: int | None = None,
    matmul_dtype: torch.dtype | None = None,
    dropout_seed: int | None = None,
    backend: str = 'auto',
) -> TilePlan:
    """Checks the arguments of `lattice_divergence`, which see, and lists the cells to compare."""
    device = student.encoder.device
    batch, frames, positions = *student.encoder.shape[:2], student.prediction.shape[1]
    blanks = [blank] if isinstance(blank, int) else [int(b) for b in blank]
    _check_choices(bins, divergence, temperature, top_k, tile_cells)
    _check_models(student, teacher, targets, blanks, teacher_frames)
    logit_lengths, target_lengths = logit_lengths.to(device), target_lengths.to(device)
    _check_lengths(logit_lengths, target_lengths, batch, frames, positions)

    labels = targets.new_full((batch, positions), blanks[0], dtype=torch.long, device=device)
    labels[:, :-1] = torch.where(length_mask(target_lengths, positions - 1), targets.to(device), blanks[0])
    if bins != 'full':  # the full divergence does not look at labels, and the durations of a TDT have none
        _check_labels(labels, target_lengths, blanks, student.classes)

    wanted = valid_cells(logit_lengths, target_lengths, frames, positions)
    if weights is not None:
        if weights.shape != wanted.shape:
            raise ValueError(
                f"weights must have shape {list(wanted.shape)}, one per cell of the student, got "
                f"{list(weights.shape)}; bring weights on the teacher's frames over with to_student_frames."
            )
        wanted = wanted & (weights.to(device) != 0)
    if teacher_frames is not None:
        teacher_frames = teacher_frames.to(device)
        wanted = wanted & (teacher_frames >= 0).unsqueeze(2)
    elif teacher.encoder.shape[1] != frames:
        raise ValueError(
            f"The student has {frames} frames and the teacher {teacher.encoder.shape[1]}; say which belong together with "
            "teacher_frames=teacher_frame_map(...)."
        )
    cells = wanted.view(-1).nonzero().squeeze(1)
    dtype = compute_dtype(torch.promote_types(student.encoder.dtype, student.weight.dtype))
    if weights is not None:
        weights = None if weights.dtype == torch.bool else weights.to(device).reshape(-1)[cells].to(dtype)
    if matmul_dtype is None:
        half = device.type != 'cpu' and student.encoder.dtype in (torch.float16, torch.bfloat16)
        matmul_dtype = student.encoder.dtype if half else dtype
    if student.dropout and dropout_seed is None:
        dropout_seed = draw_dropout_seed()
    return TilePlan(
        teacher=teacher.detach(),
        teacher_frames=teacher_frames,
        cells=cells,
        weights=weights,
        labels=labels,
        blanks=torch.tensor(blanks, device=device),
        bins=bins,
        divergence=divergence,
        top_k=top_k,
        temperature=float(temperature),
        tile_cells=tile_cells or cells_per_tile(student.classes, device),
        dtype=dtype,
        matmul_dtype=matmul_dtype,
        dropout_seed=dropout_seed or 0,
        backend=choose_backend(backend, bins, divergence, student.classes, dtype, matmul_dtype, device),
    )


def _check_choices(bins: str, divergence: str, temperature: float, top_k: int, tile_cells: int | None) -> None:
    if bins not in LATTICE_BINS:
        raise ValueError(f"Unknown bins '{bins}'; choose one of {', '.join(LATTICE_BINS)}.")
    if divergence not in LATTICE_DIVERGENCES:
        raise ValueError(f"Unknown divergence '{divergence}'; choose one of {', '.join(LATTICE_DIVERGENCES)}.")
    if not temperature > 0:
        raise ValueError(f"The temperature must be positive, got {temperature}.")
    if bins == 'topk' and top_k < 1:
        raise ValueError(
            f"top_k must be at least 1, got {top_k}; for label, blank and rest alone use bins='collapsed'."
        )
    if tile_cells is not None and tile_cells < 1:
        raise ValueError(f"tile_cells must be at least 1, got {tile_cells}.")


def _check_models(
    student: JointTensors, teacher: JointTensors, targets: Tensor, blanks: list[int], teacher_frames: Tensor | None
) -> None:
    batch, positions = student.prediction.shape[:2]
    if student.classes != teacher.classes:
        raise ValueError(
            f"Student and teacher have {student.classes} and {teacher.classes} classes; distil the lattice of models "
            "with one tokenizer and one type of joint, or use a full-sum objective, which needs neither."
        )
    if teacher.prediction.shape[:2] != student.prediction.shape[:2]:
        raise ValueError(
            f"The prediction networks of student and teacher ran over [B, U+1] = {[batch, positions]} and "
            f"{list(teacher.prediction.shape[:2])}; run both on the same targets."
        )
    if targets.shape != (batch, positions - 1):
        raise ValueError(
            f"targets must have shape {[batch, positions - 1]} for prediction outputs of shape [B, U+1, H] with "
            f"U+1 = {positions}, got {list(targets.shape)}."
        )
    if teacher.dropout:
        raise ValueError("The teacher must not drop hidden units: put it into evaluation mode and pass dropout=0.")
    if not blanks or not all(0 <= b < student.classes for b in blanks):
        raise ValueError(f"The blank must be one of the {student.classes} classes, got {blanks}.")
    if teacher_frames is not None:
        if teacher_frames.shape != student.encoder.shape[:2]:
            raise ValueError(
                f"teacher_frames must have shape {list(student.encoder.shape[:2])}, one per frame of the student, got "
                f"{list(teacher_frames.shape)}."
            )
        if teacher_frames.numel() and int(teacher_frames.max()) >= teacher.encoder.shape[1]:
            raise ValueError(
                f"teacher_frames names frame {int(teacher_frames.max())} of a teacher with {teacher.encoder.shape[1]}."
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
        raise ValueError(
            "The blank stands among the targets; targets hold labels only, pass the model's own blank id."
        )

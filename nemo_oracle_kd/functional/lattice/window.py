# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Lattice distillation with a free shift: the least divergence over a window of shifts, hard or soft.

For a student whose delay is unknown or differs between utterances (window-shifted distillation, arXiv 2110.03334;
delayed distillation, arXiv 2505.22069). All shifts are judged on the same cells, those that have a partner under every
one of them: otherwise the shift that drops most cells would win.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.cells import valid_cells
from nemo_oracle_kd.functional.lattice.divergence import lattice_cell_divergence, lattice_divergence
from nemo_oracle_kd.functional.lattice.frame_map import teacher_frame_map
from nemo_oracle_kd.functional.lattice.joint import JointTensors
from nemo_oracle_kd.functional.tensors import compute_dtype

__all__ = ['WINDOW_MODES', 'WINDOW_UNITS', 'WindowedDivergence', 'best_shift', 'windowed_lattice_divergence']

WINDOW_MODES = ('minimum', 'soft')
WINDOW_UNITS = ('utterance', 'frame')


@dataclass
class WindowedDivergence:
    """Result of a search over shifts.

    Attributes:
        loss: `[B]` nats, differentiable.
        shift: `[B]` shift chosen; its mean over frames for unit 'frame' and over the soft weights for mode 'soft'.
    """

    loss: Tensor
    shift: Tensor


def windowed_lattice_divergence(
    student: JointTensors,
    teacher: JointTensors,
    targets: Tensor,
    logit_lengths: Tensor,
    teacher_lengths: Tensor,
    target_lengths: Tensor,
    blank: int | Sequence[int],
    shifts: Sequence[int],
    *,
    mode: str = 'minimum',
    unit: str = 'utterance',
    softness: float = 0.1,
    weights: Tensor | None = None,
    **options: Any,
) -> WindowedDivergence:
    """Divergence under the best of several shifts, per utterance or per frame of the student.

    'minimum': `min_d L_d`; the gradient is that of the best shift. 'soft': with `n` the weight of the cells of the unit,
    `-n s log mean_d exp(-L_d / (n s))`, softness s in nats per cell: between the minimum (s -> 0) and the mean
    (s -> infinity), and equal to L if all shifts agree. Costs one evaluation without gradient per shift and one with
    gradient per shift that is chosen somewhere.

    Args:
        student: joint of the student; without dropout, so that shifts are compared on equal terms.
        teacher: joint of the teacher.
        targets: `[B, U]` labels.
        logit_lengths: `[B]` valid frames of the student.
        teacher_lengths: `[B]` valid frames of the teacher.
        target_lengths: `[B]` valid labels.
        blank: id of the blank, or of all blanks.
        shifts: by how many student frames the student may be later, such as `range(0, 10)`.
        mode: 'minimum' or 'soft'.
        unit: what chooses its own shift, an 'utterance' or a 'frame'.
        softness: nats per cell, for 'soft'.
        weights: `[B, T, U+1]` on the student's frames, as in `lattice_divergence`.
        **options: bins, divergence, temperature, top_k, tile_cells and matmul_dtype of `lattice_divergence`.

    Returns:
        the loss and the shifts it chose.

    Raises:
        ValueError: on unknown choices, no shift, or as in `lattice_divergence`.
    """
    shifts = sorted({int(shift) for shift in shifts})
    _check_window(shifts, mode, unit, softness)
    if student.dropout:
        raise ValueError("Shifts cannot be compared under a random dropout: pass the student's joint with dropout=0.")
    device = student.encoder.device
    frames, positions = student.encoder.shape[1], student.prediction.shape[1]
    logit_lengths, teacher_lengths = logit_lengths.to(device), teacher_lengths.to(device)
    maps = [teacher_frame_map(logit_lengths, teacher_lengths, frames, shift) for shift in shifts]
    common = torch.stack([each >= 0 for each in maps]).all(0).unsqueeze(2)
    cells = valid_cells(logit_lengths, target_lengths.to(device), frames, positions) & common
    dtype = compute_dtype(torch.promote_types(student.encoder.dtype, student.weight.dtype))
    weights = cells.to(dtype) if weights is None else torch.where(cells, weights.detach().to(device, dtype), 0)
    arguments = (student, teacher, targets, logit_lengths, target_lengths, blank)

    def cell_values(weights: Tensor, teacher_frames: Tensor) -> Tensor:
        return lattice_cell_divergence(*arguments, weights=weights, teacher_frames=teacher_frames, **options)

    def loss(weights: Tensor, teacher_frames: Tensor) -> Tensor:
        return lattice_divergence(*arguments, weights=weights, teacher_frames=teacher_frames, **options)

    trials = [(shift, each, weights) for shift, each in zip(shifts, maps)]
    return best_shift(cell_values, loss, trials, mode=mode, unit=unit, softness=softness)


def best_shift(
    cell_values: Callable[[Tensor, Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    trials: Sequence[tuple[int, Tensor, Tensor]],
    *,
    mode: str = 'minimum',
    unit: str = 'utterance',
    softness: float = 0.1,
) -> WindowedDivergence:
    """The search over shifts itself, for any divergence that is a weighted sum over cells.

    Args:
        cell_values: `(weights [B, T, U+1], teacher_frames [B, T])` to the weighted terms `[B, T, U+1]`, no gradient.
        loss: the same to their sum `[B]`, differentiable.
        trials: shift, frame map and weights of every candidate. The weights differ if they belong to the teacher's
            frames and move with them; their sum must not, lest the shift that drops most cells win.
        mode: 'minimum' or 'soft'.
        unit: 'utterance', or 'frame' for weights that do not move.
        softness: nats per cell, for 'soft'.

    Returns:
        the loss and the shifts it chose.

    Raises:
        ValueError: on unknown choices or no shift.
    """
    shifts = [shift for shift, _, _ in trials]
    _check_window(shifts, mode, unit, softness)
    over = (1, 2) if unit == 'utterance' else (2,)
    values = torch.stack([cell_values(weights, frames).double().sum(over) for _, frames, weights in trials])
    size = trials[0][2].double().sum(over)
    if mode == 'minimum':
        choice = torch.nn.functional.one_hot(values.argmin(0), len(shifts)).movedim(-1, 0).to(values.dtype)
        least = values.amin(0)
    else:
        scale = (size * softness).clamp(min=torch.finfo(values.dtype).tiny)
        exponent = -values / scale
        choice = exponent.softmax(0)
        least = -scale * (exponent.logsumexp(0) - math.log(len(shifts)))
    batch, frames = trials[0][1].shape
    width = 1 if unit == 'utterance' else frames
    total = values.new_zeros(batch)
    for (_, teacher_frames, weights), share in zip(trials, choice.reshape(len(shifts), batch, width, 1)):
        if bool((share > 0).any()):
            total = total + loss(weights * share.to(weights.dtype), teacher_frames)
    # The weighted sum has the gradient of the (soft) minimum, its value is set right here.
    least = least if unit == 'utterance' else least.sum(1)
    total = total + (least - total).detach()
    steps = torch.tensor(shifts, dtype=values.dtype, device=values.device)
    chosen = torch.tensordot(steps, choice, dims=1)
    if unit == 'frame':
        counted = (size > 0).to(values.dtype)
        chosen = (chosen * counted).sum(1) / counted.sum(1).clamp(min=1)
    dtype = compute_dtype(trials[0][2].dtype)
    return WindowedDivergence(total.to(dtype), chosen.to(dtype))


def _check_window(shifts: Sequence[int], mode: str, unit: str, softness: float) -> None:
    if mode not in WINDOW_MODES or unit not in WINDOW_UNITS:
        raise ValueError(
            f"Unknown window '{mode}' per '{unit}'; choose one of {', '.join(WINDOW_MODES)} per one of "
            f"{', '.join(WINDOW_UNITS)}."
        )
    if not shifts:
        raise ValueError("A window needs at least one shift; pass shifts=range(0, 10), say.")
    if not softness > 0:
        raise ValueError(f"The softness must be positive, got {softness}; for the minimum use mode='minimum'.")

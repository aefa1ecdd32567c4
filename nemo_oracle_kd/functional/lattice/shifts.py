# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The delay of the student behind its teacher in frames: estimated from emission times, or found by a search.

`estimate_delay` compares the frames in which two models emit the same labels. The search takes the smallest divergence over
a window of shifts, hard or soft, for a student whose delay is unknown or differs between utterances (window-shifted
distillation, arXiv 2110.03334; delayed distillation, arXiv 2505.22069). All shifts are compared on the same cells, namely
those that have a partner under every shift. Otherwise the shift that drops most cells would win.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.cells import teacher_frame_map, valid_cells
from nemo_oracle_kd.functional.lattice.divergence import lattice_cell_divergence, lattice_divergence
from nemo_oracle_kd.functional.lattice.joint import JointTensors
from nemo_oracle_kd.functional.tensors import compute_dtype

__all__ = [
    'EmissionDelay',
    'WINDOW_MODES',
    'WINDOW_UNITS',
    'WindowedDivergence',
    'best_shift',
    'estimate_delay',
    'windowed_lattice_divergence',
]

WINDOW_MODES = ('minimum', 'soft')
"""How the search combines the divergences of the shifts."""

WINDOW_UNITS = ('utterance', 'frame')
"""What has a shift of its own."""


@dataclass(frozen=True)
class EmissionDelay:
    """Delay of the student behind the teacher in student frames; positive if the student is later.

    Attributes:
        shift: the median rounded to frames, by which the teacher should be shifted.
        median: median delay over the labels that count.
        mean: mean delay over the same labels.
        quartiles: first and third quartile; the closer they are, the better a single shift suits all labels.
        labels: number of labels that count.
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
    """Estimates the delay from the frames in which two models emit the same labels, for example on their best paths.

    The shift is the median, because a few labels that are aligned far off must not move it. A label that one of the models
    emits in its very first frame does not count as long as there are others: that model could not have emitted it earlier,
    so the distance is only a bound. (A teacher that emits early has the whole first word there, and so has the student's
    best alignment. Nearly half of the labels of short utterances would then have delay zero.)

    Args:
        student_frames: `[B, U]` frame in which the student emits each label; -1 if it does not emit the label.
        teacher_frames: `[B, U]` the same of the teacher, in its own frames.
        frame_ratio: student frames per teacher frame, one number or `[B]` (T_student / T_teacher).

    Returns:
        the delay.

    Raises:
        ValueError: if the shapes differ, or if no label was emitted by both models.
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
    # Centres of frames are compared, so that a ratio of 2 does not look like half a frame of delay.
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


@dataclass
class WindowedDivergence:
    """Result of a search over shifts.

    Attributes:
        loss: `[B]` nats, differentiable.
        shift: `[B]` chosen shift: its mean over frames for unit 'frame', and over the soft weights for mode 'soft'.
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
    **options: Any,
) -> WindowedDivergence:
    """Divergence under the best of several shifts, per utterance or per frame of the student.

    'minimum' is `min_d L_d` with the gradient of the best shift. 'soft' is `-n s log mean_d exp(-L_d / (n s))`, with n the
    total weight of the cells of the unit and s the softness in nats per cell. It lies between the minimum (s -> 0) and the
    mean (s -> infinity), and equals L if all shifts agree. The cost is one evaluation without gradient per shift, and one
    with gradient per shift that is chosen anywhere.

    Args:
        student: joint of the student, without dropout, so that all shifts are compared under equal conditions.
        teacher: joint of the teacher.
        targets: `[B, U]` labels.
        logit_lengths: `[B]` valid frames of the student.
        teacher_lengths: `[B]` valid frames of the teacher.
        target_lengths: `[B]` valid labels.
        blank: id of the blank, or of all blanks.
        shifts: possible delays of the student in student frames, for example `range(0, 10)`.
        **options: `mode`, `unit` and `softness` of `best_shift`; `weights`, `[B, T, U+1]` on the student's frames, and the
            fields of `LatticeOptions` as in `lattice_divergence`.

    Returns:
        the loss and the shifts it chose.

    Raises:
        ValueError: if an option is unknown, if there is no shift or the student drops units, or as in `lattice_divergence`.
    """
    shifts = sorted({int(shift) for shift in shifts})
    search = {name: options.pop(name) for name in ('mode', 'unit', 'softness') if name in options}
    weights = options.pop('weights', None)
    _check_window(shifts, **search)
    if student.dropout:
        raise ValueError("Shifts cannot be compared under random dropout; pass the student's joint with dropout=0.")
    device = student.encoder.device
    frames, positions = student.encoder.shape[1], student.prediction.shape[1]
    logit_lengths, teacher_lengths = logit_lengths.to(device), teacher_lengths.to(device)
    maps = [teacher_frame_map(logit_lengths, teacher_lengths, frames, shift) for shift in shifts]
    common = torch.stack([each >= 0 for each in maps]).all(0).unsqueeze(2)
    cells = valid_cells(logit_lengths, target_lengths.to(device), frames, positions) & common
    dtype = student.value_dtype
    weights = cells.to(dtype) if weights is None else torch.where(cells, weights.detach().to(device, dtype), 0)
    arguments = (student, teacher, targets, logit_lengths, target_lengths, blank)

    def cell_values(weights: Tensor, teacher_frames: Tensor) -> Tensor:
        return lattice_cell_divergence(*arguments, weights=weights, teacher_frames=teacher_frames, **options)

    def loss(weights: Tensor, teacher_frames: Tensor) -> Tensor:
        return lattice_divergence(*arguments, weights=weights, teacher_frames=teacher_frames, **options)

    trials = [(shift, each, weights) for shift, each in zip(shifts, maps)]
    return best_shift(cell_values, loss, trials, **search)


def best_shift(
    cell_values: Callable[[Tensor, Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    trials: Sequence[tuple[int, Tensor, Tensor]],
    *,
    mode: str = 'minimum',
    unit: str = 'utterance',
    softness: float = 0.1,
) -> WindowedDivergence:
    """Searches the best of several shifts, for any divergence that is a weighted sum over cells.

    Args:
        cell_values: maps `(weights [B, T, U+1], teacher_frames [B, T])` to the weighted terms `[B, T, U+1]`, without
            gradient.
        loss: maps the same arguments to the sum of these terms, `[B]`, differentiable.
        trials: shift, frame map and weights of every candidate. Weights that belong to the teacher's frames move with
            them and so differ between candidates. Their sum must be the same for all, because otherwise the shift that
            drops most cells would win.
        mode: 'minimum' or 'soft'.
        unit: 'utterance', or 'frame' for weights that do not move.
        softness: nats per cell, for 'soft'.

    Returns:
        the loss and the shifts it chose.

    Raises:
        ValueError: if an option is unknown or there is no shift.
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
    # The weighted sum has the gradient of the (soft) minimum but not its value, which is set here.
    least = least if unit == 'utterance' else least.sum(1)
    total = total + (least - total).detach()
    steps = torch.tensor(shifts, dtype=values.dtype, device=values.device)
    chosen = torch.tensordot(steps, choice, dims=1)
    if unit == 'frame':
        counted = (size > 0).to(values.dtype)
        chosen = (chosen * counted).sum(1) / counted.sum(1).clamp(min=1)
    dtype = compute_dtype(trials[0][2].dtype)
    return WindowedDivergence(total.to(dtype), chosen.to(dtype))


def _check_window(
    shifts: Sequence[int], mode: str = 'minimum', unit: str = 'utterance', softness: float = 0.1
) -> None:
    if mode not in WINDOW_MODES or unit not in WINDOW_UNITS:
        raise ValueError(
            f"Unknown window '{mode}' per '{unit}'; choose one of {', '.join(WINDOW_MODES)} per one of "
            f"{', '.join(WINDOW_UNITS)}."
        )
    if not shifts:
        raise ValueError("A window needs at least one shift; pass for example shifts=range(0, 10).")
    if not softness > 0:
        raise ValueError(f"The softness must be positive, got {softness}; for the minimum use mode='minimum'.")

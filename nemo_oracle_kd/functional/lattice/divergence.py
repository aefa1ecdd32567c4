# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distillation of a transducer's lattice, exact and without the lattice.

`sum over cells (t, u) of weight(t, u) * D(P_teacher(. | t, u), P_student(. | t, u))`, soft distillation of RNN-T
(arXiv 2210.05793; in its collapsed form arXiv 2011.06110). The lattice of posteriors, `[B, T, U+1, V]`, is never built:
see `lattice_tiles` for how, `lattice_bins` for what is compared, `lattice_weights` for which cells count, and
`lattice_alignment` for a teacher that emits earlier or later than the student.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.joint import JointTensors
from nemo_oracle_kd.functional.lattice.plan import plan_tiles
from nemo_oracle_kd.functional.lattice.tiles import tiled_divergence, tiled_values

__all__ = ['lattice_divergence', 'lattice_cell_divergence']


def lattice_divergence(
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
) -> Tensor:
    """Divergence of the student's lattice from the teacher's, summed over the valid cells t < T_b, u <= U_b.

    Differentiable once with respect to the student's encoder, prediction, weight and bias; the teacher is detached. The
    gradient is cheapest when all utterances enter the loss with the same factor, as in a sum or a mean: then nothing is
    computed twice. To weight utterances or cells, give `weights` and add up. Values in the padding change nothing, be
    they NaN.

    With `student.dropout` the hidden units are dropped with a mask of their own per tile, drawn from `dropout_seed`: the
    gradient is that of the loss returned. Another tile size draws another mask.

    Args:
        student: joint of the student.
        teacher: joint of the teacher, with a hidden size of its own; no dropout.
        targets: `[B, U]` labels.
        logit_lengths: `[B]` valid frames of the student.
        target_lengths: `[B]` valid labels.
        blank: id of the blank; of all blanks in a multi-blank joint.
        bins: 'full', 'topk' or 'collapsed', see `lattice_bins`.
        divergence: 'kl' (teacher to student), 'reverse_kl' or 'jensen_shannon'.
        temperature: divides the logits of both; the divergence is multiplied with its square.
        top_k: number of the teacher's classes that 'topk' keeps beside label and blank.
        weights: `[B, T, U+1]` weight of each cell on the student's frames, detached; cells of weight zero are not
            computed. A boolean mask, an occupancy, or None for all valid cells.
        teacher_frames: `[B, T]` frame of the teacher that each frame of the student is compared with, -1 for none; from
            `teacher_frame_map`. None: the same frame, of models with the same frame rate.
        tile_cells: cells per tile; by default what fits the cache.
        matmul_dtype: type of the matrix products. Default: float64 for float64 input, on a GPU the type of a half
            precision encoder, else float32. The softmax is computed in float32 or float64 always.
        dropout_seed: seed of the student's dropout; by default drawn from torch's global generator.
        backend: 'torch', 'triton', or 'auto' for the Triton kernel where it is possible and PyTorch elsewhere.

    Returns:
        `[B]` in nats, float64 for float64 input and float32 otherwise; zero for an utterance without cells.

    Raises:
        ValueError: on shapes, vocabularies, lengths, labels or choices that do not fit together.
    """
    plan = plan_tiles(
        student,
        teacher,
        targets,
        logit_lengths,
        target_lengths,
        blank,
        bins=bins,
        divergence=divergence,
        temperature=temperature,
        top_k=top_k,
        weights=weights,
        teacher_frames=teacher_frames,
        tile_cells=tile_cells,
        matmul_dtype=matmul_dtype,
        dropout_seed=dropout_seed,
        backend=backend,
    )
    return tiled_divergence(student, plan)


@torch.no_grad()
def lattice_cell_divergence(
    student: JointTensors,
    teacher: JointTensors,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int | Sequence[int],
    **options: Any,
) -> Tensor:
    """The terms of `lattice_divergence`, `[B, T, U+1]`, weighted; zero elsewhere. Not differentiable.

    For pictures, for choosing among alignments, and at half the price of the divergence with its gradient. Arguments,
    options and errors as in `lattice_divergence`.
    """
    plan = plan_tiles(student, teacher, targets, logit_lengths, target_lengths, blank, **options)
    values = tiled_values(student, plan)
    if plan.weights is not None:
        values = values * plan.weights
    batch, frames = student.encoder.shape[:2]
    result = torch.zeros(batch, frames, plan.labels.shape[1], dtype=plan.dtype, device=values.device)
    result.view(-1)[plan.cells] = values
    return result

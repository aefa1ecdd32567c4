# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The loop over tiles of lattice cells: value and gradients of a divergence without the lattice.

A cell (t, u) needs one row of the encoder and one of the prediction network. The cells that count (valid, weight not
zero) are listed once, 8 bytes each, and processed in tiles of a few hundred. The hidden states, the logits of both models,
the divergence and its gradient are computed in buffers that all tiles share. The gradient is propagated at once to
encoder, prediction network and output layer. Only one index and one value per cell grow with B T U.

The gradients are computed in the forward pass, as in a fused linear cross-entropy: four matrix products per cell, and
nothing twice. The result is a value per utterance, but the gradient of the output layer mixes utterances. It is
accumulated for a loss that weights all utterances alike, as a sum or a mean does. If the backward pass brings different
factors, the loop runs again with them. Either way the gradient is exact.

Tiles are small on purpose: a tile that does not fit into the cache takes twice the time.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo_oracle_kd.functional.lattice.distances import (
    LatticeOptions,
    binned_divergence,
    full_divergence,
    select_singles,
    work_buffers,
)
from nemo_oracle_kd.functional.lattice.joint import JointTensors
from nemo_oracle_kd.functional.lattice.stored import StoredLattice, StoredTiles
from nemo_oracle_kd.functional.lattice.tile_joint import JointGradients, TileJoint, zero_gradients
from nemo_oracle_kd.functional.lattice.triton import fused_divergence
from nemo_oracle_kd.functional.tensors import recursion_dtype

__all__ = ['TilePlan', 'cells_per_tile', 'tiled_divergence', 'tiled_values']

# Logits per buffer on a CPU: 2 MB in float32, so that three buffers stay in the second and third level caches.
CPU_TILE_NUMBERS = 2**19
# A GPU is efficient with large matrices: 64 MB in float32.
GPU_TILE_NUMBERS = 2**24
MIN_TILE_CELLS = 128


def cells_per_tile(classes: int, device: torch.device) -> int:
    """Number of cells in a tile by default, a multiple of 64."""
    numbers = CPU_TILE_NUMBERS if device.type == 'cpu' else GPU_TILE_NUMBERS
    return max(MIN_TILE_CELLS, numbers // max(classes, 1) // 64 * 64)


@dataclass(frozen=True)
class TilePlan:
    """What a divergence compares, cell by cell.

    Attributes:
        teacher: the teacher's joint, detached, or what is stored of its lattice.
        teacher_frames: `[B, T]` frame of the teacher for each frame of the student, -1 for none; None for equal frames.
        cells: `[N]` indices of the cells that count, in a flat `[B, T, U+1]` and in ascending order.
        weights: `[N]` their weights, or None.
        labels: `[B, U+1]` next label of each position; a blank if there is none.
        blanks: `[K]` ids of the blanks.
        dtype: type of the divergence.
        options: how cells are compared, with every default resolved: nothing is None or 'auto'.
    """

    teacher: JointTensors | StoredLattice
    teacher_frames: Tensor | None
    cells: Tensor
    weights: Tensor | None
    labels: Tensor
    blanks: Tensor
    dtype: torch.dtype
    options: LatticeOptions


def tiled_divergence(student: JointTensors, plan: TilePlan) -> Tensor:
    """`[B]` weighted sum of the divergence over the listed cells; differentiable once with respect to the student."""
    inputs = (student.encoder, student.prediction, student.weight, student.bias)
    gradients = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    return _TiledDivergence.apply(*inputs, student, plan, gradients)


@torch.no_grad()
def tiled_values(student: JointTensors, plan: TilePlan) -> Tensor:
    """`[N]` unweighted divergence of every listed cell. Not differentiable."""
    with torch.autocast(student.encoder.device.type, enabled=False):
        return _run_tiles(student.detach(), plan, JointGradients(), None)


class _TiledDivergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        encoder: Tensor,
        prediction: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        student: JointTensors,
        plan: TilePlan,
        gradients: bool,
    ) -> Tensor:
        batch = encoder.shape[0]
        needs = [gradients and need for need in ctx.needs_input_grad[:4]]
        sums = zero_gradients(student, needs, plan.dtype)
        with torch.autocast(encoder.device.type, enabled=False):
            values = _run_tiles(student.detach(), plan, sums, plan.weights)
        utterance = _utterance_of(plan, encoder.shape[1])
        # An utterance has thousands of cells, whose sum would lose precision in float32.
        if plan.weights is not None:
            values = values * plan.weights
        total = torch.zeros(batch, dtype=recursion_dtype(encoder.device), device=encoder.device)
        total.index_add_(0, utterance, values.to(total.dtype))
        if gradients:
            ctx.save_for_backward(encoder, prediction, weight, bias)
            ctx.student, ctx.plan, ctx.sums = _without_tensors(student), plan, sums
            ctx.counted = torch.zeros(batch, dtype=torch.bool, device=encoder.device)
            ctx.counted[utterance] = True
        return total.to(plan.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor):
        encoder, prediction, weight, bias = ctx.saved_tensors
        sums, plan = ctx.sums, ctx.plan
        result: list[Tensor | None] = [None] * 7
        scale = grad_output.to(plan.dtype)
        for i, (total, like) in enumerate(((sums.encoder, encoder), (sums.prediction, prediction))):
            if total is not None:
                result[i] = (total.view(like.shape) * scale.view(-1, 1, 1)).to(like.dtype)
        if sums.weight is not None or sums.bias is not None:
            common = _common_factor(scale[ctx.counted])
            if common is None:
                factors = scale[_utterance_of(plan, encoder.shape[1])]
                factors = factors if plan.weights is None else factors * plan.weights
                student = JointTensors(encoder.detach(), prediction.detach(), weight.detach(), bias, **ctx.student)
                needs = [False, False, sums.weight is not None, sums.bias is not None]
                sums = zero_gradients(student, needs, plan.dtype)
                with torch.autocast(encoder.device.type, enabled=False):
                    _run_tiles(student.detach(), plan, sums, factors)
                common = scale.new_ones(())
            for i, (total, like) in enumerate(((sums.weight, weight), (sums.bias, bias)), start=2):
                if total is not None:
                    result[i] = (total * common).to(like.dtype)
        return tuple(result)


def _run_tiles(student: JointTensors, plan: TilePlan, sums: JointGradients, factors: Tensor | None) -> Tensor:
    """Processes all tiles: adds the gradient of each cell times its factor to `sums`, and returns the values `[N]`."""
    options = plan.options
    frames, positions = student.encoder.shape[1], student.prediction.shape[1]
    gradient = sums.wanted()
    # Weights may be too small for float16 (1 / number of cells), so their scale is applied at the end.
    scale = None
    if gradient and factors is not None and options.matmul_dtype != plan.dtype and factors.numel():
        scale = factors.abs().amax().clamp(min=torch.finfo(factors.dtype).tiny)
        factors = factors / scale
    size = min(options.tile_cells, plan.cells.shape[0])
    fused = options.backend == 'triton'
    settings = (size, plan.dtype, options.matmul_dtype, options.temperature, options.dropout_seed, fused)
    student_side = TileJoint(student, *settings)
    stored = isinstance(plan.teacher, StoredLattice)
    teacher_side = StoredTiles(plan.teacher, plan.dtype) if stored else TileJoint(plan.teacher, *settings)
    work = work_buffers((size, student.classes), student_side.logits) if options.bins == 'full' and not fused else []
    values = torch.empty(plan.cells.shape[0], dtype=plan.dtype, device=plan.cells.device)
    labels = plan.labels.flatten()
    teacher_frames = None if plan.teacher_frames is None else plan.teacher_frames.flatten()

    for tile, start in enumerate(range(0, plan.cells.shape[0], options.tile_cells)):
        cells = plan.cells[start : start + options.tile_cells]
        count = cells.shape[0]
        frame = torch.div(cells, positions, rounding_mode='floor')
        utterance = torch.div(frame, frames, rounding_mode='floor')
        position = cells + (utterance - frame) * positions
        # These are rows of the flat [B T, H]; the two models may be padded to different T.
        teacher_frame = frame - utterance * frames if teacher_frames is None else teacher_frames[frame]
        teacher_frame = teacher_frame + utterance * plan.teacher.shape[1]
        q = student_side.project(frame, position, tile)
        p = teacher_side.project(teacher_frame, position, tile)
        if fused:
            biases = (student_side.bias, teacher_side.bias)
            value = fused_divergence(options.divergence, q, p, *biases, 1.0 / options.temperature, gradient)
        elif options.bins == 'full':
            value = full_divergence(options.divergence, q, p, [buffer[:count] for buffer in work])
        else:
            singles = select_singles(options.bins, p, labels[position], plan.blanks, options.top_k)
            value = binned_divergence(options.divergence, q, p, singles, gradient)
        torch.mul(value, options.temperature**2, out=values[start : start + count])
        if gradient:
            # The derivative of temperature^2 * divergence(logits / temperature) has one factor of the temperature.
            factor = None if factors is None else factors[start : start + count].unsqueeze(1)
            student_side.backward(q, factor, frame, position, sums)
    if scale is not None:
        sums.multiply(scale)
    return values


def _without_tensors(student: JointTensors) -> dict[str, Any]:
    return {'activation': student.activation, 'dropout': student.dropout}


def _utterance_of(plan: TilePlan, frames: int) -> Tensor:
    """`[N]` utterance of each cell."""
    return torch.div(plan.cells, frames * plan.labels.shape[1], rounding_mode='floor')


def _common_factor(factors: Tensor) -> Tensor | None:
    """The factor that all utterances share, or None if they differ."""
    if factors.numel() == 0:
        return factors.new_zeros(())
    first = factors[0]
    return first if bool((factors == first).all()) else None

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Log-probabilities of a few classes per lattice cell, without a normalised copy of the logits.

The output of a joint network, `[B, T, U+1, V]`, is by far the largest tensor of a transducer. A transducer loss needs
about two of the V log-probabilities of a cell. They are computed tile by tile, where a tile is some frames of one
utterance. The forward pass therefore keeps nothing of the size of the logits, and the backward pass allocates exactly
one such tensor, the gradient. Padding cells are neither read nor computed: NaN there has no effect, and ragged batches
cost less.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo_oracle_kd.functional.tensors import compute_dtype

__all__ = ['next_classes', 'select_log_probs']

CPU_TILE = 1 << 19
"""Logits per tile on a CPU: two megabytes in float32, so that a tile is still in the cache at its second pass."""

DEVICE_TILE = 1 << 26
"""Logits per tile elsewhere: enough to keep an accelerator busy, with temporary memory of at most 256 MB in float32."""


def select_log_probs(logits: Tensor, classes: Tensor, logit_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """`log_softmax(logits)` at some classes of every cell. Differentiable once with respect to `logits`.

    With G the incoming gradient, the gradient of the logits is `scatter(G) - softmax(logits) * sum_c G`.

    Args:
        logits: `[B, T, U+1, V]`, unnormalised (a constant added to a cell changes nothing). Any float type; float16
            and bfloat16 are computed in float32.
        classes: `[B, T or 1, U+1, C]` ids of the wanted classes.
        logit_lengths: `[B]` valid frames.
        target_lengths: `[B]` valid labels; positions up to and including U_b are valid.

    Returns:
        `[B, T, U+1, C]` natural log, float64 for float64 input and float32 otherwise; zero in the padding. The
        gradient has the type of `logits` and is zero in the padding.
    """
    return _SelectLogProbs.apply(logits, classes, logit_lengths, target_lengths)


class _SelectLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor, logit_lengths: Tensor, target_lengths: Tensor) -> Tensor:
        classes = classes.expand(-1, logits.shape[1], -1, -1)
        dtype = compute_dtype(logits.dtype)
        selected = torch.zeros(classes.shape, dtype=dtype, device=logits.device)
        lengths = list(zip(logit_lengths.tolist(), target_lengths.tolist()))
        for tile in _tiles(logits, lengths):
            log_probs = torch.log_softmax(logits[tile], -1, dtype=dtype)
            selected[tile] = log_probs.gather(-1, classes[tile])
        ctx.save_for_backward(logits, classes)
        ctx.lengths = lengths
        return selected

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor):
        logits, classes = ctx.saved_tensors
        # Without the format, empty_like would keep a transposed or expanded layout; the gradient is dense.
        grad = torch.empty_like(logits, memory_format=torch.contiguous_format)
        total = grad_output.sum(-1, keepdim=True).neg_()
        for b, (frames, labels) in enumerate(ctx.lengths):
            grad[b, frames:] = 0
            grad[b, :frames, labels + 1 :] = 0
        for tile in _tiles(logits, ctx.lengths):
            target = grad[tile]
            if target.dtype == grad_output.dtype and target.is_contiguous():
                part = torch.softmax(logits[tile], -1, out=target)
            else:
                part = torch.softmax(logits[tile], -1, dtype=grad_output.dtype)
            part.mul_(total[tile]).scatter_add_(-1, classes[tile], grad_output[tile])
            if part is not target:
                target.copy_(part)
        return grad, None, None, None


def _tiles(logits: Tensor, lengths: list[tuple[int, int]]) -> Iterator[tuple[int, slice, slice]]:
    """Indices of tiles; each covers some frames of one utterance at its `U_b + 1` positions."""
    size = CPU_TILE if logits.device.type == 'cpu' else DEVICE_TILE
    for b, (frames, labels) in enumerate(lengths):
        step = max(1, size // max(1, (labels + 1) * logits.shape[-1]))
        for start in range(0, frames, step):
            yield b, slice(start, min(start + step, frames)), slice(0, labels + 1)


def next_classes(
    logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blanks: tuple[int, ...]
) -> Tensor:
    """Checks the arguments of a transducer loss and lists the classes that it needs: next label and blanks of each position.

    Args:
        logits: `[B, T, U+1, V]`.
        targets: `[B, U]` labels without blanks.
        logit_lengths: `[B]` valid frames.
        target_lengths: `[B]` valid labels.
        blanks: ids of all blanks, the standard one first.

    Returns:
        `[B, 1, U+1, 1 + blanks]` class ids. At positions without a next label the first blank takes its column.

    Raises:
        ValueError: if shapes, lengths or labels do not match.
    """
    if logits.dim() != 4:
        raise ValueError(f"Transducer logits must have shape [B, T, U+1, V], got {list(logits.shape)}.")
    batch, frames, positions, classes = logits.shape
    if targets.shape != (batch, positions - 1):
        raise ValueError(
            f"Logits of shape {list(logits.shape)} need targets of shape {[batch, positions - 1]}, got "
            f"{list(targets.shape)}; the lattice has one position more than there are labels."
        )
    if logit_lengths.shape != (batch,) or target_lengths.shape != (batch,):
        raise ValueError(
            f"Lengths must have shape [{batch}], got {list(logit_lengths.shape)}, {list(target_lengths.shape)}."
        )
    if logit_lengths.is_floating_point() or target_lengths.is_floating_point():
        raise ValueError(f"Lengths must hold integers, got {logit_lengths.dtype} and {target_lengths.dtype}.")
    if not all(0 <= blank < classes for blank in blanks):
        raise ValueError(
            f"Blank ids {list(blanks)} do not exist among the {classes} classes of the logits; pass the model's own ids."
        )
    target_lengths = target_lengths.to(targets.device)
    valid = torch.arange(positions - 1, device=targets.device) < target_lengths.unsqueeze(1)
    labels = torch.where(valid, targets, blanks[0]).long()
    if targets.device.type == 'cpu' and batch:  # on an accelerator these checks would force a synchronisation
        if int(logit_lengths.min()) < 0 or int(logit_lengths.max()) > frames:
            raise ValueError(f"Logit lengths must lie between 0 and T = {frames}, got {logit_lengths.tolist()}.")
        if int(target_lengths.min()) < 0 or int(target_lengths.max()) > positions - 1:
            raise ValueError(
                f"Target lengths must lie between 0 and U = {positions - 1}, got {target_lengths.tolist()}."
            )
        if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= classes):
            raise ValueError(
                f"Targets must be class ids between 0 and {classes - 1}, got {int(labels.min())} to {int(labels.max())}."
            )
        if any(bool((valid & (labels == blank)).any()) for blank in blanks):
            raise ValueError(
                f"The targets contain a blank ({', '.join(map(str, blanks))}); leave blanks out, or pass the model's own "
                "blank id."
            )
    columns = [torch.nn.functional.pad(labels, (0, 1), value=blanks[0])]
    columns += [torch.full_like(columns[0], blank) for blank in blanks]
    return torch.stack(columns, -1).unsqueeze(1).to(logits.device)

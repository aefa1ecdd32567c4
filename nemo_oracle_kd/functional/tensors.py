# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Length masks, padding that reaches neither values nor gradients, types of computation, and scaled gradients."""

import math
from typing import Any

import torch
from torch import Tensor

__all__ = [
    'NEG_INF',
    'check_lengths',
    'compute_dtype',
    'fill_padding',
    'length_mask',
    'recursion_dtype',
    'scale_gradient',
]

NEG_INF = -math.inf
"""Log-probability of an impossible event."""


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type in which values are computed: float64 stays float64, and every narrower type becomes float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def recursion_dtype(device: torch.device) -> torch.dtype:
    """Type in which recursions over frames and long sums are computed: float64 wherever the device has it.

    Scores of long utterances reach thousands of nats, and float32 resolves them too coarsely for posteriors. Lattices
    are small compared with the posteriors from which they are gathered, so the wider type costs next to nothing.
    """
    return torch.float32 if device.type == 'mps' else torch.float64


def length_mask(lengths: Tensor, max_length: int) -> Tensor:
    """Marks the valid frames (or labels) of a padded batch.

    Args:
        lengths: valid frames per utterance, integers, shape `[B]`.
        max_length: padded length T.

    Returns:
        bool tensor of shape `[B, T]`, true where `t < lengths[b]`.

    Raises:
        ValueError: if `lengths` is not one-dimensional.
    """
    if lengths.dim() != 1:
        raise ValueError(f"Lengths must have shape [B], got {list(lengths.shape)}; pass one length per utterance.")
    return torch.arange(max_length, device=lengths.device) < lengths.unsqueeze(1)


def check_lengths(lengths: Tensor, longest: int, name: str = 'lengths') -> None:
    """Refuses impossible lengths.

    The range is checked on a CPU only. On an accelerator the check would force a synchronisation.

    Args:
        lengths: frames or labels per utterance, shape `[B]`.
        longest: the padded length T or U.
        name: what the message calls the lengths.

    Raises:
        ValueError: if the lengths are not integers, or if one is negative or greater than `longest`.
    """
    if lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ValueError(
            f"{name} must hold integers, got {lengths.dtype}; pass counts of frames or labels, not fractions."
        )
    if (
        lengths.device.type == 'cpu'
        and lengths.numel()
        and not 0 <= int(lengths.min()) <= int(lengths.max()) <= longest
    ):
        raise ValueError(
            f"{name} must lie between 0 and {longest}, got {lengths.tolist()}; count what the padded tensor holds."
        )


def fill_padding(x: Tensor, lengths: Tensor, value: float = 0.0) -> Tensor:
    """Overwrites the padding of a batch with a constant.

    This is a selection and not a product with the mask. `nan * 0` is `nan`, whereas a selection keeps NaN and infinity
    in the padding out of the values as well as out of the gradients (the padding receives gradient zero).

    Args:
        x: padded batch, shape `[B, T, ...]`.
        lengths: valid frames per utterance, shape `[B]`.
        value: written into the padding.

    Returns:
        tensor of the shape and type of `x`.

    Raises:
        ValueError: if the batch sizes differ.
    """
    if x.dim() < 2 or lengths.shape != x.shape[:1]:
        raise ValueError(
            f"A batch of shape {list(x.shape)} needs lengths of shape [{x.shape[0] if x.dim() else 0}], "
            f"got {list(lengths.shape)}; pass one length per utterance."
        )
    mask = length_mask(lengths.to(x.device), x.shape[1])
    return torch.where(
        mask.view(*mask.shape, *[1] * (x.dim() - 2)), x, torch.full((), value, dtype=x.dtype, device=x.device)
    )


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Returns `x` unchanged; only its gradient is multiplied by `factor`."""
    return _ScaledGradient.apply(x, factor)


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor):
        return grad_output * ctx.factor, None

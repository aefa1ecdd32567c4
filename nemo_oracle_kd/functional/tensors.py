# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Length masks, padding that can reach neither values nor gradients, and number types."""

import math

import torch
from torch import Tensor

__all__ = ['NEG_INF', 'check_lengths', 'compute_dtype', 'fill_padding', 'length_mask', 'recursion_dtype']

NEG_INF = -math.inf
"""The log-probability of what is impossible."""


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type the mathematics is done in: float64 stays float64, everything narrower becomes float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def recursion_dtype(device: torch.device) -> torch.dtype:
    """The type of a recursion over frames: float64 wherever the device has it.

    Scores of long utterances reach thousands of nats, of which float32 resolves too little for posteriors. Lattices
    are small beside the posteriors they are gathered from, so the better type costs next to nothing.
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
    """Refuses lengths that cannot be. Their range is looked at on a CPU only: an accelerator would have to be waited for.

    Raises:
        ValueError: if they are no integers, negative or greater than `longest`.
    """
    if lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ValueError(
            f"{name} must hold integers, got {lengths.dtype}; pass numbers of frames or labels, not shares."
        )
    if (
        lengths.device.type == 'cpu'
        and lengths.numel()
        and not 0 <= int(lengths.min()) <= int(lengths.max()) <= longest
    ):
        raise ValueError(f"{name} must lie between 0 and {longest}, got {lengths.tolist()}.")


def fill_padding(x: Tensor, lengths: Tensor, value: float = 0.0) -> Tensor:
    """Overwrites the padding of a batch with a constant.

    A selection, not a product with the mask: `nan * 0` is `nan`, whereas a selection keeps NaN and infinity in the
    padding out of the values as well as out of the gradients (the padding receives gradient zero).

    Args:
        x: padded batch, shape `[B, T, ...]`.
        lengths: valid frames per utterance, shape `[B]`.
        value: what the padding becomes.

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

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Selects which layers, channels and attention heads of a network stay when it is cut to a smaller one.

Channels that belong together form a *group*: the units of one feed-forward layer, or the residual stream of a whole encoder.
``axes`` says along which axis of which weight a group runs: ``{'linear1.weight': {0: 'units', 1: 'stream'}}``. Axis 0 of a
weight produces the channels of a group, and any other axis reads them. An axis may hold several stacked copies of its group,
such as the two halves that a gated linear unit multiplies.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ['evenly_spaced', 'largest', 'largest_in_heads', 'magnitudes', 'nearest_frequencies', 'take']

Axes = Mapping[str, Mapping[int, str]]


def evenly_spaced(count: int, keep: int) -> list[int]:
    """``keep`` indices of ``count``, evenly spaced; the first and the last are among them (of one, the first)."""
    if keep == 1:
        return [0]
    return [(2 * i * (count - 1) + keep - 1) // (2 * (keep - 1)) for i in range(keep)]


def magnitudes(weights: Mapping[str, Tensor], axes: Axes, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """How much each channel of each group carries: the energy of what produces it times the energy of what reads it.

    A channel that nothing produces, or that nothing reads, gets 0. Vectors (biases, norms) and depthwise convolutions, which
    pass every channel on by itself, are left out.

    Args:
        weights: name -> weight.
        axes: see the module.
        sizes: group -> number of its channels.

    Returns:
        Group -> ``[channels]``, float64.
    """
    produced: dict[str, Tensor] = {}
    read: dict[str, Tensor] = {}
    for name, groups in axes.items():
        weight = weights[name]
        if weight.dim() < 2 or weight[0].numel() == weight[0, 0].numel():
            continue
        squares = weight.double().square()
        for axis, group in groups.items():
            energy = squares.sum([other for other in range(weight.dim()) if other != axis])
            energy = energy.view(-1, sizes[group]).sum(0)
            side = produced if axis == 0 else read
            side[group] = side.get(group, 0.0) + energy
    # a group that only one side of the table knows is judged by that side alone
    return {group: produced.get(group, 1.0) * read.get(group, 1.0) for group in {**produced, **read}}


def largest(magnitude: Tensor, keep: int) -> Tensor:
    """Indices of the ``keep`` largest of ``[N]``, in rising order; of equal ones the first."""
    return torch.sort(magnitude, descending=True, stable=True).indices[:keep].sort().values


def largest_in_heads(magnitude: Tensor, heads: int, keep_heads: int, keep_width: int) -> Tensor:
    """Channels ``[keep_heads * keep_width]`` of the largest heads, and of these the largest channels within each head.

    Args:
        magnitude: ``[heads * width]``, the channels of one head after those of another.
        heads: number of heads.
        keep_heads: heads that stay.
        keep_width: channels per head that stay.
    """
    by_head = magnitude.view(heads, -1)
    kept = largest(by_head.sum(1), keep_heads)
    return torch.cat([head * by_head.shape[1] + largest(by_head[head], keep_width) for head in kept])


def nearest_frequencies(old: int, new: int) -> Tensor:
    """Matrix ``[old, new]`` that sums the inputs of ``old`` sinusoidal channels into the nearest of ``new`` frequencies.

    Channels are pairs of sine and cosine; pair ``i`` of a width ``d`` has the frequency ``10000 ** (-2 i / d)``
    (arXiv 1706.03762, section 3.5). Where the ``new`` frequencies are a part of the ``old`` ones, those are matched exactly.
    """
    pair = torch.arange(old // 2, dtype=torch.float64)
    target = (pair * new / old).round().long().clamp(max=new // 2 - 1)
    matrix = torch.zeros(old, new)
    for part in range(2):
        matrix[2 * torch.arange(old // 2) + part, 2 * target + part] = 1.0
    return matrix


def take(
    weights: Mapping[str, Tensor], axes: Axes, sizes: Mapping[str, int], chosen: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights with only the chosen channels of each group; groups that are not in ``chosen`` stay whole."""
    cut = dict(weights)
    for name, groups in axes.items():
        for axis, group in groups.items():
            if group in chosen:
                copies = cut[name].shape[axis] // sizes[group]
                index = torch.cat([chosen[group] + copy * sizes[group] for copy in range(copies)])
                cut[name] = cut[name].index_select(axis, index)
    return cut

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Cuts a `ConformerEncoder` (Conformer, FastConformer, cache-aware or not) to fewer and narrower layers.

The residual stream is one group of channels for the whole encoder: the same channels stay in the output of the subsampling, in
every layer, and in what reads the encoder. The units of a feed-forward module, the heads and the inner channels of a
convolution are chosen layer by layer.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from nemo_oracle_kd.bridge.cut.request import CutEncoder, CutRequest, chosen_layers, one_of, refuse
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional.selection import largest, largest_in_heads, magnitudes, nearest_frequencies, take

__all__ = ['cut_conformer']

_LAYER = re.compile(r'encoder\.layers\.(\d+)\.(.+)')
#: weight of a layer -> axis -> group of channels; every group but `stream` is the layer's own
_LAYER_AXES: dict[str, dict[int, str]] = {
    r'norm_\w+\.(weight|bias)': {0: 'stream'},
    r'feed_forward1\.linear1\.(weight|bias)': {0: 'ff1', 1: 'stream'},
    r'feed_forward1\.linear2\.(weight|bias)': {0: 'stream', 1: 'ff1'},
    r'feed_forward2\.linear1\.(weight|bias)': {0: 'ff2', 1: 'stream'},
    r'feed_forward2\.linear2\.(weight|bias)': {0: 'stream', 1: 'ff2'},
    r'self_attn\.(linear|global)_[qkv]\.(weight|bias)': {0: 'heads', 1: 'stream'},
    r'self_attn\.linear_out\.(weight|bias)': {0: 'stream', 1: 'heads'},
    r'self_attn\.(linear_pos\.weight|pos_bias_[uv])': {0: 'heads'},
    r'conv\.pointwise_conv1\.(weight|bias)': {0: 'conv', 1: 'stream'},
    r'conv\.depthwise_conv\.(weight|bias)': {0: 'conv'},
    r'conv\.batch_norm\.(weight|bias|running_mean|running_var)': {0: 'conv'},
    r'conv\.pointwise_conv2\.(weight|bias)': {0: 'stream', 1: 'conv'},
    r'conv\.batch_norm\.num_batches_tracked': {},
}
_PRE_ENCODE = re.compile(r'encoder\.pre_encode\.(?:(?:out|proj_out)\.)?(weight|bias)')
_SCALED_BY_HEAD_WIDTH = re.compile(r'.*self_attn\.((linear|global)_q\.(weight|bias)|pos_bias_[uv])')


def cut_conformer(
    encoder: Any, config: Mapping[str, Any], weights: Mapping[str, Tensor], readers: Sequence[str], request: CutRequest
) -> CutEncoder:
    """Cuts the weights of a model with a `ConformerEncoder`.

    Args:
        encoder: the encoder.
        config: its config.
        weights: weights of the whole model.
        readers: names of the weights outside the encoder whose axis 1 reads its output.
        request: what is to stay.

    Raises:
        ConfigError: the request cannot be met for this encoder.
    """
    refuse(request, ('filters', 'repeats'), 'Conformer')
    if encoder.reduction_position is not None:
        raise ConfigError("the encoder reduces the frame rate between its layers, which is not supported: use another")
    layers = chosen_layers(request, len(encoder.layers), {})
    kept = _renumbered(weights, layers)
    shape = _Shape(encoder, request)
    changes = {'n_layers': len(layers), **shape.config(config)}
    if shape.unchanged:
        return CutEncoder(kept, changes, layers, shape.output_width)
    return CutEncoder(_narrowed(kept, encoder, readers, shape), changes, layers, shape.output_width)


def _renumbered(weights: Mapping[str, Tensor], layers: Sequence[int]) -> dict[str, Tensor]:
    new_number = {str(old): new for new, old in enumerate(layers)}
    kept = {}
    for name, weight in weights.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            kept[name] = weight
        elif match[1] in new_number:
            kept[f'encoder.layers.{new_number[match[1]]}.{match[2]}'] = weight
    return kept


class _Shape:
    """Old and new widths of an encoder.

    Raises:
        ConfigError: a width is not possible.
    """

    def __init__(self, encoder: Any, request: CutRequest):
        layer = encoder.layers[0]
        self.old_width, self.old_heads = encoder.d_model, layer.self_attn.h
        self.old_ff = layer.feed_forward1.linear1.out_features
        self.old_head_width = self.old_width // self.old_heads
        self.width = self.old_width if request.d_model is None else request.d_model
        one_of('--d-model', self.width, range(2, self.old_width + 1, 2))
        allowed = self._possible_heads()
        if not allowed:
            raise ConfigError(
                f"--d-model {self.width} cannot be shared out to heads of at most {self.old_head_width} channels: give a multiple "
                f"of {self.old_head_width}"
            )
        as_wide_as_they_were = self.width // self.old_head_width
        default = as_wide_as_they_were if not self.width % self.old_head_width else allowed[-1]
        self.heads = default if request.heads is None else request.heads
        if self.heads not in allowed:
            raise ConfigError(
                f"--heads {self.heads} is not possible with a d_model of {self.width}, because the heads share it equally and "
                f"none can grow beyond its {self.old_head_width} channels: give --heads {' or '.join(map(str, allowed))}, or "
                "another --d-model"
            )
        self.head_width = self.width // self.heads
        self.ff = self.old_ff // self.old_width * self.width if request.ff is None else request.ff
        if not 0 < self.ff <= self.old_ff or self.ff % self.width:
            most = self.old_ff // self.width * self.width
            raise ConfigError(
                f"--ff {self.ff} is not possible, because NeMo's config gives the {self.old_ff} units as a whole multiple of "
                f"d_model ({self.width}): give {self.width}"
                + (f", or a multiple of it up to {most}" if most > self.width else '')
            )
        narrower = self.width < self.old_width
        if narrower and encoder.self_attention_model == 'abs_pos':
            raise ConfigError(
                "--d-model cannot cut an encoder with absolute positions, which are added to its channels: cut --layers or --ff"
            )
        if narrower and all(getattr(encoder.pre_encode, name, None) is None for name in ('out', 'proj_out', 'weight')):
            raise ConfigError(
                "--d-model cannot cut an encoder whose subsampling ends in a convolution: cut --layers or --ff instead"
            )
        groups = getattr(layer.conv.batch_norm, 'num_groups', 1)
        if self.width % groups:
            raise ConfigError(
                f"--d-model {self.width} is not a multiple of the {groups} groups of the norm: give a multiple of {groups}"
            )
        self.output_width = self.width if encoder.out_proj is None else encoder.out_proj.out_features

    def _possible_heads(self) -> list[int]:
        counts = range(1, self.old_heads + 1)
        return [n for n in counts if not self.width % n and self.width // n <= self.old_head_width]

    @property
    def unchanged(self) -> bool:
        return (self.width, self.heads, self.ff) == (self.old_width, self.old_heads, self.old_ff)

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Keys of the encoder's config that change."""
        if self.unchanged:
            return {}
        changes = {'d_model': self.width, 'n_heads': self.heads, 'ff_expansion_factor': self.ff // self.width}
        if config.get('subsampling_conv_channels', -1) == -1:  # which means d_model
            changes['subsampling_conv_channels'] = self.old_width
        return changes


def _narrowed(weights: dict[str, Tensor], encoder: Any, readers: Sequence[str], shape: _Shape) -> dict[str, Tensor]:
    biases = [getattr(layer.self_attn, 'pos_bias_u', None) for layer in encoder.layers]
    tied = len(biases) > 1 and biases[0] is not None and biases[0] is biases[1]  # untie_biases: false
    flat = {name: weight.flatten() if 'pos_bias_' in name else weight for name, weight in weights.items()}
    axes = _axes(flat, readers if encoder.out_proj is None else ['encoder.out_proj.weight'], tied)
    old = {'stream': shape.old_width, 'conv': shape.old_width, 'heads': shape.old_width}
    new = {'stream': shape.width, 'conv': shape.width, 'ff1': shape.ff, 'ff2': shape.ff}
    groups = {group for of_one in axes.values() for group in of_one.values()}
    sizes = {group: old.get(group.partition('@')[0], shape.old_ff) for group in groups}
    chosen = {}
    for group, magnitude in magnitudes(flat, axes, sizes).items():
        kind = group.partition('@')[0]
        if kind == 'heads':
            chosen[group] = largest_in_heads(magnitude, shape.old_heads, shape.heads, shape.head_width)
        else:
            chosen[group] = largest(magnitude, new[kind])
    return {name: _rescaled(name, weight, encoder, shape) for name, weight in take(flat, axes, sizes, chosen).items()}


def _axes(weights: Mapping[str, Tensor], readers: Sequence[str], tied: bool) -> dict[str, dict[int, str]]:
    """The groups along the axes of every weight.

    Raises:
        ConfigError: a layer has weights of another kind.
    """
    axes: dict[str, dict[int, str]] = {name: {1: 'stream'} for name in readers}
    for name, weight in weights.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            if _PRE_ENCODE.fullmatch(name):
                axes[name] = {0: 'stream'}
            continue
        found = next((entry for pattern, entry in _LAYER_AXES.items() if re.fullmatch(pattern, match[2])), None)
        if found is None:
            raise ConfigError(
                f"the encoder's layers hold {match[2]} (an adapter?), whose channels cannot be chosen: cut --layers alone, or use "
                "a model without it"
            )
        own = {axis: group for axis, group in found.items() if axis < weight.dim()}
        shared = {'stream', 'heads'} if tied else {'stream'}
        axes[name] = {axis: group if group in shared else f'{group}@{match[1]}' for axis, group in own.items()}
    return axes


def _rescaled(name: str, weight: Tensor, encoder: Any, shape: _Shape) -> Tensor:
    """Undoes what the width alone would change: `xscaling`, the scale of attention scores, the frequencies of the positions."""
    if encoder.xscale and _PRE_ENCODE.fullmatch(name):
        weight = weight * math.sqrt(shape.old_width / shape.width)
    if _SCALED_BY_HEAD_WIDTH.fullmatch(name):
        weight = weight * math.sqrt(shape.head_width / shape.old_head_width)
    if name.endswith('self_attn.linear_pos.weight') and shape.width < shape.old_width:
        weight = weight @ nearest_frequencies(shape.old_width, shape.width).to(weight)
    return weight.view(shape.heads, shape.head_width) if 'pos_bias_' in name else weight

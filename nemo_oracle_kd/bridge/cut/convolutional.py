# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Cuts a `ConvASREncoder` (Jasper, QuartzNet, Citrinet, ContextNet) to fewer blocks, fewer repeats and fewer filters.

NeMo joins every residual through a convolution of its own, so the filters of each block, and of each of its repeats, are chosen
by themselves. A filter that is zero, norm included, can go without any effect.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from nemo_oracle_kd.bridge.cut.request import CutEncoder, CutRequest, chosen_layers, refuse
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional.selection import evenly_spaced, largest, magnitudes, take

__all__ = ['cut_convolutional', 'needed_blocks']

_BLOCK = re.compile(r'encoder\.encoder\.(\d+)\.(?:mconv\.(\d+)\.)?(.+)')


def cut_convolutional(
    encoder: Any, config: Mapping[str, Any], weights: Mapping[str, Tensor], readers: Sequence[str], request: CutRequest
) -> CutEncoder:
    """Cuts the weights of a model with a `ConvASREncoder`; arguments and errors as those of `cut_conformer`."""
    refuse(request, ('d_model', 'heads', 'ff'), 'convolutional encoder')
    layers = chosen_layers(request, len(encoder.encoder), needed_blocks(encoder))
    blocks = [copy.deepcopy(dict(config['jasper'][layer])) for layer in layers]
    if request.repeats is not None and request.repeats < 1:
        raise ConfigError(
            f"--repeats {request.repeats} is not possible, because a block has at least one: give 1 or more"
        )
    parts = [_kept_parts(encoder.encoder[layer], block, request.repeats) for layer, block in zip(layers, blocks)]
    kept = _renumbered(weights, layers, parts)
    if request.filters is not None:
        if not 0 < request.filters <= 1:
            raise ConfigError(
                f"--filters {request.filters:g} is not a share: give one above 0 and at most 1, such as 0.5"
            )
        if config.get('normalization_mode', 'batch') not in ('batch', 'instance'):
            raise ConfigError(
                "--filters cannot cut an encoder whose norms mix the filters: cut --layers or --repeats instead"
            )
        modules = [
            (encoder.encoder[layer], [encoder.encoder[layer].mconv[old] for old in part])
            for layer, part in zip(layers, parts)
        ]
        kept = _fewer_filters(kept, blocks, modules, readers, request.filters)
    return CutEncoder(kept, {'jasper': blocks}, layers, int(blocks[-1]['filters']))


def needed_blocks(encoder: Any) -> dict[int, str]:
    """Blocks that have to stay, with the reason: those that change the frame rate or the number of channels."""
    needed = {}
    for number, block in enumerate(encoder.encoder):
        strides = {_convolution(part).stride[0] for part in block.mconv if _convolution(part) is not None}
        if strides != {1}:
            needed[number] = 'changes the frame rate'
        elif block.inplanes != block.planes:
            needed[number] = 'changes the number of channels'
        elif encoder.dense_residual:
            needed[number] = 'is read by the dense residuals behind it'
    return needed


def _convolution(module: nn.Module) -> nn.Conv1d | None:
    inner = getattr(module, 'conv', module)  # MaskedConv1d holds the convolution
    return inner if isinstance(inner, nn.Conv1d) else None


def _kept_parts(block: Any, config: dict[str, Any], most: int | None) -> list[int]:
    """Indices of the modules of a block that stay when it has at most `most` repeats; `config` is changed to that number."""
    repeats = int(config['repeat'])
    every_repeat_strides = int(config['stride'][0]) > 1 and not config.get('stride_last', False)
    if most is None or most >= repeats or every_repeat_strides:
        return list(range(len(block.mconv)))
    changes_channels = block.inplanes != block.planes  # in its first repeat
    if most > 1 or (changes_channels and int(config['stride'][0]) > 1):  # the stride is in the last repeat
        chosen = evenly_spaced(repeats, max(most, 2))
    else:
        chosen = [0 if changes_channels else repeats - 1]
    config['repeat'] = len(chosen)
    # all repeats but the last end in activation and dropout, and squeeze and excitation may follow the last one
    size = next(index for index, part in enumerate(block.mconv) if isinstance(part, nn.Dropout)) + 1
    tail = range(repeats * size - 2, len(block.mconv))
    parts = [part for repeat in chosen[:-1] for part in range(repeat * size, repeat * size + size)]
    return [*parts, *range(chosen[-1] * size, chosen[-1] * size + size - 2), *tail]


def _renumbered(
    weights: Mapping[str, Tensor], layers: Sequence[int], parts: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    block_number = {str(old): new for new, old in enumerate(layers)}
    part_number = [{str(old): new for new, old in enumerate(part)} for part in parts]
    kept = {}
    for name, weight in weights.items():
        match = _BLOCK.fullmatch(name)
        if match is None:
            kept[name] = weight
            continue
        block = block_number.get(match[1])
        if block is None or (match[2] is not None and match[2] not in part_number[block]):
            continue
        part = '' if match[2] is None else f'mconv.{part_number[block][match[2]]}.'
        kept[f'encoder.encoder.{block}.{part}{match[3]}'] = weight
    return kept


class _Filters:
    """The groups of filters of an encoder, found by following its blocks from input to output.

    Attributes:
        axes: weight -> axis -> group, for `functional.selection`.
        sizes: group -> filters.
        keep: group -> filters that stay.
    """

    def __init__(self, share: float):
        self.share = share
        self.axes: dict[str, dict[int, str]] = {}
        self.sizes: dict[str, int] = {}
        self.keep: dict[str, int] = {}

    def follow(
        self, prefix: str, parts: Sequence[nn.Module], block: Any, inputs: list[str | None], config: Any
    ) -> str:
        """Adds a block, whose `config` is changed to the new number of filters; returns the group of its output."""
        output, keep = f'{prefix}.out', max(1, round(self.share * block.planes))
        config['filters'] = keep
        last = max(number for number, part in enumerate(parts) if _convolution(part) is not None)
        current = inputs[-1]
        for number, part in enumerate(parts):
            name = f'{prefix}.mconv.{number}'
            if hasattr(part, 'fc'):  # squeeze and excitation
                hidden, size = f'{name}.hidden', part.fc[0].out_features
                self._group(hidden, size, keep // (block.planes // size))
                self._axes(f'{name}.fc.0.weight', {0: hidden, 1: current})
                self._axes(f'{name}.fc.2.weight', {0: current, 1: hidden})
            elif _convolution(part) is not None and _convolution(part).groups == 1:
                made = output if number == last else name
                self._group(made, block.planes, keep)
                self._weight(name, part, {0: made, 1: current})
                current = made
            elif _convolution(part) is not None:
                self._weight(name, part, {0: current})
            else:
                self._vectors(name, part, current)
        for index, (pane, (convolution, norm)) in enumerate(zip(inputs, block.res or [])):
            self._weight(f'{prefix}.res.{index}.0', convolution, {0: output, 1: pane})
            self._vectors(f'{prefix}.res.{index}.1', norm, output)
        return output

    def _group(self, name: str, size: int, keep: int) -> None:
        if keep < 1:
            raise ConfigError(
                f"--filters {self.share:g} leaves nothing of squeeze and excitation: give a larger share"
            )
        self.sizes[name], self.keep[name] = size, keep

    def _axes(self, name: str, groups: Mapping[int, str | None]) -> None:
        self.axes[name] = {axis: group for axis, group in groups.items() if group is not None}

    def _weight(self, name: str, part: nn.Module, groups: Mapping[int, str | None]) -> None:
        self._axes(f'{name}.conv.weight' if hasattr(part, 'conv') else f'{name}.weight', groups)

    def _vectors(self, name: str, norm: nn.Module, group: str | None) -> None:
        for vector, value in norm.state_dict().items():
            if value.dim() == 1:
                self._axes(f'{name}.{vector}', {0: group})


def _fewer_filters(
    weights: dict[str, Tensor],
    configs: list[dict[str, Any]],
    blocks: Sequence[tuple[Any, list[nn.Module]]],
    readers: Sequence[str],
    share: float,
) -> dict[str, Tensor]:
    """Keeps a share of the filters of every block, given with those of its modules that stay; changes `configs`."""
    filters, group, dense = _Filters(share), None, []
    for number, (config, (block, parts)) in enumerate(zip(configs, blocks)):
        if int(config.get('groups', 1)) > 1 or int(config.get('heads', -1)) > 0:
            raise ConfigError(
                "--filters cannot cut convolutions with groups or heads: cut --layers or --repeats instead"
            )
        if config.get('residual_dense', False):
            dense.append(group)
        inputs = list(dense) if config.get('residual_dense', False) else [group]
        group = filters.follow(f'encoder.encoder.{number}', parts, block, inputs, config)
    for name in readers:
        filters.axes[name] = {1: group}
    # squeeze and excitation scales filters, but does not produce them
    judged = {
        name: {1: groups[1]} if name.endswith('.fc.2.weight') else groups for name, groups in filters.axes.items()
    }
    found = magnitudes(weights, judged, filters.sizes)
    chosen = {one: largest(magnitude, filters.keep[one]) for one, magnitude in found.items()}
    return take(weights, filters.axes, filters.sizes, chosen)

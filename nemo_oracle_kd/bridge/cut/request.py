# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What a user asks to keep of a model, and the choice of layers that follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional.selection import evenly_spaced

__all__ = ['CutEncoder', 'CutRequest', 'chosen_layers', 'one_of', 'refuse']


@dataclass(frozen=True)
class CutRequest:
    """What is to stay of a model; `None` keeps all.

    Attributes:
        layers: numbers of the layers of a Conformer, or of the blocks of a convolutional encoder, from 0.
        keep: number of layers or blocks, evenly spaced; instead of `layers`.
        d_model: width of a Conformer.
        heads: attention heads of each layer.
        ff: units of each feed-forward module.
        filters: share of the filters of each block of a convolutional encoder, above 0 and at most 1.
        repeats: largest number of repeats of a block.
    """

    layers: tuple[int, ...] | None = None
    keep: int | None = None
    d_model: int | None = None
    heads: int | None = None
    ff: int | None = None
    filters: float | None = None
    repeats: int | None = None


class CutEncoder(NamedTuple):
    """A cut encoder.

    Attributes:
        weights: all weights of the model under the names in the smaller one.
        config: keys of `encoder` that change.
        layers: numbers of the layers that stayed.
        width: channels of its output.
    """

    weights: dict[str, Tensor]
    config: Mapping[str, Any]
    layers: list[int]
    width: int


def chosen_layers(request: CutRequest, count: int, needed: Mapping[int, str]) -> list[int]:
    """Numbers of the layers that stay.

    Args:
        request: `layers` or `keep` or neither.
        count: layers of the encoder.
        needed: layers that must stay -> the reason.

    Raises:
        ConfigError: there are no such layers, or one that is needed would go.
    """
    free = [layer for layer in range(count) if layer not in needed]
    if request.layers is not None:
        layers = list(request.layers)
        out_of_range = [layer for layer in layers if not 0 <= layer < count]
        if out_of_range:
            raise ConfigError(
                f"--layers names layer {out_of_range[0]}, but the encoder has the layers 0 to {count - 1}: name only these"
            )
        if layers != sorted(set(layers)) or not layers:
            raise ConfigError("--layers must name each layer once, in rising order, such as --layers 0,4,8")
        missing = [layer for layer in needed if layer not in layers]
        if missing:
            raise ConfigError(f"layer {missing[0]} {needed[missing[0]]} and has to stay: add {missing[0]} to --layers")
        return layers
    if request.keep is None:
        return list(range(count))
    if not max(1, len(needed)) <= request.keep <= count:
        least = max(1, len(needed))
        raise ConfigError(
            f"--keep {request.keep} is not possible, because the encoder has {count} layers"
            + (f", of which {least} have to stay" if least > 1 else '')
            + f": give a number from {least} to {count}"
        )
    spare = request.keep - len(needed)
    return sorted([*needed, *(free[i] for i in evenly_spaced(len(free), spare))]) if spare else sorted(needed)


def one_of(option: str, value: int, allowed: Sequence[int]) -> None:
    """Refuses a number that is not allowed, with those that are.

    Raises:
        ConfigError: names them, or the nearest ones of many.
    """
    if value not in allowed:
        near = sorted(sorted(allowed, key=lambda other: abs(other - value))[:6])
        raise ConfigError(
            f"{option} {value} is not possible here: give {', '.join(map(str, near[:-1]))} or {near[-1]}"
        )


def refuse(request: CutRequest, options: Sequence[str], kind: str) -> None:
    """Refuses options that another kind of encoder has.

    Raises:
        ConfigError: one of them is set.
    """
    given = [f'--{option.replace("_", "-")}' for option in options if getattr(request, option) is not None]
    if given:
        raise ConfigError(f"{given[0]} has no meaning for a {kind}: leave it out")

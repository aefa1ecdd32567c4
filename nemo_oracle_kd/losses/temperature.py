# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The range of temperatures, the same for every objective that divides logits by one."""

from collections.abc import Iterator

__all__ = ['temperature_problems']

#: beyond these, float32 logits divided by the temperature overflow or are all equal
LOWEST, HIGHEST = 1e-3, 1e3


def temperature_problems(temperature: float, path: str) -> Iterator[str]:
    """What is wrong with the field `temperature` of the config at `path`."""
    if not LOWEST <= temperature <= HIGHEST:
        yield (
            f"`{path}.temperature` must be a number greater than 0, from {LOWEST:g} to {HIGHEST:g}, not {temperature}: the usual "
            "ones lie between 1 and 4"
        )

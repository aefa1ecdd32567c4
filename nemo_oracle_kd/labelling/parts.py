# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Puts the parts of one run that several machines have made in order, before they are joined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.journal import first_difference

__all__ = ['Part', 'parts_in_order']


@dataclass(frozen=True)
class Part:
    """A finished part.

    Attributes:
        path: of it, for messages.
        number: from 0.
        count: of all parts.
        settings: of the run, equal in all its parts.
    """

    path: Path
    number: int
    count: int
    settings: Mapping[str, Any]


def parts_in_order(parts: Sequence[Part], again: str) -> list[Part]:
    """The parts by their numbers, each there exactly once.

    Args:
        parts: in any order, at least one.
        again: how a missing part is made, with places for its `number` and their `count`, such as `score it with --shard {number}`.

    Raises:
        ConfigError: a part is missing or given twice, or belongs to another run.
    """
    first, by_number, problems = parts[0], dict[int, Part](), list[str]()
    for part in parts:
        difference = first_difference(first.settings, part.settings)
        if part.count != first.count:
            problems.append(
                f"{part.path} is one of {part.count} parts and {first.path} one of {first.count}: give the parts of one run"
            )
        elif difference:
            verb = again.split()[0]
            problems.append(
                f"{part.path} belongs to another run than {first.path} ({difference[:300]}): {verb} it with the same settings"
            )
        elif part.number in by_number:
            problems.append(
                f"{part.path} and {by_number[part.number].path} are both part {part.number} of {part.count}: leave one out"
            )
        else:
            by_number[part.number] = part
    missing = [number for number in range(first.count) if number not in by_number]
    if missing and not problems:
        names = ', '.join(map(str, missing))
        mend = again.format(number=missing[0], count=first.count)
        problems.append(f"of {first.count} parts there is no part {names}: {mend}")
    ConfigError.raise_if_any(problems)
    return [by_number[number] for number in range(first.count)]

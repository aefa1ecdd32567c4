# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Mistakes of rows, counted by kind, so that one sentence speaks of all rows that share one."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ['Findings', 'Sample']


class Findings:
    """Counts mistakes and remembers where the first of each kind is.

    Args:
        sentences: kind of mistake -> what is said of the rows that have it, with the fix.
    """

    def __init__(self, sentences: Mapping[str, str]):
        self._sentences = sentences
        self._found: dict[str, list[Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, kind: str, line: Any, what: str = '') -> None:
        """Counts a mistake.

        Args:
            kind: of the mistake.
            line: the manifest line.
            what: shown with the first of its kind.
        """
        entry = self._found.get(kind)
        if entry is None:
            self._found[kind] = [1, f"{line}{f', {what}' if what else ''}"]
        else:
            entry[0] += 1

    def sentences(self, rows: int) -> Iterator[str]:
        """One sentence for each kind.

        Args:
            rows: how many rows were looked at.
        """
        for kind, (count, first) in self._found.items():
            yield f"{count} of {rows} rows of model.train_ds (the first: {first}) {self._sentences[kind]}"


class Sample:
    """A fixed random sample of a stream of unknown length.

    Args:
        size: of the sample; a shorter stream is kept whole.
    """

    def __init__(self, size: int):
        self.size, self.seen = size, 0
        self.kept: list[Any] = []
        self._random = random.Random(0).random

    def wants(self) -> bool:
        """Whether the next of the stream is to be handed to :meth:`keep`; counts it."""
        self.seen += 1
        return self.seen <= self.size or self._random() * self.seen < self.size

    def keep(self, value: Any) -> None:
        """Takes what was wanted."""
        if len(self.kept) < self.size:
            self.kept.append(value)
        else:
            self.kept[int(self._random() * self.size)] = value

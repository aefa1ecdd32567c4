# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Counts the mistakes of manifest rows by kind, so that one sentence covers all rows with the same mistake."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ['Findings', 'Sample']


class Findings:
    """Counts mistakes and remembers where the first of each kind is.

    Args:
        sentences: kind of mistake -> end of the sentence about the rows that have it, with the fix.
        of: where the rows come from, for messages.
    """

    def __init__(self, sentences: Mapping[str, str], of: str = 'model.train_ds'):
        self._sentences, self._of = sentences, of
        self._found: dict[str, list[Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, kind: str, line: Any, what: str = '') -> None:
        """Counts a mistake.

        Args:
            kind: a key of `sentences`.
            line: the manifest line.
            what: detail that is shown with the first mistake of its kind.
        """
        entry = self._found.get(kind)
        if entry is None:
            self._found[kind] = [1, f"{line}{f', {what}' if what else ''}"]
        else:
            entry[0] += 1

    def sentences(self, rows: int) -> Iterator[str]:
        """Yields one sentence for each kind of mistake.

        Args:
            rows: number of rows that were checked.
        """
        for kind, (count, first) in self._found.items():
            yield f"{count} of {rows} rows of {self._of} (the first: {first}) {self._sentences[kind]}"


class Sample:
    """A fixed random sample of a stream of unknown length (reservoir sampling).

    Args:
        size: size of the sample; a shorter stream is kept whole.
    """

    def __init__(self, size: int):
        self.size, self.seen = size, 0
        self.kept: list[Any] = []
        self._random = random.Random(0).random

    def wants(self) -> bool:
        """Counts the next value of the stream and tells whether it must be handed to :meth:`keep`."""
        self.seen += 1
        return self.seen <= self.size or self._random() * self.seen < self.size

    def keep(self, value: Any) -> None:
        """Adds a value for which :meth:`wants` was true."""
        if len(self.kept) < self.size:
            self.kept.append(value)
        else:
            self.kept[int(self._random() * self.size)] = value

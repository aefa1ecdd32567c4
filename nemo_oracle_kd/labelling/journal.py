# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Keeps a journal of finished batches, so that a killed run loses at most the batch that it was working on.

The first line identifies the run, and each further line holds the results of one batch. Only complete lines count.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_oracle_kd.errors import ConfigError

__all__ = ['Journal', 'first_difference']

Entry = tuple[int, Any]


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = '') -> str:
    """Names the first setting in which two runs differ, with both values; empty if they agree."""
    for key in [*before, *(key for key in now if key not in before)]:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = first_difference(old, new, f'{prefix}{key}.')
            if inner:
                return inner
        elif old != new:
            return f'{prefix}{key} was {json.dumps(old)} and is now {json.dumps(new)}'
    return ''


class Journal:
    """Opens or starts a journal, and locks it against a second writer until it is closed.

    Args:
        path: path of the journal.
        header: settings that identify the run; a journal with another header is refused.
        volatile: keys of the header that may change from one start to the next.

    Raises:
        ConfigError: the journal belongs to another run, is damaged, or another process writes it.
    """

    def __init__(self, path: Path, header: dict[str, Any], volatile: tuple[str, ...] = ()):
        self.path = Path(path)
        self._file = open(path, 'a+b')
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConfigError(f"another process is writing {path}: wait for it, or give another output") from None
        try:
            self.entries = self._read(header, volatile)
        except BaseException:
            self.close()
            raise

    def _read(self, header: dict[str, Any], volatile: tuple[str, ...]) -> list[Entry]:
        self._file.seek(0)
        content = self._file.read()
        complete = content.rfind(b'\n') + 1
        if complete < len(content):  # the line that the kill cut in two
            self._file.truncate(complete)
        lines = content[:complete].split(b'\n')[:-1]
        self._file.seek(0, os.SEEK_END)
        if not lines:
            self._write(header)
            return []
        try:
            written, *batches = (json.loads(line) for line in lines)
        except ValueError as error:
            raise ConfigError(f"{self.path} is damaged ({error}): remove it to start again") from None
        # the header goes through JSON, because JSON does not distinguish lists from tuples
        wanted = json.loads(json.dumps(header))
        kept = [{key: value for key, value in of.items() if key not in volatile} for of in (written, wanted)]
        difference = first_difference(*kept)
        if difference:
            raise ConfigError(
                f"{self.path} was started by a different run ({difference}): resume with the same settings, give another "
                "--output, or remove the file to start again"
            )
        return [(index, result) for batch in batches for index, result in batch]

    def add(self, batch: list[Entry]) -> None:
        """Writes the results of a batch to disk, so that they survive the end of the process."""
        self._write(batch)
        self.entries.extend(batch)

    def _write(self, value: Any) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False).encode('utf-8') + b'\n')
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file and releases its lock."""
        self._file.close()

    def remove(self) -> None:
        """Closes and deletes the journal."""
        self.path.unlink(missing_ok=True)
        self.close()

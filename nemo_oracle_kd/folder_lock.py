# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""One writer at a time in a folder, by a lock that ends with its process, however that ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ['FolderBusy', 'locked']

LOCK_NAME = '.lock'


class FolderBusy(RuntimeError):
    """Somebody else works in the folder; the message says who and what to do."""


@contextmanager
def locked(folder: str | Path, busy: str) -> Iterator[None]:
    """Holds the lock of a folder, which is made if need be.

    Args:
        folder: where the file `.lock` is put; it stays there, which means nothing.
        busy: sentence for the case that another process, or another part of this one, holds the lock.

    Raises:
        FolderBusy: with that sentence.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / LOCK_NAME, 'w') as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderBusy(busy) from None
        yield

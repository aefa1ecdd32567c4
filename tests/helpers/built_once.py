# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Files that are expensive to make are made once for all processes of a run of the tests, not once in each."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest


def built_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Folder `name` as `build(folder)` fills it, which the first process that asks does while the others wait.

    Tests only read what is there. A build that fails is tried anew by whoever asks next.
    """
    root = factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:  # the base folder of a process lies in that of the whole run
        root = root.parent
    folder, done = root / 'built_once' / name, root / 'built_once' / f'{name}.done'
    folder.parent.mkdir(exist_ok=True)
    with filelock.FileLock(f'{folder}.lock'):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            done.touch()
    return folder

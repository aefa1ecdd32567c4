# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What tests of signals ask the system: which processes a process has started, and whether they have ended."""

import time
from collections.abc import Sequence
from pathlib import Path


def children_of(process: int) -> list[int]:
    """Processes that the main thread of a process has started."""
    return [int(child) for child in Path(f'/proc/{process}/task/{process}/children').read_text().split()]


def _runs(process: int) -> bool:
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def have_ended(processes: Sequence[int], seconds: float = 5.0) -> bool:
    """Whether all processes end within some seconds; one that nobody has waited for counts as ended."""
    deadline = time.monotonic() + seconds
    while any(map(_runs, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(_runs, processes))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A stopwatch for training that stands still during validation.

Both callbacks about time use it, so that the seconds in a run's record are the seconds of its budget.
"""

from __future__ import annotations

import time

#: name in a config -> what is read
CLOCKS = {'wall': time.monotonic, 'cpu': time.process_time}


class TrainingClock:
    """Seconds of training, over all starts of a resumed run.

    It runs between :meth:`start` and :meth:`stop`. What was measured before an interruption is put back with
    :meth:`set`.

    Args:
        kind: ``wall`` counts seconds as they pass. ``cpu`` counts the processor seconds of this process, all its threads
            together: on a CPU that other work shares, two models still get the same share of it. It does not count data
            loader workers, nor a GPU.
    """

    def __init__(self, kind: str = 'wall') -> None:
        self._now = CLOCKS[kind]
        self._before = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self._before + (self._now() - self._since if self._since is not None else 0.0)

    def start(self) -> None:
        """Goes on; does nothing if it runs already."""
        if self._since is None:
            self._since = self._now()

    def stop(self) -> None:
        """Stands still; does nothing if it does so already."""
        self._before, self._since = self.seconds, None

    def set(self, seconds: float) -> None:
        """Sets the seconds so far, running or not."""
        self._before = float(seconds)
        if self._since is not None:
            self._since = self._now()

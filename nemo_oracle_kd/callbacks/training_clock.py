# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A stopwatch for training that stops during validation.

Both callbacks that measure time use it, so the seconds in the record of a run are the seconds of its budget.
"""

from __future__ import annotations

import time

#: name in a config -> function that reads the clock
CLOCKS = {'wall': time.monotonic, 'cpu': time.process_time}


class TrainingClock:
    """Counts seconds of training, over all parts of a resumed run.

    It runs between :meth:`start` and :meth:`stop`. :meth:`set` restores what was measured before an interruption.

    Args:
        kind: ``wall`` counts elapsed seconds. ``cpu`` counts the processor seconds of this process, over all its threads, so
            that two models get the same computing time on a CPU that they share with other work. It counts neither data
            loader workers nor a GPU.
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
        """Starts the clock; does nothing if it runs already."""
        if self._since is None:
            self._since = self._now()

    def stop(self) -> None:
        """Stops the clock; does nothing if it is stopped already."""
        self._before, self._since = self.seconds, None

    def set(self, seconds: float) -> None:
        """Sets the seconds so far, whether or not the clock runs."""
        self._before = float(seconds)
        if self._since is not None:
            self._since = self._now()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Shows the progress of a set of jobs on the terminal: one bar for all jobs, and one line for each running job."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

from tqdm import tqdm


def clock(seconds: float) -> str:
    """Formats a duration: ``75`` -> ``1:15``, ``3700`` -> ``1:01:40``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'


def last_metrics(path: str | Path | None) -> dict:
    """Returns the last complete line of a run record, or ``{}`` while there is none.

    Only the end of the file is read, because the display asks often. The last line may be incomplete while it is written.
    """
    if path is None or not Path(path).is_file():
        return {}
    with open(path, 'rb') as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - 8192))
        lines = stream.read().split(b'\n')[:-1]  # what follows the last newline is not complete
    for line in reversed(lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            return row
    return {}


def describe(row: dict) -> str:
    """Describes a line of a run record in a short phrase: the update and the validation WER in percent."""
    parts = []
    if row.get('update') is not None:
        of = f"/{row['max_updates']}" if row.get('max_updates') else ''
        parts.append(f"update {row['update']}{of}")
    if row.get('val_wer') is not None:
        parts.append(f"val WER {100 * row['val_wer']:.1f} %")
    return ', '.join(parts)


class Progress:
    """Shows which jobs start, run and end.

    On a terminal there is one line per running job, rewritten in place. In a log file, where lines cannot be rewritten, a
    line is added when a job starts or ends, and about every two minutes for each running job.

    Args:
        total: number of jobs.
        slots: number of jobs that may run at a time.
        enabled: ``False`` for no output at all.
        stream: where to write; standard error by default.
    """

    QUIET_SECONDS = 120.0

    def __init__(self, total: int, slots: int, enabled: bool = True, stream: TextIO | None = None) -> None:
        stream = stream or sys.stderr
        self._enabled = enabled
        self._in_place = enabled and stream.isatty()
        self._stream = stream
        self._total = tqdm(
            total=total,
            desc='jobs',
            unit='job',
            file=stream,
            disable=not self._in_place,
            position=0,
            dynamic_ncols=True,
        )
        self._lines = [
            tqdm(
                total=0, bar_format='  {desc}', file=stream, disable=not self._in_place, position=slot + 1, leave=False
            )
            for slot in range(slots)
        ]
        self._slot_of: dict[str, int] = {}
        self._last_said: dict[str, float] = {}
        self._width = 0

    def say(self, text: str) -> None:
        """Adds one line above the bars."""
        if self._enabled:
            tqdm.write(text, file=self._stream)

    def started(self, name: str) -> None:
        """Reports that a job starts."""
        self._slot_of[name] = next(slot for slot in range(len(self._lines)) if slot not in self._slot_of.values())
        self._last_said[name] = 0.0
        self._width = max(self._width, len(name))
        if not self._in_place:
            self.say(f'{name}: started')

    def running(self, name: str, elapsed: float, metrics: str | Path | None) -> None:
        """Reports that a job is still running, ``elapsed`` seconds after its start."""
        if self._in_place:
            state = describe(last_metrics(metrics))
            self._lines[self._slot_of[name]].set_description_str(
                f'{name:<{self._width}}  running {clock(elapsed)}' + (f'  {state}' if state else '')
            )
        elif elapsed - self._last_said[name] >= self.QUIET_SECONDS:
            self._last_said[name] = elapsed
            state = describe(last_metrics(metrics))
            self.say(f'{name}: running {clock(elapsed)}' + (f', {state}' if state else ''))

    def ended(self, name: str, outcome: str, elapsed: float, metrics: str | Path | None = None) -> None:
        """Reports that a job has ended; ``outcome`` is a word or short phrase such as ``done`` or ``failed``."""
        slot = self._slot_of.pop(name, None)
        if slot is not None:
            self._lines[slot].set_description_str('')
        self._total.update()
        state = describe(last_metrics(metrics))
        after = f' after {clock(elapsed)}' if elapsed else ''
        self.say(f'{name}: {outcome}{after}' + (f' ({state})' if state else ''))

    def close(self) -> None:
        """Removes the bars."""
        for line in self._lines:
            line.close()
        self._total.close()

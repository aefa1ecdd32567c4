# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Worker processes that never outlive their command: on Ctrl-C, on a termination, and when the command is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line imports this module for its help, too
    from multiprocessing.process import BaseProcess

__all__ = ['TERMINATED', 'end_processes', 'follow_parent', 'termination_ends_work', 'work_in_processes']

#: exit code of a process that SIGTERM has ended, as shells write it
TERMINATED = 128 + signal.SIGTERM


def follow_parent() -> None:
    """To be called first in a worker: it ends when its parent does, and leaves Ctrl-C to the parent.

    A worker that waits for work would otherwise wait forever after its parent was killed, and Ctrl-C, which reaches the
    whole process group, would be answered by each worker for itself.
    """
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name='follow_parent', daemon=True).start()


def end_processes(processes: Sequence[BaseProcess], patience: float = 3.0) -> None:
    """Ends the processes that still run: by SIGTERM, and after ``patience`` seconds by SIGKILL."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        process.join(patience)
        if process.is_alive():
            process.kill()
            process.join()


@contextlib.contextmanager
def termination_ends_work() -> Iterator[None]:
    """Turns SIGTERM into ``SystemExit``, so that a command ends its workers and removes its temporary files."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def work_in_processes(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int) -> Iterator[Any]:
    """Yields what a function makes of each job, in order, computed by worker processes that end with this one.

    Args:
        work: a function of a module.
        jobs: its arguments.
        workers: largest number of processes.

    Raises:
        concurrent.futures.BrokenExecutor: a worker crashed or was killed.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # spawn, not fork: a fork of a process that has run torch or OpenMP threads can hang.
    context = multiprocessing.get_context('spawn')
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, initializer=follow_parent)
    try:
        yield from pool.map(work, jobs)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

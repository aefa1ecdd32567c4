# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Commands of Python that run in a fork of the test's own process, which has NeMo already: importing it takes ten seconds.

A fork has its own working directory, environment, streams, signals and exit status, so it can be interrupted and killed
as a command in a terminal can. CUDA and the threads of its backward pass do not survive a fork: where there is a GPU, and
on systems other than Linux, a fresh interpreter is started instead.
"""

import contextlib
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import traceback
import types
import weakref
from pathlib import Path
from typing import Any

import torch

_Popen = subprocess.Popen  # a test may put `popen` in its place
_running = weakref.WeakSet()


def popen(command: list[str], **options: Any) -> subprocess.Popen:
    """As `subprocess.Popen`, for `[sys.executable, ...]` with a script, `-m MODULE` or `-c CODE`."""
    return (_Fork if _can_fork() else _Popen)(command, **options)


def run(command: list[str], timeout: float = 300, **options: Any) -> subprocess.CompletedProcess:
    """As `subprocess.run(command, capture_output=True, text=True)`."""
    with popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            outputs = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, *outputs)


def fork_workers(monkeypatch: Any) -> None:
    """Lets commands fork their workers, which they would start as fresh interpreters, where a fork can work."""
    if _can_fork():
        forking = multiprocessing.get_context('fork')
        monkeypatch.setattr(multiprocessing, 'get_context', lambda method=None: forking)


def fork_jobs(monkeypatch: Any) -> None:
    """Lets the runner of experiments fork its jobs, but not what the jobs themselves start."""
    names = {**vars(subprocess), 'Popen': popen}
    monkeypatch.setattr('nemo_oracle_kd.experiments.runner.subprocess', types.SimpleNamespace(**names))


def _can_fork() -> bool:
    return sys.platform == 'linux' and not torch.cuda.is_available()


class _Fork(_Popen):
    """A `Popen` that forks, and does not exec."""

    def _execute_child(self, command, executable, preexec_fn, close_fds, pass_fds, cwd, env, *others):
        pipes, options = others[3:9], others[9:]  # the first three: startupinfo, creationflags, shell
        start_new_session = options[5]  # after restore_signals, gid, gids, uid and umask
        assert command[0] == sys.executable and not pass_fds
        running = [stream for other in _running for stream in (other.stdin, other.stdout, other.stderr) if stream]
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            self._child_created = True
            self._close_pipe_fds(*pipes)
            _running.add(self)
            return
        status = 1
        try:
            if start_new_session:
                os.setsid()
            if preexec_fn is not None:
                preexec_fn()
            stdin, our_stdin, our_stdout, stdout, our_stderr, stderr = pipes
            for number, end in enumerate((stdin, stdout, stderr)):
                if end != -1:
                    os.dup2(end, number)
            # An end of a pipe that stays open here would keep its reader waiting for this process, too.
            kept = [stream.fileno() for stream in running if not stream.closed]
            for end in {our_stdin, our_stdout, our_stderr, *kept} - {-1}:
                os.close(end)
            os.chdir(cwd or '.')
            if env is not None:
                os.environ.clear()
                os.environ.update(env)
            status = _status_of([str(word) for word in command[1:]])
        finally:
            os._exit(status)


def _status_of(words: list[str]) -> int:
    """Runs what an interpreter would run with these arguments; returns its exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = io.TextIOWrapper(io.FileIO(1, 'w', closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, 'w', closefd=False), write_through=True)
    status = 0
    try:
        _run_python(words)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return status & 0xFF


def _run_python(words: list[str]) -> None:
    first = words[0]
    sys.argv = words[1:] if first in ('-c', '-m') else words
    sys.path.insert(0, '' if first in ('-c', '-m') else str(Path(first).resolve().parent))
    if first == '-m':
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    elif first == '-c':
        sys.argv[0] = '-c'
        sys.modules['__main__'] = main = types.ModuleType('__main__')
        exec(compile(words[1], '<string>', 'exec'), main.__dict__)
    else:
        runpy.run_path(first, run_name='__main__')

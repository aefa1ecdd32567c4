# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs jobs in parallel, and continues after an interruption.

* At most ``max_parallel`` jobs run at a time, each on ``threads_per_job`` threads and with its own log.
* A finished job is not run again (:mod:`nemo_oracle_kd.experiments.jobs` says what "finished" means).
* A failed job stops only the jobs that depend on it. All failures are reported at the end, in one sentence per job.
* Ctrl-C or SIGTERM ends the running commands, with SIGTERM first and SIGKILL later. The same call continues the run.
* Only one runner can work in a folder at a time.
* A checkpoint that was cut off while it was written does not block its training, which then starts from its beginning.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_oracle_kd.experiments.jobs import Job, JobRecord, fingerprints, order_jobs
from nemo_oracle_kd.experiments.progress import Progress
from nemo_oracle_kd.folder_lock import locked

THREAD_VARIABLES = (
    'OMP_NUM_THREADS',
    'MKL_NUM_THREADS',
    'OPENBLAS_NUM_THREADS',
    'NUMBA_NUM_THREADS',
    'NUMEXPR_NUM_THREADS',
)
_PR_SET_PDEATHSIG = 1


class JobsFailed(RuntimeError):
    """Some jobs failed; the message has one sentence for each, with the path and the last lines of its log."""


class JobsInterrupted(KeyboardInterrupt):
    """The run was stopped by Ctrl-C or SIGTERM; all commands have ended, and starting it again continues the run."""


@dataclass
class JobResult:
    """How a job ended.

    Attributes:
        state: ``done`` (ran now), ``kept`` (was done before), ``failed`` or ``not run`` (a job it depends on failed).
        seconds: run time over all starts of this job.
        log: file with the output of the command.
        reason: why the job failed or was not run, in one sentence; empty otherwise.
    """

    state: str
    seconds: float
    log: Path
    reason: str = ''


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen
    log: Path
    since: float
    earlier: float

    @property
    def elapsed(self) -> float:
        return self.earlier + time.monotonic() - self.since


def _die_with_parent() -> Callable[[], None] | None:
    """Makes a child end when the runner is killed (Linux only), so that no child continues to write its outputs."""
    if not sys.platform.startswith('linux'):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _damaged_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints that were cut off, which are no valid zip archives: PyTorch writes the table of contents last."""
    return [path for path in sorted(folder.rglob('*.ckpt')) if path.is_file() and not zipfile.is_zipfile(path)]


def _last_lines(path: Path, count: int = 8) -> str:
    lines = [line for line in path.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()]
    return '\n'.join(f'    {line[:300]}' for line in lines[-count:])


class JobRunner:
    """Runs a set of jobs.

    Args:
        jobs: the jobs, in the order in which they start where dependencies leave a choice.
        directory: folder of the logs (``NAME.log``) and records (``NAME.json``).
        max_parallel: largest number of jobs at a time.
        threads_per_job: threads of each job.
        on_finished: function that is called in the runner's thread with each job that is done or was done before, and its
            result. An exception from it ends the run.
        progress: whether to show bars.
        grace_seconds: seconds between SIGTERM and SIGKILL when the run is interrupted.

    Raises:
        ValueError: a bad set of jobs (see :func:`nemo_oracle_kd.experiments.jobs.order_jobs`), or a number below 1.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        directory: str | Path,
        max_parallel: int = 2,
        threads_per_job: int = 1,
        on_finished: Callable[[Job, JobResult], None] | None = None,
        progress: bool = True,
        grace_seconds: float = 10.0,
    ) -> None:
        if max_parallel < 1 or threads_per_job < 1:
            raise ValueError(
                f"max_parallel is {max_parallel} and threads_per_job is {threads_per_job}: set both to at least 1"
            )
        self.jobs = order_jobs(jobs)
        self.directory = Path(directory)
        self.max_parallel = max_parallel
        self.threads_per_job = threads_per_job
        self.on_finished = on_finished
        self.grace_seconds = grace_seconds
        self._show_progress = progress
        self._running: list[_Running] = []
        self._results: dict[str, JobResult] = {}

    def run(self) -> dict[str, JobResult]:
        """Runs the jobs that are not done yet.

        Returns:
            The result of every job by name.

        Raises:
            JobsFailed: a job failed; all jobs that do not depend on it have run.
            JobsInterrupted: the run got Ctrl-C or SIGTERM; all running commands have ended.
            FolderBusy: another runner is running in the same folder.
        """
        with locked(
            self.directory, f"another run is active in '{self.directory}': wait for it to end, or stop it first"
        ):
            progress = Progress(len(self.jobs), self.max_parallel, self._show_progress)
            previous = self._catch_sigterm()
            try:
                self._loop(progress)
            except KeyboardInterrupt:
                self._end_all()
                raise JobsInterrupted(
                    f"Stopped; {sum(r.state in ('done', 'kept') for r in self._results.values())} of "
                    f"{len(self.jobs)} jobs are done. Start the same command again to continue."
                ) from None
            finally:
                self._end_all()
                if previous is not None:
                    signal.signal(signal.SIGTERM, previous)
                progress.close()
        failures = [result.reason for result in self._results.values() if result.state == 'failed']
        if failures:
            skipped = [name for name, result in self._results.items() if result.state == 'not run']
            tail = f"\nNot run because of that: {', '.join(skipped)}." if skipped else ''
            raise JobsFailed('\n'.join(failures) + tail)
        return self._results

    def _loop(self, progress: Progress) -> None:
        prints = fingerprints(self.jobs)
        waiting = list(self.jobs)
        while waiting or self._running:
            for job in list(waiting):
                blocked = [name for name in job.depends if name in self._results and not self._succeeded(name)]
                if blocked:
                    waiting.remove(job)
                    reason = f"Job '{job.name}' was not run because '{blocked[0]}' did not succeed."
                    self._results[job.name] = JobResult('not run', 0.0, self._log(job), reason)
                    progress.ended(job.name, 'not run', 0.0)
                elif all(self._succeeded(name) for name in job.depends):
                    record = JobRecord.read(self._record(job))
                    if self._is_done(job, record, prints[job.name]):
                        waiting.remove(job)
                        progress.ended(job.name, 'kept from an earlier start', 0.0, job.metrics)
                        self._finish(job, JobResult('kept', record.seconds, self._log(job)))
                    elif len(self._running) < self.max_parallel:
                        waiting.remove(job)
                        self._start(job, record, prints[job.name], progress)
            ended = self._collect(prints, progress)
            if not ended and self._running:
                time.sleep(0.2)

    def _succeeded(self, name: str) -> bool:
        return name in self._results and self._results[name].state in ('done', 'kept')

    def _is_done(self, job: Job, record: JobRecord | None, fingerprint: str) -> bool:
        matches = record is not None and record.finished and record.fingerprint == fingerprint
        return matches and not job.missing_outputs()

    def _start(self, job: Job, record: JobRecord | None, fingerprint: str, progress: Progress) -> None:
        absent = [str(path) for path in job.inputs if not Path(path).exists()]
        if absent:
            self._fail(
                job, 0.0, f"Job '{job.name}' cannot start because its input '{absent[0]}' does not exist.", progress
            )
            return
        resumes = record is not None and not record.finished and record.fingerprint == fingerprint
        damaged = [path for folder in job.scratch for path in _damaged_checkpoints(Path(folder))] if resumes else []
        if damaged:
            progress.say(
                f"Job '{job.name}' starts from its beginning, because its checkpoint '{damaged[0]}' is damaged."
            )
            resumes = False
        if not resumes:
            for folder in job.scratch:
                shutil.rmtree(folder, ignore_errors=True)
            for output in map(Path, job.outputs):  # otherwise an old output could pass for the new one
                if output.is_file():
                    output.unlink()
        for output in job.outputs:
            Path(output).parent.mkdir(parents=True, exist_ok=True)
        # Jobs that read the old outputs are no longer done, even if this run is killed before it reaches them.
        for other in self.jobs:
            if job.name in other.depends:
                self._record(other).unlink(missing_ok=True)
        earlier = record.seconds if resumes else 0.0
        JobRecord(fingerprint, False, earlier).write(self._record(job))
        environment = dict(os.environ)
        environment.update({name: str(self.threads_per_job) for name in THREAD_VARIABLES})
        environment.update({'TOKENIZERS_PARALLELISM': 'false', 'PYTHONUNBUFFERED': '1'})
        environment.update({key: str(value) for key, value in job.environment.items()})
        log = self._log(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        progress.started(job.name)
        with open(log, 'ab' if resumes else 'wb') as stream:
            try:
                process = subprocess.Popen(
                    [str(part) for part in job.command],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=job.directory,
                    start_new_session=True,  # Ctrl-C then reaches the runner alone, which ends the whole group
                    preexec_fn=_die_with_parent(),
                )
            except OSError as error:
                self._fail(job, 0.0, f"Job '{job.name}' could not be started: {error}.", progress)
                return
        self._running.append(_Running(job, process, log, time.monotonic(), earlier))

    def _collect(self, prints: dict[str, str], progress: Progress) -> bool:
        """Updates the running jobs; returns whether one has ended."""
        ended = False
        for running in list(self._running):
            job, code = running.job, running.process.poll()
            if code is None:
                progress.running(job.name, running.elapsed, job.metrics)
                continue
            ended = True
            self._running.remove(running)
            missing = job.missing_outputs()
            if code == 0 and not missing:
                JobRecord(prints[job.name], True, running.elapsed).write(self._record(job))
                progress.ended(job.name, 'done', running.elapsed, job.metrics)
                self._finish(job, JobResult('done', running.elapsed, running.log))
                continue
            if code < 0:
                what = f'was killed by signal {-code}'
            elif code > 0:
                what = f'failed with exit status {code}'
            else:
                what = f"ended without writing '{missing[0]}'"
            JobRecord(prints[job.name], False, running.elapsed).write(self._record(job))
            lines = _last_lines(running.log)
            self._fail(
                job,
                running.elapsed,
                f"Job '{job.name}' {what}; its log is '{running.log}'"
                + (f' and ends with:\n{lines}' if lines else ' and is empty.'),
                progress,
            )
        return ended

    def _finish(self, job: Job, result: JobResult) -> None:
        self._results[job.name] = result
        if self.on_finished is not None:
            self.on_finished(job, result)

    def _fail(self, job: Job, seconds: float, reason: str, progress: Progress) -> None:
        self._results[job.name] = JobResult('failed', seconds, self._log(job), reason)
        progress.ended(job.name, 'failed', seconds)
        progress.say(reason)

    def _end_all(self) -> None:
        """Ends all running commands and their children, and records the time that they have used."""
        for running in self._running:
            self._signal(running, signal.SIGTERM)
        deadline = time.monotonic() + self.grace_seconds
        for running in self._running:
            try:
                running.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            self._signal(running, signal.SIGKILL)  # also ends processes that the command has started and left running
            running.process.wait()
            record = JobRecord.read(self._record(running.job))
            if record is not None:
                JobRecord(record.fingerprint, False, running.elapsed).write(self._record(running.job))
        self._running.clear()

    @staticmethod
    def _signal(running: _Running, number: int) -> None:
        try:
            os.killpg(running.process.pid, number)
        except ProcessLookupError:
            pass

    @staticmethod
    def _catch_sigterm():
        """Makes SIGTERM end the run as Ctrl-C does; returns the old handler, `None` outside the main thread.

        Only the main thread may set handlers.
        """
        if threading.current_thread() is not threading.main_thread():
            return None

        def interrupt(number, frame):
            raise KeyboardInterrupt

        return signal.signal(signal.SIGTERM, interrupt)

    def _log(self, job: Job) -> Path:
        return self.directory / f'{job.name}.log'

    def _record(self, job: Job) -> Path:
        return self.directory / f'{job.name}.json'

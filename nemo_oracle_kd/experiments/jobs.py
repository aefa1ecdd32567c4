# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Defines a job: one command line with its outputs, its dependencies, and the record of whether it has been done.

A job counts as done only if its record holds the fingerprint of **this very command**. The fingerprint covers the command, the
environment variables that the job sets, the contents of its input files, and the fingerprints of the jobs that it depends on.
If the teacher's learning rate changes, for example, the teacher and every student distilled from it run again, and no others.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nemo_oracle_kd.corpus.outputs import write_text_atomically

PathLike = str | Path
#: start of a command line that calls this package's command in a job
CLI = [sys.executable, '-m', 'nemo_oracle_kd.cli.main']


@dataclass(frozen=True)
class Job:
    """One subprocess of an experiment.

    Attributes:
        name: unique name, such as ``seed_0/student_alone``. It also names the log, so only letters, digits and ``. _ - /`` are
            allowed.
        command: program and arguments, not a shell line.
        outputs: files that exist when the job has succeeded.
        depends: names of the jobs whose outputs this one reads.
        environment: variables set for this job on top of the runner's own environment.
        inputs: files whose contents determine the outcome (configs, manifests); they enter the fingerprint.
        scratch: folders of checkpoints that belong to one fingerprint. They are kept when the same job is started
            again, so that a recipe with ``exp_manager.resume_if_exists`` continues, and removed when the job has
            changed.
        metrics: file of JSON lines that :class:`nemo_oracle_kd.callbacks.RunRecord` writes; the progress display shows the
            last line.
        directory: working directory of the command.

    Raises:
        ValueError: a name with other characters, an empty command or a shell line, or a single value instead of a list.
    """

    name: str
    command: Sequence[str]
    outputs: Sequence[PathLike] = ()
    depends: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[PathLike] = ()
    scratch: Sequence[PathLike] = ()
    metrics: PathLike | None = None
    directory: PathLike | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r'[\w.-]+(/[\w.-]+)*', self.name) or '..' in self.name:
            raise ValueError(
                f"'{self.name}' cannot name a job: use letters, digits, '.', '_' and '-', with '/' between groups"
            )
        if isinstance(self.command, str) or not self.command:
            raise ValueError(
                f"the command of job '{self.name}' is {self.command!r}: give a list of program and arguments"
            )
        for key in ('outputs', 'depends', 'inputs', 'scratch'):
            if isinstance(getattr(self, key), (str, Path)):
                raise ValueError(
                    f"'{key}' of job '{self.name}' is the single value {getattr(self, key)!r}: give a list"
                )

    def missing_outputs(self) -> list[Path]:
        """Outputs that do not exist."""
        return [Path(path) for path in self.outputs if not Path(path).exists()]


def order_jobs(jobs: Sequence[Job]) -> list[Job]:
    """Sorts jobs so that each comes after those it depends on, and otherwise keeps the given order.

    Raises:
        ValueError: a name occurs twice, a dependency is unknown, or the dependencies form a cycle.
    """
    by_name: dict[str, Job] = {}
    for job in jobs:
        if job.name in by_name:
            raise ValueError(f"two jobs are called '{job.name}': give every job its own name")
        by_name[job.name] = job
    for job in jobs:
        for name in job.depends:
            if name not in by_name:
                raise ValueError(
                    f"job '{job.name}' depends on '{name}', which does not exist: add that job, or correct depends"
                )
    ordered: list[Job] = []
    placed: set[str] = set()
    waiting = list(jobs)
    while waiting:
        ready = next((job for job in waiting if all(name in placed for name in job.depends)), None)
        if ready is None:
            raise ValueError(f"the jobs {sorted(job.name for job in waiting)} depend on each other: break the cycle")
        waiting.remove(ready)
        placed.add(ready.name)
        ordered.append(ready)
    return ordered


def fingerprints(jobs: Sequence[Job]) -> dict[str, str]:
    """SHA-256 of everything that determines the outcome of each job.

    An input that another job makes is represented by that job's fingerprint instead of its content, which does not exist yet
    when a run starts for the first time. Any other missing input counts as absent. The runner refuses to start a job whose
    inputs are missing.

    Args:
        jobs: jobs in the order of :func:`order_jobs`.

    Returns:
        Fingerprint by job name.
    """
    result: dict[str, str] = {}
    maker = {Path(path): job.name for job in jobs for path in job.outputs}
    for job in jobs:
        inputs = {}
        for path in map(Path, job.inputs):
            if path in maker:
                inputs[str(path)] = result.get(maker[path])
            else:
                inputs[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        content = {
            'command': [str(part) for part in job.command],
            'environment': dict(sorted(job.environment.items())),
            'inputs': inputs,
            'depends': {name: result[name] for name in sorted(job.depends)},
        }
        result[job.name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return result


@dataclass
class JobRecord:
    """State of a job from earlier starts, stored next to its log as ``NAME.json``.

    Attributes:
        fingerprint: fingerprint of the job when it was last started.
        finished: whether it succeeded.
        seconds: run time, summed over interrupted starts.
    """

    fingerprint: str
    finished: bool = False
    seconds: float = 0.0

    @classmethod
    def read(cls, path: PathLike) -> JobRecord | None:
        """Reads a record; returns ``None`` if there is none or it is unreadable, so that the job runs again."""
        try:
            content = json.loads(Path(path).read_text(encoding='utf-8'))
            return cls(str(content['fingerprint']), bool(content['finished']), float(content['seconds']))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: PathLike) -> None:
        """Writes the record atomically."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, json.dumps(self.__dict__, indent=2) + '\n')

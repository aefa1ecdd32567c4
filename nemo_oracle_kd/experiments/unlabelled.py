# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Plans students of unlabelled speech: the labels of several teachers, what is kept of them, and the students of every method.

All students start from one model. They learn from a labelled part and from an unlabelled part with a teacher's texts; the student alone
sees the labelled part only, the ceiling both parts with their true texts. In a further round the student of the round before is the teacher.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nemo_oracle_kd.experiments.comparison import SystemRun
from nemo_oracle_kd.experiments.jobs import Job
from nemo_oracle_kd.experiments.pseudo_labels import filter_job, labelling_job
from nemo_oracle_kd.experiments.recipes import Training, quoted, recipe_run, steps

__all__ = ['ALONE', 'CEILING', 'METHODS', 'SURER', 'Method', 'Settings', 'StudentPlan', 'System', 'round_name']

ALONE, CEILING = 'student_alone', 'student_all_labels'
#: a student of a further round hears its speech with more of it masked than its teacher did (noisy student, arXiv 2005.09629)
NOISE = ['model.spec_augment.freq_masks=2', 'model.spec_augment.time_masks=4']
VALIDATIONS = 2
#: share of the utterances of whose text a full-sum student is surer than the teacher; at 0 it learns as from hard distillation
SURER = 'train/kd/full_sum_more_confident'


@dataclass(frozen=True)
class Method:
    """How a student learns from a teacher's texts.

    Attributes:
        label: its name in figures.
        preset: a preset of `conf/oracle_kd`.
        huber: with Huber's distance instead of L1.
        filtered: from the texts that the filter keeps.
    """

    label: str
    preset: str
    huber: bool = False
    filtered: bool = False


METHODS = {
    'hard': Method('hard', 'hard'),
    'hard_filter': Method('hard, filtered', 'hard', filtered=True),
    'full_sum_l1': Method('full-sum, L1', 'full_sum'),
    'full_sum_huber': Method('full-sum, Huber', 'full_sum', huber=True),
    'full_sum_filter': Method('full-sum, Huber, filtered', 'full_sum', huber=True, filtered=True),
    'full_sum_norm': Method('full-sum norm', 'full_sum_norm'),
}


@dataclass(frozen=True)
class Settings:
    """What is chosen on the development set.

    Attributes:
        keep: expression of the filter.
        huber_width: width of Huber's distance, nats.
        weight: weight of the full-sum objectives.
        teacher_scale: factor of the teacher's scores in the full-sum objectives.
    """

    keep: str
    huber_width: float = 4.0
    weight: float = 1.0
    teacher_scale: float = 1.0


@dataclass(frozen=True)
class System:
    """A student of every seed.

    Attributes:
        method: a name of `METHODS`; `None` for the student alone and the ceiling.
        teacher: name of the teacher; `None` as above.
        updates: optimizer steps; `None`: those of the plan.
        settings: other settings than those of the plan.
    """

    method: str | None = None
    teacher: str | None = None
    updates: int | None = None
    settings: Settings | None = None


def round_name(number: int) -> str:
    """The name of the student of a round; the first round has the students of the teachers."""
    return f'round_{number}'


@dataclass
class StudentPlan:
    """Everything that the students of all systems share.

    Attributes:
        config: family and name of an installed config.
        start: the model that all start from.
        parts: manifests `supervised` and `unsupervised`.
        dev: manifest of the validation.
        labels: name of a teacher -> its scored manifest of the unsupervised part.
        out: output folder.
        updates: optimizer steps of every student that does not name its own.
        settings: chosen on the development set.
        share: share of supervised rows in the batches of a student with a teacher.
        overrides: for every student.
    """

    config: str
    start: Path
    parts: Mapping[str, Path]
    dev: Path
    labels: Mapping[str, Path]
    out: Path
    updates: int
    settings: Settings
    share: float = 0.25
    overrides: Sequence[str] = field(default_factory=list)

    def kept(self, teacher: str, keep: str) -> Path:
        """Where the labels of a teacher lie that an expression keeps."""
        return self.out / 'kept' / f'{teacher}-{hashlib.sha256(keep.encode()).hexdigest()[:8]}.jsonl'

    def filter_jobs(self, systems: Mapping[str, System]) -> list[Job]:
        """The jobs that filter what these systems learn from."""
        jobs = {}
        for system in systems.values():
            if system.method is not None and METHODS[system.method].filtered:
                keep = (system.settings or self.settings).keep
                path = self.kept(system.teacher, keep)
                others = {name: labels for name, labels in self.labels.items() if name != system.teacher}
                jobs[path] = filter_job(f'kept/{path.stem}', self.labels[system.teacher], path, keep, others)
        return list(jobs.values())

    def runs(self, systems: Mapping[str, System], seeds: Sequence[int]) -> list[SystemRun]:
        """The trainings of all systems and seeds."""
        return [self._run(name, system, seed) for seed in seeds for name, system in systems.items()]

    def _run(self, name: str, system: System, seed: int) -> SystemRun:
        labelled, words, waits = self.parts['supervised'], [], []
        train: Path | list[Path] = labelled
        metrics: list[str] = []
        if name == CEILING:
            train = [labelled, self.parts['unsupervised']]
        elif system.method is not None:
            settings, method = system.settings or self.settings, METHODS[system.method]
            path = self.labels[system.teacher]
            if method.filtered:
                path = self.kept(system.teacher, settings.keep)
                waits = [f'kept/{path.stem}']
            train, words = [labelled, path], self._distillation(method, settings)
            if method.preset == 'full_sum':
                metrics = [SURER, 'train/kd/full_sum_delta']
        training = self._training(train, [*words, *self._steps(system.updates)], metrics)
        return recipe_run(name, seed, self.out / f'seed_{seed}', training, waits)

    def _distillation(self, method: Method, settings: Settings) -> list[str]:
        words = [f'+oracle_kd={method.preset}', f'oracle_kd.supervised_share={self.share:g}']
        if method.preset != 'hard':
            for key in ('weight', 'teacher_scale'):
                words.append(f'oracle_kd.objectives.{method.preset}.{key}={getattr(settings, key):g}')
        if method.huber:
            options = {'distance': 'huber', 'huber_width': f'{settings.huber_width:g}'}
            words += [f'oracle_kd.objectives.{method.preset}.{key}={value}' for key, value in options.items()]
        return words

    def _steps(self, updates: int | None) -> list[str]:
        return steps(self.updates if updates is None else updates, VALIDATIONS)

    def _training(self, train: Path | list[Path], words: Sequence[str], metrics: Sequence[str] = ()) -> Training:
        words = [*words, f'+init_from_nemo_model={quoted(self.start)}', *self.overrides]
        data = {'train': train, 'dev': self.dev}
        return Training(self.config, data, words, inputs=[self.start], metrics=metrics)

    def rounds(self, count: int, first: str, keep: str, seeds: Sequence[int]) -> tuple[list[SystemRun], list[Job]]:
        """The students of further rounds, and the jobs in which the student of the round before labels for them.

        The unsupervised part is labelled anew by the student, of whose texts an expression keeps a part, and the next student learns
        them hard and with more of the spectrum masked, from the same start.

        Args:
            count: rounds with the first one, which has the students of the teachers.
            first: the system of the first round whose student is the first to label.
            keep: expression of the filter in the further rounds.
            seeds: random seeds.
        """
        runs, jobs = [], []
        for seed in seeds:
            group, teacher = self.out / f'seed_{seed}', first
            for number in range(2, count + 1):
                name = round_name(number)
                folder, kept = group / 'labels' / name, group / 'kept' / f'{name}.jsonl'
                model = group / 'training' / teacher / 'model.nemo'
                label = f'{group.name}/labels/{name}'
                waits = [f'{group.name}/{teacher}']
                jobs.append(labelling_job(label, model, self.parts['unsupervised'], folder, 1, waits))
                chosen = filter_job(f'{group.name}/kept/{name}', folder / 'scored.jsonl', kept, keep, {}, [label])
                jobs.append(chosen)
                words = [*self._distillation(METHODS['hard'], self.settings), *NOISE, *self._steps(None)]
                training = self._training([self.parts['supervised'], kept], words)
                runs.append(recipe_run(name, seed, group, training, [chosen.name]))
                teacher = name
        return runs, jobs

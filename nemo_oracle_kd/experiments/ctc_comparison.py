# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs the comparison that the AN4 recipe and the demo share: CTC students alone and distilled from two kinds of teachers.

Every system is trained by :mod:`nemo_oracle_kd.experiments.train` with overrides on its command line, so that each command can
be run by hand. The output of each training is in the output folder, as `jobs/seed_N/NAME.log`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nemo_oracle_kd.evaluation.diagnosis.diagnosis import Diagnosis
from nemo_oracle_kd.evaluation.report import Report, write_report
from nemo_oracle_kd.evaluation.report_panels import diagnosis_parts, model_panels
from nemo_oracle_kd.experiments.comparison import Comparison, SystemRun
from nemo_oracle_kd.experiments.jobs import CLI, Job
from nemo_oracle_kd.experiments.recipes import Training, quoted, recipe_run, steps

__all__ = ['Distilled', 'Plan', 'compare_and_report', 'system_runs']

STUDENT = 'ctc/separable_ctc_char'
TEACHERS = {
    'conventional_teacher': 'ctc/separable_ctc_char_teacher',
    'oracle_teacher': 'oracle_ctc/oracle_separable_ctc_char',
}
LABELS = {
    'student_from_conventional_teacher': 'student of the conventional teacher',
    'student_from_oracle_teacher': 'student of the oracle teacher',
    'student_guided_ctc': 'student, guided CTC',
    'student_occupancy': 'student, occupancy',
}


@dataclass(frozen=True)
class Distilled:
    """How a student is distilled.

    Attributes:
        teacher: a key of `TEACHERS`.
        preset: name of a preset of `conf/oracle_kd`.
        overrides: overrides of the preset.
    """

    teacher: str
    preset: str
    overrides: Sequence[str] = ()


@dataclass
class Plan:
    """What to train and for how long.

    Attributes:
        students: name -> distillation, or `None` for the student alone. All get the same number of updates.
        updates: optimizer steps of every student.
        teacher_seconds: processor seconds of training of every teacher, without validation. Processor time does not depend on
            other work on the machine, so the teachers are treated alike.
        student_overrides: overrides for every student.
        teacher_overrides: teacher -> overrides.
    """

    students: dict[str, Distilled | None]
    updates: int
    teacher_seconds: float
    student_overrides: Sequence[str] = ()
    teacher_overrides: dict[str, Sequence[str]] = field(default_factory=dict)


def system_runs(
    plan: Plan, data: dict[str, Path], out: Path, seeds: Sequence[int], depends: Sequence[str] = ()
) -> list[SystemRun]:
    """Returns all trainings of a plan.

    Args:
        plan: what to train.
        data: manifests `train` and `dev`, and `teacher_train` if teachers are trained on other data.
        out: output folder.
        seeds: random seeds.
        depends: jobs that make the data.
    """
    runs = []
    teacher_data = {**data, 'train': data.get('teacher_train', data['train'])}
    for seed in seeds:
        group = out / f'seed_{seed}'
        for name in TEACHERS:
            budget = (
                f'{{_target_: nemo_oracle_kd.callbacks.TimeBudget, seconds: {plan.teacher_seconds:g}, clock: cpu}}'
            )
            overrides = [
                '~model.optim.sched',  # TimeBudget lowers the learning rate itself
                'trainer.max_epochs=-1',
                'trainer.val_check_interval=200',
                *plan.teacher_overrides.get(name, ()),
            ]
            training = Training(TEACHERS[name], teacher_data, overrides, [budget])
            runs.append(recipe_run(name, seed, group, training, depends))
        for name, distilled in plan.students.items():
            overrides = [*steps(plan.updates, validations=8), *plan.student_overrides]
            waits = list(depends)
            if distilled is not None:
                teacher = group / f'{distilled.teacher}.nemo'
                overrides += [
                    f'+oracle_kd={distilled.preset}',
                    f'oracle_kd.teacher.restore_from={quoted(teacher)}',
                    'oracle_kd.teacher.memory_mb=500',  # every epoch has the same audio
                    *distilled.overrides,
                ]
                waits.append(f'seed_{seed}/{distilled.teacher}')
            runs.append(recipe_run(name, seed, group, Training(STUDENT, data, overrides), waits))
    return runs


def controls(plan: Plan) -> list[str]:
    """Students with which the oracle's student is compared: the student alone, and those of an audio-only teacher."""
    return [name for name, one in plan.students.items() if one is None or one.teacher != 'oracle_teacher']


def diagnosis_job(out: Path, seed: int, dev: Path) -> Job:
    """The job that diagnoses whether the oracle teacher of a seed listens."""
    folder = out / f'seed_{seed}' / 'diagnosis'
    teacher = out / f'seed_{seed}' / 'oracle_teacher.nemo'
    command = [*CLI, 'diagnose', str(teacher)]
    return Job(
        f'seed_{seed}/diagnosis',
        [*command, '--manifest', str(dev), '--output', str(folder), '--overwrite'],
        outputs=[folder / 'diagnosis.json', folder / 'attention.png'],
        depends=[f'seed_{seed}/oracle_teacher'],
        inputs=[dev],
    )


def compare_and_report(
    plan: Plan,
    data: dict[str, Path],
    out: Path,
    seeds: Sequence[int],
    parallel: int,
    report: Report,
    extra_jobs: Sequence[Job] = (),
) -> dict:
    """Trains, scores, diagnoses and writes `results.json` and `report.html`.

    Args:
        plan: what to train.
        data: manifests `train`, `dev` and `test`, and `teacher_train` if teachers are trained on other data.
        out: output folder.
        seeds: random seeds.
        parallel: largest number of jobs at a time, one thread each.
        report: a report with the page's texts; this function adds all results to it.
        extra_jobs: jobs that make the data; every training waits for them.

    Returns:
        The content of `results.json`.
    """
    waits = [job.name for job in extra_jobs]
    comparison = Comparison(
        system_runs(plan, data, out, seeds, waits),
        data['test'],
        out,
        pairs=[(name, 'student_from_oracle_teacher') for name in controls(plan)],
        settings={'updates': plan.updates, 'teacher_seconds': plan.teacher_seconds, **report.settings},
        extra_jobs=[*extra_jobs, diagnosis_job(out, seeds[0], data['dev'])],
    )
    results = comparison.run(parallel)
    names = ['oracle_teacher', 'conventional_teacher', 'student_from_oracle_teacher', 'student_alone']
    report.results = results
    report.labels = LABELS
    shown = {report.label(name): comparison.model_path(name, seeds[0]) for name in names}
    colours = {report.label(name): style.colour for name, style in report.styles.items()}
    report.alignments, report.attention = model_panels(shown, data['test'], colours=colours)
    folder = out / f'seed_{seeds[0]}' / 'diagnosis'
    diagnosis = Diagnosis.from_dict(json.loads((folder / 'diagnosis.json').read_text(encoding='utf-8')))
    report.diagnosis, report.verdict = diagnosis_parts(diagnosis, report.styles['oracle_teacher'].colour)
    write_report(report, out / 'report.html')
    return results

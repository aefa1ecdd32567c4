# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs a plan of CTC students and their teachers, and writes its results and its report.

The output of each training is in the output folder, as `jobs/seed_N/NAME.log`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nemo_oracle_kd.evaluation.diagnosis.diagnosis import Diagnosis
from nemo_oracle_kd.evaluation.report import Report, write_report
from nemo_oracle_kd.evaluation.report_panels import diagnosis_parts, model_panels
from nemo_oracle_kd.experiments.comparison import Comparison
from nemo_oracle_kd.experiments.ctc_plan import Plan
from nemo_oracle_kd.experiments.jobs import CLI, Job

__all__ = ['LABELS', 'Where', 'compare_and_report', 'run_plan']

LABELS = {
    'student_from_conventional_teacher': 'student of the conventional teacher',
    'student_from_oracle_teacher': 'student of the oracle teacher',
    'student_guided_ctc': 'student, guided CTC',
    'student_occupancy': 'student, occupancy',
    'student_oracle_occupancy': "student, the oracle's occupancy",
    'student_one_stage': 'student with an oracle branch',
    'student_cr': 'student, two views (CR)',
    'student_one_stage_cr': 'student with an oracle branch and two views',
    'student_alone_long': 'student alone, trained longer',
    'student_causal_shifted': 'causal student of the offline teacher, shifted',
    'student_causal_one_stage': 'causal student with an oracle branch',
}
#: models whose emissions the report draws, of those that there are
DRAWN = ('oracle_teacher', 'conventional_teacher', 'student_from_oracle_teacher', 'student_alone')


@dataclass(frozen=True)
class Where:
    """On which data, with which seeds and where a plan is run.

    Attributes:
        data: manifests `train`, `dev` and `test`, and `teacher_train` if teachers are trained on other data.
        out: output folder.
        seeds: random seeds.
        parallel: largest number of jobs at a time, one thread each.
        extra_jobs: jobs that make the data; every training waits for them.
    """

    data: Mapping[str, Path]
    out: Path
    seeds: Sequence[int]
    parallel: int = 2
    extra_jobs: Sequence[Job] = field(default_factory=list)


def diagnosis_job(out: Path, seed: int, teacher: str, dev: Path) -> Job:
    """The job that diagnoses whether an oracle teacher listens."""
    folder = out / f'seed_{seed}' / 'diagnosis'
    command = [*CLI, 'diagnose', str(out / f'seed_{seed}' / f'{teacher}.nemo')]
    return Job(
        f'seed_{seed}/diagnosis',
        [*command, '--manifest', str(dev), '--output', str(folder), '--overwrite'],
        outputs=[folder / 'diagnosis.json', folder / 'attention.png'],
        depends=[f'seed_{seed}/{teacher}'],
        inputs=[dev],
    )


def run_plan(
    plan: Plan, where: Where, pairs: Sequence[tuple[str, str]], settings: Mapping | None = None
) -> tuple[Comparison, dict]:
    """Trains and scores all systems, and diagnoses the last oracle teacher of the first seed if there is one.

    Args:
        plan: what to train.
        where: data, folder and seeds.
        pairs: paired comparisons besides those with the student alone, as `(baseline, system)`.
        settings: further settings for the results.

    Returns:
        The comparison, and the content of `results.json`.
    """
    jobs = list(where.extra_jobs)
    jobs += plan.start_jobs(where.data['dev'], where.out, [job.name for job in where.extra_jobs])
    runs = plan.runs(where.data, where.out, where.seeds, [job.name for job in jobs])
    oracle = oracle_of(plan)
    diagnoses = [diagnosis_job(where.out, where.seeds[0], oracle, where.data['dev'])] if oracle else []
    comparison = Comparison(
        runs,
        where.data['test'],
        where.out,
        pairs=pairs,
        settings={'updates': plan.updates, 'teacher_seconds': plan.teacher_seconds, **(settings or {})},
        extra_jobs=[*jobs, *diagnoses],
    )
    return comparison, comparison.run(where.parallel)


def oracle_of(plan: Plan) -> str | None:
    """The oracle teacher that is diagnosed: the last one of the plan that students learn from."""
    return next((name for name, one in reversed(plan.teachers_used.items()) if one.reads_transcript), None)


def compare_and_report(
    plan: Plan, where: Where, report: Report, pairs: Sequence[tuple[str, str]] | None = None
) -> dict:
    """Trains, scores, diagnoses and writes `results.json` and `report.html`.

    Args:
        plan: what to train.
        where: data, folder and seeds.
        report: a report with the page's texts; this function adds all results to it.
        pairs: paired comparisons besides those with the student alone; by default those of the headline's system with the
            students that no oracle teaches.

    Returns:
        The content of `results.json`.
    """
    if pairs is None:
        pairs = [pair for pair in plan.pairs() if pair[1] == report.marked]
    comparison, results = run_plan(plan, where, pairs, report.settings)
    report.results = results
    report.labels = {**LABELS, **report.labels}
    add_panels(report, comparison, where, oracle_of(plan))
    write_report(report, where.out / 'report.html')
    return results


def add_panels(
    report: Report, comparison: Comparison, where: Where, oracle: str | None, drawn: Sequence[str] = DRAWN
) -> None:
    """Adds to a report what models of the first seed emit, and the diagnosis of an oracle teacher.

    Args:
        report: the report, which has its results.
        comparison: the comparison that made them.
        where: data, folder and seeds.
        oracle: the oracle teacher that was diagnosed, if any.
        drawn: the models that are drawn, if the comparison has them.
    """
    seed = where.seeds[0]
    shown = {report.label(name): comparison.model_path(name, seed) for name in drawn if name in comparison.names}
    colours = {report.label(name): style.colour for name, style in report.styles.items()}
    report.alignments, report.attention = model_panels(shown, where.data['test'], colours=colours)
    if oracle is not None:
        path = where.out / f'seed_{seed}' / 'diagnosis' / 'diagnosis.json'
        diagnosis = Diagnosis.from_dict(json.loads(path.read_text(encoding='utf-8')))
        report.diagnosis, report.verdict = diagnosis_parts(diagnosis, report.styles[oracle].colour)

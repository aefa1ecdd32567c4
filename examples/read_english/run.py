# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Compares students on hours of read English that start from synthetic speech: character CTC, greedy, no language model.

    python examples/read_english/run.py --data DIR --test TEST.jsonl --out OUT --seeds 0 1 2

`--data` is a folder with the NeMo manifests `train.jsonl` and `dev.jsonl`, for example of speechocean762; `--test` is any
manifest. From scratch a corpus of a few hours is hopeless for small models, so the recipe synthesises sentences with the words of
the training texts in new orders, and trains one network of each size on them. All systems of all seeds start from these: the
students and the conventional teacher whole, the oracle teacher with the audio branch.

Teachers are trained on three speeds of every recording for the same processor seconds, students for the same updates on the
recordings as they are, except `student_alone_long`. The convolutions of causal students (`student_causal_...`) see the past
alone. `--systems` chooses among the students; teachers and starts that they do not need are not trained. Writes
`OUT/results.json`, `OUT/report.html` and the models `OUT/seed_N/NAME.nemo`. An interrupted run continues where it stopped.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.evaluation.report import Report
from nemo_oracle_kd.experiments.ctc_comparison import Where, compare_and_report
from nemo_oracle_kd.experiments.ctc_plan import STUDENT, TEACHERS, Plan, Start, Student, speed_job, synthesis_job
from nemo_oracle_kd.experiments.recipe_arguments import add_data_arguments, add_run_arguments, positive, run_recipe

ALONE, LONG = 'student_alone', 'student_alone_long'
CONVENTIONAL, ORACLE = 'conventional_teacher', 'oracle_teacher'
FRAME_KL = ['oracle_kd.objectives.frame_kl.weight=0.6', 'oracle_kd.objectives.frame_kl.temperature=2.0']
OCCUPANCY = ['oracle_kd.objectives.occupancy.weight=0.5']
CAUSAL = [f'+model.encoder.jasper.{block}.future_context=0' for block in range(5)]
#: a causal student emits later than a teacher that hears both sides; by how much is estimated in the first batches
ESTIMATE = ['oracle_kd.teacher.delay.mode=estimate', 'oracle_kd.teacher.delay.batches=16']
STUDENTS = {
    ALONE: Student(),
    LONG: Student(),
    'student_from_conventional_teacher': Student(CONVENTIONAL, 'frame_kl', FRAME_KL),
    'student_occupancy': Student(CONVENTIONAL, 'occupancy', OCCUPANCY),
    'student_from_oracle_teacher': Student(ORACLE, 'frame_kl', FRAME_KL),
    'student_oracle_occupancy': Student(ORACLE, 'occupancy', OCCUPANCY),
    'student_one_stage': Student(preset='oracle_self'),
    'student_cr': Student(preset='cr_ctc'),
    'student_one_stage_cr': Student(preset='oracle_self', overrides=['oracle_kd.teacher.view_weight=0.2']),
    'student_causal_alone': Student(network=CAUSAL),
    'student_causal_shifted': Student(CONVENTIONAL, 'frame_kl', [*FRAME_KL, *ESTIMATE], network=CAUSAL),
    'student_causal_one_stage': Student(preset='oracle_self', network=CAUSAL),
}
#: option -> whom its overrides are for
OVERRIDES = {
    'start': 'every start',
    'teacher': 'both teachers',
    'oracle': 'the oracle teacher',
    'student': 'every student',
}


def make_parser() -> argparse.ArgumentParser:
    """Declares the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument(
        '--systems', nargs='+', choices=list(STUDENTS), default=list(STUDENTS), help=f'students besides {ALONE}'
    )
    for name, default, what in (
        ('--synthetic', 6000, 'synthetic utterances'),
        ('--pretraining-updates', 3000, 'optimizer steps on the synthetic utterances'),
        ('--updates', 1500, 'optimizer steps of every student'),
        ('--long-updates', 6000, f'optimizer steps of {LONG}'),
        ('--width', 64, 'channels of the students (280: a million weights)'),
        ('--teacher-width', 160, 'channels of the teachers'),
    ):
        parser.add_argument(name, type=positive, default=default, help=f'{what} (default: {default})')
    parser.add_argument(
        '--teacher-seconds', type=float, default=600, help='processor seconds of each teacher (default: 600)'
    )
    for name, whom in OVERRIDES.items():
        parser.add_argument(
            f'--{name}-overrides', nargs='+', default=[], metavar='KEY=VALUE', help=f'overrides for {whom}'
        )
    return parser


def make_plan(args: argparse.Namespace, synthetic: Path) -> Plan:
    """The systems that the arguments choose.

    Args:
        args: the command line.
        synthetic: manifest of the synthetic utterances.
    """
    sizes = {'student': args.width, 'teacher': args.teacher_width}
    width = {name: f'model.width={channels}' for name, channels in sizes.items()}

    def start(config: str, words: Sequence[str]) -> Start:
        return Start(config, synthetic, args.pretraining_updates, [*words, *args.start_overrides])

    students = {}
    for name in dict.fromkeys([ALONE, *args.systems]):
        student = STUDENTS[name]
        of_its_kind = 'causal_student' if student.network else 'student'
        updates = args.long_updates if name == LONG else None
        students[name] = replace(student, start=of_its_kind, updates=updates)
    return Plan(
        students,
        args.updates,
        args.teacher_seconds,
        student_overrides=[width['student'], *args.student_overrides],
        teachers={
            name: replace(
                teacher,
                start='teacher',
                overrides=[
                    width['teacher'],
                    *args.teacher_overrides,
                    *(args.oracle_overrides if teacher.reads_transcript else []),
                ],
            )
            for name, teacher in TEACHERS.items()
        },
        starts={
            'student': start(STUDENT, [width['student']]),
            'causal_student': start(STUDENT, [width['student'], *CAUSAL]),
            'teacher': start(TEACHERS[CONVENTIONAL].config, [width['teacher']]),
        },
    )


def make_report(args: argparse.Namespace) -> Report:
    """The texts of the page."""
    told = [name for name in ('student_from_oracle_teacher', 'student_one_stage') if name in args.systems]
    return Report(
        title='Oracle distillation on read English',
        headline=told[0] if told else None,
        results={},
        lead=(
            'A small speech recogniser learns from a teacher that was allowed to read the transcript while it listened, in two '
            'stages and in one. This page shows what that bought, against the strongest controls.'
        ),
        story=[
            f'All systems start from networks that were trained on {args.synthetic} synthetic utterances with the words of the '
            'training texts in new orders.',
            f'Both teachers were trained for the same {args.teacher_seconds:g} processor seconds, on three speeds of every '
            f'recording. All students got the same {args.updates} updates on the recordings as they are, except the one that was '
            f'trained alone for {args.long_updates}. Decoding is greedy, without a language model.',
        ],
        settings={
            'synthetic utterances': args.synthetic,
            'pretraining updates': args.pretraining_updates,
            'long updates': args.long_updates,
            'width': args.width,
            'teacher width': args.teacher_width,
            'seeds': args.seeds,
            **{
                f'{name} overrides': ' '.join(words)
                for name in OVERRIDES
                if (words := getattr(args, f'{name}_overrides'))
            },
        },
        commands=[
            'python examples/read_english/run.py --data DIR --test TEST.jsonl --out OUT --seeds '
            + ' '.join(map(str, args.seeds))
        ],
    )


def run(args: argparse.Namespace) -> dict:
    """Makes the data, trains, scores and writes the report; returns the content of `results.json`."""
    out = args.out.resolve()
    data = {name: (args.data / f'{name}.jsonl').resolve() for name in ('train', 'dev')}
    data['test'] = args.test.resolve()
    for manifest in data.values():
        read_manifest(manifest)  # a bad manifest is reported now, in one sentence, and not by a job
    out.mkdir(parents=True, exist_ok=True)
    synthetic = synthesis_job(data['train'], out / 'synthetic', args.synthetic)
    plan, jobs = make_plan(args, out / 'synthetic' / 'train.jsonl'), [synthetic]
    if plan.teachers_used:
        jobs.append(speed_job(data['train'], out / 'data'))
        data['teacher_train'] = out / 'data' / 'train.jsonl'
    where = Where(data, out, args.seeds, args.parallel, jobs)
    return compare_and_report(plan, where, make_report(args), plan.pairs())


def main() -> None:
    """Runs the comparison and prints the table."""
    args, results = run_recipe(make_parser(), run)
    print(f'results: {args.out / "results.json"}\nreport:  {args.out / "report.html"}')


if __name__ == '__main__':
    main()

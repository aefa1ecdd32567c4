# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures how many seconds of training a conventional and an oracle teacher need for a student of the same WER.

    python examples/speed_up/run.py --data DIR --test TEST.jsonl --out OUT --budgets 25 50 100 200 400 --seeds 0 1 2

`--data` is a folder with the NeMo manifests `train.jsonl` and `dev.jsonl`; `--test` is any manifest. For each budget and seed a
conventional and an oracle teacher of that many processor seconds are trained, and students of each by frame KL and by the
teacher's occupancy of the transcript. Besides them a student is trained alone, and one with an oracle branch (one stage);
`--one-stage-updates` trains the last two for other numbers of updates too. `--task scene_text` does the same for words in pictures.

Writes `OUT/results.json`, whose `speed_up` holds the curves and the ratios of seconds, `OUT/figure.png`, `OUT/figure.svg`,
`OUT/report.html` and the models `OUT/seed_N/NAME.nemo`. An interrupted run continues where it stopped.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from nemo_oracle_kd.corpus.manifest import read_manifest, write_text_atomically
from nemo_oracle_kd.evaluation.error_rates import read_transcriptions, score
from nemo_oracle_kd.evaluation.figure_style import save_png, to_svg
from nemo_oracle_kd.evaluation.report import Panel, Report, Section, Table, write_report
from nemo_oracle_kd.evaluation.speed_plot import BudgetPoint, student_over_seconds
from nemo_oracle_kd.evaluation.speed_up import BudgetCurve, compare_speed
from nemo_oracle_kd.experiments.comparison import Comparison
from nemo_oracle_kd.experiments.ctc_comparison import Where, add_panels, oracle_of, run_plan
from nemo_oracle_kd.experiments.ctc_plan import TASKS, TEACHERS, Plan, Student, speed_job
from nemo_oracle_kd.experiments.recipe_arguments import (
    add_budget_argument,
    add_data_arguments,
    add_run_arguments,
    budgets_of,
    positive,
    run_recipe,
)

ALONE, ONE_STAGE = 'student_alone', 'student_one_stage'
FRAME_KL = ['oracle_kd.objectives.frame_kl.weight=1.2', 'oracle_kd.objectives.frame_kl.temperature=2.0']
OCCUPANCY = ['oracle_kd.objectives.occupancy.weight=0.5']
#: kind of student -> its students without their teacher's budget
KINDS = {
    'student_from_conventional_teacher': Student('conventional_teacher', 'frame_kl', FRAME_KL),
    'student_from_oracle_teacher': Student('oracle_teacher', 'frame_kl', FRAME_KL),
    'student_occupancy': Student('conventional_teacher', 'occupancy', OCCUPANCY),
    'student_oracle_occupancy': Student('oracle_teacher', 'occupancy', OCCUPANCY),
}
LABELS = {
    'student_from_conventional_teacher': 'of the conventional teacher',
    'student_from_oracle_teacher': 'of the oracle teacher',
    'student_occupancy': "the conventional teacher's occupancy",
    'student_oracle_occupancy': "the oracle's occupancy",
    ONE_STAGE: 'one stage (oracle branch)',
    ALONE: 'alone, by number of updates',
}
#: kinds whose seconds are compared: the kind that is expected to need more, and the other; the first pair is the headline
RATIOS = [
    ('student_from_conventional_teacher', 'student_from_oracle_teacher'),
    ('student_occupancy', 'student_oracle_occupancy'),
    ('student_occupancy', 'student_from_oracle_teacher'),
]
NAMES = {
    'student_from_conventional_teacher': 'the conventional teacher',
    'student_from_oracle_teacher': 'the oracle teacher',
    'student_occupancy': 'the conventional teacher whose occupancy is taught',
    'student_oracle_occupancy': 'the oracle teacher whose occupancy is taught',
}


def make_parser() -> argparse.ArgumentParser:
    """Declares the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_arguments(parser)
    add_run_arguments(parser)
    parser.add_argument('--task', choices=list(TASKS), default='speech', help='what is recognised (default: speech)')
    add_budget_argument(parser, (25, 50, 100, 200, 400))
    parser.add_argument('--updates', type=positive, default=640, help='updates of every student (default: 640)')
    parser.add_argument(
        '--objectives',
        nargs='+',
        choices=['frame_kl', 'occupancy'],
        default=['frame_kl', 'occupancy'],
        help='what the students of the teachers learn by (default: both)',
    )
    parser.add_argument(
        '--one-stage-updates',
        nargs='+',
        type=positive,
        default=[],
        metavar='N',
        help=f'further numbers of updates for {ONE_STAGE} and {ALONE} (default: none)',
    )
    parser.add_argument(
        '--audio-only-rate',
        type=float,
        default=1.25,
        metavar='STEPS',
        help='steps per second of budget in which an oracle teacher trains its audio branch alone (default: 1.25)',
    )
    for name, config in (('student', 'every student'), ('teacher', 'both kinds of teachers')):
        parser.add_argument(f'--{name}-start', type=Path, metavar='MODEL', help=f'.nemo that {config} starts from')
        parser.add_argument(
            f'--{name}-overrides', nargs='+', default=[], metavar='KEY=VALUE', help=f'overrides for {config}'
        )
    return parser


def kinds_of(args: argparse.Namespace) -> dict[str, Student]:
    """The kinds of students that the arguments choose."""
    return {name: student for name, student in KINDS.items() if student.preset in args.objectives}


def at(name: str, seconds: float) -> str:
    """The name of a system with a budget."""
    return f'{name}_at_{seconds:g}'


def make_plan(args: argparse.Namespace) -> Plan:
    """The teachers of every budget and their students."""
    starts = {
        name: path.resolve() for name in ('student', 'teacher') if (path := getattr(args, f'{name}_start')) is not None
    }
    budgets, teachers, students = budgets_of(args), {}, {ALONE: Student()}
    for seconds in budgets:
        for name, teacher in TASKS[args.task].teachers.items():
            words = list(args.teacher_overrides)
            if teacher.reads_transcript:
                # the same share of every budget: within a small one the audio branch may never get below a limit
                stage = f'model.oracle.audio_only_steps={round(args.audio_only_rate * seconds)}'
                words[:0] = ['model.oracle.start_below=null', stage]
            start = 'teacher' if 'teacher' in starts else None
            teachers[at(name, seconds)] = replace(teacher, seconds=seconds, overrides=words, start=start)
        for name, student in kinds_of(args).items():
            students[at(name, seconds)] = replace(student, teacher=at(student.teacher, seconds))
    students[ONE_STAGE] = Student(preset='oracle_self')
    for updates in sorted(set(args.one_stage_updates) - {args.updates}):
        students[f'{ALONE}_{updates}_updates'] = Student(updates=updates)
        students[f'{ONE_STAGE}_{updates}_updates'] = Student(preset='oracle_self', updates=updates)
    if 'student' in starts:
        students = {name: replace(student, start='student') for name, student in students.items()}
    config = TASKS[args.task].student
    return Plan(students, args.updates, budgets[-1], args.student_overrides, teachers, starts, config)


def ratios_of(kinds: dict[str, Student]) -> list[tuple[str, str]]:
    """The pairs of these kinds whose seconds are compared."""
    return [pair for pair in RATIOS if set(pair) <= set(kinds)]


def make_pairs(plan: Plan, kinds: dict[str, Student], budgets: list[float]) -> list[tuple[str, str]]:
    """Students of the two kinds of teachers at each budget, and one stage against alone for each number of updates."""
    pairs = [(at(slow, seconds), at(fast, seconds)) for seconds in budgets for slow, fast in ratios_of(kinds)]
    longer = [name for name in plan.students if name.startswith(f'{ONE_STAGE}_')]
    return pairs + [(name.replace(ONE_STAGE, ALONE), name) for name in longer]


def curve_of(comparison: Comparison, kind: str, budgets: list[float]) -> BudgetCurve:
    """The errors of a kind of students, from their transcriptions."""
    errors = []
    for seconds in budgets:
        words = []
        for seed in comparison.seeds:
            _, references, hypotheses = read_transcriptions(comparison.transcripts_path(at(kind, seconds), seed))
            words.append(score(references, hypotheses).words)
        errors.append([one.errors for one in words])
    return BudgetCurve(np.array(budgets), np.array(errors), words[0].reference_lengths)


def points_of(results: dict, kinds: dict[str, Student], budgets: list[float]) -> dict[str, list[BudgetPoint]]:
    """The points of each curve of the figure: the kinds of students, one stage, and the student alone for its updates."""
    systems = results['systems']

    def point(name: str, teacher: str | None = None, budget: float | None = None) -> BudgetPoint:
        total = np.mean(systems[name]['train_seconds'])
        total += np.mean(systems[teacher]['train_seconds']) if teacher else 0.0
        return BudgetPoint(systems[name]['wer'], float(total), budget)

    points = {
        kind: [point(at(kind, seconds), at(student.teacher, seconds), seconds) for seconds in budgets]
        for kind, student in kinds.items()
    }
    for kind in (ONE_STAGE, ALONE):
        names = [name for name in systems if name == kind or name.startswith(f'{kind}_') and name.endswith('_updates')]
        points[kind] = [point(name) for name in names]
    return points


def measure(comparison: Comparison, results: dict, kinds: dict[str, Student], budgets: list[float]) -> dict:
    """The curves and ratios that `results.json` holds under `speed_up`.

    Returns:
        `curves` (kind -> points, WER in percent) and `ratios`, of which the first is the headline.
    """
    curves = {kind: curve_of(comparison, kind, budgets) for kind in kinds}
    ratios = []
    for slow, fast in ratios_of(kinds):
        found = compare_speed(curves[slow], curves[fast])
        sentence = found.sentence(NAMES[slow], NAMES[fast])
        ratios.append({'slow': slow, 'fast': fast, **asdict(found), 'sure': found.sure, 'sentence': sentence})
    points = points_of(results, kinds, budgets)
    return {'curves': {kind: [asdict(one) for one in row] for kind, row in points.items()}, 'ratios': ratios}


def write_pages(args: argparse.Namespace, plan: Plan, comparison: Comparison, where: Where, results: dict) -> None:
    """Draws the figure and writes the report."""
    budgets, kinds, out, systems = budgets_of(args), kinds_of(args), where.out, results['systems']
    ratios = results['speed_up']['ratios']
    points = points_of(results, kinds, budgets)
    figure = student_over_seconds({LABELS[kind]: row for kind, row in points.items()}, systems[ALONE]['wer'])
    save_png(figure, out / 'figure.png')
    write_text_atomically(out / 'figure.svg', to_svg(figure))
    caption = (
        'Mean test WER of the students; a band reaches from the best to the worst seed. Left: over the seconds of the teacher; the '
        'dotted line and its band are the student alone. Right: over the seconds of teacher and student together.'
    )
    rows = [
        [
            f'{NAMES[one["slow"]]} / {NAMES[one["fast"]]}',
            *(f'{one[key]:.2f}' if one[key] is not None else '–' for key in ('ratio', 'low', 'high')),
            'yes' if one['sure'] else 'no',
        ]
        for one in ratios
    ]
    table = Table(['seconds at equal WER', 'ratio', '95 % from', 'to', 'can be given'], rows)
    last = budgets[-1]
    shown = [ALONE, ONE_STAGE, *(at(name, last) for name in (*TEACHERS, *kinds))]
    told = [name for name, teacher in plan.teachers_used.items() if teacher.reads_transcript]
    report = Report(
        title='Seconds of the teacher',
        results={**results, 'curves': {name: results['curves'][name] for name in shown}},
        lead=ratios[0]['sentence'],
        story=[
            'Teachers of both kinds were trained for several budgets of processor seconds, and students were taught by each. A '
            'ratio compares the seconds after which the students reach the same word error rate; it is given only if its 95 % interval, '
            'which resamples seeds and utterances, does not contain 1.'
        ],
        headline=at(ratios[0]['fast'], last),
        told=told,
        settings=results['settings'],
        sections=[
            Section('Student WER over seconds', [one['sentence'] for one in ratios], [Panel(figure, caption), table])
        ],
        commands=[
            'python examples/speed_up/run.py --data DIR --test TEST.jsonl --out OUT --budgets '
            + f'{" ".join(f"{one:g}" for one in budgets)} --seeds {" ".join(map(str, args.seeds))}'
        ],
    )
    drawn = (at('oracle_teacher', last), at('conventional_teacher', last), report.marked, ALONE)
    add_panels(report, comparison, where, oracle_of(plan), drawn)
    write_report(report, out / 'report.html')


def run(args: argparse.Namespace) -> dict:
    """Makes the data, trains, scores, measures and writes the pages; returns the content of `results.json`."""
    out, kinds, budgets, task = args.out.resolve(), kinds_of(args), budgets_of(args), TASKS[args.task]
    data = {name: (args.data / f'{name}.jsonl').resolve() for name in ('train', 'dev')}
    data['test'] = args.test.resolve()
    for manifest in data.values():  # a bad one is reported now, in one sentence, and not by a job
        read_manifest(manifest, file_keys=task.file_keys)
    out.mkdir(parents=True, exist_ok=True)
    plan, jobs = make_plan(args), []
    if task.speeds:
        jobs.append(speed_job(data['train'], out / 'data'))
        data['teacher_train'] = out / 'data' / 'train.jsonl'
    where = Where(data, out, args.seeds, args.parallel, jobs)
    pairs, settings = make_pairs(plan, kinds, budgets), {'budgets': budgets, 'seeds': args.seeds}
    comparison, results = run_plan(plan, where, pairs, settings)
    results['speed_up'] = measure(comparison, results, kinds, budgets)
    write_text_atomically(comparison.results_path, json.dumps(results, indent=2) + '\n')
    write_pages(args, plan, comparison, where, results)
    return results


def main() -> None:
    """Runs the comparison, and prints the table and the ratios."""
    args, results = run_recipe(make_parser(), run)
    for one in results['speed_up']['ratios']:
        print(one['sentence'])
    print(f'results: {args.out / "results.json"}\nfigure:  {args.out / "figure.png"}')


if __name__ == '__main__':
    main()

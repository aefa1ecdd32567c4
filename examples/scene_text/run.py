# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Compares recognisers of word pictures, alone and distilled: CTC over the columns of a picture, greedy decoding.

    python examples/scene_text/run.py --data DIR --test TEST.jsonl [TEST.jsonl ...] --out OUT --seeds 0 1 2

`--data` is a folder with the manifests `train.jsonl` and `dev.jsonl`, whose rows have `image` and `text`; `--test` is one or several
manifests. With `--synthetic N` all systems start from networks that were trained on N rendered words. Writes `OUT/results.json`,
`OUT/report.html` and the models `OUT/seed_N/NAME.nemo`. docs/scene_text.md lists what was measured. An interrupted run
continues where it stopped.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nemo_oracle_kd.corpus.manifest import read_manifest, write_manifest, write_text_atomically
from nemo_oracle_kd.evaluation.error_rates import read_transcriptions, score
from nemo_oracle_kd.evaluation.report import Report
from nemo_oracle_kd.experiments.ctc_comparison import Where, compare_and_report
from nemo_oracle_kd.experiments.ctc_plan import SCENE_TEXT, Plan, Start, Student
from nemo_oracle_kd.experiments.jobs import CLI, Job
from nemo_oracle_kd.experiments.recipe_arguments import add_run_arguments, positive, run_recipe

ALONE = 'student_alone'
FRAME_KL = ['oracle_kd.objectives.frame_kl.weight=0.6', 'oracle_kd.objectives.frame_kl.temperature=2.0']
OCCUPANCY = ['oracle_kd.objectives.occupancy.weight=0.5']
STUDENTS = {
    ALONE: Student(),
    'student_from_conventional_teacher': Student('conventional_teacher', 'frame_kl', FRAME_KL),
    'student_from_oracle_teacher': Student('oracle_teacher', 'frame_kl', FRAME_KL),
    'student_occupancy': Student('conventional_teacher', 'occupancy', OCCUPANCY),
    'student_oracle_occupancy': Student('oracle_teacher', 'occupancy', OCCUPANCY),
    'student_guided_ctc': Student('oracle_teacher', 'guided_ctc'),
    'student_one_stage': Student(preset='oracle_self'),
}
DEFAULT = [name for name in STUDENTS if name not in (ALONE, 'student_guided_ctc')]
OVERRIDES = ('student', 'teacher', 'oracle', 'start')


def make_parser() -> argparse.ArgumentParser:
    """Declares the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, required=True, help='folder with train.jsonl and dev.jsonl')
    parser.add_argument('--test', type=Path, required=True, nargs='+', help='manifests to score on')
    parser.add_argument('--out', type=Path, required=True, help='output folder')
    add_run_arguments(parser)
    parser.add_argument(
        '--updates', type=positive, default=1500, help='optimizer steps of every student (default: 1500)'
    )
    parser.add_argument(
        '--teacher-seconds', type=float, default=300, help='training seconds of each teacher (default: 300)'
    )
    parser.add_argument(
        '--systems',
        nargs='+',
        choices=[*DEFAULT, 'student_guided_ctc'],
        default=DEFAULT,
        help='students besides the one alone',
    )
    parser.add_argument(
        '--synthetic', type=int, default=0, metavar='N', help='rendered words on which all systems are trained first'
    )
    parser.add_argument(
        '--pretraining-updates', type=positive, default=3000, help='optimizer steps on rendered words (default: 3000)'
    )
    for name in OVERRIDES:
        parser.add_argument(
            f'--{name}-overrides', nargs='+', default=[], metavar='KEY=VALUE', help=f'overrides of every {name}'
        )
    return parser


def make_plan(args: argparse.Namespace, synthetic: Path | None) -> Plan:
    """What is trained.

    Args:
        args: the command line.
        synthetic: manifest of the rendered words; `None` if no system starts from them.
    """
    of_students, of_teachers, starts = None, None, {}
    if synthetic is not None:
        of_students, of_teachers = 'student', 'teacher'
        configs = {'student': SCENE_TEXT.student, 'teacher': SCENE_TEXT.teachers['conventional_teacher'].config}
        starts = {
            name: Start(config, synthetic, args.pretraining_updates, args.start_overrides)
            for name, config in configs.items()
        }
    return Plan(
        {name: replace(STUDENTS[name], start=of_students) for name in dict.fromkeys([ALONE, *args.systems])},
        args.updates,
        args.teacher_seconds,
        args.student_overrides,
        teachers={
            name: replace(
                teacher,
                start=of_teachers,
                overrides=[*args.teacher_overrides, *(args.oracle_overrides if teacher.reads_transcript else [])],
            )
            for name, teacher in SCENE_TEXT.teachers.items()
        },
        starts=starts,
        student_config=SCENE_TEXT.student,
    )


def rendering_job(train: Path, folder: Path, count: int) -> Job:
    """The job that renders words, two in three of them words of the training manifest."""
    command = [*CLI, 'synthesize', str(folder), '--images', '--train', str(count), '--dev', '1', '--test', '1']
    return Job(
        'rendered_words',
        [*command, '--words', str(train), '--workers', '1', '--overwrite'],
        outputs=[folder / 'train.jsonl'],
        inputs=[train],
    )


def join_tests(tests: Sequence[Path], joined: Path) -> None:
    """Writes all test manifests as one, in which `test_set` tells where a row is from."""
    rows = []
    for path in tests:
        for row in read_manifest(path, file_keys=SCENE_TEXT.file_keys):
            kept = {key: value for key, value in row.items() if key not in SCENE_TEXT.file_keys}
            rows.append({'image': row['audio_filepath'], **kept, 'test_set': path.stem})
    write_manifest(joined, rows)


def words_right(where: Where, systems: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """System -> test set -> the share of right words with each seed, percent; `all` for all sets together."""
    found: dict[str, dict[str, list[float]]] = {}
    for system in systems:
        shares = found.setdefault(system, {})
        for seed in where.seeds:
            path = where.out / f'seed_{seed}' / 'transcripts' / f'{system}.jsonl'
            rows, references, hypotheses = read_transcriptions(path)
            wrong = score(references, hypotheses).words.errors > 0
            sets = {'all': list(range(len(rows)))}
            for index, row in enumerate(rows):
                sets.setdefault(row['test_set'], []).append(index)
            for name, members in sets.items():
                shares.setdefault(name, []).append(100.0 * (1.0 - float(wrong[members].mean())))
    return found


def make_report(args: argparse.Namespace) -> Report:
    """The texts of the page."""
    told = [name for name in ('student_from_oracle_teacher', 'student_one_stage') if name in args.systems]
    start = (
        f'All systems start from networks that were trained on {args.synthetic} rendered words. '
        if args.synthetic
        else ''
    )
    return Report(
        title='Oracle distillation of scene text recognisers',
        headline=told[0] if told else None,
        results={},
        lead=(
            'A small recogniser of words in photographs learns from a teacher that was allowed to read the word while it looked at '
            'the picture. This page shows what that bought, against the same student alone and taught by an ordinary teacher.'
        ),
        story=[
            'CTC does not care whether time comes from a microphone or from the columns of a picture: a column counts as a '
            'hundredth of a second. Every text is one word, so the word error rate is the share of wrong words. Letters and digits '
            'are compared, whatever their case.',
            f'{start}Both teachers were trained for the same {args.teacher_seconds:g} processor seconds, and all students for the '
            f'same {args.updates} updates; they differ only in what is added to their loss. Decoding is greedy, without a lexicon.',
        ],
        settings={
            'synthetic pictures': args.synthetic,
            'pretraining updates': args.pretraining_updates if args.synthetic else 0,
            'seeds': args.seeds,
            **{
                f'{name} overrides': ' '.join(words)
                for name in OVERRIDES
                if (words := getattr(args, f'{name}_overrides'))
            },
        },
        commands=[
            'python examples/scene_text/run.py --data DIR --test TEST.jsonl --out OUT --seeds '
            + ' '.join(map(str, args.seeds)),
            'nemo-oracle-kd diagnose OUT/seed_0/oracle_teacher.nemo --manifest DIR/dev.jsonl',
        ],
    )


def run(args: argparse.Namespace) -> dict:
    """Makes the data, trains, scores and writes the report; returns the content of `results.json`."""
    out = args.out.resolve()
    data = {name: (args.data / f'{name}.jsonl').resolve() for name in ('train', 'dev')}
    for manifest in data.values():  # a bad one is reported now, in one sentence, and not by a job
        read_manifest(manifest, file_keys=SCENE_TEXT.file_keys)
    data['test'] = out / 'data' / 'test.jsonl'
    join_tests(args.test, data['test'])
    jobs, synthetic = [], None
    if args.synthetic > 0:
        jobs, synthetic = [rendering_job(data['train'], out / 'words', args.synthetic)], out / 'words' / 'train.jsonl'
    plan, where = make_plan(args, synthetic), Where(data, out, args.seeds, args.parallel, jobs)
    results = compare_and_report(plan, where, make_report(args), plan.pairs())
    results['words_right'] = words_right(where, list(results['systems']))
    write_text_atomically(out / 'results.json', json.dumps(results, indent=2) + '\n')
    return results


def print_words_right(shares: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Prints the mean over the seeds of the share of right words, for each test set."""
    sets = list(next(iter(shares.values())))
    print(f'{"right words, %":38}' + ''.join(f'{name[:14]:>16}' for name in sets))
    for system, of_sets in shares.items():
        print(f'{system:38}' + ''.join(f'{sum(of_sets[name]) / len(of_sets[name]):16.1f}' for name in sets))


def main() -> None:
    """Runs the comparison and prints the tables."""
    args, results = run_recipe(make_parser(), run)
    print_words_right(results['words_right'])
    print(f'results: {args.out / "results.json"}\nreport:  {args.out / "report.html"}')


if __name__ == '__main__':
    main()

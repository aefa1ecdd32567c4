# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distils real teachers on unlabelled speech of many speakers: character CTC or RNN-T, greedy, no language model.

    python examples/unlabelled_speech/run.py --data DIR --test TEST.jsonl --out OUT --seeds 0 1 2 \\
        --teacher base=whisper:FOLDER tiny=whisper:FOLDER2 --keep "wer(tiny) <= 0.2" "wer(tiny) <= 0.5"

`--data` is a folder with the NeMo manifests `train.jsonl`, whose rows name their `speaker`, and `dev.jsonl`; `--test` is any manifest. A
share of the speakers keeps its labels. The teachers label others: Whisper (extra `whisper`), any NeMo model that `score` takes, labels that
exist already (`--scored`, of `OUT/data/unsupervised.jsonl`), and with `--own-teacher` a model trained on the labelled part. Students
learn from these labels by hard and full-sum distillation (arXiv 2303.05958), from all of them or from those that `--keep` accepts.
Beside them are the student alone, on the labelled part, and the ceiling, which is told all true labels. All start from one model, trained
on synthetic sentences with the words of the labelled part, or from `--student-start`.

Where `--keep`, `--huber-width`, `--weight` or `--teacher-scale` has several values, the recipe chooses on `dev.jsonl`: students of the first
seed are trained with each value (filters with `hard`, the others together with full-sum), and the lowest CER wins. `--lengths` trains students of the
first teacher for other numbers of updates as well. `--rounds 2` adds a round in which a student is the teacher: given after a
run without it, with the same `--out`, only that round is trained.

Writes `OUT/results.json` (`recovered`: the share of the gap between alone and ceiling), `OUT/figure.png`, `OUT/figure.svg` and the students
`OUT/seed_N/NAME.nemo`. An interrupted run continues where it stopped.
"""

import argparse
import json
from pathlib import Path

from systems import KINDS, OWN, choose, lengths_of, measure, pairs_of, prepare, systems_of

from nemo_oracle_kd.corpus.manifest import read_manifest, write_text_atomically
from nemo_oracle_kd.evaluation.figure_style import save_png, to_svg
from nemo_oracle_kd.evaluation.recovery_plot import between_alone_and_ceiling
from nemo_oracle_kd.experiments.comparison import Comparison
from nemo_oracle_kd.experiments.pseudo_labels import Split, write_split
from nemo_oracle_kd.experiments.recipe_arguments import add_data_arguments, add_run_arguments, positive, run_recipe
from nemo_oracle_kd.experiments.unlabelled import ALONE, CEILING, METHODS

#: arguments that the results hold
SETTINGS = ('kind', 'labelled', 'unlabelled', 'split_seed', 'updates', 'lengths', 'rounds', 'student_overrides')


def make_parser() -> argparse.ArgumentParser:
    """Declares the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_arguments(parser)
    add_run_arguments(parser)
    teachers = parser.add_argument_group('teachers; all methods are tried with the first')
    for name, metavar, what in (
        ('teacher', 'NAME=SOURCE', 'teachers that label here: whisper:FOLDER or a .nemo file'),
        ('scored', 'NAME=SCORED.jsonl', 'labels that exist, as score and import write them'),
    ):
        teachers.add_argument(f'--{name}', nargs='+', default=[], metavar=metavar, help=what)
    teachers.add_argument(
        '--own-teacher', action='store_true', help=f'also train a teacher on the labelled part, named {OWN}'
    )
    teachers.add_argument(
        '--prompt', nargs='+', default=[], metavar='SLOT=VALUE', help='of --teacher (default for Whisper: language=en)'
    )
    parser.add_argument('--kind', choices=list(KINDS), default='ctc', help='kind of the students (default: ctc)')
    parser.add_argument('--systems', nargs='+', metavar='METHOD_TEACHER', help='students to train (default: all)')
    for name, default, what in (
        ('labelled', 0.1, 'share of the speakers that keep their labels'),
        ('unlabelled', 0.9, 'share of the speakers whom the teachers label'),
    ):
        parser.add_argument(f'--{name}', type=float, default=default, help=f'{what} (default: {default})')
    parser.add_argument('--split-seed', type=int, default=0, help='which speakers keep their labels (default: 0)')
    for name, default, what in (
        ('synthetic', 6000, 'synthetic utterances'),
        ('pretraining-updates', 3000, 'optimizer steps on the synthetic utterances'),
        ('updates', 600, 'optimizer steps of every student'),
        ('teacher-updates', 600, f'optimizer steps of {OWN}'),
        ('teacher-width', 160, f'channels of {OWN}'),
        ('rounds', 1, 'rounds; from the second on, a student of the round before is the teacher'),
    ):
        parser.add_argument(f'--{name}', type=positive, default=default, help=f'{what} (default: {default})')
    parser.add_argument(
        '--lengths', nargs='+', type=positive, default=[], metavar='N', help='further numbers of updates'
    )
    parser.add_argument(
        '--keep', nargs='+', default=['nll_per_token < quantile(0.8)'], metavar='EXPRESSION', help='filters to try'
    )
    for name, default in (('huber-width', 4.0), ('weight', 1.0), ('teacher-scale', 1.0)):
        parser.add_argument(
            f'--{name}', nargs='+', type=float, default=[default], help=f'of full-sum, to try (default: {default:g})'
        )
    parser.add_argument('--round-from', metavar='METHOD_TEACHER', help='whose student labels for the second round')
    parser.add_argument(
        '--round-keep', default='nll_per_token < quantile(0.8)', metavar='EXPRESSION', help='filter of further rounds'
    )
    for name, whom in (('student', 'the students'), ('teacher', OWN)):
        parser.add_argument(f'--{name}-start', type=Path, metavar='MODEL', help=f'.nemo that {whom} starts from')
    parser.add_argument(
        '--student-overrides', nargs='+', default=[], metavar='KEY=VALUE', help='overrides for every student'
    )
    return parser


def run(args: argparse.Namespace) -> dict:
    """Labels, chooses, trains and scores everything; returns the content of `results.json`."""
    out = args.out.resolve()
    data = {name: (args.data / f'{name}.jsonl').resolve() for name in ('train', 'dev')}
    data['test'] = args.test.resolve()
    for manifest in data.values():
        read_manifest(manifest)  # a bad manifest is reported now, in one sentence, and not by a job
    parts = write_split(Split(args.labelled, args.unlabelled, args.split_seed, 'speaker'), data['train'], out / 'data')
    plan = prepare(args, parts, data['dev'], out)
    plan.settings, chosen = choose(args, plan)
    systems = {**systems_of(args, plan), **lengths_of(args, plan)}
    first = args.round_from or next(name for name in systems if name not in (ALONE, CEILING))
    if args.rounds > 1 and first not in systems:
        raise ValueError(f"--round-from is {first}, which is no system: choose one of {', '.join(systems)}")
    rounds, round_jobs = plan.rounds(args.rounds, first, args.round_keep, args.seeds)
    comparison = Comparison(
        plan.runs(systems, args.seeds) + rounds,
        data['test'],
        out,
        ALONE,
        pairs=pairs_of(systems),
        settings={'teachers': list(plan.labels), **{name: getattr(args, name) for name in SETTINGS}},
        extra_jobs=[*plan.filter_jobs(systems), *round_jobs],
    )
    results = comparison.run(args.parallel)
    results.update(measure(results, comparison, plan, systems), chosen=chosen)
    write_text_atomically(comparison.results_path, json.dumps(results, indent=2) + '\n')
    draw(results, out)
    return results


def draw(results: dict, out: Path) -> None:
    """Draws the picture of the results."""
    students, lengths = {}, {}
    for name, facts in results['systems'].items():
        if name not in (ALONE, CEILING):
            method = METHODS[facts['method']].label if facts.get('method') else name.replace('_', ' ')
            label = f'{method} ({facts["teacher"]})' if facts.get('teacher') else method
            if facts['of_length']:
                lengths.setdefault(label, {})[facts['updates'][0]] = facts['cer']
            if not name.endswith('_updates'):
                students[label] = facts['cer']
    ends = (results['systems'][name]['cer'] for name in (ALONE, CEILING))
    figure = between_alone_and_ceiling(students, *ends, lengths)
    save_png(figure, out / 'figure.png')
    write_text_atomically(out / 'figure.svg', to_svg(figure))


def main() -> None:
    """Runs the comparison and prints the tables."""
    args, results = run_recipe(make_parser(), run)
    print(f'{"labels of":14}{"rows":>6}{"WER %":>8}{"kept":>6}{"WER %":>8}')
    for name, one in results['teachers'].items():
        kept = f'{one["kept_rows"]:6d}{one["kept_wer"]:8.1f}' if one['kept_rows'] else ''
        print(f'{name:14}{one["rows"]:6d}{one["wer"]:8.1f}{kept}')
    for name, shares in results['recovered'].items():
        print(f'{name:38}share of the gap, CER: {shares["cer_text"]}; WER: {shares["wer_text"]}')
    for name, facts in results['systems'].items():
        if 'surer_than_teacher' in facts:
            shares = ', '.join(f'{100 * share:.0f} %' for share in facts['surer_than_teacher'])
            print(
                f'{name:38}surer than the teacher of {shares} of the last logged batch (0 %: with L1, hard distillation)'
            )
    print(f'results: {args.out / "results.json"}\nfigure:  {args.out / "figure.png"}')


if __name__ == '__main__':
    main()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Compares students of good and bad teachers on real speech: character RNN-T, greedy decoding, no language model.

    python examples/noisy_teachers/digits.py --recordings free-spoken-digit-dataset/recordings --out DIR
    python examples/noisy_teachers/run.py --data DIR --test TEST.jsonl --out OUT --seeds 0 1 2

`--data` is a folder with the NeMo manifests `train.jsonl` and `dev.jsonl`; `--test` is any manifest. The training manifest is
split into a supervised part and a part whose labels no student sees. A ladder of teachers, by size and share of the labels,
labels the second part with `nemo-oracle-kd score`. Students learn from these labels by hard, full-sum, sequence-discriminative
and soft distillation (arXiv 2303.05958). Split and teachers are the same for all student seeds (`--split-seed`,
`--teacher-seed`). All students of a seed start from one model, trained on the supervised part. The settings suit the corpus of
`digits.py`; utterances longer than 5 seconds are left out.

Writes `OUT/results.json`, `OUT/figure.png`, `OUT/figure.svg`, the students `OUT/seed_N/NAME.nemo` and the teachers
`OUT/teachers/NAME.nemo`. docs/experiments/noisy_teachers.md also lists what was tried and failed. An interrupted run continues
where it stopped.
"""

import argparse

from ladder import LADDER, METHODS, Recipe, run_ladder

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.evaluation.figure_style import save_png, to_svg
from nemo_oracle_kd.evaluation.teacher_plot import student_over_teacher
from nemo_oracle_kd.experiments.comparison import print_table
from nemo_oracle_kd.experiments.recipe_arguments import (
    add_data_arguments,
    add_run_arguments,
    add_update_arguments,
    one_sentence,
)


def make_parser() -> argparse.ArgumentParser:
    """Declares the command line."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_arguments(parser)
    add_run_arguments(parser, ' of the students')
    parser.add_argument('--teacher-seed', type=int, default=0, help='one ladder for all seeds (default: 0)')
    parser.add_argument('--split-seed', type=int, default=0, help='which utterances keep their labels (default: 0)')
    add_update_arguments(parser, defaults.updates, defaults.warm_updates)
    parser.add_argument(
        '--teachers',
        nargs='+',
        choices=sorted(LADDER),
        default=list(LADDER),
        help='part of the ladder (default: all of it)',
    )
    return parser


def main() -> None:
    """Runs the ladder."""
    parser = make_parser()
    args = parser.parse_args()
    with one_sentence(parser):
        run(args)


def run(args: argparse.Namespace) -> None:
    """Trains everything, draws the figure and prints the tables."""
    data = {name: (args.data / f'{name}.jsonl').resolve() for name in ('train', 'dev')}
    data['test'] = args.test.resolve()
    for manifest in data.values():
        read_manifest(manifest)  # a bad manifest is reported now, in one sentence, and not by a job
    recipe = Recipe(
        updates=args.updates,
        warm_updates=args.warm_updates,
        teachers=args.teachers,
        teacher_seed=args.teacher_seed,
        split_seed=args.split_seed,
    )
    out = args.out.resolve()
    results = run_ladder(recipe, data, out, args.seeds, args.parallel)
    teachers = {name: teacher['wer'] for name, teacher in results['teachers'].items()}
    students = {}
    for facts in results['systems'].values():
        if facts.get('teacher'):
            students.setdefault(facts['method'], {})[facts['teacher']] = facts['wer']
    labels = {method: text for method, (text, _, _) in METHODS.items()}
    figure = student_over_teacher(teachers, students, results['systems']['student_alone']['wer'], labels)
    save_png(figure, out / 'figure.png')
    (out / 'figure.svg').write_text(to_svg(figure), encoding='utf-8')
    print(
        f'{"teacher":10}{"WER %":>8}{"pseudo-labels WER %":>21}{"nats per label":>16}{"labels of":>11}{"weights":>10}'
    )
    for name, teacher in results['teachers'].items():
        print(
            f'{name:10}{teacher["wer"]:8.1f}{teacher["pseudo_label_wer"]:21.1f}{teacher["nats_per_label"]:16.2f}'
            f'{teacher["labelled_utterances"]:11d}{teacher["parameters"]:10d}'
        )
    print_table(results)
    print(f'results: {out / "results.json"}\nfigure:  {out / "figure.png"}')


if __name__ == '__main__':
    main()

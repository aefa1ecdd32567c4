# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd combine`: makes one pseudo-label of those of several teachers."""

import argparse

HELP = "combine several teachers' labels of the same speech: the best-scored, or a vote on every word (ROVER)"

EPILOG = """examples:
  nemo-oracle-kd combine first.jsonl second.jsonl --output combined.jsonl --how best
  nemo-oracle-kd combine first.jsonl second.jsonl third.jsonl --output combined.jsonl --how rover

ROVER's texts have no scores: train on them with the objective hard, or score them with `score --reference`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        'scored', nargs='+', metavar='SCORED.jsonl', help='two or more scored manifests, with their headers'
    )
    parser.add_argument('--output', required=True, metavar='OUT.jsonl', help='scored manifest to write')
    parser.add_argument(
        '--how',
        required=True,
        choices=['best', 'rover'],
        help='best: the text with the highest log-probability per token; rover: a vote on every word',
    )
    parser.add_argument(
        '--votes',
        default='equal',
        choices=['equal', 'probability'],
        help="rover: what a teacher's vote counts; probability is that per token of its text (default: equal)",
    )
    parser.add_argument('--overwrite', action='store_true', help='replace an existing output')


def run(args: argparse.Namespace) -> int:
    """Combines, and prints what became of the texts."""
    from nemo_oracle_kd.errors import ConfigError
    from nemo_oracle_kd.labelling.combination import Labelled, combine
    from nemo_oracle_kd.labelling.files import check_new_output, write_scored
    from nemo_oracle_kd.labelling.filtering import read_scored

    if len(args.scored) < 2:
        raise ConfigError("one manifest cannot be combined: give those of two or more teachers")
    if args.how == 'best' and args.votes != 'equal':
        raise ConfigError("--votes belongs to --how rover: leave it out")
    check_new_output(args.output, args.scored, args.overwrite)
    teachers = [Labelled(path, *read_scored(path)) for path in args.scored]
    header, kept, dropped = combine(teachers, args.how, args.votes)
    report = write_scored(args.output, header, kept, dropped)
    for number, path in enumerate(args.scored if args.how == 'best' else ()):
        print(f"{sum(row['teacher_fields']['teacher'] == number for row in kept)} texts of {path}")
    if args.how == 'rover':
        print(f"mean agreement {sum(row['teacher_fields']['agreement'] for row in kept) / len(kept):.3f}")
    for reason, count in report.dropped.items():
        print(f'dropped {count} rows: {reason}')
    print(f'{args.output}: {report.rows} rows')
    return 0

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd corrupt`: puts errors into transcripts at a given rate, to study noisy labels and bad teachers."""

import argparse

HELP = 'put errors into the transcripts of a manifest, at a given word error rate'

EPILOG = """examples:
  nemo-oracle-kd corrupt --manifest train.jsonl --output noisy.jsonl --wer 0.3 --seed 1
  nemo-oracle-kd corrupt --manifest train.jsonl --output noisy.jsonl --wer 0.1 --unit character

The true transcript of each row goes to `reference_text`.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('--manifest', required=True, metavar='IN.jsonl', help='NeMo manifest with true transcripts')
    parser.add_argument('--output', required=True, metavar='OUT.jsonl', help='manifest to write')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing output')
    parser.add_argument(
        '--wer', type=float, required=True, metavar='X', help='error rate of the result, as a share: 0.3 for 30 %%'
    )
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='seed of the random errors (default: 0)')
    parser.add_argument(
        '--unit',
        default='word',
        choices=['word', 'character'],
        help='what is replaced, left out and added, and what --wer counts (default: word)',
    )
    parser.add_argument(
        '--shares',
        nargs=3,
        type=float,
        default=[0.6, 0.2, 0.2],
        metavar=('SUB', 'DEL', 'INS'),
        help='how errors divide into substitutions, deletions and insertions (default: 0.6 0.2 0.2)',
    )


def run(args: argparse.Namespace) -> int:
    """Writes the manifest and prints the measured error rate."""
    from nemo_oracle_kd.corpus.corruption import CorruptionSettings, corrupt_rows
    from nemo_oracle_kd.corpus.manifest import read_manifest, write_manifest
    from nemo_oracle_kd.corpus.outputs import check_outputs

    settings = CorruptionSettings(args.wer, args.seed, args.unit, tuple(args.shares))
    check_outputs({'--output': args.output}, [args.manifest], args.overwrite)
    rows, report = corrupt_rows(read_manifest(args.manifest, check_audio=False), settings)
    write_manifest(args.output, rows)
    print(
        f'measured: word error rate {100 * report.wer:.2f} %, character error rate {100 * report.cer:.2f} % '
        f'(asked for {100 * args.wer:.2f} % of {args.unit}s)'
    )
    print(
        f'{report.substitutions} substitutions, {report.deletions} deletions, {report.insertions} insertions on '
        f'{report.units} {args.unit}s; {report.changed} of {report.rows} rows changed'
    )
    if report.emptied:
        print(f'{report.emptied} rows lost all their words; most training recipes need them removed')
    return 0

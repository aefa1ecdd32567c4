# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd perturb`: copies of a corpus at other speeds."""

import argparse

HELP = 'write copies of a corpus at other speeds (speed perturbation, once instead of in every epoch)'

EPILOG = """example:
  nemo-oracle-kd perturb --manifest train.jsonl --output train_speeds --speeds 0.9 1.0 1.1

writes train_speeds/train.jsonl with three rows per utterance.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('--manifest', required=True, metavar='IN.jsonl', help='NeMo manifest')
    parser.add_argument('--output', required=True, metavar='DIR', help='folder for audio and manifest')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace a manifest in DIR that another run has written'
    )
    parser.add_argument(
        '--speeds',
        nargs='+',
        type=float,
        default=[0.9, 1.0, 1.1],
        metavar='FACTOR',
        help='speeds; 1 refers to the recording itself (default: 0.9 1.0 1.1)',
    )


def run(args: argparse.Namespace) -> int:
    """Writes the copies and says how much audio there is."""
    from pathlib import Path

    from nemo_oracle_kd.corpus.speed import write_speed_copies

    rows = write_speed_copies(args.manifest, args.output, args.speeds, overwrite=args.overwrite)
    hours = sum(row.get('duration', 0.0) for row in rows) / 3600
    print(f'{len(rows)} rows, {hours:.2f} hours: {Path(args.output) / Path(args.manifest).name}')
    return 0

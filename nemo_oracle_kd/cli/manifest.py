# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd manifest`: lists the recordings of a folder as a NeMo manifest, to be labelled by `score`."""

import argparse

HELP = 'list the recordings of a folder as a NeMo manifest without texts, to be labelled'

EPILOG = """example:
  nemo-oracle-kd manifest recordings --output speech.jsonl

then: nemo-oracle-kd score --teacher teacher.nemo --manifest speech.jsonl --output scored.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.add_argument('folder', metavar='FOLDER', help='searched with all folders in it: wav, flac, ogg, opus, mp3')
    parser.add_argument('--output', required=True, metavar='OUT.jsonl', help='manifest to write')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing output')


def run(args: argparse.Namespace) -> int:
    """Writes the manifest, and prints what it holds and which files were left out."""
    from nemo_oracle_kd.corpus.manifest import write_manifest
    from nemo_oracle_kd.corpus.outputs import check_outputs
    from nemo_oracle_kd.corpus.recordings import recordings

    check_outputs({'--output': args.output}, overwrite=args.overwrite)
    rows, problems = recordings(args.folder)
    write_manifest(args.output, rows)
    for problem in problems:
        print(f'left out: {problem}')
    print(f"{args.output}: {len(rows)} recordings, {sum(row['duration'] for row in rows) / 3600:.2f} h")
    return 0

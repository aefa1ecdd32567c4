# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The command line of ``nemo-oracle-kd score``."""

import argparse

from nemo_oracle_kd.cli._device import add_device_argument
from nemo_oracle_kd.cli._speech import add_speech_arguments

EPILOG = """examples:
  nemo-oracle-kd score --teacher t.nemo --manifest in.jsonl --output out.jsonl --nbest 8
  nemo-oracle-kd score --teacher t.nemo --manifest train.jsonl --output scored.jsonl --reference
  nemo-oracle-kd score --teacher canary.nemo --manifest in.jsonl --output out.jsonl --prompt source_lang=en target_lang=en pnc=no
  nemo-oracle-kd score --teacher whisper:FOLDER --manifest in.jsonl --output out.jsonl --prompt language=en --alphabet student.nemo
  nemo-oracle-kd score --teacher t.nemo --manifest in.jsonl --output out.jsonl --shards 4 --shard 0   # one of four machines
  nemo-oracle-kd score --teacher t.nemo --manifest tarred_audio_manifest.json --tarred-audio-filepaths audio_{0..7}.tar --output out.jsonl
  nemo-oracle-kd score --teacher t.nemo --shar corpus_shar --output scored_shar
  nemo-oracle-kd score --merge out.jsonl                                                        # when all four are done

A run that was interrupted continues when it is started again with the same arguments.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        '--teacher',
        metavar='T.nemo',
        help='.nemo file or pretrained name, or whisper:FOLDER or whisper:NAME for a Whisper model (extra `whisper`)',
    )
    add_speech_arguments(parser, 'IN.jsonl', 'NeMo manifest of the speech')
    parser.add_argument(
        '--output', metavar='OUT.jsonl', help='scored manifest to write; with --shar, a folder for the scored cuts'
    )
    parser.add_argument(
        '--merge',
        nargs='+',
        metavar=('OUT.jsonl', 'PART'),
        help='instead of scoring: join the parts OUT.jsonl.I-of-N that several machines have scored, or the named ones; '
        'each part must be there exactly once',
    )

    source = parser.add_argument_group('texts')
    given = source.add_mutually_exclusive_group()
    given.add_argument('--reference', action='store_true', help="score the manifest's `text` instead of decoding")
    given.add_argument('--rescore', action='store_true', help="score the manifest's `teacher_nbest` with this teacher")
    source.add_argument('--nbest', type=int, metavar='N', help='texts per utterance (default: 8; Whisper gives 1)')
    source.add_argument(
        '--beam-size', type=int, metavar='N', help='width of the beam search (default: that of --nbest; 5 for Whisper)'
    )
    source.add_argument(
        '--max-symbols',
        type=int,
        default=10,
        metavar='N',
        help="labels per frame in a transducer's search (default: 10)",
    )
    source.add_argument(
        '--head',
        default='auto',
        choices=['auto', 'ctc', 'rnnt'],
        help='head of a hybrid model (default: auto, the transducer)',
    )
    source.add_argument(
        '--prompt',
        nargs='+',
        default=[],
        metavar='SLOT=VALUE',
        help='prompt of an attention decoder: source_lang=en target_lang=en pnc=no for Canary, language=en for Whisper',
    )
    source.add_argument(
        '--normalizer',
        choices=['whisper-basic', 'whisper-english', 'nemo', 'none'],
        help="rules for Whisper's texts; nemo writes numbers as words (default: whisper-basic)",
    )
    source.add_argument(
        '--alphabet',
        metavar='LABELS',
        help="for Whisper's texts: the student's .nemo file, or its labels as one string",
    )
    source.add_argument(
        '--skip-unwritable', action='store_true', help='drop rows whose given text the teacher cannot write'
    )

    keep = parser.add_argument_group('rows to keep')
    keep.add_argument(
        '--min-log-prob-per-token', type=float, metavar='X', help='smallest log-probability per token, such as -0.5'
    )
    keep.add_argument('--min-words', type=int, metavar='N', help='fewest words of the text')
    keep.add_argument('--max-words', type=int, metavar='N', help='most words of the text')
    keep.add_argument('--min-duration', type=float, metavar='S', help='shortest audio, in seconds')
    keep.add_argument('--max-duration', type=float, metavar='S', help='longest audio, in seconds')
    keep.add_argument(
        '--max-wer',
        type=float,
        metavar='X',
        help='largest word error rate against the reference in the manifest, as a share: 0.3 for 30 %%',
    )

    work = parser.add_argument_group('work')
    work.add_argument('--batch-size', type=int, default=8, metavar='N', help='utterances at a time (default: 8)')
    work.add_argument(
        '--max-cells',
        type=int,
        metavar='N',
        help='memory limit: joint cells (frames x label positions) at a time (default: 50000)',
    )
    work.add_argument(
        '--kernel',
        default='auto',
        choices=['auto', 'model', 'exact'],
        help="the model's own loss kernel, or the exact recursion of this package (default: auto, which is model on a GPU)",
    )
    add_device_argument(work, default='auto')
    work.add_argument('--workers', type=int, default=1, metavar='N', help='processes on this machine (default: 1)')
    work.add_argument('--shards', type=int, default=1, metavar='N', help='split the manifest into N contiguous parts')
    work.add_argument('--shard', type=int, default=None, metavar='I', help='which part to score, from 0')
    work.add_argument('--overwrite', action='store_true', help='replace the output, or restart an unfinished run')

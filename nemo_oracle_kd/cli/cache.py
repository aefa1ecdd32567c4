# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd cache`: runs a teacher once over a corpus and keeps what a student learns from."""

import argparse

from nemo_oracle_kd.cli._device import add_device_argument, check_device
from nemo_oracle_kd.cli._speech import add_speech_arguments, read_speech, speech_option, speech_problems

HELP = "run a teacher once over a corpus and keep its answers on disk for training"

EPILOG = """signals, and the objectives that learn from them:
  ctc_topk           best classes of every CTC frame, and the sum of the others: frame_kl, softmax_l2, guided_ctc
  occupancy          labels that the alignments of the text visit in a CTC head: occupancy
  best_path          CTC: best class of every frame: guided_ctc; transducer: cells of the best alignment: one_best_path
  lattice_collapsed  next label, blank and rest of every cell: lattice_collapsed
  lattice_topk       best classes, next label, blank and rest of every cell: lattice_topk, lattice_collapsed
  encoder            output of the encoder: encoder, representation

examples:
  nemo-oracle-kd cache --teacher t.nemo --manifest train.jsonl --signal ctc_topk -o cached
  nemo-oracle-kd cache --teacher t.nemo --manifest train.jsonl --signal lattice_collapsed -o cached --shard 0/4   # one of four machines
  nemo-oracle-kd cache --merge cached part0 part1 part2 part3                                                     # when all four are done
  nemo-oracle-kd cache --verify cached

Train with teacher: {cache: cached}. A run that was interrupted continues when it is started again with the same arguments.
"""

SIGNALS = ('ctc_topk', 'occupancy', 'best_path', 'lattice_collapsed', 'lattice_topk', 'encoder')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('--teacher', metavar='T.nemo', help='.nemo file or pretrained name; an oracle reads the texts')
    add_speech_arguments(parser, 'TRAIN.jsonl', 'NeMo manifest that will train the student')
    parser.add_argument('--signal', choices=SIGNALS, help='what to keep, see below')
    parser.add_argument('-o', '--output', metavar='DIR', help='folder of the cache')
    other = parser.add_mutually_exclusive_group()
    other.add_argument('--merge', nargs='+', metavar=('DIR', 'PART'), help='instead: join parts into the cache DIR')
    other.add_argument('--verify', metavar='DIR', help='instead: read every byte of a cache and compare checksums')

    what = parser.add_argument_group('what is kept')
    what.add_argument(
        '--head',
        default='auto',
        choices=['auto', 'ctc', 'rnnt'],
        help='head of a hybrid teacher, for best_path (default: auto, the transducer)',
    )
    what.add_argument(
        '--top-k', type=int, default=8, metavar='N', help='classes kept one by one per frame or cell (default: 8)'
    )
    what.add_argument(
        '--temperature',
        type=float,
        nargs='+',
        metavar='T',
        help='temperatures of the objectives (default: 1 and 2 for frames, those of the presets; 1 for lattices)',
    )
    what.add_argument(
        '--dtype', default='float16', choices=['float16', 'float32'], help='of the numbers (default: float16)'
    )

    work = parser.add_argument_group('work')
    work.add_argument('--batch-size', type=int, default=8, metavar='N', help='utterances at a time (default: 8)')
    work.add_argument(
        '--shard',
        metavar='I/N',
        help='cache only the I-th of N parts of the manifest, counted from 0; join them with --merge',
    )
    work.add_argument(
        '--shard-rows',
        type=int,
        metavar='N',
        help='manifest rows per file, the most that an interruption loses (default: 512)',
    )
    add_device_argument(work, default='auto')
    work.add_argument('--overwrite', action='store_true', help='replace a cache in the folder')


def run(args: argparse.Namespace) -> int:
    """Caches, merges or verifies."""
    if args.merge:
        return _merge(args)
    if args.verify:
        return _verify(args)
    from pathlib import Path

    from nemo_oracle_kd.bridge.restore import check_source, quiet_nemo, restore_frozen
    from nemo_oracle_kd.corpus.manifest import check_manifest_path
    from nemo_oracle_kd.teacher_cache.folder import check_folder

    part = _check(args)
    check_device(args.device)
    check_source(args.teacher)
    if args.shar is None:
        check_manifest_path(args.manifest)
    check_folder(args.output, [args.teacher, args.manifest, args.shar], args.overwrite)
    with quiet_nemo():
        return _cache(
            args, restore_frozen(args.teacher, _device(args.device, part[0])), Path(args.output).expanduser(), part
        )


def _check(args: argparse.Namespace) -> tuple[int, int]:
    """Refuses arguments that do not fit together; returns part and number of parts."""
    from nemo_oracle_kd.errors import ConfigError

    problems = []
    needed = ('teacher', speech_option(args), 'signal', 'output')
    missing = [name for name in needed if getattr(args, name) is None]
    if missing:
        names = ' and '.join('-o' if name == 'output' else f'--{name}' for name in missing)
        problems.append(f"{names} must be given: add what is missing, or use --merge or --verify")
    problems += speech_problems(args)
    part, parts = 0, 1
    if args.shard is not None:
        numbers = args.shard.split('/')
        if (
            len(numbers) != 2
            or not all(number.isdecimal() for number in numbers)
            or not int(numbers[0]) < int(numbers[1])
        ):
            problems.append(f"--shard is {args.shard!r}: write I/N with I from 0 to N-1, such as 0/4")
        else:
            part, parts = int(numbers[0]), int(numbers[1])
    counts = {'batch-size': args.batch_size, 'top-k': args.top_k}
    counts['shard-rows'] = 1 if args.shard_rows is None else args.shard_rows
    problems += [f"--{name} must be at least 1, not {value}" for name, value in counts.items() if value < 1]
    ConfigError.raise_if_any(problems)
    return part, parts


def _device(name: str, part: int) -> str:
    import torch

    if name != 'auto':
        return name
    return f'cuda:{part % torch.cuda.device_count()}' if torch.cuda.is_available() else 'cpu'


def _cache(args: argparse.Namespace, model, folder, part: tuple[int, int]) -> int:
    from nemo_oracle_kd.bridge.model import frame_seconds
    from nemo_oracle_kd.teacher_cache.plan import SHARD_UTTERANCES, float16_lattice_bytes
    from nemo_oracle_kd.teacher_cache.registry import choose_options
    from nemo_oracle_kd.teacher_cache.writer import RunOptions, prepare_cache, write_cache

    temperatures = None if args.temperature is None else tuple(dict.fromkeys(args.temperature))
    options = choose_options(model, args.signal, args.head, args.top_k, temperatures, args.dtype)
    run = RunOptions(args.batch_size, part, args.shard_rows or SHARD_UTTERANCES)
    index, signal, plan = prepare_cache(model, _speech(args), options, run)
    print(f'{plan.utterances} utterances in {len(plan.shards)} files, about {_megabytes(plan.nbytes)}')
    report = write_cache(model, index, signal, plan, folder, args.overwrite)
    print(
        f'{folder}: {report.index.utterances} utterances, {_megabytes(report.index.size)}'
        + ('' if report.made else ' (nothing was left to do)')
    )
    if signal.unit == 'cell':
        outputs = signal.classes + index.transducer.transducer.duration_outputs
        whole = float16_lattice_bytes(plan, frame_seconds(model), outputs)
        print(
            f'the whole lattices in float16 would take {_megabytes(whole)}, {whole / max(report.index.size, 1):.0f} times as much'
        )
    for sentence in signal.bounds(report.index.measured):
        print(f'bound: {sentence}')
    return 0


def _speech(args: argparse.Namespace):
    """What the teacher hears; a manifest of files stays a path, because the signal decides whether its rows need texts."""
    archived = args.shar is not None or args.tarred_audio_filepaths
    return read_speech(args) if archived else args.manifest


def _merge(args: argparse.Namespace) -> int:
    from nemo_oracle_kd.errors import ConfigError
    from nemo_oracle_kd.teacher_cache.folder import check_folder
    from nemo_oracle_kd.teacher_cache.merge import merge_caches

    folder, *parts = args.merge
    if not parts:
        raise ConfigError(
            "--merge needs the folder of the whole cache and those of its parts: name the parts after the folder"
        )
    check_folder(folder, parts, args.overwrite, resume=False)
    index = merge_caches(folder, parts)
    print(f'{folder}: {index.utterances} utterances, {_megabytes(index.size)}; the parts are still there')
    return 0


def _verify(args: argparse.Namespace) -> int:
    from nemo_oracle_kd.teacher_cache.reader import verify_cache

    index = verify_cache(args.verify)
    print(f'{args.verify}: {index.utterances} utterances, {_megabytes(index.size)}, every byte is as it was written')
    return 0


def _megabytes(count: int) -> str:
    return f'{count / 1e6:.1f} MB' if count >= 1e5 else f'{count / 1e3:.1f} kB'

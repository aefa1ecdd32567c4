# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd score`: labels speech with a teacher, and keeps the probability of every text."""

import argparse

from nemo_oracle_kd.cli._device import check_device
from nemo_oracle_kd.cli._score_arguments import add_arguments as add_arguments
from nemo_oracle_kd.cli._speech import read_speech, speech_option, speech_problems

HELP = 'label a manifest with a teacher: N-best texts and their log-probabilities'


def run(args: argparse.Namespace) -> int:
    """Scores, and prints what was kept and dropped."""
    if args.merge:
        return _merge(args)
    from nemo_oracle_kd.bridge.restore import check_source
    from nemo_oracle_kd.labelling.shar import write_scored_cuts
    from nemo_oracle_kd.labelling.whisper import check_whisper, is_whisper

    _check(args)
    check_device(args.device)
    (check_whisper if is_whisper(args.teacher) else check_source)(args.teacher)
    read_speech(args, args.reference)  # before the slow start of NeMo
    options(args)
    settings(args)
    if args.workers > 1 and (args.overwrite or not _output(args).exists()):
        report = _run_workers(args)
    else:
        report = score_one(args, args.shard or 0, args.shards)
    if report is None:
        return 1
    _print(args, report)
    if args.shar is not None and args.shards == 1:
        cuts = write_scored_cuts(args.shar, args.output)
        print(f'{args.output}: {len(cuts)} shards of cuts; train with shar_path: {{cuts: [...], recording: [...]}}')
    return 0


def _output(args: argparse.Namespace):
    """The scored manifest, which is kept in the folder of the scored cuts if these are asked for."""
    from pathlib import Path

    from nemo_oracle_kd.labelling.shar import scored_path

    return Path(args.output) if args.shar is None else scored_path(args.output)


def _merge(args: argparse.Namespace) -> int:
    from nemo_oracle_kd.corpus.outputs import check_outputs
    from nemo_oracle_kd.errors import ConfigError
    from nemo_oracle_kd.labelling.files import merge_parts, parts_of

    given = [name for name in ('teacher', 'manifest', 'shar', 'output') if getattr(args, name) is not None]
    if given:
        names = ', '.join(f'--{name}' for name in given)
        raise ConfigError(f"--merge joins parts that are scored already: leave {names} out")
    output, *parts = args.merge
    check_outputs({'--merge': output}, parts, args.overwrite)
    report = merge_parts(output, parts or parts_of(output))
    for reason, count in report.dropped.items():
        print(f'dropped {count} rows: {reason}')
    print(f'{output}: {report.rows} rows; the parts are still there')
    return 0


def _check(args: argparse.Namespace) -> None:
    from nemo_oracle_kd.errors import ConfigError
    from nemo_oracle_kd.labelling.files import check_output, part_path
    from nemo_oracle_kd.labelling.shar import check_shar_output
    from nemo_oracle_kd.labelling.whisper import is_whisper

    needed = ('teacher', speech_option(args), 'output')
    missing = [name for name in needed if getattr(args, name) is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(f'--{name}' for name in missing)} must be given: add what is missing, or use --merge"
        )
    decode_options = [name for name in ('nbest', 'beam_size') if getattr(args, name) is not None]
    problems = []
    if (args.reference or args.rescore) and decode_options:
        names = ', '.join(f"--{name.replace('_', '-')}" for name in decode_options)
        problems.append(f"--{'reference' if args.reference else 'rescore'} decodes nothing: leave {names} out")
    if args.shards > 1 and args.shard is None:
        problems.append("--shards splits the work by hand: say with --shard which part this process scores")
    if args.shard is not None and not 0 <= args.shard < args.shards:
        problems.append(f"--shard must be from 0 to {args.shards - 1}, which is --shards - 1, not {args.shard}")
    if (args.normalizer or args.alphabet) and not is_whisper(args.teacher):
        problems.append(
            "--normalizer and --alphabet are for Whisper's texts: leave them out, a NeMo model writes in its own labels"
        )
    if args.workers > 1 and args.shards > 1:
        problems.append("--workers splits the manifest by itself: leave --shards out")
    problems += speech_problems(args)
    counts = {'batch-size': args.batch_size, 'workers': args.workers}
    problems += [f"--{name} must be at least 1, not {value}" for name, value in counts.items() if value < 1]
    ConfigError.raise_if_any(problems)
    if args.shar is not None:
        check_shar_output(args.shar, args.output, args.overwrite)
    inputs = [path for path in (args.teacher, args.manifest) if path is not None]
    check_output(part_path(_output(args), args.shard or 0, args.shards), inputs, args.overwrite)


def settings(args: argparse.Namespace):
    """The `ScoringSettings` that the arguments ask for."""
    from nemo_oracle_kd.labelling.scorer import ScoringSettings
    from nemo_oracle_kd.labelling.whisper import BEAM_SIZE, is_whisper

    options = {'max_cells': args.max_cells} if args.max_cells is not None else {}
    whisper = is_whisper(args.teacher)
    nbest = 1 if whisper else min(8, args.beam_size or 8)
    return ScoringSettings(
        source='reference' if args.reference else 'nbest' if args.rescore else 'decode',
        nbest=nbest if args.nbest is None else args.nbest,
        beam_size=BEAM_SIZE if whisper and args.beam_size is None else args.beam_size,
        max_symbols=args.max_symbols,
        head=args.head,
        kernel=args.kernel,
        prompt=_prompt(args.prompt),
        **options,
    )


def _prompt(slots: list[str]) -> dict[str, str]:
    from nemo_oracle_kd.errors import ConfigError

    ConfigError.raise_if_any(
        f"{slot!r} is not a slot of a prompt: write SLOT=VALUE, such as source_lang=en"
        for slot in slots
        if '=' not in slot
    )
    return dict(slot.split('=', 1) for slot in slots)


def options(args: argparse.Namespace, part: int = 0, parts: int = 1):
    """The `RunOptions` that the arguments ask for."""
    from dataclasses import fields

    from nemo_oracle_kd.labelling.format import RowFilter
    from nemo_oracle_kd.labelling.manifest import RunOptions

    return RunOptions(
        RowFilter(**{field.name: getattr(args, field.name) for field in fields(RowFilter)}),
        batch_size=args.batch_size,
        part=part,
        parts=parts,
        skip_unwritable=args.skip_unwritable,
        overwrite=args.overwrite,
        source=args.teacher,
    )


def score_one(args: argparse.Namespace, part: int, parts: int):
    """Scores one part of the manifest in this process."""
    import torch

    from nemo_oracle_kd.bridge.restore import quiet_nemo
    from nemo_oracle_kd.labelling.manifest import score_manifest

    device = args.device
    if device == 'auto':
        device = f'cuda:{part % torch.cuda.device_count()}' if torch.cuda.is_available() else 'cpu'
    with quiet_nemo():
        return score_manifest(
            _scorer(args, device), read_speech(args, args.reference), _output(args), options(args, part, parts)
        )


def _scorer(args: argparse.Namespace, device: str):
    from nemo_oracle_kd.labelling.whisper import WhisperScorer, is_whisper

    if is_whisper(args.teacher):
        from nemo_oracle_kd.labelling.normalisation import Alphabet, Normaliser

        alphabet = None if args.alphabet is None else Alphabet(args.alphabet)
        chosen = settings(args)
        normaliser = Normaliser(args.normalizer or 'whisper-basic', alphabet, chosen.prompt.get('language', 'en'))
        return WhisperScorer(args.teacher, chosen, normaliser, device)
    from nemo_oracle_kd.bridge.restore import restore_frozen
    from nemo_oracle_kd.labelling.model_scorer import model_scorer

    return model_scorer(restore_frozen(args.teacher, device), settings(args))


def _run_workers(args: argparse.Namespace):
    import multiprocessing
    import time

    from nemo_oracle_kd.labelling.files import merge_parts, part_path, remove_part
    from nemo_oracle_kd.processes import end_processes

    started = time.monotonic()
    context = multiprocessing.get_context('spawn')  # fork and CUDA exclude each other
    workers = [context.Process(target=_worker, args=(args, part)) for part in range(args.workers)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:  # at once when this process is interrupted: what they have finished is in their journals
        end_processes([worker for worker in workers if worker.pid is not None])
    if any(worker.exitcode != 0 for worker in workers):
        return None
    parts = [part_path(_output(args), part, args.workers) for part in range(args.workers)]
    report = merge_parts(_output(args), parts)
    for part in parts:
        remove_part(part)
    report.wall = time.monotonic() - started
    return report


def _worker(args: argparse.Namespace, part: int) -> None:
    import sys

    from nemo_oracle_kd.processes import follow_parent

    follow_parent()  # or a restarted run would meet its own orphans
    try:
        score_one(args, part, args.workers)
    except (ValueError, OSError) as error:
        print(f'nemo-oracle-kd score: error in part {part}: {error}', file=sys.stderr)
        sys.exit(2)


def _print(args: argparse.Namespace, report) -> None:
    if report.seconds:
        hours = report.seconds / 3600
        print(
            f'scored {hours:.2f} h of audio in {report.wall:.1f} s, real-time factor {report.wall / report.seconds:.3f}'
        )
    elif report.wall:
        print(f'{args.workers} processes took {report.wall:.1f} s, including their start')
    else:
        print('nothing left to score')
    for reason, count in report.dropped.items():
        print(f'dropped {count} rows: {reason}')
    print(f'kept {report.rows} rows' + (' (none: the manifest is empty)' if not report.rows else ''))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd make-student TEACHER -o STUDENT.nemo`: cuts a model to a smaller one that starts with its weights."""

import argparse

from nemo_oracle_kd.cli._device import add_device_argument, check_device

HELP = 'cut a trained model to a smaller one, which is then fine-tuned with its parent as teacher'

EPILOG = """examples:
  nemo-oracle-kd make-student teacher.nemo -o student.nemo --keep 9                       9 layers, evenly spaced
  nemo-oracle-kd make-student teacher.nemo -o student.nemo --keep 9 --by-loss dev.jsonl   the 9 that it needs most
  nemo-oracle-kd make-student teacher.nemo -o student.nemo --layers 0,1,2,5,8,11
  nemo-oracle-kd make-student teacher.nemo -o student.nemo --keep 9 --d-model 256 --ff 1024
  nemo-oracle-kd make-student quartznet.nemo -o student.nemo --keep 13 --repeats 3 --filters 0.5

The student is a plain NeMo model with its parent's tokenizer, preprocessor, prediction network and joint.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        'teacher', metavar='TEACHER', help='.nemo file or pretrained name of a CTC model or transducer'
    )
    parser.add_argument('-o', '--output', required=True, metavar='STUDENT.nemo', help='where the smaller model goes')
    depth = parser.add_argument_group('depth')
    which = depth.add_mutually_exclusive_group()
    which.add_argument('--layers', type=_numbers, metavar='N,N,...', help='layers (or blocks) to keep, from 0')
    which.add_argument('--keep', type=int, metavar='N', help='layers (or blocks) to keep, evenly spaced')
    depth.add_argument(
        '--by-loss',
        metavar='MANIFEST',
        help="with --keep: leave out each layer in turn on this manifest, and drop those that the model's loss needs least",
    )
    depth.add_argument('--batch-size', type=int, default=16, metavar='N', help='utterances at a time (default: 16)')
    width = parser.add_argument_group('width, by magnitude (Conformer, FastConformer)')
    width.add_argument('--d-model', type=int, metavar='N', help='channels of the encoder')
    width.add_argument('--heads', type=int, metavar='N', help='attention heads (default: heads as wide as they were)')
    width.add_argument(
        '--ff', type=int, metavar='N', help='feed-forward units (default: the same multiple of d_model)'
    )
    blocks = parser.add_argument_group('blocks (QuartzNet, Citrinet, ContextNet)')
    blocks.add_argument('--repeats', type=int, metavar='N', help='largest number of repeats of a block')
    blocks.add_argument('--filters', type=float, metavar='SHARE', help='share of the filters to keep, such as 0.5')
    parser.add_argument('--json', metavar='OUT', help='also write the figures as JSON')
    parser.add_argument('--overwrite', action='store_true', help='replace existing outputs')
    add_device_argument(parser)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0,4,8") from None


def run(args: argparse.Namespace) -> int:
    """Cuts the model, checks that it restores, and prints what it costs before and after."""
    import dataclasses
    import json

    _check(args)
    check_device(args.device)
    from nemo_oracle_kd.corpus.manifest import check_manifest_path
    from nemo_oracle_kd.corpus.outputs import check_outputs, write_bytes_atomically, write_text_atomically

    if args.by_loss is not None:
        check_manifest_path(args.by_loss)
    check_outputs({'--output': args.output, '--json': args.json}, [args.teacher, args.by_loss], args.overwrite)

    from nemo_oracle_kd.bridge.cut.request import CutRequest
    from nemo_oracle_kd.bridge.cut.student import check_can_be_cut, cut_model
    from nemo_oracle_kd.bridge.restore import model_file
    from nemo_oracle_kd.evaluation.model_cost import cost_table, measure_cost
    from nemo_oracle_kd.evaluation.transcription import load_model

    path = model_file(args.teacher)
    teacher = load_model(path, args.device)
    check_can_be_cut(teacher, args.teacher)
    names = [field.name for field in dataclasses.fields(CutRequest)]
    request = CutRequest(**{name: getattr(args, name) for name in names})
    losses = None
    if args.by_loss is not None:
        request, losses = _by_loss(request, teacher, path, args)
    student = cut_model(path, teacher, request)
    before = measure_cost(teacher, path)
    del teacher  # of a large model the memory is needed
    after = _restored_cost(student.archive, args.device)
    write_bytes_atomically(args.output, student.archive)
    sizes = ', '.join(f'{key} {value}' for key, value in student.encoder.items() if key != 'jasper')
    print(f"layers kept: {', '.join(map(str, student.layers))}" + (f'\nencoder: {sizes}' if sizes else ''))
    print(f"\n{cost_table(before, after)}\n\nwritten: {args.output}")
    if args.json is not None:
        record = {'teacher': args.teacher, 'student': args.output, 'request': dataclasses.asdict(request)}
        record |= {'layers': student.layers, 'encoder': student.encoder}
        record |= {'before': dataclasses.asdict(before), 'after': dataclasses.asdict(after), 'by_loss': losses}
        write_text_atomically(args.json, json.dumps(record, indent=2) + '\n')
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuses what can be wrong with the command line, before a model is loaded."""
    if args.by_loss is not None and args.keep is None:
        raise ValueError("--by-loss chooses which layers stay, but not how many: add --keep N")
    if args.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, not {args.batch_size}")
    wanted = ('layers', 'keep', 'd_model', 'heads', 'ff', 'repeats', 'filters')
    if all(getattr(args, name) is None for name in wanted):
        raise ValueError("nothing says what to cut: give --keep, --layers, --d-model, --ff, --repeats or --filters")


def _by_loss(request, teacher, path, args):
    """The request with the layers that the teacher's loss needs most, and the losses."""
    import dataclasses

    from nemo_oracle_kd.bridge.cut.student import cut_model, removable_layers
    from nemo_oracle_kd.evaluation.layer_losses import layer_losses, most_needed

    count, removable = removable_layers(teacher)
    most_needed(dict.fromkeys(removable, 0.0), count, args.keep)  # refuses an impossible number before the work
    cut_model(path, teacher, request)  # and any other impossible request
    whole, without = layer_losses(teacher, args.by_loss, args.batch_size)
    print(f"loss per label: {whole:.3f} with all layers")
    for layer, loss in without.items():
        print(f"  without layer {layer:<3} {loss:8.3f} ({loss - whole:+.3f})")
    layers = most_needed(without, count, args.keep)
    return dataclasses.replace(request, layers=layers, keep=None), {'whole': whole, 'without': without}


def _restored_cost(archive, device):
    """Costs of the new model, restored as any other."""
    import tempfile
    from pathlib import Path

    from nemo_oracle_kd.evaluation.model_cost import measure_cost
    from nemo_oracle_kd.evaluation.transcription import load_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'student.nemo'
        path.write_bytes(archive)
        return measure_cost(load_model(path, device), path)

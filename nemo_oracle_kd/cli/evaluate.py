# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""``nemo-oracle-kd evaluate MODEL``: word and character error rate with intervals, and paired comparison of models."""

import argparse
import json
from pathlib import Path

from nemo_oracle_kd.cli._device import add_device_argument, check_device

HELP = 'transcribe a manifest and print WER and CER with intervals; compare models'

_DESCRIPTION = """\
Transcribe a manifest with one or several NeMo models (greedy decoding, no language model) and print word and character
error rates in percent with bootstrap intervals. With more than one model, each is compared with the baseline on the
same utterances: the difference with its interval, and the p-value of a matched-pairs permutation test.
An oracle teacher is given the manifest's text; its figures are no recognition result. Where every text is one word, the
share of right words is printed too. A recogniser of word pictures compares letters and digits alone, whatever their case.
"""
_EPILOG = """\
examples:
  nemo-oracle-kd evaluate student.nemo --manifest test.jsonl
  nemo-oracle-kd evaluate student.nemo --manifest test.jsonl --output student.jsonl    keep the transcriptions
  nemo-oracle-kd evaluate distilled.nemo --baseline alone.nemo --manifest test.jsonl   is the difference real?
  nemo-oracle-kd evaluate *.nemo --manifest test.jsonl --output-dir out --json scores.json
  nemo-oracle-kd evaluate student.jsonl --baseline alone.jsonl                         score kept transcriptions
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        'models', nargs='+', metavar='MODEL', help='.nemo files, or .jsonl files of kept transcriptions'
    )
    parser.add_argument('--baseline', metavar='BASE', help='model to compare with (default: the first of several)')
    parser.add_argument('--manifest', metavar='M', help='NeMo manifest with audio and transcripts')
    parser.add_argument('--output', metavar='OUT.jsonl', help='keep the transcriptions of the only MODEL here')
    parser.add_argument('--output-dir', metavar='DIR', help='keep the transcriptions of each MODEL as DIR/NAME.jsonl')
    parser.add_argument('--json', metavar='FILE', help='also write the figures as JSON')
    parser.add_argument('--overwrite', action='store_true', help='replace existing outputs')
    parser.add_argument('--group-by', metavar='KEY', help='resample groups, such as speaker, instead of utterances')
    parser.add_argument('--batch-size', type=int, default=16, metavar='N', help='utterances at a time (default: 16)')
    add_device_argument(parser)
    parser.add_argument(
        '--resamples', type=int, default=10000, metavar='N', help='resamples of each test (default: 10000)'
    )
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='seed of the resampling (default: 0)')


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    named = ([args.baseline] if args.baseline else []) + args.models
    paths: list[str] = []
    for path in named:  # each once: the baseline may be among the models
        if not any(Path(path).expanduser().resolve() == Path(other).expanduser().resolve() for other in paths):
            paths.append(path)
    _check(args, paths)
    check_device(args.device)
    from nemo_oracle_kd.evaluation.error_rates import score
    from nemo_oracle_kd.evaluation.significance import aligned, bootstrap_interval, compare

    scores, first, single = {}, None, True
    for path in paths:
        rows, parameters = _rows_of(path, args)
        name = _name_of(path, paths)
        first = first or (name, rows)
        rows = aligned(first[1], rows, (first[0], name))
        single = single and _are_single_words(rows)
        result = score([row['text'] for row in rows], [row['pred_text'] for row in rows])
        words, characters = _counts(result, _group_names(rows, args.group_by, path))
        scores[name] = (
            bootstrap_interval(words, resamples=args.resamples, seed=args.seed),
            bootstrap_interval(characters, resamples=args.resamples, seed=args.seed),
            words,
            {'utterances': len(rows), 'parameters': parameters},
        )
    unit = f'{args.group_by}s' if args.group_by else 'utterances'
    width = max(len('system'), *map(len, scores))
    print(f'\nPercent, with 95 % bootstrap intervals over {unit}.\n')
    print(f'{"system":<{width}}  {"WER":<23}{"CER":<23}{"words right" if single else ""}'.rstrip())
    for name, (wer, cer, _, _) in scores.items():
        right = f'{100 - wer.rate:.1f}' if single else ''
        print(f'{name:<{width}}  {wer!s:<23}{cer!s:<23}{right}'.rstrip())
    baseline, comparisons = next(iter(scores)), {}
    if len(scores) > 1:
        print(f'\nAgainst {baseline} (WER; paired over {unit}):\n')
        print(f'{"system":<{width}}  {"difference":<26}{"relative":<11}{"p":<9}better/worse/equal')
    for name in list(scores)[1:]:
        result = compare(scores[baseline][2], scores[name][2], resamples=args.resamples, seed=args.seed)
        comparisons[name] = result.as_dict()
        difference = f'{result.difference:+.1f} [{result.low:+.1f}, {result.high:+.1f}]'
        relative = f'{result.relative:+.1f} %' if result.relative is not None else '-'
        counts = f'{result.wins}/{result.losses}/{result.ties}'
        print(f'{name:<{width}}  {difference:<26}{relative:<11}{result.p_permutation:<9.4f}{counts}')
    if args.json:
        _write_json(args.json, scores, baseline, comparisons)
    return 0


def _check(args: argparse.Namespace, paths: list[str]) -> None:
    """Refuses what can be wrong with the command line, before a model is loaded."""
    from nemo_oracle_kd.corpus.manifest import check_manifest_path
    from nemo_oracle_kd.corpus.outputs import check_outputs

    for path in paths:
        if not Path(path).expanduser().is_file():
            raise ValueError(f"there is no file '{path}': give .nemo models, or .jsonl files that --output wrote")
    if args.manifest is None and any(not path.endswith('.jsonl') for path in paths):
        raise ValueError("a model needs something to transcribe: add --manifest test.jsonl")
    if args.output and (len(paths) > 1 or args.output_dir):
        raise ValueError("--output keeps the transcriptions of one MODEL alone: use --output-dir DIR instead")
    stems = [Path(path).stem for path in paths]
    if args.output_dir and len(set(stems)) < len(stems):
        raise ValueError("--output-dir names files after the models, but two models have the same name: rename one")
    if args.manifest is not None:
        check_manifest_path(args.manifest)
    outputs = {'--output': args.output, '--json': args.json}
    if args.output_dir:
        outputs |= {
            f'the transcriptions of {path}:': _kept(args, path) for path in paths if not path.endswith('.jsonl')
        }
    check_outputs(outputs, [*paths, args.manifest], args.overwrite)


def _kept(args: argparse.Namespace, path: str) -> str | Path | None:
    """Where the transcriptions of a model are kept, if they are."""
    return Path(args.output_dir) / f'{Path(path).stem}.jsonl' if args.output_dir else args.output


def _name_of(path: str, paths: list[str]) -> str:
    """File name without suffix, or as much of the path as it takes to tell the models apart."""
    stems = [Path(other).stem for other in paths]
    return Path(path).stem if stems.count(Path(path).stem) == 1 else str(Path(path).with_suffix(''))


def _rows_of(path: str, args: argparse.Namespace) -> tuple[list[dict], int | None]:
    from nemo_oracle_kd.evaluation.error_rates import read_transcriptions

    if path.endswith('.jsonl'):
        return read_transcriptions(path)[0], None
    from nemo_oracle_kd.evaluation.transcription import load_model, transcribe_manifest

    model = load_model(path, args.device)
    rows = transcribe_manifest(model, args.manifest, _kept(args, path), args.batch_size, description=Path(path).stem)
    return rows, sum(parameter.numel() for parameter in model.parameters())


def _group_names(rows: list[dict], key: str | None, path: str) -> list[str] | None:
    if key is None:
        return None
    for row in rows:
        if key not in row:
            raise ValueError(
                f"--group-by {key} needs '{key}' in every row, but a row of '{path}' lacks it: add it, or leave --group-by out"
            )
    return [str(row[key]) for row in rows]


def _are_single_words(rows: list[dict]) -> bool:
    """Whether no text has more than one word, so that the share of right words is 100 % less the word error rate."""
    return all(len(row[key].split()) <= 1 for row in rows for key in ('text', 'pred_text'))


def _counts(result, names):
    if names is None:
        return result.words, result.characters
    return result.words.grouped(names), result.characters.grouped(names)


def _write_json(path: str, scores: dict, baseline: str, comparisons: dict) -> None:
    from nemo_oracle_kd.corpus.outputs import write_text_atomically

    systems = {
        name: {
            'wer': wer.rate,
            'wer_interval': [wer.low, wer.high],
            'cer': cer.rate,
            'cer_interval': [cer.low, cer.high],
        }
        | facts
        for name, (wer, cer, _, facts) in scores.items()
    }
    content = {'units': 'percent', 'systems': systems, 'baseline': baseline, 'comparisons': comparisons}
    write_text_atomically(path, json.dumps(content, indent=2) + '\n')

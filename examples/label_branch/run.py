# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures how many seconds the label branch of an oracle teacher needs on a model that one already has.

    python examples/label_branch/run.py --model TRAINED.nemo --data DIR --test TEST.jsonl --out OUT --budgets 5 10 20 40 80

`--model` is a CTC model with the preprocessor and the encoder of the config (by default `conf/ctc/separable_ctc_char_teacher`);
`--data` is a folder with the NeMo manifests `train.jsonl` and `dev.jsonl`. For each budget of processor seconds an oracle
teacher is trained whose audio branch is the model, with its encoder frozen. `--kinds` adds teachers that start from the model and
train the encoder too (`unfrozen`), and teachers that start from nothing (`scratch`).

Each teacher is compared with the one of the largest budget of its kind and seed: mean distance of the emission times of the true
texts of the development set. The alignments have settled at the smallest budget from which on they are no farther from the final ones than
the final ones of two seeds are from each other (with one seed: than half a frame). Writes `OUT/results.json`, whose key
`alignments` holds these numbers, and the teachers. An interrupted run continues where it stopped.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from nemo_oracle_kd.bridge.model import frame_seconds
from nemo_oracle_kd.corpus.manifest import read_manifest, write_text_atomically
from nemo_oracle_kd.evaluation.emission_times import alignment_distance, label_frames
from nemo_oracle_kd.evaluation.transcription import load_model
from nemo_oracle_kd.experiments.comparison import Comparison, SystemRun
from nemo_oracle_kd.experiments.ctc_comparison import diagnosis_job
from nemo_oracle_kd.experiments.ctc_plan import TEACHERS, teacher_training
from nemo_oracle_kd.experiments.recipe_arguments import (
    add_budget_argument,
    add_data_arguments,
    add_run_arguments,
    budgets_of,
    positive,
    run_recipe,
)
from nemo_oracle_kd.experiments.recipes import recipe_run

FROZEN = 'label_branch'
#: kind -> whether it starts from the model, and its overrides
KINDS = {
    FROZEN: (True, ['model.oracle.audio_only_steps=0', 'model.oracle.freeze_audio_encoder=true']),
    'unfrozen': (True, ['model.oracle.audio_only_steps=0']),
    'scratch': (False, []),
}


def make_parser() -> argparse.ArgumentParser:
    """Declares the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', type=Path, required=True, help='trained CTC model, a .nemo file')
    add_data_arguments(parser)
    add_run_arguments(parser)
    add_budget_argument(parser, (5, 10, 20, 40, 80))
    parser.add_argument(
        '--kinds', nargs='+', choices=list(KINDS), default=[FROZEN], help=f'kinds of teachers (default: {FROZEN})'
    )
    parser.add_argument(
        '--config',
        default=TEACHERS['oracle_teacher'].config,
        help=f'installed config of the teacher (default: {TEACHERS["oracle_teacher"].config})',
    )
    parser.add_argument(
        '--utterances', type=positive, default=200, help='utterances for the alignments (default: 200)'
    )
    parser.add_argument('--overrides', nargs='+', default=[], metavar='KEY=VALUE', help='overrides for every teacher')
    return parser


def at(kind: str, seconds: float) -> str:
    """The name of a teacher."""
    return f'{kind}_at_{seconds:g}'


def teacher_runs(args: argparse.Namespace, data: Mapping[str, Path], out: Path) -> list[SystemRun]:
    """The trainings of all kinds, budgets and seeds.

    Raises:
        ValueError: fewer than two budgets, or one that is not above 0.
    """
    runs, model = [], args.model.resolve()
    for seed in args.seeds:
        for kind in dict.fromkeys(args.kinds):
            from_model, overrides = KINDS[kind]
            teacher = replace(TEACHERS['oracle_teacher'], config=args.config, overrides=[*overrides, *args.overrides])
            for seconds in budgets_of(args):
                training = teacher_training(teacher, seconds, data, model if from_model else None)
                training = replace(training, inputs=[model] if from_model else [])
                runs.append(recipe_run(at(kind, seconds), seed, out / f'seed_{seed}', training))
    return runs


def settled(distances: Sequence[float], budgets: Sequence[float], tolerance: float) -> float:
    """The smallest budget from which on no teacher is farther from the final one than the tolerance.

    Args:
        distances: mean distance from the final teacher at each budget; the last one is 0.
        budgets: the budgets in increasing order.
        tolerance: in the unit of the distances.
    """
    far = [number for number, distance in enumerate(distances) if distance > tolerance]
    return budgets[far[-1] + 1 if far else 0]


def measure(comparison: Comparison, kind: str, budgets: Sequence[float], rows: Sequence[dict]) -> dict:
    """How far the alignments of a kind are from the final ones.

    Returns:
        `budgets`, `distance_ms` (per budget, one value per seed), `within_frame` (share of the labels at most a frame away),
        `between_seeds_ms` (of the final teachers; `None` for one seed), `tolerance_ms` and `settled_seconds`.
    """
    frames: dict[tuple[float, int], torch.Tensor] = {}
    for seconds in budgets:
        for seed in comparison.seeds:
            model = load_model(comparison.model_path(at(kind, seconds), seed))
            frames[seconds, seed], step = label_frames(model, rows), frame_seconds(model)
    final = {seed: frames[budgets[-1], seed] for seed in comparison.seeds}
    apart = [
        [alignment_distance(frames[seconds, seed], final[seed], step) for seed in comparison.seeds]
        for seconds in budgets
    ]
    pairs = [alignment_distance(one, other, step).mean_ms for one, other in combinations(final.values(), 2)]
    tolerance = float(np.mean(pairs)) if pairs else 500.0 * step
    means = [float(np.mean([one.mean_ms for one in of_budget])) for of_budget in apart]
    return {
        'budgets': list(budgets),
        'distance_ms': [[one.mean_ms for one in of_budget] for of_budget in apart],
        'within_frame': [[one.within_frame for one in of_budget] for of_budget in apart],
        'between_seeds_ms': float(np.mean(pairs)) if pairs else None,
        'tolerance_ms': tolerance,
        'settled_seconds': settled(means, budgets, tolerance),
    }


def run(args: argparse.Namespace) -> dict:
    """Trains, scores and measures; returns the content of `results.json`."""
    out, budgets = args.out.resolve(), budgets_of(args)
    data = {name: (args.data / f'{name}.jsonl').resolve() for name in ('train', 'dev')}
    test = args.test.resolve()
    for manifest in (*data.values(), test):
        read_manifest(manifest)  # a bad manifest is reported now, in one sentence, and not by a job
    if not args.model.is_file():
        raise FileNotFoundError(f"there is no model at '{args.model}': give the path of a .nemo file")
    out.mkdir(parents=True, exist_ok=True)
    last = at(args.kinds[0], budgets[-1])
    comparison = Comparison(
        teacher_runs(args, data, out),
        test,
        out,
        baseline=last,
        settings={'model': args.model.name, 'budgets': budgets, 'config': args.config},
        extra_jobs=[diagnosis_job(out, args.seeds[0], last, data['dev'])],
    )
    results = comparison.run(args.parallel)
    rows = read_manifest(data['dev'])[: args.utterances]
    results['alignments'] = {kind: measure(comparison, kind, budgets, rows) for kind in dict.fromkeys(args.kinds)}
    diagnosis = out / f'seed_{args.seeds[0]}' / 'diagnosis' / 'diagnosis.json'
    results['verdict'] = {last: json.loads(diagnosis.read_text(encoding='utf-8'))['verdict']}
    write_text_atomically(comparison.results_path, json.dumps(results, indent=2) + '\n')
    return results


def main() -> None:
    """Runs everything and prints the tables."""
    args, results = run_recipe(make_parser(), run)
    for kind, found in results['alignments'].items():
        print(f'\n{kind}: alignments against those after {found["budgets"][-1]:g} seconds')
        for seconds, distances, shares in zip(found['budgets'], found['distance_ms'], found['within_frame']):
            print(
                f'{seconds:8g} s{np.mean(distances):8.1f} ms   {100 * np.mean(shares):5.1f} % of the labels within a frame'
            )
        print(f'settled (within {found["tolerance_ms"]:.1f} ms) after {found["settled_seconds"]:g} seconds')
    for name, verdict in results['verdict'].items():
        print(f'diagnosis of {name}: {verdict}')
    print(f'results: {args.out / "results.json"}')


if __name__ == '__main__':
    main()

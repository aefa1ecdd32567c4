# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Defines the jobs of `run.py`: the split, the teachers and their pseudo-labels, and each seed's warm start and students."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_oracle_kd.corpus.manifest import read_manifest, write_text_atomically
from nemo_oracle_kd.evaluation.error_rates import score
from nemo_oracle_kd.experiments.comparison import Comparison, SystemRun
from nemo_oracle_kd.experiments.jobs import CLI, Job
from nemo_oracle_kd.experiments.pseudo_labels import PLAIN, SMALL, SMALL_RNNT, Split, labelling_job, write_split
from nemo_oracle_kd.experiments.recipes import Training, quoted, recipe_run, steps

ALONE, WARM = 'student_alone', 'warm_start'


@dataclass(frozen=True)
class Teacher:
    """A rung of the ladder.

    Attributes:
        labels: what it is trained on: `all`, `supervised` or `few` (half of the supervised part).
        updates: optimizer steps.
        width: channels of the encoder.
        overrides: further overrides.
    """

    labels: str
    updates: int
    width: int
    overrides: Sequence[str] = ()


#: a small version of the paper's teachers: the letter gives the size, the number the share of labels in percent
LADDER = {
    'L': Teacher('all', 250, 128),
    'S': Teacher('all', 300, 64),
    'L50': Teacher('supervised', 180, 128),
    'M50': Teacher('supervised', 160, 96),
    'S25': Teacher('few', 120, 64),
}
#: soft distillation, the sum over all cells, with the weight of docs/experiments/causal_student.md
LATTICE = ['oracle_kd.objectives.lattice.weight=0.03', 'oracle_kd.teacher.memory_mb=64']
#: method -> its name in figures, preset, overrides
METHODS = {
    'hard': ('hard', 'hard', []),
    'full_sum_l1': ('full-sum, L1', 'full_sum', []),
    'full_sum_huber': (
        'full-sum, Huber',
        'full_sum',
        ['oracle_kd.objectives.full_sum.distance=huber', 'oracle_kd.objectives.full_sum.huber_width=4.0'],
    ),
    'full_sum_mse': (
        'full-sum, MSE',
        'full_sum',
        ['oracle_kd.objectives.full_sum.distance=mse', 'oracle_kd.objectives.full_sum.weight=0.25'],
    ),
    'full_sum_norm_l1': ('full-sum norm, L1', 'full_sum_norm', []),
    'full_sum_norm_mse': (
        'full-sum norm, MSE',
        'full_sum_norm',
        ['oracle_kd.objectives.full_sum_norm.distance=mse', 'oracle_kd.objectives.full_sum_norm.weight=0.25'],
    ),
    'soft': ('soft (lattice)', 'lattice', [*LATTICE, 'oracle_kd.label_loss.on=supervised']),
    'hard_soft': ('hard + soft', 'lattice', [*LATTICE, 'oracle_kd.label_loss.on=all']),
}
#: methods that are tried with every teacher; the others are tried with GOOD_AND_BAD
EVERYWHERE = ('hard', 'full_sum_l1', 'full_sum_huber', 'full_sum_mse')
GOOD_AND_BAD = ('S', 'S25')


@dataclass
class Recipe:
    """What to train.

    Attributes:
        updates: optimizer steps of every student after the warm start.
        warm_updates: optimizer steps of the warm start.
        share: share of supervised rows in the batches of a distilled student.
        supervised: share of the training manifest that keeps its labels.
        unsupervised: share that students see without its labels. It is small, because a student needs many passes until it is
            more certain than its teacher, and until then full-sum equals hard distillation.
        teachers: teachers of the ladder to train.
        teacher_seed: seed of the teachers.
        split_seed: seed of the split.
    """

    updates: int = 200
    warm_updates: int = 150
    share: float = 0.25
    supervised: float = 0.5
    unsupervised: float = 1 / 3
    teachers: Sequence[str] = tuple(LADDER)
    teacher_seed: int = 0
    split_seed: int = 0

    @property
    def split(self) -> Split:
        """Which utterances keep their labels."""
        return Split(self.supervised, self.unsupervised, self.split_seed)


def teacher_runs(recipe: Recipe, parts: dict[str, Path], dev: Path, out: Path) -> list[SystemRun]:
    """The trainings of the ladder."""
    runs = []
    for name in recipe.teachers:
        teacher = LADDER[name]
        overrides = [*SMALL, *steps(teacher.updates), f'model.width={teacher.width}', *teacher.overrides]
        data = {'train': parts[teacher.labels], 'dev': dev}
        group = out / 'teachers'
        training = Training(SMALL_RNNT, data, overrides, save_to=group / f'{name}.nemo')
        runs.append(recipe_run(name, recipe.teacher_seed, group, training))
    return runs


def label_jobs(recipe: Recipe, parts: dict[str, Path], test: Path, out: Path) -> list[Job]:
    """The jobs in which the teachers label the unsupervised part and transcribe the test set."""
    jobs = [
        labelling_job(
            f'labels/{name}',
            out / 'teachers' / f'{name}.nemo',
            parts['unsupervised'],
            out / 'labels' / name,
            nbest=8,
            depends=[f'teachers/{name}'],
        )
        for name in recipe.teachers
    ]
    scores = out / 'teachers' / 'scores.json'
    models = [str(out / 'teachers' / f'{name}.nemo') for name in recipe.teachers]
    command = ['evaluate', *models, '--manifest', str(test), '--json', str(scores), '--overwrite']
    trained = [f'teachers/{name}' for name in recipe.teachers]
    jobs.append(Job('labels/test', [*CLI, *command], outputs=[scores], depends=trained, inputs=[test]))
    return jobs


def systems(teachers: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
    """All systems after the warm start: name -> (method, teacher), which is (None, None) for the student alone."""
    found: dict[str, tuple[str | None, str | None]] = {ALONE: (None, None)}
    for method in METHODS:
        for teacher in teachers:
            if method in EVERYWHERE or teacher in GOOD_AND_BAD:
                found[f'{method}_{teacher}'] = (method, teacher)
    return found


def student_runs(
    recipe: Recipe, parts: dict[str, Path], dev: Path, out: Path, seeds: Sequence[int]
) -> list[SystemRun]:
    """The warm start and the students of every seed."""
    runs = []
    for seed in seeds:
        group = out / f'seed_{seed}'
        alone = {'train': parts['supervised'], 'dev': dev}
        warm = group / 'training' / WARM / 'model.nemo'
        start = Training(SMALL_RNNT, alone, [*SMALL, *steps(recipe.warm_updates)])
        runs.append(recipe_run(WARM, seed, group, start))
        for name, (method, teacher) in systems(recipe.teachers).items():
            overrides = [*SMALL, *PLAIN, *steps(recipe.updates), f'+init_from_nemo_model={quoted(warm)}']
            data, waits = alone, [f'seed_{seed}/{WARM}']
            if method is not None:
                _, preset, changes = METHODS[method]
                overrides += [f'+oracle_kd={preset}', f'++oracle_kd.supervised_share={recipe.share}', *changes]
                if preset == 'lattice':  # the other presets read the teacher's scores in the manifest
                    path = out / 'teachers' / f'{teacher}.nemo'
                    overrides.append(f'oracle_kd.teacher.restore_from={quoted(path)}')
                scored = out / 'labels' / teacher / 'scored.jsonl'
                data = {'train': [parts['supervised'], scored], 'dev': dev}
                waits.append(f'labels/{teacher}')
            runs.append(recipe_run(name, seed, group, Training(SMALL_RNNT, data, overrides), waits))
    return runs


def measure_teachers(recipe: Recipe, parts: dict[str, Path], out: Path) -> dict[str, dict]:
    """Measures each teacher: its test error, the error of its pseudo-labels, and their nats per label."""
    tested = json.loads((out / 'teachers' / 'scores.json').read_text(encoding='utf-8'))['systems']
    found = {}
    for name in recipe.teachers:
        rows = read_manifest(out / 'labels' / name / 'scored.jsonl', check_audio=False)
        labels = score([row['reference_text'] for row in rows], [row['text'] for row in rows])
        training = json.loads((out / 'teachers' / 'training' / name / 'run.json').read_text(encoding='utf-8'))
        found[name] = {
            'wer': tested[name]['wer'],
            'cer': tested[name]['cer'],
            'parameters': tested[name]['parameters'],
            'train_seconds': training['train_seconds'],
            'updates': training['updates'],
            'labelled_utterances': len(read_manifest(parts[LADDER[name].labels], check_audio=False)),
            'pseudo_label_wer': labels.wer,
            'pseudo_label_cer': labels.cer,
            'nats_per_label': -sum(row['teacher_log_prob'] for row in rows)
            / sum(row['teacher_tokens'] for row in rows),
        }
    return found


def run_ladder(recipe: Recipe, data: dict[str, Path], out: Path, seeds: Sequence[int], parallel: int) -> dict:
    """Trains, labels and scores everything.

    Args:
        recipe: what to train.
        data: manifests `train`, `dev` and `test`.
        out: output folder.
        seeds: seeds of the students.
        parallel: largest number of jobs at a time, one thread each.

    Returns:
        The content of `results.json`: that of a comparison, with `method` and `teacher` of every distilled system, and
        `teachers`.
    """
    parts = write_split(recipe.split, data['train'], out / 'data')
    teaching = [run.job for run in teacher_runs(recipe, parts, data['dev'], out)]
    teaching += label_jobs(recipe, parts, data['test'], out)
    settings = {
        'updates': recipe.updates,
        'warm_updates': recipe.warm_updates,
        'supervised_share': recipe.share,
        'supervised_part': recipe.supervised,
        'unsupervised_part': recipe.unsupervised,
        'teacher_seed': recipe.teacher_seed,
        'split_seed': recipe.split_seed,
    }
    made = systems(recipe.teachers)
    pairs = [(f'hard_{teacher}', name) for name, (method, teacher) in made.items() if method not in (None, 'hard')]
    comparison = Comparison(
        student_runs(recipe, parts, data['dev'], out, seeds),
        data['test'],
        out,
        pairs=pairs,
        settings=settings,
        extra_jobs=teaching,
    )
    results = comparison.run(parallel)
    for name, (method, teacher) in made.items():
        if method is not None:
            results['systems'][name].update(method=method, teacher=teacher)
    results['teachers'] = measure_teachers(recipe, parts, out)
    results['units'].update(pseudo_label_wer='percent', pseudo_label_cer='percent')
    write_text_atomically(comparison.results_path, json.dumps(results, indent=2) + '\n')
    return results

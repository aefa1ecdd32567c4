# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distils streaming students from a teacher that hears the whole utterance: character RNN-T, greedy decoding.

    python examples/causal_student/run.py --data DIR --test TEST.jsonl --out OUT --seeds 0 1 2

`--data` is a folder with the NeMo manifests `train.jsonl` and `dev.jsonl`; `--test` is any manifest. Half of the training
manifest keeps its labels. The other half is labelled by the teacher, which was trained on the whole manifest. The students'
convolutions see the past alone (`future_context: 0`); those of the teacher and of the control students see both sides.

The causal students of a seed start from one model: alone; hard; soft (the lattice, without a label loss on the teacher's half)
unshifted, with three fixed shifts, with an estimated shift, and with two windows; hard + soft, unshifted and shifted; and
full-sum. The control students have full context: alone, soft, and hard + soft. `OUT/results.json` holds the error rates and
the emission delays of all students behind the teacher; the students are `OUT/seed_N/NAME.nemo`. The results are discussed in
docs/experiments/causal_student.md. An interrupted run continues where it stopped.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_oracle_kd.corpus.manifest import read_manifest, write_text_atomically
from nemo_oracle_kd.experiments.comparison import Comparison, SystemRun, print_table
from nemo_oracle_kd.experiments.jobs import Job
from nemo_oracle_kd.experiments.pseudo_labels import PLAIN, SMALL, SMALL_RNNT, Split, labelling_job, write_split
from nemo_oracle_kd.experiments.recipe_arguments import (
    add_data_arguments,
    add_run_arguments,
    add_update_arguments,
    one_sentence,
    positive,
)
from nemo_oracle_kd.experiments.recipes import Training, quoted, recipe_run, steps

CAUSAL = [f'+model.encoder.jasper.{block}.future_context=0' for block in range(5)]
ALONE, WARM, CONTROL = 'student_alone', 'warm_start', 'full_context_'
#: the teacher is trained in two steps; in the second it learns to emit early, as full context allows (FastEmit, arXiv 2010.11148)
LATE, EARLY = 'late_teacher', 'teacher'
TEACHERS = {
    LATE: [*steps(400, 1), 'model.width=128'],
    EARLY: [*steps(100, 1), 'model.width=128', 'model.loss.oracle_kd_rnnt_kwargs.fastemit_lambda=0.3'],
}
SHARE = 0.25


@dataclass(frozen=True)
class Student:
    """How a student is distilled: the preset and its overrides, whether it has full context, and its lattice's teacher."""

    preset: str = ''
    overrides: Sequence[str] = ()
    full_context: bool = False
    teacher: str = EARLY


def soft(*overrides: str, hard: bool = False, full_context: bool = False, teacher: str = EARLY) -> Student:
    """Lattice distillation; without `hard` the teacher's half of the data has no other loss."""
    objective = 'oracle_kd.objectives.lattice'
    words = [f'{objective}.{override}' for override in (f'weight={WEIGHT:g}', *overrides)]
    words += [f'oracle_kd.label_loss.on={"all" if hard else "supervised"}', 'oracle_kd.teacher.memory_mb=64']
    return Student('lattice', words, full_context, teacher)


#: weight of the sum over all cells; docs/experiments/causal_student.md lists the other weights that were tried
WEIGHT = 0.03
ESTIMATE = ('delay.mode=estimate', 'delay.batches=8')
STUDENTS: dict[str, Student] = {
    ALONE: Student(),
    'hard': Student('hard'),
    'soft_shift_0': soft(),
    'soft_shift_3': soft('shift=3'),
    'soft_shift_6': soft('shift=6'),
    'soft_shift_9': soft('shift=9'),
    'soft_estimated': soft(*ESTIMATE),
    'soft_window_0_8': soft('window.first=0', 'window.last=8'),
    'soft_window_5_9': soft('window.first=5', 'window.last=9'),
    'hard_soft_shift_0': soft(hard=True),
    'hard_soft_estimated': soft(*ESTIMATE, hard=True),
    'full_sum': Student('full_sum'),
    'soft_late_teacher_shift_0': soft(teacher=LATE),
    CONTROL + 'alone': Student(full_context=True),
    CONTROL + 'soft': soft(full_context=True),
    CONTROL + 'hard_soft': soft(hard=True, full_context=True),
}
#: further pairs that are tested for significance; every student is compared with `ALONE` anyway
COMPARED = [('soft_shift_0', 'soft_estimated'), ('hard', 'soft_estimated'), ('hard', 'hard_soft_estimated')]
COMPARED += [('hard', 'full_sum'), ('soft_shift_0', 'full_sum')]
COMPARED += [(CONTROL + 'alone', CONTROL + method) for method in ('soft', 'hard_soft')]


def make_parser() -> argparse.ArgumentParser:
    """Declares the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_arguments(parser)
    add_run_arguments(parser, ' of the students')
    add_update_arguments(parser, updates=200, warm_updates=150)
    parser.add_argument(
        '--students',
        nargs='+',
        choices=list(STUDENTS),
        default=list(STUDENTS),
        help=f'students besides {ALONE} (default: all)',
    )
    parser.add_argument(
        '--delay-utterances', type=positive, default=200, help='utterances for the delays (default: 200)'
    )
    return parser


def teacher_jobs(parts: dict[str, Path], dev: Path, out: Path) -> list[Job]:
    """The training of the teacher, in two steps, and the job that labels the unsupervised half."""
    jobs, data = [], {'train': parts['all'], 'dev': dev}
    for name, overrides in TEACHERS.items():
        words, waits = [*SMALL, *overrides], [job.name for job in jobs]
        if jobs:
            words.append(f'+init_from_nemo_model={quoted(out / f"{LATE}.nemo")}')
        training = Training(SMALL_RNNT, data, words, save_to=out / f'{name}.nemo')
        jobs.append(recipe_run(name, 0, out / 'teachers', training, waits).job)
    teacher, waits = out / f'{EARLY}.nemo', [jobs[-1].name]
    return [*jobs, labelling_job('labels', teacher, parts['unsupervised'], out / 'labels', nbest=1, depends=waits)]


def student_runs(args: argparse.Namespace, parts: dict[str, Path], dev: Path, out: Path) -> list[SystemRun]:
    """The warm starts and students of every seed."""
    runs, scored = [], out / 'labels' / 'scored.jsonl'
    contexts = sorted({STUDENTS[name].full_context for name in args.students})
    for seed in args.seeds:
        group, own = out / f'seed_{seed}', {'train': parts['supervised'], 'dev': dev}
        for full in contexts:
            words = [*SMALL, *steps(args.warm_updates, 1), *([] if full else CAUSAL)]
            runs.append(recipe_run((CONTROL if full else '') + WARM, seed, group, Training(SMALL_RNNT, own, words)))
        for name in args.students:
            student, data = STUDENTS[name], own
            warm = (CONTROL if student.full_context else '') + WARM
            start = group / 'training' / warm / 'model.nemo'
            words = [*SMALL, *PLAIN, *steps(args.updates, 1), f'+init_from_nemo_model={quoted(start)}']
            words += [] if student.full_context else CAUSAL
            waits = [f'{group.name}/{warm}']
            if student.preset:
                words += [f'+oracle_kd={student.preset}', f'++oracle_kd.supervised_share={SHARE}', *student.overrides]
                data, waits = {**own, 'train': [parts['supervised'], scored]}, [*waits, 'labels']
            if student.preset == 'lattice':
                words.append(f'oracle_kd.teacher.restore_from={quoted(out / f"{student.teacher}.nemo")}')
            runs.append(recipe_run(name, seed, group, Training(SMALL_RNNT, data, words), waits))
    return runs


def run(args: argparse.Namespace) -> dict:
    """Trains, scores and measures delays.

    Returns:
        The content of `results.json`: that of a comparison, `pseudo_labels`, and `delays` in frames of 80 ms.
    """
    from delays import measure

    from nemo_oracle_kd.evaluation.error_rates import score

    out = args.out.resolve()
    data = {name: (args.data / f'{name}.jsonl').resolve() for name in ('train', 'dev')}
    data['test'] = args.test.resolve()
    for manifest in data.values():
        read_manifest(manifest)  # a bad manifest is reported now, in one sentence, and not by a job
    parts = write_split(Split(supervised=0.5, unsupervised=0.5), data['train'], out / 'data')
    teaching = teacher_jobs(parts, data['dev'], out)
    runs = student_runs(args, parts, data['dev'], out)
    names = [name for name in STUDENTS if name in args.students]
    pairs = [pair for pair in COMPARED if set(pair) <= set(names)]
    comparison = Comparison(
        runs,
        data['test'],
        out,
        pairs=pairs,
        settings={'updates': args.updates, 'warm_updates': args.warm_updates, 'supervised_share': SHARE},
        extra_jobs=teaching,
    )
    results = comparison.run(args.parallel)
    labelled = read_manifest(out / 'labels' / 'scored.jsonl', check_audio=False)
    found = score([row['reference_text'] for row in labelled], [row['text'] for row in labelled])
    results['pseudo_labels'] = {'wer': found.wer, 'cer': found.cer, 'utterances': len(labelled)}
    models = {LATE: {0: out / f'{LATE}.nemo'}}
    models.update(
        {name: {seed: comparison.model_path(name, seed) for seed in args.seeds} for name in comparison.names}
    )
    results['delays'] = measure(out / f'{EARLY}.nemo', models, data['test'], args.delay_utterances)
    write_text_atomically(comparison.results_path, json.dumps(results, indent=2) + '\n')
    return results


def main() -> None:
    """Runs everything and prints the tables."""
    parser = make_parser()
    args = parser.parse_args()
    args.students = list(dict.fromkeys([ALONE, *args.students]))  # all others are compared with it
    with one_sentence(parser):
        results = run(args)
    print_table(results)
    print(f'\n{"emits after the teacher, frames":34}{"median of each seed":24}{"encoder looks ahead, features":>30}')
    for name, facts in results['delays'].items():
        medians = ' '.join(f'{value:+.1f}' for value in facts.get('median', []))
        print(f'{name:34}{medians:24}{facts["look_ahead"]:30d}')
    print(f'results: {args.out / "results.json"}')


if __name__ == '__main__':
    main()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Defines what `run.py` does before and after the trainings: labels, choices on the development set, systems, pairs and measures."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from omegaconf import OmegaConf

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.evaluation.error_rates import read_transcriptions, score
from nemo_oracle_kd.evaluation.recovery import recovered
from nemo_oracle_kd.experiments.comparison import Comparison
from nemo_oracle_kd.experiments.ctc_plan import STUDENT, TEACHERS, synthesis_job
from nemo_oracle_kd.experiments.jobs import Job
from nemo_oracle_kd.experiments.pseudo_labels import COARSE, SMALL_RNNT, labelling_job
from nemo_oracle_kd.experiments.recipes import Training, config_folder, quoted, recipe_run, steps
from nemo_oracle_kd.experiments.runner import JobRunner
from nemo_oracle_kd.experiments.unlabelled import ALONE, CEILING, METHODS, SURER, Settings, StudentPlan, System

OWN = 'own'
#: kind of student -> config of the students, config of the teacher that is trained here, overrides of both
KINDS = {
    'ctc': (STUDENT, TEACHERS['conventional_teacher'].config, []),
    'rnnt': (SMALL_RNNT, SMALL_RNNT, COARSE),
}
#: methods that are tried with every teacher; the others are tried with the first, and full-sum norm where there are N-best lists
EVERYWHERE = ('hard', 'full_sum_huber')
#: what is chosen together for the full-sum objectives
SHAPE = ('huber_width', 'weight', 'teacher_scale')
WHISPER = 'whisper:'


def named(values: list[str], option: str) -> dict[str, str]:
    """The `NAME=VALUE`s of an option.

    Raises:
        ValueError: one that is none, or a name that is given twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, sign, content = value.partition('=')
        if not name.isidentifier() or not content or name in found or name == 'reference':
            raise ValueError(
                f"--{option} {value}: write NAME=..., with a name of letters, digits and _ that is given once"
            )
        found[name] = content
    return found


def prepare(args: argparse.Namespace, parts: Mapping[str, Path], dev: Path, out: Path) -> StudentPlan:
    """Trains the models that others start from, and lets the teachers label; returns the plan of the students.

    Args:
        args: the command line.
        parts: manifests `supervised` and `unsupervised`.
        dev: manifest of the validation.
        out: output folder.

    Raises:
        ValueError: no teacher, two of one name, or labels of other speech than the unlabelled part.
    """
    teachers, labels = named(args.teacher, 'teacher'), {}
    for name, path in named(args.scored, 'scored').items():
        labels[name] = Path(path).resolve()
        _check_labels(name, labels[name], parts['unsupervised'])
    names = [*teachers, *labels, *([OWN] if args.own_teacher else [])]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"the teachers are {', '.join(names) or 'none'}: give at least one, each with a name of its own"
        )
    config, teacher_config, overrides = KINDS[args.kind]
    starts, jobs = _starts(args, parts['supervised'], dev, out)
    if args.own_teacher:
        width = f'model.width={args.teacher_width}'
        words = [*overrides, *steps(args.teacher_updates), width, f'+init_from_nemo_model={quoted(starts["teacher"])}']
        model = out / 'teachers' / f'{OWN}.nemo'
        data = {'train': parts['supervised'], 'dev': dev}
        training = Training(teacher_config, data, words, save_to=model, inputs=[starts['teacher']])
        jobs.append(recipe_run(OWN, 0, out / 'teachers', training).job)
        teachers[OWN] = str(model)
    for name, source in teachers.items():
        waits = [f'teachers/{OWN}'] if name == OWN else []
        jobs.append(_label_job(args, name, source, parts['unsupervised'], out / 'labels' / name, waits))
        labels[name] = out / 'labels' / name / 'scored.jsonl'
    if jobs:
        JobRunner(jobs, out / 'jobs' / 'preparation', args.parallel).run()
    ordered = {name: labels[name] for name in names}
    settings = Settings(args.keep[0], *(getattr(args, name)[0] for name in SHAPE))
    words = [*overrides, *args.student_overrides]
    return StudentPlan(config, starts['student'], parts, dev, ordered, out, args.updates, settings, overrides=words)


def _check_labels(name: str, labels: Path, unlabelled: Path) -> None:
    parts = [
        {(row['audio_filepath'], row.get('offset') or 0) for row in read_manifest(path)}
        for path in (labels, unlabelled)
    ]
    if not parts[0] <= parts[1]:
        raise ValueError(
            f"{labels} ({name}) holds {len(parts[0] - parts[1])} utterances that are not in the unlabelled part: label {unlabelled}"
        )


def _starts(args: argparse.Namespace, labelled: Path, dev: Path, out: Path) -> tuple[dict[str, Path], list[Job]]:
    """The models that students and the own teacher start from, and the jobs that make those which are not given."""
    configs, overrides = dict(zip(('student', 'teacher'), KINDS[args.kind])), KINDS[args.kind][2]
    found, jobs, synthetic = {}, [], out / 'synthetic' / 'train.jsonl'
    for name, config in configs.items():
        given = getattr(args, f'{name}_start')
        if given is not None:
            found[name] = given.resolve()
        elif name == 'student' or args.own_teacher:
            own = [f'model.width={args.teacher_width}'] if name == 'teacher' else args.student_overrides
            words = [*overrides, *steps(args.pretraining_updates, 4), *own]
            training = Training(config, {'train': synthetic, 'dev': dev}, words)
            made = recipe_run(name, 0, out / 'starts', training, ['synthetic'])
            found[name] = Path(made.model)
            jobs.append(made.job)
    return found, [synthesis_job(labelled, out / 'synthetic', args.synthetic), *jobs] if jobs else []


def _label_job(
    args: argparse.Namespace, name: str, source: str, manifest: Path, folder: Path, depends: list[str]
) -> Job:
    prompt, words, nbest = args.prompt, [], 8
    if source.startswith(WHISPER):
        family, config = KINDS[args.kind][0].split('/')
        labels = OmegaConf.load(Path(config_folder(family)) / f'{config}.yaml').model.labels
        prompt, nbest = prompt or ['language=en'], 1
        words = ['--alphabet', ''.join(labels).strip()]
    if prompt and name != OWN:
        words += ['--prompt', *prompt]
    return labelling_job(f'labels/{name}', source, manifest, folder, nbest, depends, words)


def systems_of(args: argparse.Namespace, plan: StudentPlan) -> dict[str, System]:
    """The students of the first round, with the student alone first and the ceiling last.

    Raises:
        ValueError: `--systems` names one that there is not.
    """
    found = {}
    for number, (teacher, path) in enumerate(plan.labels.items()):
        rows = read_manifest(path, check_audio=False)
        lists = any(len(row.get('teacher_nbest') or ()) > 1 for row in rows)
        for method, one in METHODS.items():
            if lists if one.preset == 'full_sum_norm' else number == 0 or method in EVERYWHERE:
                found[f'{method}_{teacher}'] = System(method, teacher)
    wanted = args.systems or list(found)
    unknown = [name for name in wanted if name not in found]
    if unknown:
        raise ValueError(f"--systems names {', '.join(unknown)}: choose from {', '.join(found)}")
    return {ALONE: System(), **{name: found[name] for name in found if name in wanted}, CEILING: System()}


def lengths_of(args: argparse.Namespace, plan: StudentPlan) -> dict[str, System]:
    """Students of the first teacher for other numbers of updates, by hard and by full-sum distillation."""
    teacher = next(iter(plan.labels))
    return {
        f'{method}_{teacher}_{updates}_updates': System(method, teacher, updates)
        for updates in sorted(set(args.lengths) - {args.updates})
        for method in EVERYWHERE
    }


def pairs_of(systems: Mapping[str, System]) -> list[tuple[str, str]]:
    """Every method against hard distillation from the same teacher for the same updates, and filtered ones against the filtered."""
    pairs = []
    for name, system in systems.items():
        if system.method not in (None, 'hard'):
            for base in ('hard', 'hard_filter') if METHODS[system.method].filtered else ('hard',):
                baseline = name.replace(system.method, base, 1)
                if baseline in systems and baseline != name:
                    pairs.append((baseline, name))
    return pairs


def choose(args: argparse.Namespace, plan: StudentPlan) -> tuple[Settings, dict]:
    """Chooses what has several values by the CER of students of the first seed on the development set.

    Returns:
        The chosen settings, and the CER of every value in percent.
    """
    teacher, settings = next(iter(plan.labels)), plan.settings
    filters = [replace(settings, keep=keep) for keep in args.keep]
    shapes = [replace(settings, **dict(zip(SHAPE, one))) for one in product(*(getattr(args, name) for name in SHAPE))]
    systems, names = {}, {}
    for kind, method, choices in (('filter', 'hard_filter', filters), ('full_sum', 'full_sum_huber', shapes)):
        if len(choices) > 1:
            names[kind] = {f'{kind}_{number}': one for number, one in enumerate(choices)}
            systems |= {name: System(method, teacher, settings=one) for name, one in names[kind].items()}
    if not systems:
        return settings, {}
    folder = plan.out / 'choice'
    there = replace(plan, out=folder)
    comparison = Comparison(
        there.runs(systems, args.seeds[:1]),
        plan.dev,
        folder,
        next(iter(systems)),
        extra_jobs=there.filter_jobs(systems),
    )
    results = comparison.run(args.parallel)['systems']
    table = {}
    for kind, choices in names.items():
        rates = {name: results[name]['cer'][0] for name in choices}
        best = choices[min(rates, key=rates.__getitem__)]
        if kind == 'filter':
            settings = replace(settings, keep=best.keep)
            table[kind] = {choices[name].keep: rate for name, rate in rates.items()}
        else:
            settings = replace(settings, **{name: getattr(best, name) for name in SHAPE})
            table[kind] = {
                ', '.join(f'{name.replace("_", " ")} {getattr(choices[one], name):g}' for name in SHAPE): rate
                for one, rate in rates.items()
            }
    return settings, {**table, **asdict(settings)}


def measure(results: dict, comparison: Comparison, plan: StudentPlan, systems: Mapping[str, System]) -> dict:
    """Adds to the results of a comparison.

    Args:
        results: content of `results.json`; its `systems` get `method`, `teacher`, `of_length` and, by full-sum, `surer_than_teacher`.
        comparison: the comparison that made them.
        plan: the plan of its students.
        systems: the students of the first round.

    Returns:
        `recovered` (the share of the gap of each system of the plan's updates), and `teachers` (errors of their labels, in percent).
    """
    longer = {system.method for system in systems.values() if system.updates is not None}
    for name, facts in results['systems'].items():
        system = systems.get(name, System())
        first = system.teacher == next(iter(plan.labels))
        facts.update(method=system.method, teacher=system.teacher, of_length=first and system.method in longer)
        curves = results['curves'][name].values()
        surer = [[row[SURER] for row in curve if row.get(SURER) is not None] for curve in curves]
        if all(surer):
            facts['surer_than_teacher'] = [values[-1] for values in surer]
    runs = {
        name: [score(*read_transcriptions(comparison.transcripts_path(name, seed))[1:]) for seed in comparison.seeds]
        for name in comparison.names
    }
    shares = {}
    for name in comparison.names:
        if name not in (ALONE, CEILING) and systems.get(name, System()).updates is None:
            shares[name] = {}
            for unit, rate in (('words', 'wer'), ('characters', 'cer')):
                three = ([getattr(one, unit) for one in runs[of]] for of in (ALONE, name, CEILING))
                share = recovered(*three)
                shares[name] |= {rate: share.as_dict(), f'{rate}_text': str(share)}
    teachers = {}
    for name, path in plan.labels.items():
        teachers[name] = dict(zip(('rows', 'wer', 'cer'), _label_errors(path)))
        kept = plan.kept(name, plan.settings.keep)
        there = _label_errors(kept) if kept.is_file() else (0, None, None)
        teachers[name] |= dict(zip(('kept_rows', 'kept_wer', 'kept_cer'), there))
    return {'recovered': shares, 'teachers': teachers}


def _label_errors(path: Path) -> tuple[int, float, float]:
    """Rows of a scored manifest, and word and character error rate of its texts in percent."""
    rows = read_manifest(path, check_audio=False)
    errors = score([row['reference_text'] for row in rows], [row['text'] for row in rows])
    return len(rows), errors.wer, errors.cer

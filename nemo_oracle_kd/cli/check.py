# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd check STUDENT TEACHER`: reports what a distillation would refuse, without training.

It makes the report that a training makes (`distillation.compatibility.report`), from the same configuration.
"""

import argparse
from typing import Any

HELP = 'compare a student with a teacher and report what prevents a distillation'

EPILOG = """examples:
  nemo-oracle-kd check student.nemo teacher.nemo --objectives frame_kl guided_ctc
  nemo-oracle-kd check student.nemo teacher.nemo --preset lattice objectives.lattice.shift=3
  nemo-oracle-kd check student.nemo teacher.nemo --preset frame_kl softmax_l2
  nemo-oracle-kd check student.nemo --config recipe.yaml
  nemo-oracle-kd check recipe.yaml teacher.nemo --preset frame_kl --set model.tokenizer.dir=tokenizer
  nemo-oracle-kd check student.nemo teacher.nemo --objectives full_sum --manifest train.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_distillation_arguments(parser)
    parser.add_argument(
        '--time-resampling',
        choices=['none', 'nearest', 'linear'],
        help="how the teacher's frames are brought to the student's rate (default: as configured)",
    )
    parser.add_argument(
        '--manifest',
        metavar='TRAIN',
        help='training manifest to check as well (default: that of the recipe): for sequence objectives both models must be able '
        'to write its texts, and the scores in it must be complete and those of this teacher',
    )


def add_distillation_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares student, teacher, objectives and what a recipe's command line changes."""
    parser.add_argument(
        'student',
        metavar='STUDENT',
        help='the model to be trained: .nemo file, pretrained name, or the YAML of the recipe that builds or fine-tunes it',
    )
    parser.add_argument(
        'teacher',
        metavar='TEACHER',
        nargs='?',
        help='.nemo file or pretrained name of the teacher, or the folder of a cache (default: the one that --config names)',
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        '--objectives',
        nargs='+',
        metavar='NAME',
        help='objectives with their default options (default: frame_kl)',
    )
    chosen.add_argument(
        '--preset',
        nargs='+',
        metavar=('NAME', 'KEY=VALUE'),
        help="a preset or several, and the changes that the recipe's command line makes to them",
    )
    chosen.add_argument(
        '--config',
        metavar='RECIPE.yaml',
        help='the YAML of your recipe: its oracle_kd section, its callback in trainer.callbacks, or its model.distillation',
    )
    parser.add_argument(
        '--set',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help="changes that the recipe's command line makes to its YAML (STUDENT or --config)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the comparison; 0 if the distillation can run, 1 if not."""
    from nemo_oracle_kd.distillation.settings import DistillationConfig
    from nemo_oracle_kd.distillation.teacher_kinds import make_teacher

    section, train_ds = distillation_section(args)
    if args.manifest is not None:
        train_ds = {'manifest_filepath': args.manifest}
    teacher = section['teacher']
    if args.time_resampling is not None:
        teacher['time_resampling'] = args.time_resampling
    config = DistillationConfig.from_mapping(section, path='oracle_kd')

    from nemo_oracle_kd.bridge.restore import check_source
    from nemo_oracle_kd.distillation.cached_teacher import CachedTeacher
    from nemo_oracle_kd.distillation.compatibility import report
    from nemo_oracle_kd.distillation.data.rows import training_problems

    if teacher.get('restore_from') is not None:
        check_source(teacher['restore_from'])
    student = make_student(args)
    beside = make_teacher(config.teacher) if config.beside else None
    if beside is not None:
        beside.bind(student)
    found = report(student, beside, config)
    if train_ds is not None:
        found.problems += training_problems(student, config, beside, train_ds)
    print(found)
    if isinstance(beside, CachedTeacher):
        print(beside)
    names = ', '.join(config.objectives)
    print(f'cannot distil {names} yet: solve the problems above' if found.problems else f'ready to distil {names}')
    return 1 if found.problems else 0


def distillation_section(args: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """The config of the distillation that the arguments ask for, and `model.train_ds` of a recipe or `None`."""
    from nemo_oracle_kd.distillation.teacher_kinds import TEACHERS
    from nemo_oracle_kd.errors import ConfigError

    given, train_ds = _section(args)
    section = given or {'objectives': {name: {} for name in args.objectives or ['frame_kl']}}
    teacher = section.setdefault('teacher', {})
    if args.teacher is not None:
        _name_teacher(teacher, args.teacher)
    if given is None:
        _use_stored_scores(section, args.manifest)
    if all(teacher.get(key) in (None, '???') for key in (*TEACHERS, 'scores')):
        raise ConfigError("no teacher is named: give TEACHER after STUDENT, or teacher.restore_from in the config")
    return section, train_ds


def make_student(args: argparse.Namespace) -> Any:
    """The student, restored or built from a recipe, without data."""
    from nemo_oracle_kd.bridge.recipe import is_recipe, model_of_recipe, read_recipe
    from nemo_oracle_kd.bridge.restore import check_source, restore_frozen

    if is_recipe(args.student):
        return model_of_recipe(read_recipe(args.student, args.set), args.student)
    check_source(args.student)
    return restore_frozen(args.student)


def _name_teacher(teacher: dict[str, Any], name: str) -> None:
    """Puts the teacher of the command line into the section, in place of the one that is there."""
    from pathlib import Path

    from nemo_oracle_kd.teacher_cache.index import INDEX_NAME

    cached = (Path(name).expanduser() / INDEX_NAME).is_file()
    teacher.pop('restore_from' if cached else 'cache', None)
    teacher['cache' if cached else 'restore_from'] = name


def _section(args: argparse.Namespace) -> tuple[dict[str, Any] | None, Any]:
    """Returns the config of the distillation if one was given, and `model.train_ds` of a recipe."""
    from nemo_oracle_kd.bridge.recipe import is_recipe, read_recipe
    from nemo_oracle_kd.errors import ConfigError

    paths = [args.config] if args.config is not None else []
    paths += [args.student] if is_recipe(args.student) else []
    if args.set and not paths:
        raise ConfigError("--set changes the YAML of a recipe: give one as STUDENT or by --config")
    recipes = {path: read_recipe(path, args.set) for path in paths}
    train_ds = next((found for recipe in recipes.values() if (found := _train_ds(recipe)) is not None), None)
    if args.preset is not None:
        return _of_presets(*args.preset), train_ds
    for path in paths if args.objectives is None else ():
        sections = _distillations(recipes[path], path)
        if sections or path == args.config:
            return _only(sections, path), train_ds
    return None, train_ds


def _of_presets(*words: str) -> dict[str, Any]:
    """The section that `+oracle_kd=[NAME,NAME] KEY=VALUE` makes; a preset is a word without `=`."""
    from omegaconf import OmegaConf

    from nemo_oracle_kd.cli.presets import merged_presets

    names = [name for word in words if '=' not in word for name in word.strip('[]').split(',')]
    changes = [word.lstrip('+').removeprefix('oracle_kd.') for word in words if '=' in word]
    config = OmegaConf.merge(merged_presets(names), OmegaConf.from_dotlist(changes))
    return OmegaConf.to_container(config, resolve=True)


def _distillations(recipe: Any, path: str) -> list[dict[str, Any]]:
    from omegaconf import OmegaConf

    from nemo_oracle_kd.bridge.register.presets import CALLBACK_TARGET, NODE
    from nemo_oracle_kd.errors import ConfigError

    try:
        callbacks = OmegaConf.select(recipe, 'trainer.callbacks') or []
        found = [OmegaConf.select(recipe, NODE), OmegaConf.select(recipe, 'model.distillation')]
        found += [entry for entry in callbacks if entry.get('_target_') == CALLBACK_TARGET]
        return [OmegaConf.to_container(node, resolve=True) for node in found if node is not None]
    except Exception as error:  # OmegaConf raises its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"{path} is not YAML that can be resolved ({reason}): correct it, or use --preset") from None


def _only(sections: list[dict[str, Any]], path: str) -> dict[str, Any]:
    from nemo_oracle_kd.bridge.register.presets import CALLBACK_TARGET, NODE
    from nemo_oracle_kd.errors import ConfigError

    if len(sections) != 1:
        raise ConfigError(
            f"{path} has {len(sections)} distillations, but exactly one can be checked: give it as the section {NODE}, as "
            f"{CALLBACK_TARGET} in trainer.callbacks, or as model.distillation"
        )
    return {key: value for key, value in sections[0].items() if key != '_target_'}


def _train_ds(recipe: Any) -> Any:
    """The section of the training data, unless its manifest is still to be set."""
    from omegaconf import OmegaConf

    found = OmegaConf.select(recipe, 'model.train_ds')
    return None if found is None or OmegaConf.is_missing(found, 'manifest_filepath') else found


def _use_stored_scores(section: dict[str, Any], manifest: str | None) -> None:
    """Without other options, takes the scores that the manifest holds if they are enough for the objectives."""
    from nemo_oracle_kd.corpus.manifest import LOG_PROB_KEY, check_manifest_path
    from nemo_oracle_kd.losses.objectives import OBJECTIVES, objectives_of

    names = [name for name in section['objectives'] if name in OBJECTIVES]
    if len(objectives_of('sequence', names)) < len(names):
        return
    stored = any(OBJECTIVES[name].loss.needs_stored_scores for name in names)
    if not stored and manifest is not None:
        check_manifest_path(manifest)
        # the rows are read and checked later, with all else; the first line with a score decides here
        with open(manifest, encoding='utf-8', errors='replace') as lines:
            stored = any(f'"{LOG_PROB_KEY}"' in line for line in lines)
    if stored:
        section['teacher']['scores'] = 'manifest'

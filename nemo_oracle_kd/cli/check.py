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
  nemo-oracle-kd check student.nemo --config recipe.yaml
  nemo-oracle-kd check student.nemo teacher.nemo --objectives full_sum --manifest train.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('student', metavar='STUDENT', help='.nemo file or pretrained name of the model to be trained')
    parser.add_argument(
        'teacher',
        metavar='TEACHER',
        nargs='?',
        help='.nemo file or pretrained name of the teacher (default: the one that --config names)',
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
        help="a preset, and the changes that the recipe's command line makes to it",
    )
    chosen.add_argument(
        '--config',
        metavar='RECIPE.yaml',
        help='the YAML of your recipe: its oracle_kd section, its callback in trainer.callbacks, or its model.distillation',
    )
    parser.add_argument(
        '--time-resampling',
        choices=['none', 'nearest', 'linear'],
        help="how the teacher's frames are brought to the student's rate (default: as configured)",
    )
    parser.add_argument(
        '--manifest',
        metavar='TRAIN',
        help='training manifest to check as well (default: that of --config): for sequence objectives both models must be able '
        'to write its texts, and the scores in it must be complete and those of this teacher',
    )


def run(args: argparse.Namespace) -> int:
    """Prints the comparison; 0 if the distillation can run, 1 if not."""
    from nemo_oracle_kd.distillation.settings import DistillationConfig
    from nemo_oracle_kd.distillation.teacher_kinds import TEACHERS, make_teacher
    from nemo_oracle_kd.errors import ConfigError

    section, train_ds = _section(args)
    if args.manifest is not None:
        train_ds = {'manifest_filepath': args.manifest}
    teacher = section.setdefault('teacher', {})
    if args.teacher is not None:
        teacher['restore_from'] = args.teacher
    if args.time_resampling is not None:
        teacher['time_resampling'] = args.time_resampling
    if args.config is None and args.preset is None:
        _use_stored_scores(section, train_ds)
    if all(teacher.get(key) in (None, '???') for key in (*TEACHERS, 'scores')):
        raise ConfigError("no teacher is named: give TEACHER after STUDENT, or teacher.restore_from in the config")
    config = DistillationConfig.from_mapping(section, path='oracle_kd')

    from nemo_oracle_kd.bridge.restore import check_source, restore_frozen
    from nemo_oracle_kd.distillation.compatibility import report
    from nemo_oracle_kd.distillation.data.rows import training_problems

    for source in (args.student, teacher.get('restore_from')):
        if source is not None:
            check_source(source)
    student = restore_frozen(args.student)
    beside = make_teacher(config.teacher)
    if beside is not None:
        beside.bind(student)
    found = report(student, beside, config)
    if train_ds is not None:
        found.problems += training_problems(student, config, beside, train_ds)
    print(found)
    names = ', '.join(config.objectives)
    print(f'cannot distil {names} yet: solve the problems above' if found.problems else f'ready to distil {names}')
    return 1 if found.problems else 0


def _section(args: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """Returns the config of the distillation, and `model.train_ds` if a recipe was given."""
    if args.config is not None:
        return _of_recipe(args.config)
    if args.preset is not None:
        return _of_preset(*args.preset), None
    return {'teacher': {}, 'objectives': {name: {} for name in args.objectives or ['frame_kl']}}, None


def _of_preset(name: str, *changes: str) -> dict[str, Any]:
    from omegaconf import OmegaConf

    from nemo_oracle_kd.cli.presets import preset_text
    from nemo_oracle_kd.errors import ConfigError

    ConfigError.raise_if_any(
        f"{change!r} is not a change of a preset: write KEY=VALUE, such as objectives.{name}.weight=0.5"
        for change in changes
        if '=' not in change
    )
    values = [change.lstrip('+').removeprefix('oracle_kd.') for change in changes]
    config = OmegaConf.merge(OmegaConf.create(preset_text(name)), OmegaConf.from_dotlist(values))
    return OmegaConf.to_container(config, resolve=True)


def _of_recipe(path: str) -> tuple[dict[str, Any], Any]:
    from omegaconf import OmegaConf

    from nemo_oracle_kd.bridge.register.presets import CALLBACK_TARGET, NODE
    from nemo_oracle_kd.errors import ConfigError

    try:
        recipe = OmegaConf.load(path)
        callbacks = OmegaConf.select(recipe, 'trainer.callbacks') or []
        found = [OmegaConf.select(recipe, NODE), OmegaConf.select(recipe, 'model.distillation')]
        found += [entry for entry in callbacks if entry.get('_target_') == CALLBACK_TARGET]
        found = [OmegaConf.to_container(node, resolve=True) for node in found if node is not None]
        train_ds = OmegaConf.select(recipe, 'model.train_ds')
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give the YAML file of a recipe") from None
    except Exception as error:  # YAML and OmegaConf raise their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"{path} is not YAML that can be resolved ({reason}): correct it, or use --preset") from None
    if len(found) != 1:
        raise ConfigError(
            f"{path} has {len(found)} distillations, but exactly one can be checked: give it as the section {NODE}, as "
            f"{CALLBACK_TARGET} in trainer.callbacks, or as model.distillation"
        )
    return {key: value for key, value in found[0].items() if key != '_target_'}, train_ds


def _use_stored_scores(section: dict[str, Any], train_ds: Any) -> None:
    """Without other options, takes the scores that the manifest holds if they are enough for the objectives."""
    from nemo_oracle_kd.corpus.manifest import LOG_PROB_KEY, check_manifest_path
    from nemo_oracle_kd.losses.objectives import OBJECTIVES, objectives_of

    names = [name for name in section['objectives'] if name in OBJECTIVES]
    if len(objectives_of('sequence', names)) < len(names):
        return
    stored = any(OBJECTIVES[name].loss.needs_stored_scores for name in names)
    if not stored and train_ds is not None:
        check_manifest_path(train_ds['manifest_filepath'])
        # the rows are read and checked later, with all else; the first line with a score decides here
        with open(train_ds['manifest_filepath'], encoding='utf-8', errors='replace') as lines:
            stored = any(f'"{LOG_PROB_KEY}"' in line for line in lines)
    if stored:
        section['teacher']['scores'] = 'manifest'

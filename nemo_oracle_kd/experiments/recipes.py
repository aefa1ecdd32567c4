# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Builds the command lines of trainings from the installed configs, as jobs of a comparison."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from nemo_oracle_kd.experiments.comparison import SystemRun
from nemo_oracle_kd.experiments.jobs import Job

__all__ = ['Training', 'config_folder', 'quoted', 'recipe_run', 'steps']


def config_folder(family: str) -> str:
    """Absolute path of the installed configs `conf/FAMILY`, so that a recipe may be copied to any folder."""
    return str(resources.files('nemo_oracle_kd.conf') / family)


def steps(count: int, validations: int = 2) -> list[str]:
    """Overrides for a training of `count` optimizer steps with a number of validations."""
    return [
        f'trainer.max_steps={count}',
        'trainer.max_epochs=-1',
        f'trainer.val_check_interval={max(count // validations, 1)}',
    ]


def quoted(path: Path) -> str:
    """Quotes a path for a Hydra override, whatever characters it has."""
    return "'" + str(path).replace("'", "\\'") + "'"


@dataclass(frozen=True)
class Training:
    """What is trained, on what, and how.

    Attributes:
        config: family and name of an installed config, such as `ctc/separable_ctc_char`.
        data: `train`, one manifest or several that are read together, and `dev`.
        overrides: further arguments of the command line.
        callbacks: further `trainer.callbacks`, as YAML mappings.
        save_to: path of the trained model; by default `model.nemo` in the training's folder.
        inputs: further files whose contents determine the outcome, such as a model to start from.
        metrics: further logged values that the record holds at each validation.
    """

    config: str
    data: Mapping[str, Path | Sequence[Path]]
    overrides: Sequence[str] = ()
    callbacks: Sequence[str] = ()
    save_to: Path | None = None
    inputs: Sequence[Path] = ()
    metrics: Sequence[str] = ()


def recipe_run(name: str, seed: int, group: Path, training: Training, depends: Sequence[str] = ()) -> SystemRun:
    """Returns a training on one thread that resumes from its checkpoints, recorded by `RunRecord` in processor seconds.

    Args:
        name: name of the system.
        seed: random seed of the training.
        group: folder of a group of trainings, such as `OUT/seed_0`. Its name is the first part of the job's name, and the
            training's files go to `GROUP/training/NAME`.
        training: what is trained.
        depends: names of the jobs to wait for.
    """
    family, config_name = training.config.split('/')
    folder = group / 'training' / name
    model = training.save_to or folder / 'model.nemo'
    train = training.data['train']
    manifests = [train] if isinstance(train, Path) else list(train)
    joined = ', '.join(quoted(manifest) for manifest in manifests)
    metrics = f', metrics: [{", ".join(training.metrics)}]' if training.metrics else ''
    record = f'{{_target_: nemo_oracle_kd.callbacks.RunRecord, directory: {quoted(folder)}, clock: cpu{metrics}}}'
    command = [
        sys.executable,
        '-m',
        'nemo_oracle_kd.experiments.train',
        f'--config-path={config_folder(family)}',
        f'--config-name={config_name}',
        'model.train_ds.manifest_filepath=' + (joined if isinstance(train, Path) else f'[{joined}]'),
        f'model.validation_ds.manifest_filepath={quoted(training.data["dev"])}',
        f'seed={seed}',
        'num_threads=1',
        f'save_to={quoted(model)}',
        f'exp_manager.exp_dir={quoted(folder)}',
        'exp_manager.name=log',
        '+exp_manager.use_datetime_version=false',
        'exp_manager.resume_if_exists=true',
        'trainer.enable_progress_bar=false',
        'trainer.log_every_n_steps=100',
        'trainer.check_val_every_n_epoch=null',
        f'+trainer.callbacks=[{", ".join([record, *training.callbacks])}]',
        *training.overrides,
    ]
    config_file = Path(config_folder(family)) / f'{config_name}.yaml'
    job = Job(
        f'{group.name}/{name}',
        command,
        outputs=[model, folder / 'run.json'],
        depends=depends,
        inputs=[config_file, *manifests, training.data['dev'], *training.inputs],
        scratch=[folder],
        metrics=folder / 'curve.jsonl',
        directory=group,
    )
    return SystemRun(name, seed, job, model=model, record=folder)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Trainings by the repository's own recipes, as jobs: what their command lines have in common."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nemo_oracle_kd.experiments.comparison import SystemRun
from nemo_oracle_kd.experiments.jobs import Job

__all__ = ['quoted', 'recipe_run']


def quoted(path: Path) -> str:
    """A path as Hydra reads it, whatever characters it has."""
    return "'" + str(path).replace("'", "\\'") + "'"


def recipe_run(
    name: str,
    seed: int,
    group: Path,
    recipe: tuple[Path, str],
    data: Mapping[str, Path | Sequence[Path]],
    overrides: Sequence[str] = (),
    callbacks: Sequence[str] = (),
    depends: Sequence[str] = (),
    save_to: Path | None = None,
) -> SystemRun:
    """One training on one thread, recorded by `RunRecord` in processor seconds, that resumes from its checkpoints.

    Args:
        name: of the system.
        seed: random seed of the training.
        group: folder that it belongs to, such as `OUT/seed_0`; its name is that of the job's group, and the training's
            files go to `GROUP/training/NAME`.
        recipe: script and name of its config, which lies under `conf/` of the repository.
        data: `train`, one manifest or several that are read together, and `dev`.
        overrides: further words of the command line.
        callbacks: further `trainer.callbacks`, as YAML mappings.
        depends: jobs to wait for.
        save_to: where the model goes; by default `model.nemo` among the training's files.
    """
    script, config = recipe
    folder = group / 'training' / name
    model = save_to or folder / 'model.nemo'
    train = data['train']
    manifests = [train] if isinstance(train, Path) else list(train)
    joined = ', '.join(quoted(manifest) for manifest in manifests)
    record = f'{{_target_: nemo_oracle_kd.callbacks.RunRecord, directory: {quoted(folder)}, clock: cpu}}'
    command = [
        sys.executable,
        str(script),
        f'--config-name={config}',
        'model.train_ds.manifest_filepath=' + (joined if isinstance(train, Path) else f'[{joined}]'),
        f'model.validation_ds.manifest_filepath={quoted(data["dev"])}',
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
        f'+trainer.callbacks=[{", ".join([record, *callbacks])}]',
        *overrides,
    ]
    recipe_config = next((script.parents[2] / 'conf').rglob(f'{config}.yaml'))
    job = Job(
        f'{group.name}/{name}',
        command,
        outputs=[model, folder / 'run.json'],
        depends=depends,
        inputs=[recipe_config, *manifests, data['dev']],
        scratch=[folder],
        metrics=folder / 'curve.jsonl',
        directory=group,
    )
    return SystemRun(name, seed, job, model=model, record=folder)

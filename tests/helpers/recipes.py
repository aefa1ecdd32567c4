# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipes of `examples/`, copied alone as a user may copy them, and the settings that their command lines stand for."""

import os
import shutil
import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import forks
from load_script import ROOT, load_script


def copy_alone(recipe: str, folder: Path) -> Path:
    """Copies `examples/RECIPE`, and nothing else, into a folder; returns the copy."""
    copy = Path(folder) / 'copied' / recipe
    if not copy.exists():
        shutil.copytree(ROOT / 'examples' / recipe, copy, ignore=shutil.ignore_patterns('__pycache__'))
    return copy


def run_alone(script: str, folder: Path, *arguments: Any) -> CompletedProcess:
    """Runs `RECIPE/SCRIPT.py` from a copy of its folder, with `folder` as the working directory."""
    recipe, name = script.split('/')
    command = [sys.executable, str(copy_alone(recipe, folder) / name), *map(str, arguments)]
    return forks.run(command, cwd=folder, env={**os.environ, 'OMP_NUM_THREADS': '1'})


def composed(run: Any) -> Any:
    """The settings that the command line of a `SystemRun` stands for."""
    from hydra import compose, initialize_config_dir

    import nemo_oracle_kd  # noqa: F401  registers the presets

    command = list(run.job.command)
    assert command[1:3] == ['-m', 'nemo_oracle_kd.experiments.train']
    path, name = (word.split('=', 1)[1] for word in command[3:5])
    with initialize_config_dir(path, version_base=None):
        return compose(name, overrides=command[5:])


def run_here(script: str, folder: Path, monkeypatch: Any, *arguments: Any) -> None:
    """Runs `RECIPE/SCRIPT.py` in this process, which has NeMo already, as if typed in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'argv', [script, *map(str, arguments)])
    load_script(f'examples/{script}').main()

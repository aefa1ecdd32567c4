# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipes of `examples/`, copied alone as a user may copy them, and the settings that their command lines stand for."""

import copy
import functools
import os
import shutil
import sys
from collections.abc import Sequence
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
    return composed_from(*_config_and_overrides(run))


def composed_at_once(run: Any) -> Any:
    """As :func:`composed`, as Hydra does it in the training."""
    path, name, words = _config_and_overrides(run)
    return _composed_files.__wrapped__(path, name, words)


def composed_from(path: str | None, name: str | None, words: Sequence[str]) -> Any:
    """The settings of a config (or, without one, of presets alone) after overrides.

    Hydra composes the files of each config and preset once; what else the command line says is put into a copy, by Hydra
    too. That takes a quarter of the time, and :func:`composed_at_once` gives the same.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    files = tuple(word for word in words if word.startswith(('+oracle_kd=', 'hydra')))
    config = copy.deepcopy(_composed_files(path, name, files))
    ConfigLoaderImpl._apply_overrides_to_config([_parsed(word) for word in words if word not in files], config)
    return config


def _config_and_overrides(run: Any) -> tuple[str, str, list[str]]:
    command = list(run.job.command)
    assert command[1:3] == ['-m', 'nemo_oracle_kd.experiments.train']
    path, name = (word.split('=', 1)[1] for word in command[3:5])
    return path, name, command[5:]


@functools.cache
def _composed_files(path: str | None, name: str | None, overrides: Sequence[str]) -> Any:
    from hydra import compose, initialize, initialize_config_dir

    import nemo_oracle_kd  # noqa: F401  registers the presets

    options = {'version_base': None}
    with initialize(None, **options) if path is None else initialize_config_dir(path, **options):
        return compose(name, overrides=list(overrides))


@functools.cache
def _parsed(word: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(word)


def run_here(script: str, folder: Path, monkeypatch: Any, *arguments: Any) -> None:
    """Runs `RECIPE/SCRIPT.py` in this process, which has NeMo already, as if typed in `folder`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'argv', [script, *map(str, arguments)])
    load_script(f'examples/{script}').main()

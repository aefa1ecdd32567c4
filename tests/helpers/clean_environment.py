# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""An environment for tests of installations: an interpreter of its own, our dependencies, but not our package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE_PACKAGES = Path(sysconfig.get_path('purelib'))
INGREDIENTS = ['nemo_oracle_kd', 'hydra_plugins', 'conf', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE']


def copy_of_the_source(folder: Path) -> Path:
    """Copies what the package is built from into ``folder``, so that building leaves nothing in the repository."""
    folder.mkdir(parents=True)
    for name in INGREDIENTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _checked(command: list, **options) -> subprocess.CompletedProcess:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result


def build_wheel(source: Path, folder: Path) -> Path:
    """Builds the wheel of ``source`` without any download and returns its path."""
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '--no-index']
    _checked([*command, '-w', folder, source])
    (wheel,) = folder.glob('nemo_oracle_kd-*.whl')
    return wheel


class CleanEnvironment:
    """A virtual environment in ``folder`` which sees the dependencies of this one, but nothing of this package.

    The dependencies are links in a folder on PYTHONPATH: every entry of the running environment except ours, and
    without the ``.pth`` files, through which an editable installation works.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.python = folder / 'bin' / 'python'
        self.dependencies = folder / 'dependencies'
        _checked([sys.executable, '-m', 'venv', '--without-pip', folder])
        self._link(self.dependencies, [path for path in SITE_PACKAGES.iterdir() if 'oracle_kd' not in path.name])

    @staticmethod
    def _link(folder: Path, paths: Iterable[Path]) -> None:
        folder.mkdir()
        for path in paths:
            if path.suffix != '.pth' and path.name not in ('hydra_plugins', '__pycache__'):
                (folder / path.name).symlink_to(path)

    def variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(('PYTHON', 'COV_'))}
        return {**kept, 'PYTHONPATH': str(self.dependencies), 'OMP_NUM_THREADS': '1', 'PYTHONDONTWRITEBYTECODE': '1'}

    def install(self, *arguments: object) -> None:
        """Installs without dependencies and without a download."""
        build_tools = self.folder / 'build_tools'
        if not build_tools.exists():
            self._link(build_tools, [*SITE_PACKAGES.glob('setuptools*'), SITE_PACKAGES / '_distutils_hack'])
        variables = {**self.variables(), 'PYTHONPATH': str(build_tools)}
        command = [sys.executable, '-m', 'pip', '--python', self.python, 'install', '-q', '--no-deps', '--no-index']
        _checked([*command, '--no-build-isolation', *arguments], env=variables, cwd=self.folder)

    def run(self, *command: object, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess:
        """Runs a command inside of the environment, by default in its folder, far from the repository."""
        command = [str(part) for part in command]
        if check:
            return _checked(command, env=self.variables(), cwd=cwd or self.folder)
        return subprocess.run(command, env=self.variables(), cwd=cwd or self.folder, capture_output=True, text=True)

    def run_python(self, code: str, **options) -> subprocess.CompletedProcess:
        """Runs a piece of Python code inside of the environment."""
        return self.run(self.python, '-c', code, **options)

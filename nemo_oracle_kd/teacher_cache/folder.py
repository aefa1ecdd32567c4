# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The folder of a cache as an output: what may be written into, and which files belong to a cache."""

import re
from collections.abc import Iterable
from pathlib import Path

from nemo_oracle_kd.corpus.outputs import check_outputs
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.teacher_cache.index import INDEX_NAME

__all__ = ['JOURNAL_NAME', 'cache_files', 'check_folder', 'clear_temporaries']

JOURNAL_NAME = 'journal'
_NAMES = re.compile(rf'{re.escape(INDEX_NAME)}|{JOURNAL_NAME}|joint\.safetensors|shard-\d+\.safetensors')
_TEMPORARY = re.compile(rf'\.({_NAMES.pattern})\.\d+\.tmp')


def check_folder(
    folder: str | Path, inputs: Iterable[str | Path | None], overwrite: bool, resume: bool = True
) -> None:
    """Refuses, before any work, a folder that cannot be that of a new cache; nothing is created.

    Args:
        folder: the output.
        inputs: files and folders that the command reads.
        overwrite: whether a cache in it may be replaced.
        resume: whether an unfinished cache in it may be finished.

    Raises:
        ConfigError: it holds other files or a cache that must not be replaced, or it cannot be written.
    """
    folder = Path(folder).expanduser()
    inputs = [Path(path).expanduser() for path in inputs if path is not None]
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"-o {folder} is a file: give a folder for the cache")
    if any(path.is_dir() and folder.exists() and path.samefile(folder) for path in inputs):
        raise ConfigError(f"-o {folder} is an input of this command and would be lost: give another folder")
    own = cache_files(folder)
    others = (
        [path.name for path in folder.iterdir() if path not in own and not _TEMPORARY.fullmatch(path.name)]
        if folder.is_dir()
        else []
    )
    if others:
        raise ConfigError(
            f"-o {folder} holds files that are not of a cache, such as {sorted(others)[0]}: give an empty or a new folder"
        )
    if own and not overwrite and not resume:
        raise ConfigError(f"-o {folder} holds a cache already: give another folder, or use --overwrite to replace it")
    check_outputs({'-o': folder / INDEX_NAME}, inputs)


def cache_files(folder: Path) -> list[Path]:
    """The files of a cache in a folder, which need not exist."""
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if _NAMES.fullmatch(path.name) and path.is_file()]


def clear_temporaries(folder: Path) -> None:
    """Removes what a killed process left of a file that it was writing."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink()

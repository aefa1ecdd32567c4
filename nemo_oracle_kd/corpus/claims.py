# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Claims the folder of a corpus: its settings come first, and a second run must agree with them.

The settings tell an interrupted run, which is continued, from a folder of something else.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nemo_oracle_kd.corpus.manifest import manifest_text
from nemo_oracle_kd.corpus.outputs import write_text_atomically
from nemo_oracle_kd.errors import ConfigError

__all__ = ['SETTINGS_FILE', 'claim_folder', 'finish_manifest']

SETTINGS_FILE = 'corpus.json'


def claim_folder(folder: Path, record: dict[str, Any], parts: Iterable[str]) -> None:
    """Makes the folders and writes ``corpus.json``, or checks that the one there agrees.

    Args:
        folder: of the corpus.
        record: everything that the bytes of the corpus depend on, as JSON holds it.
        parts: folders to make in it.

    Raises:
        ConfigError: the folder holds something else, or a corpus with other settings.
        OSError: the folder cannot be written.
    """
    path = folder / SETTINGS_FILE
    try:
        if path.is_file():
            _compare(path, record)
        elif folder.is_dir():
            # A run that is killed while it writes its settings leaves nothing but their temporary file.
            unfinished = re.compile(rf'\.{re.escape(SETTINGS_FILE)}\.\d+\.tmp')
            others = sorted(entry.name for entry in folder.iterdir() if not unfinished.fullmatch(entry.name))
            if others:
                raise ConfigError(f"{folder} is not empty and holds no corpus ({others[0]}): choose another folder")
        for leftover in folder.glob(f'.{SETTINGS_FILE}.*.tmp'):
            leftover.unlink(missing_ok=True)
        # The settings come before any other folder: they tell an interrupted run from a folder of something else.
        write_text_atomically(path, json.dumps(record, indent=1) + '\n')
        for part in parts:
            (folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(
            f"{folder} cannot be written ({error.strerror or error}): give a folder in which you may create files"
        ) from None


def _compare(path: Path, record: dict[str, Any]) -> None:
    try:
        there = json.loads(path.read_text(encoding='utf-8'))
    except ValueError:
        there = None
    if not isinstance(there, dict):
        raise ConfigError(f"{path} is damaged: delete {path.parent}, or choose another folder")
    different = [
        f"{key.replace('_', '-')} {json.dumps(there.get(key))} there, {json.dumps(value)} now"
        for key, value in record.items()
        if there.get(key) != value
    ]
    if different:
        raise ConfigError(
            f"{path.parent} holds a corpus made with other settings ({'; '.join(different)}): "
            "choose another folder, or delete this one"
        )


def finish_manifest(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes the manifest of a part, which tells that the part is complete.

    Raises:
        ConfigError: there is a manifest with other content.
    """
    text = manifest_text(rows)
    if path.exists() and path.read_bytes() != text.encode('utf-8'):
        raise ConfigError(f"{path} was changed after this command wrote it: move it away, then repeat the command")
    write_text_atomically(path, text)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Lists the recordings of a folder as rows of a manifest, with their durations and without texts."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, ManifestError

__all__ = ['SUFFIXES', 'recordings']

#: endings of files that soundfile reads; case does not matter
SUFFIXES = ('.wav', '.flac', '.ogg', '.opus', '.mp3')


def recordings(
    folder: str | os.PathLike, suffixes: Sequence[str] = SUFFIXES
) -> tuple[list[dict[str, Any]], list[str]]:
    """The recordings of a folder and of the folders in it, sorted by path.

    Args:
        folder: where they are searched.
        suffixes: endings of their names.

    Returns:
        Rows with `audio_filepath` (absolute) and `duration` in seconds, and a sentence for each file that is empty or cannot be read.

    Raises:
        ManifestError: it is no folder, or holds no recording that can be read.
    """
    import soundfile

    folder = Path(folder)
    if not folder.is_dir():
        raise ManifestError(f"{folder} is not a folder: give the folder of the recordings")
    rows, problems = [], []
    wanted = tuple(suffix.lower() for suffix in suffixes)
    for path in sorted(path for path in folder.rglob('*') if path.name.lower().endswith(wanted) and path.is_file()):
        try:
            duration = soundfile.info(path).duration
        except soundfile.LibsndfileError as error:
            problems.append(f"{path} cannot be read ({error})")
            continue
        if duration > 0:
            rows.append({AUDIO_KEY: str(path.resolve()), 'duration': round(duration, 3)})
        else:
            problems.append(f"{path} holds no sound")
    if not rows:
        raise ManifestError(
            f"{folder} holds no recording ({', '.join(suffixes)}) that can be read: give another folder"
        )
    return rows, problems

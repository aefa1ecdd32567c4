# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The one rule for the outputs of every command: tried before the work, never an input, written whole or not at all.

* An existing file is replaced only if the user asks for it (``--overwrite``).
* An input (model, teacher, manifest) is never an output, however its path is written: relative, through a link, or as
  another name of the same file.
* A device or a pipe (``/dev/null``, ``/dev/stdout``) is written through and not replaced by a file.
* A symbolic link is followed: the file that it points to is replaced, and the link stays.
* Whether the folder can be written is tried before the work starts and not after it.
"""

import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nemo_oracle_kd.errors import ConfigError

__all__ = ['check_outputs', 'write_audio_atomically', 'write_bytes_atomically', 'write_text_atomically']

_PathLike = str | os.PathLike


def check_outputs(
    outputs: Mapping[str, _PathLike | None], inputs: Iterable[_PathLike | None] = (), overwrite: bool = True
) -> None:
    """Refuses outputs that would destroy something or that cannot be written; nothing is created.

    Args:
        outputs: what the user calls an output (``--output``) -> its file; ``None`` for one that was not asked for.
        inputs: files that the command reads; ``None`` and names that are no files (pretrained models) are skipped.
        overwrite: whether existing files may be replaced.

    Raises:
        ConfigError: with one sentence for each output that is refused.
    """
    problems: list[str] = []
    read = [Path(path).expanduser() for path in inputs if path is not None]
    seen: dict[str, str] = {}
    for option, output in outputs.items():
        if output is None:
            continue
        problem = _problem(option, Path(output), read, overwrite)
        real = os.path.realpath(output)
        if problem is None and real in seen and not _is_special(Path(real)):
            problem = f"{option} and {seen[real]} are the same file, {output}: give each a path of its own"
        seen.setdefault(real, option)
        if problem is not None:
            problems.append(problem)
    ConfigError.raise_if_any(problems)


def _problem(option: str, path: Path, inputs: list[Path], overwrite: bool) -> str | None:
    if path.is_dir():
        return f"{option} {path} is a folder: give the path of a file"
    same = next((other for other in inputs if _same_file(path, other)), None)
    if same is not None and not _is_special(path):
        name = '' if str(same) == str(path) else f' {same}'
        return f"{option} {path} is an input{name} of this command and would be lost: give another path"
    if _is_special(path):
        return None if os.access(path, os.W_OK) else f"{option} {path} cannot be written: give another path"
    real = Path(os.path.realpath(path))
    if real.exists() and not overwrite:
        return f"{option} {path} exists already: give another path, or use --overwrite to replace it"
    return _folder_problem(option, path, real.parent)


def _folder_problem(option: str, path: Path, folder: Path) -> str | None:
    """Why no file can be made in the folder, which may have to be made first; ``None`` if one can."""
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        return f"{option} {path} cannot be written, because {folder} is not a folder: give another path"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        reason = error.strerror or error
        return f"{option} {path} cannot be written ({folder}: {reason}): give a path where you may create files"


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _is_special(path: Path) -> bool:
    """Whether the path leads to a device, a pipe or a socket."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_text_atomically(path: _PathLike, text: str) -> None:
    """Writes UTF-8 text by :func:`write_bytes_atomically`; line ends stay ``\\n`` on every platform."""
    write_bytes_atomically(path, text.encode('utf-8'))


def write_bytes_atomically(path: _PathLike, content: bytes) -> None:
    """Writes a file whole or not at all; its folder is made if need be.

    The content goes through a temporary file beside the target, so that readers never see a part of it. A link is
    followed, and a device or a pipe is written through.
    """
    path = Path(path)
    if _is_special(path):
        with open(path, 'wb') as file:
            file.write(content)
        return
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    # a long name leaves no room for the additions
    temporary = target.with_name(f'.{target.name[:200]}.{os.getpid()}.tmp')
    try:
        with open(temporary, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_audio_atomically(path: _PathLike, samples: Any, rate: int) -> None:
    """Writes samples ``[N]`` as a 16-bit FLAC file by :func:`write_bytes_atomically`.

    libsndfile does not notice a full disk while it writes FLAC and leaves a damaged file; Python's own files do.

    Raises:
        OSError: names the file and what to do.
    """
    import soundfile

    encoded = io.BytesIO()
    try:
        soundfile.write(encoded, samples, rate, format='FLAC', subtype='PCM_16')
        write_bytes_atomically(path, encoded.getvalue())
    except (OSError, soundfile.LibsndfileError) as error:
        raise OSError(
            f"{path} cannot be written ({error}): free space on the disk or repair it, then repeat the command"
        ) from error

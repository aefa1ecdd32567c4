# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Copies of a corpus at other speeds, written once.

NeMo can change the speed of audio while it loads it, but warns that this is very slow. Teachers benefit more than students.
With copies (Ko et al. 2015) a network cannot memorise the few recordings of a small corpus. Teacher and student hear the same
audio, because the change is made before either of them hears it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, read_manifest, write_manifest
from nemo_oracle_kd.corpus.outputs import check_outputs, write_audio_atomically
from nemo_oracle_kd.errors import ConfigError

__all__ = ['write_speed_copies']

#: part of every copy's name; raised whenever a change of this module changes the samples
FORMAT = 1


@dataclass(frozen=True)
class _Copy:
    """One row at one speed.

    Attributes:
        row: row of the input manifest.
        speed: factor.
        path: path of the copy; `None` where the row refers to the recording itself.
    """

    row: dict[str, Any]
    speed: float
    path: Path | None

    def entry(self) -> dict[str, Any]:
        """The row of the copy, before its duration is known."""
        if self.path is None:
            return {**self.row, 'speed': 1.0}
        kept = {key: value for key, value in self.row.items() if key not in ('offset', 'duration')}
        return {**kept, AUDIO_KEY: str(self.path.resolve()), 'speed': self.speed}


def write_speed_copies(
    manifest: str | Path,
    directory: str | Path,
    speeds: Sequence[float],
    progress: bool = True,
    overwrite: bool = False,
) -> list[dict[str, Any]]:
    """Writes one FLAC per utterance and speed, and a manifest `DIRECTORY/<name of the manifest>` of all of them.

    Resampling changes pitch and tempo together, as playing a record faster does. The name of a copy ends with a hash of
    the source's path, size and modification time, of the stretch and of the speed. A copy that exists already is
    therefore kept, and an interrupted run continues; another manifest, a removed row or a replaced
    recording gets copies of its own. The manifest is written last. Each copy holds one utterance: `offset` and
    `duration` are honoured as NeMo honours them.

    Args:
        manifest: NeMo manifest.
        directory: folder for audio and manifest.
        speeds: factors; 1 stands for the recording itself, which is not copied if the row covers all of it.
        progress: whether to show a bar.
        overwrite: whether to replace a manifest there that another run has written.

    Returns:
        The rows written, with `speed` and a new `duration`; all utterances at the first speed come first.

    Raises:
        ConfigError: speeds that are not between 0.5 and 2, or the output would overwrite something.
        ValueError: the manifest is wrong, or audio that cannot be read.
        OSError: a copy cannot be written.
    """
    manifest, directory = Path(manifest), Path(directory)
    problems = [f"each speed must be a factor from 0.5 to 2, not {speed}" for speed in speeds if not 0.5 <= speed <= 2]
    if not speeds:
        problems.append("no speed is given: give at least one factor, such as 0.9")
    ConfigError.raise_if_any(problems)
    output = directory / manifest.name
    check_outputs({'the manifest': output}, [manifest])
    rows = read_manifest(manifest, require_text=False)
    copies = [_planned(row, float(speed), directory) for speed in speeds for row in rows]
    if not overwrite and not _same_run(output, copies):
        check_outputs({'the manifest': output}, overwrite=False)
    written = []
    for copy in tqdm(copies, desc='speed copies', unit='file', disable=not progress):
        if copy.path is None:
            written.append(copy.entry())
            continue
        duration = _duration(copy.path)
        if duration is None:
            duration = _write_copy(copy)
        written.append({**copy.entry(), 'duration': duration})
    write_manifest(output, written)
    return written


def _planned(row: dict[str, Any], speed: float, directory: Path) -> _Copy:
    if speed == 1 and not row.get('offset') and not _cuts(row):
        return _Copy(row, 1.0, None)
    source = Path(row[AUDIO_KEY]).resolve()
    facts = source.stat()
    origin = [
        FORMAT,
        str(source),
        facts.st_size,
        facts.st_mtime_ns,
        row.get('offset') or 0,
        row.get('duration'),
        speed,
    ]
    digest = hashlib.sha256(json.dumps(origin).encode('utf-8', 'surrogateescape')).hexdigest()[:16]
    return _Copy(row, speed, directory / f'speed_{speed:g}' / f'{source.stem[:80]}-{digest}.flac')


def _cuts(row: dict[str, Any]) -> bool:
    """Whether the row's `duration` leaves out more of the file's end than rounding does."""
    return row.get('duration') is not None and row['duration'] < _info(row).duration - 0.005


def _info(row: dict[str, Any]) -> Any:
    try:
        return soundfile.info(row[AUDIO_KEY])
    except (OSError, soundfile.LibsndfileError) as error:
        raise ValueError(
            f"{row[AUDIO_KEY]} cannot be read as audio ({error}): repair it, or leave its row out"
        ) from None


def _same_run(output: Path, copies: Sequence[_Copy]) -> bool:
    """Whether the manifest there is the result of this same run."""
    if not output.is_file():
        return True
    try:
        before = read_manifest(output, require_text=False, check_audio=False)
    except ValueError:
        return False

    def comparable(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if key != 'duration'}

    return [comparable(row) for row in before] == [comparable(copy.entry()) for copy in copies]


def _duration(path: Path) -> float | None:
    """Length in seconds of a copy that can be read to its end, else `None`."""
    try:
        promised = soundfile.info(path).frames
        samples, rate = soundfile.read(path, dtype='int16')
    except (OSError, soundfile.LibsndfileError):
        return None
    return len(samples) / rate if 0 < len(samples) == promised else None


def _write_copy(copy: _Copy) -> float:
    import soxr

    row, rate = copy.row, _info(copy.row).samplerate
    # as NeMo rounds; a duration that is the whole file but for rounding reads all of it
    start = int((row.get('offset') or 0.0) * rate)
    cut = row.get('duration') is not None and (row.get('offset') or _cuts(row))
    frames = int(row['duration'] * rate) if cut else -1
    try:
        signal, _ = soundfile.read(row[AUDIO_KEY], start=start, frames=frames, dtype='float32')
    except (OSError, soundfile.LibsndfileError) as error:
        raise ValueError(
            f"{row[AUDIO_KEY]} cannot be read as audio ({error}): repair it, or leave its row out"
        ) from None
    if not len(signal) or not np.isfinite(signal).all():
        what = 'samples that are not finite numbers' if len(signal) else f"no audio at {start / rate:g} s"
        raise ValueError(f"{row[AUDIO_KEY]} holds {what}: repair it, or leave its row out")
    # A recording at `rate * speed` played back at `rate` is `speed` times as fast.
    changed = soxr.resample(signal, rate * copy.speed, rate) if copy.speed != 1 else signal
    write_audio_atomically(copy.path, changed.clip(-1.0, 1.0), rate)
    return len(changed) / rate

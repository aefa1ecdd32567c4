# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Copies of a corpus at other speeds, written once.

NeMo can change the speed of audio while it loads it, and says itself that this is very slow. Teachers profit more than
students: on copies a network cannot memorise the few recordings of a small corpus, and teacher and student hear the same
audio, because the change is made before either sees it (Ko et al. 2015).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
from tqdm import tqdm

from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, read_manifest, write_manifest
from nemo_oracle_kd.errors import ConfigError

__all__ = ['write_speed_copies']


def write_speed_copies(
    manifest: str | Path, directory: str | Path, speeds: Sequence[float], progress: bool = True
) -> list[dict[str, Any]]:
    """Writes one FLAC per utterance and speed, and a manifest `DIRECTORY/<name of the manifest>` of all of them.

    Resampling changes pitch and tempo together, as playing a record faster does. Files that are there already are kept,
    so an interrupted run goes on; the manifest is written last. Offsets are honoured: each copy holds one utterance.

    Args:
        manifest: NeMo manifest.
        directory: where audio and manifest go.
        speeds: factors; 1 stands for the recording itself, which is referred to and not copied.
        progress: whether to show a bar.

    Returns:
        The rows written, with `speed` and a new `duration`; all utterances at the first speed come first.

    Raises:
        ConfigError: speeds that are not between 0.5 and 2, or the output would overwrite the input.
        ValueError: the manifest is wrong.
    """
    import soxr

    manifest, directory = Path(manifest), Path(directory)
    problems = [
        f"speed {speed} is out of range: give factors between 0.5 and 2" for speed in speeds if not 0.5 <= speed <= 2
    ]
    if not speeds:
        problems.append("no speeds: give at least one factor, e.g. 0.9 1.0 1.1")
    if (directory / manifest.name).resolve() == manifest.resolve():
        problems.append(f"{directory} holds the manifest itself, which would be overwritten: give another folder")
    ConfigError.raise_if_any(problems)
    rows = read_manifest(manifest, require_text=False)
    written = []
    bar = tqdm(total=len(rows) * len(speeds), desc='speed copies', unit='file', disable=not progress)
    for speed in speeds:
        folder = directory / f'speed_{speed:g}'
        for index, row in enumerate(rows):
            bar.update()
            if speed == 1 and not row.get('offset'):
                written.append({**row, 'speed': 1.0})
                continue
            path = folder / f'{index:06d}.flac'
            if not path.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                _write_copy(row, path, speed, soxr.resample)
            copy = {key: value for key, value in row.items() if key != 'offset'}
            info = soundfile.info(str(path))
            copy.update(
                {AUDIO_KEY: str(path.resolve()), 'duration': info.frames / info.samplerate, 'speed': float(speed)}
            )
            written.append(copy)
    bar.close()
    write_manifest(directory / manifest.name, written)
    return written


def _write_copy(row: dict[str, Any], path: Path, speed: float, resample: Any) -> None:
    rate = soundfile.info(row[AUDIO_KEY]).samplerate
    start = round((row.get('offset') or 0.0) * rate)
    frames = round(row['duration'] * rate) if row.get('offset') else -1
    signal, _ = soundfile.read(row[AUDIO_KEY], start=start, frames=frames, dtype='float32')
    # A recording at `rate * speed` played back at `rate` is `speed` times as fast.
    changed = resample(signal, rate * speed, rate) if speed != 1 else signal
    temporary = path.with_suffix('.part')
    soundfile.write(str(temporary), changed.clip(-1.0, 1.0), rate, format='FLAC', subtype='PCM_16')
    temporary.replace(path)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A look at the training manifests before the first step: a missing transcript or empty audio is found now or after hours."""

import random
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, read_manifest

__all__ = ['check_training_data', 'manifest_paths']

#: opening every file of a large corpus takes minutes, so beyond this a fixed random sample is opened
AUDIO_SAMPLE = 5000


def manifest_paths(dataset: Any | None) -> list[str]:
    """Paths of the manifests in a NeMo data-set config; empty for data that has none (Lhotse shars, custom loaders)."""

    def flatten(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield from (part for part in value.split(',') if part)
        elif value is not None:
            for part in value:
                yield from flatten(part)

    return list(flatten(dataset.get('manifest_filepath'))) if dataset is not None else []


def check_training_data(dataset: Any | None, needs_text: bool, sample_rate: int | None = None) -> None:
    """Reads the manifests of a `train_ds` config and refuses what would fail, or silently train on nothing, later.

    Every row must have `text` and a positive `duration`, and its audio must exist and hold samples (tarred data: the rows
    alone are checked).

    Args:
        dataset: `model.train_ds`, or `None`.
        needs_text: also refuse empty transcripts, which an oracle teacher cannot read.
        sample_rate: what the model reads, in Hz; NeMo resamples to the data's own setting without comparing the two.

    Raises:
        ValueError: names the manifest, the row and the fix.
    """
    if dataset is None:
        return
    rate = dataset.get('sample_rate', None)
    if sample_rate is not None and rate is not None and int(rate) != sample_rate:
        raise ValueError(
            f"model.train_ds.sample_rate is {rate} Hz, but the model reads {sample_rate} Hz: set "
            f"model.train_ds.sample_rate={sample_rate} (NeMo resamples when it loads audio)"
        )
    tarred = bool(dataset.get('is_tarred', False) or dataset.get('tarred_audio_filepaths', None))
    for path in manifest_paths(dataset):
        if '_OP_' in path or '{' in path:  # sharded manifests are expanded by the loader
            continue
        rows = read_manifest(path, require_text=True, check_audio=not tarred)
        if needs_text:
            empty = [row[AUDIO_KEY] for row in rows if not row['text'].strip()]
            if empty:
                raise ValueError(
                    f"{len(empty)} of {len(rows)} rows of {path} have an empty `text` (the first: {empty[0]}), but the oracle "
                    "teacher reads the transcript: remove these rows or use a teacher that reads audio alone"
                )
        if not tarred:
            _check_audio(rows, path)


def _check_audio(rows: list[dict], path: str) -> None:
    import soundfile

    if len(rows) > AUDIO_SAMPLE:
        rows = random.Random(0).sample(rows, AUDIO_SAMPLE)
    for row in tqdm(rows, desc='checking audio', unit='file', disable=len(rows) < 2000, leave=False):
        try:
            frames = soundfile.info(row[AUDIO_KEY]).frames
        except soundfile.LibsndfileError:
            continue  # formats that libsndfile does not know (mp4, opus in webm) are left to the loader
        if frames == 0:
            raise ValueError(f"{row[AUDIO_KEY]} in {path} holds no audio: remove the row from the manifest")

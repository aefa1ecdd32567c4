# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What a run of caching will do: which utterances, in which shards, and how much room they take."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_oracle_kd.bridge.vocabulary import TextCodec, UnwritableText
from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, read_manifest
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.teacher_cache.keys import label_sum, utterance_key
from nemo_oracle_kd.teacher_cache.signals import CachedSignal

__all__ = ['CachePlan', 'PlannedUtterance', 'SHARD_UTTERANCES', 'float16_lattice_bytes', 'make_plan', 'manifest_facts']

#: manifest rows per shard; an interrupted run loses at most the shard that it was working on
SHARD_UTTERANCES = 512
#: bytes per utterance and per file besides the data
_PER_UTTERANCE, _PER_FILE = 36, 1500


@dataclass(frozen=True)
class PlannedUtterance:
    """An utterance to be cached.

    Attributes:
        row: of the manifest.
        key: see `keys.py`.
        labels: of its text in the teacher's vocabulary; empty where the answer does not depend on it.
    """

    row: Mapping[str, Any]
    key: int
    labels: tuple[int, ...]

    @property
    def label_sum(self) -> int:
        """Checksum of the labels."""
        return label_sum(self.labels)


@dataclass(frozen=True)
class CachePlan:
    """The utterances of a run.

    Attributes:
        shards: first row of each shard -> its utterances.
        rows: number of rows of the manifest's part.
        nbytes: predicted size.
    """

    shards: dict[int, list[PlannedUtterance]]
    rows: int
    nbytes: int

    @property
    def utterances(self) -> int:
        """Number of utterances."""
        return sum(len(of_one) for of_one in self.shards.values())


def make_plan(
    manifest: str | Path,
    signal: CachedSignal,
    codec: TextCodec | None,
    frame_seconds: float | None,
    part: tuple[int, int] = (0, 1),
    shard_utterances: int = SHARD_UTTERANCES,
) -> CachePlan:
    """Reads a manifest and decides what goes into which shard.

    Args:
        manifest: of the training data.
        signal: what is kept.
        codec: of the teacher where its answers depend on the text, else `None`.
        frame_seconds: of the teacher, for the predicted size.
        part: number and count of the contiguous parts of the manifest.
        shard_utterances: rows per shard.

    Raises:
        ConfigError: rows that cannot be told apart or written in the teacher's labels, or that lack a duration.
        ValueError: a manifest that cannot be used.
    """
    rows = read_manifest(manifest, require_text=codec is not None)
    number, parts = part
    first, last = len(rows) * number // parts, len(rows) * (number + 1) // parts
    without = sum('duration' not in row for row in rows)
    if without:
        raise ConfigError(
            f"{without} of {len(rows)} rows of {manifest} have no `duration`, which NeMo's loaders need and which tells utterances apart: "
            "add the length of the audio in seconds"
        )
    problems: list[str] = []
    planned = _utterances(rows[first:last], codec, manifest, problems)
    ConfigError.raise_if_any(problems)
    shards: dict[int, list[PlannedUtterance]] = {}
    for place, utterance in planned:
        shards.setdefault(place // shard_utterances * shard_utterances, []).append(utterance)
    utterances = [one for of_one in shards.values() for one in of_one]
    per_row = sum(field.nbytes for field in signal.fields.values())
    data = sum(
        signal.rows(_frames(one.row, frame_seconds), len(one.labels)) * per_row + _PER_UTTERANCE for one in utterances
    )
    return CachePlan(shards, last - first, data + _PER_FILE * len(shards))


def manifest_facts(manifest: str | Path, plan: CachePlan, part: tuple[int, int], shard_rows: int) -> dict[str, Any]:
    """What the index says of the manifest."""
    digest = hashlib.sha256(Path(manifest).read_bytes()).hexdigest()
    return {'sha256': digest, 'rows': plan.rows, 'part': list(part), 'shard_rows': shard_rows}


def _frames(row: Mapping[str, Any], frame_seconds: float | None) -> int:
    return int(row['duration'] / (frame_seconds or 0.01)) + 1


def _utterances(
    rows: Sequence[Mapping[str, Any]], codec: TextCodec | None, manifest: str | Path, problems: list[str]
) -> list[tuple[int, PlannedUtterance]]:
    """Place in the part, and utterance; a row that repeats another one is left out."""
    seen: dict[int, Mapping[str, Any]] = {}
    found, unwritable, first = [], 0, ''
    for place, row in enumerate(rows):
        key = utterance_key(row, codec is not None)
        before = seen.setdefault(key, row)
        if before is not row:
            if before[AUDIO_KEY] != row[AUDIO_KEY] and not problems:
                problems.append(
                    f"{before[AUDIO_KEY]} and {row[AUDIO_KEY]} in {manifest} have the same file name, offset, duration and text, so that "
                    "a cache could not tell them apart: rename one, or leave one out"
                )
            continue
        labels: Sequence[int] = ()
        if codec is not None:
            try:
                labels = codec.encode(row['text'])
            except UnwritableText as error:
                unwritable, first = unwritable + 1, first or f"{row['text']!r}: {error}"
        found.append((place, PlannedUtterance(row, key, tuple(labels))))
    if unwritable:
        problems.append(
            f"{unwritable} of {len(rows)} rows of {manifest} hold a text that this teacher cannot write (the first, {first}): bring the "
            "texts to the teacher's alphabet and case"
        )
    return found


def float16_lattice_bytes(plan: CachePlan, frame_seconds: float | None, outputs: int) -> int:
    """Bytes of the whole lattices of the utterances, two per output and cell, for comparison."""
    cells = (
        _frames(one.row, frame_seconds) * (len(one.labels) + 1) for of_one in plan.shards.values() for one in of_one
    )
    return 2 * outputs * sum(cells)

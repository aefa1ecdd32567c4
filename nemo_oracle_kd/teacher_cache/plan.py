# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What a run of caching will do: which utterances, in which shards, and how much room they take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemo_oracle_kd.bridge.audio import AudioSpan
from nemo_oracle_kd.bridge.vocabulary import TextCodec, UnwritableText
from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, LANGUAGE_KEY
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.sources import SpeechSource
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
        span: where its audio is.
        key: see `keys.py`.
        labels: of its text in the teacher's vocabulary; empty where the answer does not depend on it.
    """

    row: Mapping[str, Any]
    span: AudioSpan
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
    source: SpeechSource,
    signal: CachedSignal,
    codec: TextCodec | None,
    frame_seconds: float | None,
    part: tuple[int, int] = (0, 1),
    shard_utterances: int = SHARD_UTTERANCES,
) -> CachePlan:
    """Decides what goes into which shard.

    Args:
        source: the training data.
        signal: what is kept.
        codec: of the teacher where its answers depend on the text, else `None`.
        frame_seconds: of the teacher, for the predicted size.
        part: number and count of the contiguous parts of the manifest.
        shard_utterances: rows per shard.

    Raises:
        ConfigError: rows that cannot be told apart or written in the teacher's labels, or that lack a duration.
    """
    rows = source.rows
    number, parts = part
    first, last = len(rows) * number // parts, len(rows) * (number + 1) // parts
    without = sum('duration' not in row for row in rows)
    if without:
        raise ConfigError(
            f"{without} of {len(rows)} rows of {source.name} have no `duration`, which NeMo's loaders need and which tells utterances apart: "
            "add the length of the audio in seconds"
        )
    problems: list[str] = []
    planned = _utterances(rows[first:last], codec, source, problems)
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


def manifest_facts(source: SpeechSource, plan: CachePlan, part: tuple[int, int], shard_rows: int) -> dict[str, Any]:
    """What the index says of the manifest."""
    return {'sha256': source.sha256, 'rows': plan.rows, 'part': list(part), 'shard_rows': shard_rows}


def _frames(row: Mapping[str, Any], frame_seconds: float | None) -> int:
    return int(row['duration'] / (frame_seconds or 0.01)) + 1


def _utterances(
    rows: Sequence[Mapping[str, Any]], codec: TextCodec | None, source: SpeechSource, problems: list[str]
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
                    f"{before[AUDIO_KEY]} and {row[AUDIO_KEY]} in {source.name} have the same file name, offset, duration and text, so that "
                    "a cache could not tell them apart: rename one, or leave one out"
                )
            continue
        labels: Sequence[int] = ()
        if codec is not None:
            try:
                labels = _labels(row, codec)
            except UnwritableText as error:
                unwritable, first = unwritable + 1, first or f"{row.get('text')!r}: {error}"
        found.append((place, PlannedUtterance(row, source.span(row), key, tuple(labels))))
    if unwritable:
        problems.append(
            f"{unwritable} of {len(rows)} rows of {source.name} hold a text that this teacher cannot write (the first, {first}): bring the "
            "texts to the teacher's alphabet and case"
        )
    return found


def _labels(row: Mapping[str, Any], codec: TextCodec) -> Sequence[int]:
    if not isinstance(row.get('text'), str):
        raise UnwritableText("the row has no `text`")
    return codec.encode(row['text'], row.get(LANGUAGE_KEY))


def float16_lattice_bytes(plan: CachePlan, frame_seconds: float | None, outputs: int) -> int:
    """Bytes of the whole lattices of the utterances, two per output and cell, for comparison."""
    cells = (
        _frames(one.row, frame_seconds) * (len(one.labels) + 1) for of_one in plan.shards.values() for one in of_one
    )
    return 2 * outputs * sum(cells)

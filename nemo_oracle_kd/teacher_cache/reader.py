# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Opens a cache, finds utterances in it, and checks that every byte is as it was written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nemo_oracle_kd.bridge.signals import EncodedAudio, Transcripts
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.teacher_cache.encoder_signal import JointOfCache
from nemo_oracle_kd.teacher_cache.index import CacheIndex, ShardRecord, file_checksum
from nemo_oracle_kd.teacher_cache.keys import label_sum, utterance_keys
from nemo_oracle_kd.teacher_cache.registry import signal_of
from nemo_oracle_kd.teacher_cache.shards import Shard, Utterance

__all__ = ['TeacherCache', 'verify_cache']


class TeacherCache:
    """A cache that is read.

    Args:
        folder: as `nemo-oracle-kd cache` has written it.

    Attributes:
        index: what it holds.
        signal: how its data become answers.
        with_text: whether another text is another utterance.

    Raises:
        ConfigError: it is unfinished, damaged, or of another version.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        self.index = CacheIndex.read(self.folder)
        self.signal = signal_of(self.index)
        self.with_text = self.signal.reads_text or self.index.description.reads_transcript
        fields = self.signal.fields
        self.shards = [
            Shard(self.folder / record.file, fields, record.size, record.utterances) for record in self.index.shards
        ]
        keys = [shard.keys for shard in self.shards]
        self._keys = np.concatenate(keys) if keys else np.zeros(0, dtype=np.int64)
        self._order = np.argsort(self._keys, kind='stable')
        self._sorted = self._keys[self._order]
        self._starts = np.cumsum([0] + [len(of_one) for of_one in keys])
        self.joint: JointOfCache | None = None
        if self.index.joint is not None:
            facts = self.index.transducer
            outputs = self.signal.classes + facts.transducer.duration_outputs
            self.joint = JointOfCache.read(self.folder / self.index.joint.file, facts.encoder_size, outputs)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, row: Mapping[str, Any], archived: bool = False) -> int:
        """The number of the utterance of a row, or -1.

        Args:
            row: of a manifest.
            archived: whether the audio is in archives.
        """
        try:
            keys = utterance_keys(row, self.with_text, archived)
        except (
            TypeError,
            ValueError,
            KeyError,
        ):  # no number as duration or offset, which the check of the audio reports
            return -1
        for key in keys:
            place = int(np.searchsorted(self._sorted, key))
            if place < len(self._sorted) and int(self._sorted[place]) == key:
                return int(self._order[place])
        return -1

    def read(self, number: int) -> Utterance:
        """An utterance by its number.

        Raises:
            ConfigError: its data are damaged.
        """
        shard = int(np.searchsorted(self._starts, number, side='right')) - 1
        utterance = self.shards[shard].read(number - int(self._starts[shard]))
        self.signal.check(utterance)
        return utterance

    def answer(
        self, rows: Sequence[Mapping[str, Any]], transcripts: Transcripts, archived: bool = False
    ) -> EncodedAudio:
        """The teacher's outputs for a batch.

        Args:
            rows: of the utterances.
            transcripts: labels of the batch, by the vocabulary of the teacher where the answers depend on the text.
            archived: whether the audio is in archives.

        Raises:
            ConfigError: an utterance is not there, its labels differ, or its data are damaged.
        """
        utterances = []
        labels, counts = transcripts.labels.tolist(), transcripts.lengths.tolist()
        for row, own, count in zip(rows, labels, counts):
            number = self.find(row, archived)
            if number < 0:
                raise ConfigError(
                    f"the cache {self.folder} has no answer to {row.get('audio_filepath')} (offset {row.get('offset') or 0:g}, duration "
                    f"{row.get('duration')}): cache the teacher over the manifest that trains the student"
                )
            utterance = self.read(number)
            if self.with_text and (utterance.labels != count or utterance.label_sum != label_sum(own[:count])):
                raise ConfigError(
                    f"the labels of {row.get('audio_filepath')} differ from those that the teacher was cached with: leave "
                    "model.train_ds.normalize_transcripts and the tokenizer as they were, or cache the teacher again"
                )
            utterances.append(utterance)
        return self.signal.answer(utterances, transcripts)


def verify_cache(folder: str | Path) -> CacheIndex:
    """Reads every byte of a cache.

    Args:
        folder: of the cache.

    Returns:
        Its index.

    Raises:
        ConfigError: lists every file that is missing or damaged.
    """
    index = CacheIndex.read(folder)
    problems = []
    records = [*index.shards, *([index.joint] if index.joint else [])]
    for record in tqdm(records, desc='verifying', unit='file', leave=False):
        problem = _file_problem(Path(folder), record)
        if problem:
            problems.append(problem)
    ConfigError.raise_if_any(problems)
    cache = TeacherCache(folder)
    for number in tqdm(range(len(cache)), desc='reading', unit='utt', leave=False):
        cache.read(number)
    return index


def _file_problem(folder: Path, record: ShardRecord) -> str | None:
    path = folder / record.file
    fix = "copy it again, or delete it and repeat `nemo-oracle-kd cache`, which makes what is missing"
    try:
        if path.stat().st_size == record.size and file_checksum(path) == record.sha256:
            return None
    except OSError as error:
        return f"{path} cannot be read ({error.strerror}): {fix}"
    return f"{path} is damaged: its checksum is not that of the index; {fix}"

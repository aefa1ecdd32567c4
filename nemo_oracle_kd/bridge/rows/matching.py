# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Finds the manifest line of each entry of NeMo's data sets, and keeps its place in thirteen bytes per entry.

NeMo's entries do not carry the keys that NeMo does not know, but they have the number of their line. If the entries number
the lines in the order in which the manifests are read here, that number finds the line, and audio, offset, duration and text
confirm it. Otherwise these four find the line, and the number only decides between lines that are equal in all of them.
"""

import json
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from nemo_oracle_kd.bridge.rows.lines import ManifestLine, parse_line, read_through
from nemo_oracle_kd.bridge.rows.manifests import TrainingManifests
from nemo_oracle_kd.errors import ConfigError

__all__ = ['LinesOfEntries', 'Matcher', 'RowTable']

_MOST_OPEN_FILES = 64


class RowTable:
    """Places of manifest lines by index. A line is read when it is requested.

    Args:
        files: all manifests.
        file: for each line, the index of its manifest.
        start: for each line, the byte at which it begins.
        marked: for each line, whether the key to look for is true in it.
    """

    def __init__(self, files: Sequence[str], file: np.ndarray, start: np.ndarray, marked: np.ndarray):
        self.files, self.file, self.start, self.marked = list(files), file, start, marked
        self._open: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.start)

    @property
    def nbytes(self) -> int:
        """Size of the table in bytes."""
        return self.file.nbytes + self.start.nbytes + self.marked.nbytes

    def row(self, index: int) -> dict[str, Any]:
        """The JSON object of a line.

        Raises:
            ValueError: if there is none, because the manifest has changed.
        """
        return parse_line(self.line(int(self.file[index]), int(self.start[index])))

    def line(self, file: int, start: int) -> bytes:
        """The bytes of a line."""
        path = self.files[file]
        if path not in self._open:
            from nemo.utils.data_utils import DataStoreObject

            if len(self._open) >= _MOST_OPEN_FILES:
                self.close()
            # kept open, so that replacing the file during the fit does not change what is read
            self._open[path] = open(DataStoreObject(path).get(), 'rb')  # noqa: SIM115
        self._open[path].seek(start)
        return self._open[path].readline().lstrip(b'\r\n').split(b'\r')[0].strip()

    def close(self) -> None:
        """Closes the manifests that are open."""
        while self._open:
            self._open.popitem()[1].close()


class LinesOfEntries:
    """The entries of several data sets under consecutive indices.

    Args:
        collections: NeMo's collections of entries, one per data set.
    """

    def __init__(self, collections: Sequence[Sequence[Any]]):
        self.collections = list(collections)
        self.firsts = np.cumsum([0] + [len(collection) for collection in self.collections])

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def __getitem__(self, index: int) -> Any:
        part = int(np.searchsorted(self.firsts, index, side='right')) - 1
        return self.collections[part][index - int(self.firsts[part])]


class Matcher:
    """Finds the line of each entry, as a visitor of all lines of :func:`read_through`.

    Args:
        entries: entries of the data sets.
        manifests: manifests that the data sets read.
        sharded: whether each process reads only a part of the lines, so that their numbers are useless.
        mark: a key; rows in which it is true are marked.
    """

    def __init__(
        self, entries: LinesOfEntries, manifests: TrainingManifests, sharded: bool = False, mark: str | None = None
    ):
        self.entries, self.manifests = entries, manifests
        parts = len(entries.collections)
        self.single = parts == 1
        self.numbered = not sharded and parts in (1, len(manifests.sources))
        self.file = np.zeros(len(entries), dtype=np.int32)
        self.start = np.full(len(entries), -1, dtype=np.int64)
        self._places = [
            _places(collection, int(first)) for collection, first in zip(entries.collections, entries.firsts)
        ]
        self.marked = np.zeros(len(entries), dtype=np.bool_)
        self.mark = mark
        self._file, self._start = memoryview(self.file), memoryview(self.start)  # faster than numpy for single items
        self._keys = _Keys(entries)

    def __call__(self, line: ManifestLine) -> None:
        if not self.numbered:
            self._keys(line)
            return
        part, number = (0, line.total) if self.single else (line.group, line.number)
        places = self._places[part]
        index = places[number] if number < len(places) else -1
        if index < 0:
            return
        entry = self.entries.collections[part][index - int(self.entries.firsts[part])]
        if _is_that_of(entry, line):
            self._file[index], self._start[index] = line.file, line.start
            if self.mark is not None and line.row.get(self.mark) is True:
                self.marked[index] = True

    def finish(self) -> RowTable:
        """The lines of all entries.

        Raises:
            ConfigError: if no line, or more than one, matches an entry.
        """
        table = RowTable(self.manifests.files, self.file, self.start, self.marked)
        missing = np.flatnonzero(self.start < 0)
        if len(missing):
            if self.numbered:  # the order is not the expected one, so read again and compare the content of the lines
                read_through(self.manifests, (), [self._keys])
            for index in missing:
                self._file[index], self._start[index] = self._keys.find(int(index), table, self.numbered, self.single)
                self.marked[index] = self.mark is not None and table.row(index).get(self.mark) is True
        self._keys = self._places = None
        table.close()
        return table


def _places(collection: Sequence[Any], first: int) -> array:
    """For each line number, the index of its entry; -1 if it has none."""
    numbers = np.fromiter((entry.id for entry in collection), dtype=np.int64, count=len(collection))
    places = np.full(int(numbers.max(initial=-1)) + 1, -1, dtype=np.int32)
    places[numbers] = np.arange(first, first + len(numbers), dtype=np.int32)
    return array('i', places.tobytes())


def _is_that_of(entry: Any, line: ManifestLine) -> bool:
    if entry.text_raw != line.row['text'] or entry.duration != line.duration:
        return False
    if (entry.offset or 0.0) != (line.row.get('offset') or 0.0):
        return False
    audio = entry.audio_file
    if audio == line.audio:
        return True
    # resolving a relative path needs the file system, so its end is compared first
    return not line.audio.startswith('/') and (audio.endswith('/' + line.audio) or audio == line.audio_file)


def _key(audio_file: str, offset: Any, duration: Any, text: str) -> int:
    """Hash of the four values that identify an utterance. A missing offset is 0, as for the loader."""
    return hash((audio_file, float(offset or 0.0), None if duration is None else float(duration), text))


class _Keys:
    """Index of lines by audio, offset, duration and text."""

    def __init__(self, entries: LinesOfEntries):
        self.entries = entries
        self.key, self.start = array('q'), array('q')
        self.file, self.group, self.number, self.total = (array('i') for _ in range(4))
        self._order: np.ndarray | None = None

    def __call__(self, line: ManifestLine) -> None:
        self.key.append(_key(line.audio_file, line.row.get('offset'), line.duration, line.row['text']))
        self.start.append(line.start)
        self.file.append(line.file)
        self.group.append(line.group)
        self.number.append(line.number)
        self.total.append(line.total)

    def find(self, index: int, table: RowTable, numbered: bool, single: bool) -> tuple[int, int]:
        """File and first byte of the line of an entry.

        Raises:
            ConfigError: if no line, or more than one, matches the entry.
        """
        if self._order is None:
            keys = np.frombuffer(self.key, dtype=np.int64) if len(self.key) else np.zeros(0, dtype=np.int64)
            self._order = np.argsort(keys, kind='stable')
            self._sorted = keys[self._order]
        entry = self.entries[index]
        key = _key(entry.audio_file, entry.offset, entry.duration, entry.text_raw)
        found = self._order[slice(*np.searchsorted(self._sorted, [key, key + 1]))].tolist()
        by_text: dict[str, int] = {}
        for place in found:
            row = parse_line(table.line(self.file[place], self.start[place]))
            by_text.setdefault(json.dumps(row, sort_keys=True), place)
        if len(by_text) > 1:  # the lines differ in other keys only, so the number decides
            part = int(np.searchsorted(self.entries.firsts, index, side='right')) - 1
            own = [place for place in found if numbered and self._number(place, single) == (part, entry.id)]
            by_text = {str(place): place for place in own}
        if len(by_text) != 1:
            problem = "several rows" if found else "no row"
            raise ConfigError(
                f"{problem} of `model.train_ds.manifest_filepath` could be that of {entry.audio_file} (offset {entry.offset}, "
                f"duration {entry.duration}, text {entry.text_raw[:60]!r}): keep one row per utterance, and do not change the "
                "manifest after the loader was set up"
            )
        place = next(iter(by_text.values()))
        return self.file[place], self.start[place]

    def _number(self, place: int, single: bool) -> tuple[int, int]:
        """Index of the data set of a line, and its number in it."""
        return (0, self.total[place]) if single else (self.group[place], self.number[place])

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Reads the lines of the training manifests once, by NeMo's own rules, and shows them to all visitors.

Each line is parsed once. The visitors decide what to keep of it. The place of a line in its file is enough to read it
again.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os.path import expanduser
from typing import Any

from tqdm import tqdm

from nemo_oracle_kd.bridge.rows.manifests import Source, TrainingManifests

__all__ = ['ManifestLine', 'ManifestReader', 'parse_line', 'read_through']

Visitor = Callable[['ManifestLine'], None]
_AUDIO_KEYS = ('audio_filename', 'audio_filepath', 'context')  # in NeMo's order
_decode = json.JSONDecoder().decode  # shared by all lines, for speed
try:  # msgspec comes with NeMo 3. It is three times as fast but stricter, so Python's parser reads what it refuses.
    from msgspec.json import Decoder as _FastDecoder

    _decode_fast = _FastDecoder().decode
except ImportError:
    _decode_fast = None
_LINE_ENDS = re.compile(rb'[^\r\n]*(?:\r\n|\r|\n|$)')

_SENTENCES = {
    'bom': "begin with a byte order mark, which NeMo cannot read: save the manifest as UTF-8 without one",
    'utf-8': "are not UTF-8 text: save the manifest as UTF-8",
    'json': "are not valid JSON: a manifest has one JSON object a line",
    'object': "are no JSON objects such as {\"audio_filepath\": ...}: a manifest has one a line",
    'audio': "have no `audio_filepath` that is a string: every row needs the path of its audio",
    'file': "name no file under a key of model.train_ds.file_fields: every row needs the path of its file",
    'duration': "have no `duration`: every row needs the length of its audio in seconds",
    'text file': "name a `text_filepath` that cannot be read: relative paths start from the working directory",
}


@dataclass(slots=True)
class ManifestLine:
    """One line of a manifest.

    Attributes:
        source: the source to which the line belongs.
        group: index of the source.
        file: index of the file among all files.
        path: path of the file.
        place: number of the line in its file, from 1.
        start: byte at which the line begins.
        number: number of the line among the lines of its source that are not blank, from 0. It is the `id` of NeMo's entry.
        total: the same number over all sources.
        row: the JSON object with the keys that Lhotse adds, and `text`.
        audio: path of the audio as written.
        text: the transcript as NeMo reads it; `None` if the row has none, which NeMo reads as an empty one.
        duration: the duration as written, normally in seconds.
        loaded: whether the loader uses the row.
    """

    source: Source
    group: int
    file: int
    path: str
    place: int
    start: int
    number: int
    total: int
    row: dict[str, Any]
    audio: str
    text: str | None
    duration: Any
    loaded: bool

    @property
    def audio_file(self) -> str:
        """The path of the audio as NeMo resolves it."""
        if self.audio.startswith('/'):
            return self.audio
        from nemo.collections.common.parts.preprocessing.manifest import get_full_path

        return get_full_path(audio_file=self.audio, manifest_file=self.path, force_cache=False)

    def __str__(self) -> str:
        return f'{self.path}, line {self.place}'


class ManifestReader:
    """Iterates over the lines of manifests. Lines that cannot be read are counted and left out.

    Args:
        manifests: the manifests to read.

    Attributes:
        problems: messages about what could not be read; complete after the iteration.
    """

    def __init__(self, manifests: TrainingManifests):
        self.manifests = manifests
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[ManifestLine]:
        self.problems.clear()
        total = file = -1
        for group, source in enumerate(self.manifests.sources):
            number = -1
            for path in source.files:
                file += 1
                counts: Counter[str] = Counter()
                first: dict[str, int] = {}
                for place, start, line in self._lines(path):
                    text = line.strip()
                    if not text:
                        continue
                    number, total = number + 1, total + 1
                    try:
                        row = parse_line(text)
                        audio, words, duration = _essentials(row, source)
                    except _Unreadable as error:
                        counts[error.kind] += 1
                        first.setdefault(error.kind, place)
                        continue
                    loaded = source.loads(row, duration)
                    yield ManifestLine(
                        source, group, file, path, place, start, number, total, row, audio, words, duration, loaded
                    )
                self.problems += [
                    f"{count} of the lines of {path} (the first: line {first[kind]}) {_SENTENCES[kind]}"
                    for kind, count in counts.items()
                ]

    def _lines(self, path: str) -> Iterator[tuple[int, int, bytes]]:
        """Yields number (from 1), first byte and content of each line. All line ends count that Python's text mode accepts."""
        from nemo.utils.data_utils import DataStoreObject

        try:
            with open(expanduser(DataStoreObject(path).get()), 'rb') as file:
                place = start = 0
                for line in file:
                    for part in (line,) if b'\r' not in line[:-2] else _LINE_ENDS.findall(line)[:-1]:
                        place += 1
                        yield place, start, part
                        start += len(part)
        except OSError as error:
            self.problems.append(f"the manifest {path} cannot be read ({error.strerror}): correct model.train_ds")


class _Unreadable(ValueError):
    def __init__(self, kind: str):
        super().__init__(_SENTENCES[kind])
        self.kind = kind


def parse_line(line: bytes) -> dict[str, Any]:
    """Parses the JSON object of a line.

    Raises:
        ValueError: if there is none.
    """
    if _decode_fast is not None:
        try:
            row = _decode_fast(line)
            if type(row) is dict:
                return row
        except (ValueError, RecursionError):
            pass
    try:
        row = _decode(line.decode('utf-8'))
    except UnicodeDecodeError:
        raise _Unreadable('utf-8') from None
    except (json.JSONDecodeError, RecursionError):
        raise _Unreadable('bom' if line.startswith(b'\xef\xbb\xbf') else 'json') from None
    if not isinstance(row, dict):
        raise _Unreadable('object')
    return row


def _essentials(row: dict[str, Any], source: Source) -> tuple[str, str | None, Any]:
    """Audio, text and duration by NeMo's rules. Adds the tags of the source and `text` to the row."""
    audio = row.get('audio_filepath') if 'audio_filename' not in row else row['audio_filename']
    if not isinstance(audio, str) or not audio or source.file_fields:
        keys = source.file_fields or _AUDIO_KEYS
        audio = next((row[key] for key in keys if isinstance(row.get(key), str) and row[key]), None)
        if audio is None:
            raise _Unreadable('file' if source.file_fields else 'audio')
    duration = row.get('duration', row.get('context_duration'))
    if duration is None and 'duration' not in row and not source.file_fields:
        raise _Unreadable('duration')
    if source.lhotse:
        text = row.get(source.text_field)
    elif 'text' in row:
        text = row['text']
    else:
        text = _text_elsewhere(row)
    if source.tags:
        row.update(source.tags)
    row['text'] = '' if text is None else text
    return audio, text, duration


def _text_elsewhere(row: dict[str, Any]) -> str | None:
    if 'text_filepath' not in row:
        return row.get('normalized_text')
    try:
        with open(row['text_filepath'], encoding='utf-8') as file:
            return file.read().replace('\n', '')
    except (OSError, TypeError, UnicodeDecodeError):
        raise _Unreadable('text file') from None


def read_through(
    manifests: TrainingManifests, visitors: Sequence[Visitor], visitors_of_all: Sequence[Visitor] = ()
) -> list[str]:
    """Reads manifests once and shows every line to all visitors.

    Args:
        manifests: the manifests to read.
        visitors: called with each line that the loader uses.
        visitors_of_all: called with every line.

    Returns:
        Messages about lines and files that could not be read.
    """
    reader = ManifestReader(manifests)
    for line in tqdm(reader, desc='reading the training manifests', unit='row', delay=5, leave=False):
        for visit in visitors_of_all:
            visit(line)
        if line.loaded:
            for visit in visitors:
                visit(line)
    return reader.problems

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Reads what other recognisers wrote: JSON lines, Kaldi's `text`, CTM, and the JSON of Whisper and of Hugging Face pipelines.

Every reader yields utterances with their texts and what the file says about each text, as it says it. What the numbers mean is
decided in `score_reading`, and which row of a manifest an utterance belongs to in `imports`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_oracle_kd.corpus.findings import Findings
from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, is_encodable, is_number, parse_json, read_lines
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.whisper_segments import text_of_segments

__all__ = ['FORMATS', 'HypothesisFile', 'Text', 'Utterance', 'word_confidences']

FORMATS = ('jsonl', 'kaldi', 'ctm', 'whisper', 'huggingface')
#: keys of an utterance that are kept in its row, as `teacher_fields`
FIELDS = ('confidence', 'no_speech_prob', 'compression_ratio', 'temperature', 'language', 'language_probability')

#: kind of mistake -> end of the sentence about the rows that have it, with the fix
SENTENCES = {
    'object': "are not JSON objects: write one object with `id` and `text` for each utterance",
    'id': "name no utterance: add `id` or `audio_filepath`, or give another key with --id-key",
    'text': "have no `text` that is a string: add it, or give another key with --text-key",
    'nbest': "have an `nbest` that is not a list of objects with `text`: write [{\"text\": ..., \"log_prob\": ...}]",
    'segments': "have no `segments` with `text` and a list of `tokens` each: write what faster-whisper or Whisper gives, "
    "or say --format jsonl",
    'confidence': "have a confidence that is not a number from 0 to 1: correct it, or remove it from the file",
    'columns': "do not have the columns of CTM: id, channel, start, duration, word and, if there is one, a confidence",
    'times': "have a start or a duration that is not a number of at least 0: correct these times",
    'order': "begin before the word above them, so the words would be in a wrong order: sort the file by id and start",
    'channels': "are of a second channel of the same id: write one id per channel",
    'alternatives': "are alternatives (<ALT...>), which are no single text: keep one of them",
    'nbest id': "have an id that does not end in -1, -2, ...: leave --nbest-ids out, or number the texts of each utterance",
    'duplicate': "belong to an utterance that is there already: keep one of them, or list the texts of one utterance in `nbest`",
    'score line': "are not an id and a number: write `ID LOG_PROB` in each line",
    'score without text': "give a score to an id that has no text: give the scores of the same texts",
}


@dataclass(frozen=True)
class Text:
    """One text of an utterance.

    Attributes:
        text: as the file has it.
        values: what the file says about it: `log_prob`, `tokens` and the like.
    """

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Utterance:
    """An utterance of a file.

    Attributes:
        id: its name in the file.
        where: file and line, for messages.
        texts: its texts.
        fields: what is known about the utterance besides.
    """

    id: str
    where: str
    texts: tuple[Text, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HypothesisFile:
    """A file of texts, or a folder of JSON files named after their audio.

    Attributes:
        path: the file or folder.
        format: one of `FORMATS`; `None` recognises it.
        scores: a second file with `ID LOG_PROB` in each line, for Kaldi and CTM.
        nbest_ids: whether ids end in the number of the text, as Kaldi's `lattice-to-nbest` writes them.
        id_key: key of the utterance's name in JSON.
        text_key: key of the text in JSON.
        more_fields: further keys to keep.
    """

    path: Path
    format: str | None = None
    scores: Path | None = None
    nbest_ids: bool = False
    id_key: str | None = None
    text_key: str | None = None
    more_fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [
            f"{path} does not exist: give the file that the recogniser wrote"
            for path in (self.path, self.scores)
            if path is not None and not path.exists()
        ]
        ConfigError.raise_if_any(problems)
        if self.format is None:
            object.__setattr__(self, 'format', _recognised(self.path))
        lines = self.format in ('kaldi', 'ctm')
        if self.scores is not None and not lines:
            problems.append("--scores-file belongs to Kaldi's text and to CTM: JSON holds the score beside each text")
        if self.nbest_ids and self.format != 'kaldi':
            problems.append("--nbest-ids belongs to Kaldi's text: JSON lists several texts in `nbest`")
        if lines and (self.id_key or self.text_key or self.more_fields):
            problems.append(
                "--id-key, --text-key and --fields name keys of JSON: leave them out for Kaldi's text and CTM"
            )
        ConfigError.raise_if_any(problems)

    @property
    def files(self) -> list[Path]:
        """All files that are read, in order."""
        found = sorted(self.path.glob('*.json')) if self.path.is_dir() else [self.path]
        return found + ([] if self.scores is None else [self.scores])

    def read(self) -> list[Utterance]:
        """Reads everything.

        Raises:
            ConfigError: what is wrong with the rows, one sentence for each kind of mistake.
            ManifestError: a file that is not text or not JSON.
        """
        findings = Findings(SENTENCES, str(self.path))
        if self.format in ('kaldi', 'ctm'):
            found, count = self._from_lines(findings)
        else:
            objects = list(self._objects())
            found = [utterance for where, row in objects for utterance in self._from_json(where, row, findings)]
            count = len(objects)
        seen: set[str] = set()
        for utterance in found:
            if utterance.id in seen:
                findings.add('duplicate', utterance.where, f'{utterance.id!r}')
            seen.add(utterance.id)
        ConfigError.raise_if_any(findings.sentences(count))
        if not found:
            raise ConfigError(f"{self.path} holds no text: give the file that the recogniser wrote")
        return found

    def _objects(self) -> Iterator[tuple[str, Any]]:
        if self.path.is_dir():
            for file in self.files:
                row = parse_json('\n'.join(read_lines(file, 'JSON')), str(file))
                yield file.name, {'id': file.stem, **row} if isinstance(row, dict) else row
        else:
            yield from _json_rows(self.path)

    def _from_json(self, where: str, row: Any, findings: Findings) -> Iterator[Utterance]:
        """The utterance of a JSON object; none if something is wrong with it."""
        if not isinstance(row, dict):
            findings.add('object', where)
            return
        name = row.get(self.id_key) if self.id_key else row.get('id', row.get(AUDIO_KEY))
        if not isinstance(name, (str, int)) or not str(name):
            findings.add('id', where)
            return
        if self.format == 'whisper':
            found = text_of_segments(row.get('segments'))
            if found is None:
                findings.add('segments', where, f'{name!r}')
                return
            texts = [Text(*found[:2])]
            fields = {**(row['info'] if isinstance(row.get('info'), dict) else {}), **row, **found[2]}
        else:
            entries, fields = row.get('nbest', [row]), row
            if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
                findings.add('nbest', where, f'{name!r}')
                return
            keys = (self.text_key,) if self.text_key else ('pred_text', 'text')
            written = [next((entry[key] for key in keys if key in entry), None) for entry in entries]
            if not all(isinstance(text, str) and is_encodable(text) for text in written):
                findings.add('text', where, f'{name!r}')
                return
            texts = [Text(text, entry) for text, entry in zip(written, entries)]
        known = {key: fields[key] for key in (*FIELDS, *self.more_fields) if fields.get(key) is not None}
        confidences = word_confidences(texts[0].values)
        if confidences and 'confidence' not in known:
            known['confidence'] = round(sum(confidences) / len(confidences), 6)
        if confidences is None or not _is_share(known.get('confidence', 0.0)):
            findings.add('confidence', where, f'{name!r}')
            return
        yield Utterance(str(name), where, tuple(texts), known)

    def _from_lines(self, findings: Findings) -> tuple[list[Utterance], int]:
        """The utterances of Kaldi's text or of a CTM file, and the number of lines."""
        lines = [
            (f'line {number}', line.split())
            for number, line in enumerate(read_lines(self.path, 'texts'), start=1)
            if line.strip() and not (self.format == 'ctm' and line.startswith(';;'))
        ]
        scores = {} if self.scores is None else _read_scores(self.scores)
        texts: dict[str, list[tuple[str, Text]]] = {}
        if self.format == 'kaldi':
            for where, (name, *words) in lines:
                values = {'log_prob': scores.pop(name)} if name in scores else {}
                texts.setdefault(name, []).append((where, Text(' '.join(words), values)))
        else:
            for name, (where, words) in _ctm_words(lines, findings).items():
                values = {'log_prob': scores.pop(name)} if name in scores else {}
                texts[name] = [(where, Text(' '.join(word['word'] for word in words), {**values, 'words': words}))]
        for name in scores:
            findings.add('score without text', self.scores.name, f'{name!r}')
        return list(self._grouped(texts, findings)), len(lines)

    def _grouped(self, texts: Mapping[str, list[tuple[str, Text]]], findings: Findings) -> Iterator[Utterance]:
        groups: dict[str, list[tuple[str, Text]]] = {}
        for name, found in texts.items():
            for where, _ in found[1:]:
                findings.add('duplicate', where, f'{name!r}')
            match = re.fullmatch(r'(.+)-\d+', name)
            if self.nbest_ids and match is None:
                findings.add('nbest id', found[0][0], f'{name!r}')
            groups.setdefault(match[1] if self.nbest_ids and match else name, []).append(found[0])
        for name, found in groups.items():
            confidences = word_confidences(found[0][1].values)
            if confidences is None:
                findings.add('confidence', found[0][0], f'{name!r}')
            fields = {'confidence': round(sum(confidences) / len(confidences), 6)} if confidences else {}
            yield Utterance(name, found[0][0], tuple(text for _, text in found), fields)


def word_confidences(values: Mapping[str, Any]) -> list[float] | None:
    """The confidences of `words`; empty if there are none, and `None` if one of them is no number from 0 to 1."""
    words = values.get('words')
    if not isinstance(words, list):
        return []
    found = [word.get('confidence', word.get('probability')) for word in words if isinstance(word, dict)]
    if any(value is not None and not _is_share(value) for value in found):
        return None
    return [] if None in found else found


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _recognised(path: Path) -> str:
    if path.is_dir():
        return 'whisper'
    if path.suffix in ('.json', '.jsonl'):
        _, first = next(_json_rows(path), ('', {}))
        keys = first if isinstance(first, dict) else {}
        return 'whisper' if 'segments' in keys else 'huggingface' if 'chunks' in keys else 'jsonl'
    return 'ctm' if path.suffix == '.ctm' else 'kaldi'


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each object is, and the object: of a list in `.json`, of the lines otherwise."""
    lines = read_lines(path, 'JSON lines')
    if path.suffix == '.json':
        rows = parse_json('\n'.join(lines), str(path))
        for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
            yield f'object {number}', row
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f'line {number}', parse_json(line, f'{path}, line {number}')


def _ctm_words(lines: list[tuple[str, list[str]]], findings: Findings) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    found: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    last: dict[str, tuple[str, float]] = {}
    for where, columns in lines:
        if len(columns) not in (5, 6):
            findings.add('columns', where)
            continue
        name, channel, *times, word = columns[:5]
        start, duration = (_number(time) for time in times)
        if word.startswith('<ALT'):
            findings.add('alternatives', where)
        elif start is None or duration is None or min(start, duration) < 0:
            findings.add('times', where)
        elif channel != last.get(name, (channel,))[0]:
            findings.add('channels', where, f'{name!r}')
        elif start < last.get(name, (channel, 0.0))[1]:
            findings.add('order', where, f'{name!r}')
        else:
            last[name] = channel, start
            given = columns[5:] and columns[5] != 'NA'
            entry = {'word': word, **({'confidence': _number(columns[5])} if given else {})}
            if given and entry['confidence'] is None:
                findings.add('confidence', where)
            found.setdefault(name, (where, []))[1].append(entry)
    return found


def _read_scores(path: Path) -> dict[str, float]:
    findings, found, count = Findings(SENTENCES, str(path)), {}, 0
    for number, line in enumerate(read_lines(path, 'scores'), start=1):
        if not line.strip():
            continue
        count += 1
        parts = line.split()
        value = _number(parts[1]) if len(parts) == 2 else None
        if value is None:
            findings.add('score line', f'line {number}')
        elif parts[0] in found:
            findings.add('duplicate', f'line {number}', f'{parts[0]!r}')
        else:
            found[parts[0]] = value
    ConfigError.raise_if_any(findings.sentences(count))
    return found


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if is_number(value) else None

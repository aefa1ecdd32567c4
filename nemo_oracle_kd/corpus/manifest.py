# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Read and write NeMo manifests (JSON lines), with errors that name the file, the line and the fix."""

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nemo_oracle_kd.corpus.outputs import write_text_atomically

AUDIO_KEY = 'audio_filepath'
REFERENCE_KEY = 'reference_text'  # the true transcript, where `text` is something else
#: what `nemo-oracle-kd score` writes about `text`
LOG_PROB_KEY, NBEST_KEY = 'teacher_log_prob', 'teacher_nbest'
TOKENS_KEY, FINGERPRINT_KEY = 'teacher_tokens', 'teacher_fingerprint'
ROW_KEY = 'teacher_row'  # short hash of the row as it was scored
#: what else is known about `text`: the confidence and other fields of an imported row, and stored measures of a filter
FIELDS_KEY = 'teacher_fields'
TEACHER_KEYS = (NBEST_KEY, LOG_PROB_KEY, TOKENS_KEY, FIELDS_KEY, FINGERPRINT_KEY, ROW_KEY)
LANGUAGE_KEY = 'lang'  # of `text`, for models with one tokenizer per language
SUPERVISED_KEY = 'supervised'  # whether `text` is a true transcript, which needs no score


class ManifestError(ValueError):
    """A manifest that cannot be used; the message is one sentence with file, line and fix."""


def resolve_audio_path(audio_filepath: str, manifest_path: str | os.PathLike) -> str:
    """Makes an audio path absolute by NeMo's rule: beside the manifest first, else relative to the working directory.

    Args:
        audio_filepath: value of ``audio_filepath``, absolute or relative.
        manifest_path: the manifest that holds it.

    Returns:
        Absolute path. Whether a file is there is not checked.
    """
    path = os.path.expanduser(audio_filepath)
    if os.path.isabs(path):
        return path
    beside = os.path.join(os.path.dirname(os.path.abspath(manifest_path)), path)
    return beside if os.path.isfile(beside) or not os.path.isfile(path) else os.path.abspath(path)


def check_manifest_path(path: str | os.PathLike) -> None:
    """Refuses what cannot be a manifest, before anything slow starts.

    Raises:
        FileNotFoundError: there is nothing at this path.
        ManifestError: a folder, or a device or pipe, which can be read only once.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"the manifest {path} does not exist: give the path of a NeMo JSON-lines manifest")
    if path.is_dir():
        raise ManifestError(f"the manifest {path} is a folder: give the path of a NeMo JSON-lines manifest in it")
    if not path.is_file():
        raise ManifestError(
            f"the manifest {path} is a pipe or a device, which can be read only once: write it to a file first"
        )


def read_manifest(
    path: str | os.PathLike,
    require_text: bool = True,
    check_audio: bool = True,
    archived: bool = False,
    file_keys: Sequence[str] = (AUDIO_KEY,),
) -> list[dict[str, Any]]:
    """Reads a NeMo manifest and checks every line before anything expensive starts.

    Args:
        path: manifest with one JSON object per line; blank lines are skipped.
        require_text: refuse a line without a transcript (which itself may be empty). By NeMo's rule it is ``text``, else
            what the file at ``text_filepath`` holds with its line ends removed (a relative path starts from the working
            directory), else ``normalized_text``.
        check_audio: refuse a line whose audio file does not exist.
        archived: ``audio_filepath`` names a member of an archive and not a file: it is neither resolved nor looked for.
        file_keys: keys under which a line may name its file; the first that it has counts.

    Returns:
        One dict per line in file order, with ``audio_filepath`` made absolute, ``text`` filled in where the line gives the
        transcript in another way, and every other key as it was.

    Raises:
        FileNotFoundError: the manifest does not exist.
        ManifestError: bad JSON, not an object, missing or wrong ``audio_filepath``, ``text``, ``offset`` or
            ``duration``, missing audio or file of a transcript, a text that no file can hold, or no line at all.
    """
    path = Path(path)
    check_manifest_path(path)
    rows = []
    for number, line in enumerate(read_lines(path, 'a manifest'), start=1):
        if line.strip():
            row = _parse(line, (path, number), require_text, file_keys)
            rows.append(row if archived else _with_file(row, (path, number), check_audio, file_keys))
    if not rows:
        raise ManifestError(f"the manifest {path} is empty: give one that lists at least one utterance")
    return rows


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file, without a byte order mark.

    Args:
        path: the file.
        what: what it should be, for the message.

    Raises:
        ManifestError: it is not UTF-8 text.
    """
    try:
        return path.read_text(encoding='utf-8-sig').split('\n')
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{path} is not UTF-8 text ({error.reason}): give the path of {what}, not of an audio file or an archive"
        ) from None


def parse_json(text: str, where: str) -> Any:
    """Parses JSON.

    Args:
        text: the JSON.
        where: file and line, for the message.

    Raises:
        ManifestError: it is not valid JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ManifestError(
            f"{where}: not valid JSON ({error.msg} at column {error.colno}); write one JSON object per line"
        ) from None
    except RecursionError:
        raise ManifestError(f"{where}: the JSON is nested too deeply; write a flat JSON object") from None


def _parse(line: str, place: tuple[Path, int], require_text: bool, file_keys: Sequence[str]) -> dict[str, Any]:
    path, number = place
    where = f"{path}, line {number}"
    row = parse_json(line, where)
    if not isinstance(row, dict):
        raise ManifestError(
            f"{where}: {line[:60]!r} is not a JSON object; write an object such as {{\"audio_filepath\": ...}}"
        )
    key = _file_key(row, file_keys)
    audio = row.get(key)
    if not isinstance(audio, str) or not audio:
        raise ManifestError(f"{where}: `{key}` is missing or not a string; add the path of the {_noun(key)} file")
    text = _transcript(row, where)
    if require_text and not isinstance(text, str):
        raise ManifestError(f"{where}: `text` is missing or not a string; add the transcript of {audio}")
    # bool is an int to Python and NaN passes a `<= 0` test, so both are ruled out by name.
    duration = row.get('duration', 1.0)
    if not is_number(duration) or duration <= 0:
        raise ManifestError(f"{where}: `duration` is {duration!r}; give the length of {audio} in seconds")
    offset = row.get('offset')
    if offset is not None and (not is_number(offset) or offset < 0):
        raise ManifestError(
            f"{where}: `offset` is {offset!r}; give the second of {audio} at which the utterance begins, at least 0"
        )
    # Only an escape can stand for half of a surrogate pair, which no UTF-8 file can hold.
    if '\\u' in line:
        _check_encodable(row, where)
    return {**row, AUDIO_KEY: audio, **({} if text is None else {'text': text})}


def _with_file(row: dict[str, Any], place: tuple[Path, int], check: bool, file_keys: Sequence[str]) -> dict[str, Any]:
    path, number = place
    absolute = resolve_audio_path(row[AUDIO_KEY], path)
    if check and not os.path.isfile(absolute):
        raise ManifestError(
            f"{path}, line {number}: {_noun(_file_key(row, file_keys))} file {absolute} does not exist; correct the path, which is "
            "relative to the manifest's folder"
        )
    return {**row, AUDIO_KEY: absolute}


def _file_key(row: dict[str, Any], file_keys: Sequence[str]) -> str:
    """The key under which a line names its file."""
    return next((key for key in file_keys if key in row), file_keys[0])


def _noun(key: str) -> str:
    """What a key names, for messages: the first word of `audio_filepath`."""
    return key.split('_')[0]


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number."""
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)


def is_encodable(text: str) -> bool:
    """Whether a file can hold the text, which half of a surrogate pair prevents."""
    try:
        text.encode('utf-8')
    except UnicodeEncodeError:
        return False
    return True


def _check_encodable(row: dict[str, Any], where: str) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode('utf-8')
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"{where}: holds {ascii(error.object[error.start])}, which is half of a character (a lone surrogate) and cannot "
            "be written to a file; correct the text"
        ) from None


def _transcript(row: dict[str, Any], where: str) -> Any:
    """Returns what NeMo takes for the transcript of a line: the first of three keys that is there, or None."""
    if 'text' in row or 'text_filepath' not in row:
        return row.get('text', row.get('normalized_text'))
    path = row['text_filepath']
    if not isinstance(path, str) or not os.path.isfile(path):
        raise ManifestError(
            f"{where}: there is no transcript at `text_filepath` {path!r}; correct the path, which is relative to the working "
            f"directory ({os.getcwd()})"
        )
    try:
        return Path(path).read_text(encoding='utf-8').replace('\n', '')
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{where}: `text_filepath` {path} is not UTF-8 text ({error.reason}); convert the file to UTF-8"
        ) from None


def write_manifest(path: str | os.PathLike, rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows as JSON lines; the file appears whole or not at all.

    Args:
        path: manifest to write; an existing one is replaced.
        rows: dicts in the desired order, written as they are (paths are not changed).
    """
    write_text_atomically(path, manifest_text(rows))


def manifest_text(rows: Iterable[dict[str, Any]]) -> str:
    """Formats rows as the text of a manifest."""
    return ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)

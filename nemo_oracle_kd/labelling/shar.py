# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Lhotse Shar as speech to be labelled, and scores put back into its cuts.

A Shar is a folder of shards. A shard of cuts (`cuts.000000.jsonl.gz`) goes with a shard of every other field, such as their audio
(`recording.000000.tar`), entry by entry. Scores go into new shards of cuts, with the same cuts in the same order; NeMo reads them
with the old audio: `shar_path: {cuts: ..., recording: ...}`. Cuts that are dropped stay, marked so that NeMo leaves them out.
"""

import gzip
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nemo_oracle_kd.bridge.audio import ArchivedAudio, AudioSpan
from nemo_oracle_kd.bridge.audio_archives import index_archive
from nemo_oracle_kd.bridge.rows.sources import row_of_cut
from nemo_oracle_kd.corpus.manifest import REFERENCE_KEY, TEACHER_KEYS, read_manifest
from nemo_oracle_kd.corpus.outputs import check_outputs, write_bytes_atomically
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.files import dropped_path
from nemo_oracle_kd.labelling.sources import SpeechSource, content_hash

__all__ = ['check_shar_output', 'scored_path', 'shar_source', 'write_scored_cuts']

#: key by which a row remembers its cut
_CUT = 'shar_cut'


def shar_source(folder: str | Path, require_text: bool = False) -> SpeechSource:
    """The utterances of a Shar.

    Args:
        folder: with `cuts.*.jsonl.gz` and `recording.*.tar`.
        require_text: refuse cuts without a transcript.

    Raises:
        ConfigError: the folder is no Shar, a shard cannot be read, or cuts have no audio or no transcript.
    """
    cuts, archives = _shards(folder)
    members: dict[str, ArchivedAudio] = {}
    for archive in archives:
        members |= {os.path.splitext(name)[0]: audio for name, audio in index_archive(str(archive))}
    rows = [row for path in cuts for row in _rows(path)]
    names = [row[_CUT] for row in rows]
    problems = []
    if len(set(names)) < len(names):
        problems.append(
            f"some cuts of {folder} have the same id, by which their scores could not be told apart: rename them"
        )
    silent = [name for name in names if name not in members]
    if silent:
        problems.append(
            f"{len(silent)} of {len(names)} cuts of {folder} (the first: {silent[0]}) have no audio in its recording.*.tar: make the Shar "
            "again with the field `recording`"
        )
    untold = [row[_CUT] for row in rows if not isinstance(row.get('text'), str)]
    if require_text and untold:
        problems.append(
            f"{len(untold)} of {len(names)} cuts of {folder} (the first: {untold[0]}) have no text: leave --reference out, or add the "
            "transcripts"
        )
    ConfigError.raise_if_any(problems)

    def span(row: Mapping[str, Any]) -> AudioSpan:
        return AudioSpan(members[row[_CUT]], 0.0, row['duration'])  # a Shar holds no more than the audio of the cut

    inputs = tuple(str(path) for path in (*cuts, *archives))
    return SpeechSource(str(folder), inputs, rows, content_hash(cuts), span)


def scored_path(output: str | Path) -> Path:
    """The manifest with the rows of the scored cuts, from which an interrupted run goes on."""
    return Path(output) / 'scored.jsonl'


def check_shar_output(folder: str | Path, output: str | Path, overwrite: bool) -> None:
    """Refuses, before any work, a folder in which scored cuts would replace something.

    Raises:
        ConfigError: the output is the Shar itself, or holds cuts that no scoring wrote.
    """
    cuts, _ = _shards(folder)
    if Path(output).exists() and Path(output).resolve() == Path(folder).resolve():
        raise ConfigError(f"--output {output} is the Shar itself: give another folder")
    ours = scored_path(output).exists()  # written by an earlier start of this run, or refused there
    Path(output).mkdir(parents=True, exist_ok=True)
    check_outputs(
        {f'the cuts of --output ({path.name})': Path(output) / path.name for path in cuts}, cuts, overwrite or ours
    )


def write_scored_cuts(folder: str | Path, output: str | Path) -> list[Path]:
    """Writes the cuts of a Shar with the scores of :func:`scored_path`; the same scores give the same bytes.

    Args:
        folder: the Shar.
        output: folder of the scored cuts.

    Returns:
        The shards of cuts.
    """
    rows = {
        row[_CUT]: row for path in (scored_path(output), dropped_path(scored_path(output))) for row in _scored(path)
    }
    written = []
    for path in _shards(folder)[0]:
        lines = (json.dumps(_with_scores(cut, rows[cut['id']]), ensure_ascii=False) for cut in _cuts(path))
        content = ''.join(f'{line}\n' for line in lines).encode('utf-8')
        target = Path(output) / path.name
        write_bytes_atomically(target, _packed(content) if path.suffix == '.gz' else content)
        written.append(target)
    return written


def _shards(folder: str | Path) -> tuple[list[Path], list[Path]]:
    cuts = sorted(path for path in Path(folder).glob('cuts.*') if '.jsonl' in path.name)
    archives = sorted(Path(folder).glob('recording.*.tar'))
    if not cuts or len(cuts) != len(archives):
        raise ConfigError(
            f"{folder} has {len(cuts)} shards of cuts (cuts.*.jsonl.gz) and {len(archives)} of audio (recording.*.tar): give the folder of "
            "a Lhotse Shar with as many of both"
        )
    return cuts, archives


def _cuts(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with (gzip.open if path.suffix == '.gz' else open)(path, 'rt', encoding='utf-8') as lines:
            yield from (json.loads(line) for line in lines if line.strip())
    except (OSError, EOFError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as a shard of cuts ({error}): make it again") from None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    from lhotse.serialization import deserialize_item

    for values in _cuts(path):
        if values.get('type') != 'MonoCut' or 'recording' not in values:
            raise ConfigError(
                f"{path} holds {values.get('id')}, which is not a cut of one channel with a recording: leave such cuts out of the Shar"
            )
        cut = deserialize_item(values)  # empties `values`
        row = row_of_cut(cut)
        if not any(supervision.text is not None for supervision in cut.supervisions):
            del row['text']
        yield {**row, _CUT: cut.id}


def _scored(path: Path) -> list[dict[str, Any]]:
    if not path.exists() or not path.stat().st_size:
        return []
    return read_manifest(path, require_text=False, archived=True)


def _with_scores(cut: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """A cut as Lhotse writes it, with the text and the scores of its row."""
    custom = {key: value for key, value in (cut.get('custom') or {}).items() if key not in TEACHER_KEYS}
    if 'dropped_because' in row:
        return {**cut, 'custom': {**custom, 'dropped_because': row['dropped_because'], 'validation_status': 'dropped'}}
    custom |= {key: row[key] for key in (*TEACHER_KEYS, REFERENCE_KEY) if key in row}
    supervisions = [dict(one) for one in cut.get('supervisions') or ()]
    if not supervisions:
        place = {
            'recording_id': cut['recording']['id'],
            'start': 0.0,
            'duration': cut['duration'],
            'channel': cut['channel'],
        }
        supervisions = [{'id': cut['id'], **place}]
    spoken = next((one for one in supervisions if one.get('text') is not None), supervisions[0])
    if spoken.get('text') != row['text']:
        spoken.pop('alignment', None)  # of the words of another text
    spoken['text'] = row['text']
    return {**cut, 'supervisions': supervisions, 'custom': custom}


def _packed(content: bytes) -> bytes:
    packed = io.BytesIO()
    with gzip.GzipFile(filename='', mode='wb', fileobj=packed, mtime=0) as file:  # no name and time: equal bytes
        file.write(content)
    return packed.getvalue()

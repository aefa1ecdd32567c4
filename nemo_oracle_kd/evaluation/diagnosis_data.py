# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""What a diagnosis reads: utterances of a manifest, and for each a wrong transcript to be misled with."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nemo_oracle_kd.corpus.manifest import resolve_audio_path
from nemo_oracle_kd.errors import ConfigError

__all__ = ['Utterance', 'batches', 'read_utterances', 'swap_partners']


@dataclass(frozen=True)
class Utterance:
    """One row of the manifest.

    Attributes:
        path: audio file.
        text: what is spoken.
        labels: the text in the teacher's labels.
        offset: seconds into the file.
        duration: seconds to read; None: to the end.
    """

    path: str
    text: str
    labels: tuple[int, ...]
    offset: float = 0.0
    duration: float | None = None


def read_utterances(teacher: Any, manifest: str | Path, limit: int | None = None) -> list[Utterance]:
    """Reads a NeMo manifest and encodes its texts with the teacher's labels.

    Args:
        teacher: an oracle teacher.
        manifest: JSON lines with `audio_filepath` and `text`; paths may be relative to the manifest.
        limit: read at most this many rows.

    Raises:
        FileNotFoundError: no such manifest or audio file.
        ConfigError: a row without text, or fewer than two different texts.
    """
    manifest = Path(manifest)
    if not manifest.is_file():
        raise FileNotFoundError(f"there is no manifest at '{manifest}'")
    utterances = []
    with manifest.open(encoding='utf-8') as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if limit is not None and len(utterances) == limit:
                break
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"line {number} of '{manifest}' is not JSON: {error}") from error
            text = row.get('text')
            if not text or not text.strip():
                raise ConfigError(
                    f"line {number} of '{manifest}' holds no text: an oracle teacher reads the transcript, so remove "
                    "the row or add its text"
                )
            path = Path(resolve_audio_path(row.get('audio_filepath') or '', manifest))
            if not path.is_file():
                raise FileNotFoundError(f"line {number} of '{manifest}': there is no audio file at '{path}'")
            offset = row.get('offset') or 0.0
            utterances.append(
                Utterance(
                    path=str(path),
                    text=text,
                    labels=tuple(teacher.encode_text(text)),
                    offset=float(offset),
                    duration=float(row['duration']) if offset and row.get('duration') else None,
                )
            )
    if len({utterance.text for utterance in utterances}) < 2:
        raise ConfigError(
            f"'{manifest}' holds fewer than two different texts: swapping transcripts needs at least two, better fifty"
        )
    return utterances


def swap_partners(utterances: Sequence[Utterance]) -> list[int]:
    """For each utterance the index of another one with a different text and a similar number of labels.

    Deterministic: the next one in the order of transcript length, or the one before where none follows. Similar
    lengths, because a transcript that does not fit into the audio would be recognised as wrong without listening.
    """
    order = sorted(range(len(utterances)), key=lambda i: (len(utterances[i].labels), i))
    partners = [0] * len(utterances)
    for rank, i in enumerate(order):
        # The next different text in this order; the longest transcripts look back instead.
        candidates = [*order[rank + 1 :], *reversed(order[:rank])]
        partners[i] = next(j for j in candidates if utterances[j].text != utterances[i].text)
    return partners


def _pad(rows: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths


def batches(
    utterances: Sequence[Utterance], sample_rate: int, batch_size: int
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Reads the audio, longest utterances together.

    Args:
        utterances: what to read.
        sample_rate: Hz; the audio is resampled to it.
        batch_size: utterances per batch.

    Yields:
        Indices of the utterances, waveforms `[B, S]` and lengths `[B]`.
    """
    from nemo.collections.asr.parts.preprocessing.segment import AudioSegment

    order = sorted(range(len(utterances)), key=lambda i: -len(utterances[i].labels))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        signals = []
        for i in indices:
            u = utterances[i]
            segment = AudioSegment.from_file(
                u.path, target_sr=sample_rate, offset=u.offset, duration=u.duration or 0, channel_selector='average'
            )
            if len(segment.samples) == 0:
                raise ConfigError(f"'{u.path}' holds no audio at offset {u.offset}: remove the row from the manifest")
            signals.append(torch.as_tensor(segment.samples, dtype=torch.float32))
        signal, lengths = _pad(signals)
        yield indices, signal, lengths

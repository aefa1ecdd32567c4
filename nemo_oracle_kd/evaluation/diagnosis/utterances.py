# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Reads the utterances of a diagnosis from a manifest, and chooses a wrong transcript for each of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nemo_oracle_kd.bridge.audio import audio_batch
from nemo_oracle_kd.corpus.manifest import AUDIO_KEY
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.evaluation.inputs import AudioInputs, inputs_of

__all__ = ['Utterance', 'batches', 'read_utterances', 'swap_partners']


@dataclass(frozen=True)
class Utterance:
    """One row of the manifest.

    Attributes:
        path: audio file, or another file that the teacher reads.
        text: what is spoken.
        labels: the text in the teacher's labels.
        offset: start of the utterance in the file, seconds.
        duration: seconds to read; None reads to the end.
    """

    path: str
    text: str
    labels: tuple[int, ...]
    offset: float = 0.0
    duration: float | None = None

    @property
    def row(self) -> dict[str, Any]:
        """Its place in its file, as a manifest says it."""
        return {AUDIO_KEY: self.path, 'offset': self.offset, 'duration': self.duration}


def read_utterances(teacher: Any, manifest: str | Path, limit: int | None = None) -> list[Utterance]:
    """Reads a NeMo manifest and encodes its texts with the teacher's labels.

    Args:
        teacher: an oracle teacher.
        manifest: manifest for :func:`nemo_oracle_kd.corpus.manifest.read_manifest`, which checks all its lines.
        limit: largest number of rows to use.

    Raises:
        FileNotFoundError: there is no such manifest.
        ManifestError: a line that NeMo could not read, or whose audio does not exist.
        ConfigError: a row with an empty text, or fewer than two different texts.
    """
    utterances = []
    for row in inputs_of(teacher).rows(manifest)[:limit]:
        if not row['text'].strip():
            raise ConfigError(
                f"'{manifest}' holds no text for {row[AUDIO_KEY]}: an oracle teacher reads the transcript, so remove the "
                "row or add its text"
            )
        utterances.append(
            Utterance(
                path=row[AUDIO_KEY],
                text=row['text'],
                labels=tuple(teacher.encode_text(row['text'])),
                offset=float(row.get('offset') or 0.0),
                duration=row.get('duration'),
            )
        )
    if len({utterance.text for utterance in utterances}) < 2:
        raise ConfigError(
            f"'{manifest}' holds fewer than two different texts, so transcripts cannot be swapped: give at least two "
            "utterances with different texts, and preferably fifty"
        )
    return utterances


def swap_partners(utterances: Sequence[Utterance]) -> list[int]:
    """Returns, for each utterance, the index of another one with a different text and a similar number of labels.

    The choice is deterministic: the next one in the order of transcript length, or the previous one if none follows. The
    lengths must be similar, because a transcript too long for the audio could be recognised as wrong without listening.
    """
    order = sorted(range(len(utterances)), key=lambda i: (len(utterances[i].labels), i))
    partners = [0] * len(utterances)
    for rank, i in enumerate(order):
        # The next different text in this order; the longest transcripts look back instead.
        candidates = [*order[rank + 1 :], *reversed(order[:rank])]
        partners[i] = next(j for j in candidates if utterances[j].text != utterances[i].text)
    return partners


def batches(
    utterances: Sequence[Utterance], inputs: AudioInputs, batch_size: int
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Reads the audio in batches of utterances with similar numbers of labels, the longest first.

    Args:
        utterances: the utterances to read.
        inputs: how the teacher reads them, of :func:`nemo_oracle_kd.evaluation.inputs.inputs_of`.
        batch_size: utterances per batch.

    Yields:
        Indices of the utterances, waveforms `[B, S]` and lengths `[B]`.

    Raises:
        ValueError: an audio file that cannot be read, or a stretch of it without samples.
    """
    order = sorted(range(len(utterances)), key=lambda i: -len(utterances[i].labels))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        batch = audio_batch([inputs.signal(utterances[i].row) for i in indices])
        yield indices, batch.signal, batch.lengths

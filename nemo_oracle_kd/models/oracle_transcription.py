# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`transcribe()` for models that read the transcript, which must come with the audio."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from nemo.collections.common.parts.preprocessing.parsers import make_parser
from torch.utils.data import DataLoader

from nemo_oracle_kd.corpus.manifest import read_manifest

__all__ = ['OracleTranscriptionMixin', 'TRANSCRIPT_NEEDED']

TRANSCRIPT_NEEDED = (
    "an oracle teacher reads the transcript and cannot transcribe audio alone: call transcribe(audio, transcripts=[...]) or "
    "give a manifest whose rows hold 'text'; for recognition use a student distilled from it"
)
"""Message for audio without a transcript."""


class OracleTranscriptionMixin:
    """Adds `transcripts` to NeMo's `transcribe()`, and passes the encoded labels to `forward` batch by batch."""

    _pending_labels: list[list[int]] | None = None
    _transcription_outputs: tuple[str, str]
    """The names by which NeMo's decoding takes the first two results of `forward`."""

    @property
    @abstractmethod
    def head_vocabulary(self) -> list[str]:
        """Labels of the vocabulary in order, without blank."""

    def encode_text(self, text: str) -> list[int]:
        """Label ids of a text by the tokenizer or label set of the model.

        Args:
            text: words separated by single spaces.

        Raises:
            ValueError: if the vocabulary cannot express the text.
        """
        if hasattr(self, 'tokenizer'):
            ids = list(self.tokenizer.text_to_ids(text))
            unknown_id = getattr(self.tokenizer, 'unk_id', None)
            if unknown_id is not None and unknown_id in ids:
                unknown = sorted({c for c in text if not c.isspace() and unknown_id in self.tokenizer.text_to_ids(c)})
                raise ValueError(
                    f"the tokenizer of this model does not know {unknown or [text]} in '{text}': normalise the text "
                    "as in training"
                )
            return ids
        labels = self.head_vocabulary
        known = set(labels)
        words = (word for word in text.split(' ') if word not in known)
        unknown = sorted({c for word in words for c in word if c not in known} | ({' '} & set(text)) - known)
        if unknown:
            raise ValueError(
                f"the vocabulary of this model does not hold {unknown} of '{text}': normalise the text as in training"
            )
        return list(make_parser(labels=labels, name='en', unk_id=-1, blank_id=-1, do_normalize=False)(text))

    def encode_texts(self, texts: Iterable[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded label ids `[B, U]` and lengths `[B]` of several texts (see :meth:`encode_text`)."""
        return _pad([self.encode_text(text) for text in texts])

    def decode_labels(self, labels: Iterable[int]) -> str:
        """Text of a label sequence without blanks, the inverse of :meth:`encode_text`."""
        if hasattr(self, 'tokenizer'):
            return self.tokenizer.ids_to_text(list(labels))
        vocabulary = self.head_vocabulary
        return ''.join(vocabulary[i] for i in labels)

    def transcribe(self, audio: Any, batch_size: int = 4, *, transcripts: list[str] | None = None, **options: Any):
        """Transcribes as NeMo's `transcribe()`, with the text that the teacher is to read.

        Args:
            audio: a path, a list of paths or waveforms, a manifest (`.json`, `.jsonl`) whose rows hold `text`, or a data
                loader that yields transcripts.
            batch_size: utterances per forward pass.
            transcripts: one text per audio; an empty text means "no text". They take precedence over the text of a
                manifest.
            **options: options of `transcribe` of the NeMo class.

        Raises:
            ValueError: if there is no transcript, a wrong number of transcripts, or a character outside the vocabulary.
        """
        if isinstance(audio, DataLoader):
            if transcripts is not None:
                raise ValueError(
                    "transcripts= cannot be combined with a data loader, which yields its own: leave out transcripts="
                )
            return super().transcribe(audio, batch_size=batch_size, **options)
        if isinstance(transcripts, str):
            transcripts = [transcripts]
        single = not isinstance(audio, (list, tuple))
        manifest = _manifest_of(audio)
        if manifest is not None:
            rows = read_manifest(manifest, require_text=False, check_audio=False)
            count = len(rows)
            if transcripts is None:
                if any(row.get('text') is None for row in rows):
                    raise ValueError(TRANSCRIPT_NEEDED)
                transcripts = [row['text'] for row in rows]
        else:
            count = 1 if single else len(audio)
        if transcripts is None:
            raise ValueError(TRANSCRIPT_NEEDED)
        if len(transcripts) != count:
            raise ValueError(
                f"{count} utterances but {len(transcripts)} transcripts: give one transcript per utterance"
            )
        self._pending_labels = [self.encode_text(text) for text in transcripts]
        try:
            return super().transcribe(audio, batch_size=batch_size, **options)
        finally:
            self._pending_labels = None

    def _transcribe_on_begin(self, audio: Any, trcfg: Any) -> None:
        # transcribe_generator() does not go through transcribe(), but it does get here.
        super()._transcribe_on_begin(audio, trcfg)
        if self._pending_labels is None and not isinstance(audio, DataLoader):
            raise ValueError(TRANSCRIPT_NEEDED)

    def _transcribe_on_end(self, trcfg: Any) -> None:
        # NeMo returns the model to eval mode and then unfreezes its parts, which puts them into training mode. The next
        # output would come from a corrupted transcript.
        super()._transcribe_on_end(trcfg)
        self.train(trcfg._internal.training_mode)

    def _transcribe_forward(self, batch: Any, trcfg: Any) -> dict[str, torch.Tensor]:
        signal, signal_length = batch[0], batch[1]
        if self._pending_labels is None:
            if len(batch) < 4 or batch[2] is None:
                raise ValueError(TRANSCRIPT_NEEDED)
            transcript, transcript_length = batch[2], batch[3]
        else:
            # NeMo keeps the order of its input, so the next labels belong to the next rows.
            size = signal.shape[0]
            if len(self._pending_labels) < size:
                raise RuntimeError(
                    "the data loader repeated utterances, so there are more of them than transcripts: transcribe with a stock loader"
                )
            transcript, transcript_length = _pad(self._pending_labels[:size])
            del self._pending_labels[:size]
        outputs = self.forward(
            input_signal=signal,
            input_signal_length=signal_length,
            transcript=transcript.to(signal.device),
            transcript_length=transcript_length.to(signal.device),
        )
        return dict(zip(self._transcription_outputs, outputs))


def _pad(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    labels = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=torch.long)
    for i, row in enumerate(rows):
        labels[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return labels, lengths


def _manifest_of(audio: Any) -> str | None:
    """The path of the manifest if `audio` is one by NeMo's rule, else None."""
    if isinstance(audio, (list, tuple)):
        audio = audio[0] if len(audio) == 1 else None
    return audio if isinstance(audio, str) and audio.endswith(('.json', '.jsonl')) else None

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The signals of a model, tensors with their lengths, in one form for student and teacher."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nemo_oracle_kd.functional import StoredLattice, TopPosteriors

__all__ = ['AudioBatch', 'EncodedAudio', 'StudentStep', 'Transcripts']


@dataclass(frozen=True)
class Transcripts:
    """Label sequences of a batch.

    Attributes:
        labels: `[B, U]`, padded with anything.
        lengths: `[B]`, valid labels.
    """

    labels: torch.Tensor
    lengths: torch.Tensor


@dataclass(frozen=True)
class AudioBatch:
    """What every NeMo ASR data loader yields: `(signal, signal_len, transcript, transcript_len)`.

    Attributes:
        signal: `[B, samples]` waveform in [-1, 1].
        lengths: `[B]` valid samples.
        transcripts: the labels in the *student's* vocabulary.
        rows: manifest rows of the utterances; `None` where nothing needs them.
    """

    signal: torch.Tensor
    lengths: torch.Tensor
    transcripts: Transcripts
    rows: Sequence[Mapping[str, Any]] | None = None

    def select(self, rows: list[int]) -> 'AudioBatch':
        """The utterances of some rows, padded no further than they need."""
        lengths, label_lengths = self.lengths[rows], self.transcripts.lengths[rows]
        labels = self.transcripts.labels[rows, : int(label_lengths.max())]
        of_rows = None if self.rows is None else [self.rows[row] for row in rows]
        return AudioBatch(
            self.signal[rows, : int(lengths.max())], lengths, Transcripts(labels, label_lengths), of_rows
        )

    @classmethod
    def from_nemo(cls, batch, rows: Sequence[Mapping[str, Any]] | None = None) -> 'AudioBatch':
        """Reads a NeMo batch before the model does.

        The signal is copied: NeMo's preprocessor adds its dither in place, and the next reader would hear the student's
        noise instead of the audio.

        Raises:
            ValueError: the batch holds features instead of audio (DALI) or has another layout.
        """
        if getattr(batch, 'has_processed_signal', False):
            raise ValueError(
                "the data loader hands over features instead of audio, which a teacher with its own preprocessor cannot "
                "read: set model.train_ds.use_dali=false"
            )
        if len(batch) < 4:
            raise ValueError(
                f"a training batch must be (signal, signal_len, transcript, transcript_len), not {len(batch)} items"
            )
        return cls(batch[0].clone(), batch[1], Transcripts(batch[2], batch[3]), rows)


@dataclass(frozen=True)
class EncodedAudio:
    """Outputs of a model for a batch of audio.

    Attributes:
        lengths: `[B]` valid frames (T may exceed the longest).
        log_probs: `[B, T, V]` frame posteriors of the CTC head, natural log, blank last; `None` without that head.
        encoded: `[B, D, T]` encoder output as a joint or an attention decoder takes it; `None` where nobody asked for it.
        predicted: `[B, D', U+1]` output of the prediction network for the batch's labels; `None` where it was not computed.
        top: the best classes of the frame posteriors, where no more is known of them; then `log_probs` is `None`.
        lattice: what was stored of a transducer's lattice, or `None`.
        arcs: log-probabilities of the arcs of the lattice of the batch's labels, as `JointTensors.arcs`, where a loss needed
            them before; otherwise `None`.
    """

    lengths: torch.Tensor
    log_probs: torch.Tensor | None = None
    encoded: torch.Tensor | None = None
    predicted: torch.Tensor | None = None
    top: TopPosteriors | None = None
    lattice: StoredLattice | None = None
    arcs: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def posteriors(self) -> torch.Tensor:
        """`log_probs` of a model that must have a CTC head; with the tail spread evenly where only the best classes are known.

        Raises:
            ValueError: the model has no CTC head.
        """
        if self.top is not None:
            return self.top.dense()
        if self.log_probs is None:
            raise ValueError("the model has no CTC head, so it gives no frame posteriors: use a CTC or hybrid model")
        return self.log_probs

    @property
    def frames(self) -> int:
        """Padded number of frames T of the posteriors."""
        return (self.posteriors if self.top is None else self.top.values).shape[1]

    def posteriors_beside(self, student: torch.Tensor, temperature: float | None) -> torch.Tensor:
        """The posteriors that an objective compares with those of a student.

        Args:
            student: `[B, T, V]` log-probabilities.
            temperature: of the objective, see `TopPosteriors.completed`; `None` for one that has none.
        """
        if self.top is None or temperature is None:
            return self.posteriors
        return self.top.completed(student, temperature)

    def over_frames(
        self, change: Callable[[torch.Tensor], torch.Tensor], lengths: torch.Tensor | None = None
    ) -> 'EncodedAudio':
        """The frame posteriors on other frames.

        Args:
            change: picks or mixes frames, `[B, T, V] -> [B, T', V]`; it can only pick where the best classes alone are known.
            lengths: `[B]` valid frames of the result, if they differ.
        """
        lengths = self.lengths if lengths is None else lengths
        if self.top is not None:
            return EncodedAudio(lengths, top=self.top.over_frames(change))
        return EncodedAudio(lengths, change(self.posteriors))

    def select(self, rows: Sequence[int]) -> 'EncodedAudio':
        """The utterances of some rows."""
        rows = list(rows)
        log_probs = None if self.log_probs is None else self.log_probs[rows]
        encoded = None if self.encoded is None else self.encoded[rows]
        predicted = None if self.predicted is None else self.predicted[rows]
        return EncodedAudio(self.lengths[rows], log_probs, encoded, predicted)


@dataclass(frozen=True)
class StudentStep:
    """Outputs of one head of the student in a training step, taken at the call of its own loss.

    Attributes:
        head: `ctc` or `transducer`.
        label_losses: `[B]`, NeMo's own loss of the batch's labels per utterance, in nats, with gradient; `inf` (gradient
            zero) for labels without any alignment, where NeMo's CTC loss gives 0.
        transcripts: the batch's labels.
        lengths: `[B]` valid encoder frames.
        reduce: NeMo's own reduction, `(losses [B], target_lengths [B]) -> scalar`.
        log_probs: CTC: `[B, T, V]`, natural log, blank last.
        score_frames: CTC: the student's own loss of other posteriors or other labels, `(log_probs [B, T, V], lengths [B],
            transcripts) -> [B]`, as `label_losses`.
        encoded: transducer: `[B, D, T]` encoder output as handed to the joint.
        predicted: transducer: `[B, D', U+1]` output of the prediction network as handed to the joint.
    """

    head: str
    label_losses: torch.Tensor
    transcripts: Transcripts
    lengths: torch.Tensor
    reduce: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    log_probs: torch.Tensor | None = None
    score_frames: Callable[[torch.Tensor, torch.Tensor, Transcripts], torch.Tensor] | None = None
    encoded: torch.Tensor | None = None
    predicted: torch.Tensor | None = None

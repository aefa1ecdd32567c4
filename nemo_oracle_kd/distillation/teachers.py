# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Teachers: where signals come from. Never an `nn.Module`, so nothing of a teacher can reach a student's weights."""

import hashlib
from collections.abc import Callable
from typing import Any

import torch

from nemo_oracle_kd.bridge.frames import frame_posteriors
from nemo_oracle_kd.bridge.joint import TransducerEncoding, encode_frames, predict_labels
from nemo_oracle_kd.bridge.model import Head, ModelDescription, describe, find_head
from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses, score_labels
from nemo_oracle_kd.bridge.signals import AudioBatch, FramePosteriors
from nemo_oracle_kd.bridge.vocabulary import TextCodec
from nemo_oracle_kd.distillation.settings import TeacherConfig

__all__ = ['AnswerMemory', 'OnlineTeacher']


class AnswerMemory:
    """Answers about utterances the teacher has heard before, found by the samples and labels themselves.

    A frozen teacher gives the same answer to the same audio in every epoch. Audio that changes from epoch to epoch
    (augmentation in the data loader) is simply never found again.

    Args:
        megabytes: no answer is added beyond this size; what is there stays.
    """

    def __init__(self, megabytes: float):
        self.room = int(megabytes * 2**20)
        self._answers: dict[bytes, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._answers)

    @staticmethod
    def keys(batch: AudioBatch) -> list[bytes]:
        """One key per utterance."""
        signal, labels = batch.signal.float().cpu(), batch.transcripts.labels.cpu().long()
        found = []
        for row, (samples, count) in enumerate(zip(batch.lengths.tolist(), batch.transcripts.lengths.tolist())):
            digest = hashlib.blake2b(signal[row, :samples].contiguous().numpy().tobytes(), digest_size=16)
            digest.update(labels[row, :count].contiguous().numpy().tobytes())
            found.append(digest.digest())
        return found

    def get(self, key: bytes) -> torch.Tensor | None:
        """The answer on the CPU, or `None`."""
        return self._answers.get(key)

    def put(self, key: bytes, answer: torch.Tensor) -> None:
        """Keeps a tensor, if there is room."""
        size = answer.numel() * answer.element_size()
        if size <= self.room and key not in self._answers:
            self.room -= size
            self._answers[key] = answer.cpu().clone()


class OnlineTeacher:
    """A frozen NeMo model which answers during the student's training.

    It sees the batch's audio as the loader yields it, without SpecAugment or dither (eval mode); the student's augmentation
    is the student's alone. An oracle teacher also sees the transcripts. Being no `nn.Module` it stays out of the student's
    `state_dict`, checkpoint, optimizer, DDP buffers, `.nemo` and `train()`.
    """

    def __init__(self, config: TeacherConfig):
        self.source = config.restore_from
        self.model: Any = restore_frozen(config.restore_from)
        self.description: ModelDescription = describe(self.model)
        self.memory = AnswerMemory(config.memory_mb) if config.memory_mb > 0 else None
        self._scores_with = config.head
        self._head: Head | None = None
        self._codec: TextCodec | None = None

    def __deepcopy__(self, memo):
        return self  # frozen: copies of whatever holds a teacher share it

    def __getstate__(self):
        raise TypeError("a teacher is not saved: it is restored from teacher.restore_from at the start of a fit")

    def to(self, device: torch.device) -> 'OnlineTeacher':
        """Moves the teacher to the student's device."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def frame_posteriors(self, batch: AudioBatch) -> FramePosteriors:
        """Posteriors `[B, T, V]` for a batch of audio.

        Raises:
            ValueError: an oracle teacher and an utterance without transcript.
        """

        def ask(batch: AudioBatch) -> tuple[torch.Tensor, torch.Tensor]:
            heard = frame_posteriors(self.model, batch)
            return heard.log_probs, heard.lengths

        return FramePosteriors(*self._heard(batch, b'', ask))

    @torch.no_grad()
    def transducer_encoding(self, batch: AudioBatch, predict: bool = True) -> TransducerEncoding:
        """What the joint of a transducer is given for a batch of audio and, if `predict`, its labels.

        Raises:
            ValueError: an oracle teacher and an utterance without transcript.
        """

        def ask(batch: AudioBatch) -> tuple[torch.Tensor, torch.Tensor]:
            encoded, lengths = encode_frames(self.model, batch)
            return encoded.transpose(1, 2), lengths

        encoded, lengths = self._heard(batch, b'encoded', ask)
        predicted = predict_labels(self.model, batch.transcripts) if predict else None
        return TransducerEncoding(encoded.transpose(1, 2), predicted, lengths)

    def _heard(
        self, batch: AudioBatch, kind: bytes, ask: Callable[[AudioBatch], tuple[torch.Tensor, torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames `[B, T, N]` with lengths `[B]`, from the memory where the utterance is there."""
        if self.description.reads_transcript and bool((batch.transcripts.lengths == 0).any()):
            raise ValueError(
                "the oracle teacher reads the transcript and an utterance of this batch has none: remove rows without "
                "`text` from the training manifest"
            )
        if self.memory is None:
            return ask(batch)
        keys = [kind + key for key in self.memory.keys(batch)]
        answers = [self.memory.get(key) for key in keys]
        missing = [row for row, answer in enumerate(answers) if answer is None]
        if missing:
            for row, frames, length in zip(missing, *ask(batch.select(missing))):
                answers[row] = frames[: int(length)]
                self.memory.put(keys[row], answers[row])
        lengths = torch.tensor([len(answer) for answer in answers], device=batch.signal.device)
        answers = [answer.to(batch.signal.device) for answer in answers]
        return torch.nn.utils.rnn.pad_sequence(answers, batch_first=True), lengths

    @property
    def head(self) -> Head:
        """The head that scores texts.

        Raises:
            ValueError: the model lacks the head that `teacher.head` asks for.
        """
        if self._head is None:
            self._head = find_head(self.model, self._scores_with)
        return self._head

    @property
    def codec(self) -> TextCodec:
        """Texts to the labels of that head."""
        if self._codec is None:
            self._codec = TextCodec(self.model, self.head.vocabulary)
        return self._codec

    @torch.no_grad()
    def sequence_nll(self, batch: AudioBatch, codec: TextCodec) -> tuple[torch.Tensor, torch.Tensor]:
        """Minus log-probability of each transcript, read as text and written in the teacher's own labels.

        Args:
            batch: audio and transcripts in the student's vocabulary.
            codec: of the student.

        Returns:
            `[B]` nats, `inf` where the text has no alignment, and `[B]` the teacher's tokens of it.

        Raises:
            UnwritableText: a transcript that the teacher's labels cannot express.
        """
        keys = self.memory.keys(batch) if self.memory is not None else []
        answers = [self.memory.get(b'score' + key) for key in keys] or [None] * len(batch.lengths)
        missing = [row for row, answer in enumerate(answers) if answer is None]
        if missing:
            asked = batch.select(missing) if len(missing) < len(answers) else batch
            labels = self._own_labels(asked, codec)
            hypotheses = Hypotheses.from_lists([[own] for own in labels], batch.signal.device)
            scores = score_labels(self.model, self.head, asked, hypotheses)[:, 0]
            for row, score, own in zip(missing, scores.double().cpu(), labels):
                answers[row] = torch.stack([-score, score.new_tensor(len(own))])
                if self.memory is not None:
                    self.memory.put(b'score' + keys[row], answers[row])
        nll, tokens = torch.stack(answers).to(batch.signal.device).unbind(1)
        return nll, tokens.long()

    def _own_labels(self, batch: AudioBatch, codec: TextCodec) -> list[list[int]]:
        counts = batch.transcripts.lengths.tolist()
        labels = [row[:count] for row, count in zip(batch.transcripts.labels.tolist(), counts)]
        if codec.fingerprint == self.codec.fingerprint:
            return labels
        return [self.codec.encode(codec.decode(row)) for row in labels]

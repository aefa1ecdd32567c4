# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Keeps a frozen teacher's answers, so that an utterance heard in an earlier epoch needs no second forward."""

import hashlib

import torch

from nemo_oracle_kd.bridge.signals import AudioBatch

__all__ = ['AnswerMemory']


class AnswerMemory:
    """A teacher's answers, keyed by a hash of an utterance's samples and labels.

    A frozen teacher gives the same answer to the same audio in every epoch. Audio that changes from epoch to epoch
    (augmentation in the data loader) never matches a key, so such a training gains nothing from the memory.

    Args:
        megabytes: upper limit of the memory, in MiB. When it is full, no answer is added and none is evicted.
    """

    def __init__(self, megabytes: float):
        self.room = int(megabytes * 2**20)
        self._answers: dict[bytes, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._answers)

    @staticmethod
    def keys(batch: AudioBatch) -> list[bytes]:
        """One key per utterance of the batch, in its order."""
        signal, labels = batch.signal.float().cpu(), batch.transcripts.labels.cpu().long()
        found = []
        for row, (samples, count) in enumerate(zip(batch.lengths.tolist(), batch.transcripts.lengths.tolist())):
            digest = hashlib.blake2b(signal[row, :samples].contiguous().numpy().tobytes(), digest_size=16)
            digest.update(labels[row, :count].contiguous().numpy().tobytes())
            found.append(digest.digest())
        return found

    def get(self, key: bytes) -> torch.Tensor | None:
        """Returns the answer of a key, on the CPU, or `None` if there is none."""
        return self._answers.get(key)

    def put(self, key: bytes, answer: torch.Tensor) -> None:
        """Keeps a copy of an answer on the CPU, if there is room for it and the key is new."""
        size = answer.numel() * answer.element_size()
        if size <= self.room and key not in self._answers:
            self.room -= size
            self._answers[key] = answer.cpu().clone()

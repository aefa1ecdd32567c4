# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What a teacher has said about utterances that it heard before."""

import hashlib

import torch

from nemo_oracle_kd.bridge.signals import AudioBatch

__all__ = ['AnswerMemory']


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

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What lets the training of an oracle teacher watch on held-out rows whether the teacher listens."""

from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from nemo_oracle_kd.bridge.audio_path import evaluating
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, Transcripts
from nemo_oracle_kd.callbacks.oracle_listening import OracleListening
from nemo_oracle_kd.distillation.contradictions import ContradictionLosses, contradiction_losses, score_texts

__all__ = ['OracleListeningMixin']


class OracleListeningMixin:
    """Adds :class:`OracleListening` to the trainer of a fit; `oracle.held_out_batches` says on how many batches it measures."""

    def configure_callbacks(self) -> list[Callback]:
        """Adds the watch. Lightning calls this hook."""
        callbacks = list(super().configure_callbacks())
        if self.oracle.held_out_batches:
            callbacks.append(OracleListening(self.oracle.held_out_batches, self.held_out_losses))
        return callbacks

    @torch.no_grad()
    def held_out_losses(self, batch: AudioBatch) -> ContradictionLosses | None:
        """Losses on held-out audio with its own text, another and none, and with silence; `None` before it reads texts.

        Args:
            batch: audio with its texts in the labels of this model.
        """
        if self.trainer is not None and not self.reads_at(self.trainer.global_step):
            return None
        head = find_head(self)
        with evaluating(self):
            return contradiction_losses(
                batch, self._hear, self._say, lambda said, texts: score_texts(self, head, said, texts)
            )

    def _hear(self, batch: AudioBatch) -> tuple[Any, ...]:
        features, lengths = self.preprocessor(input_signal=batch.signal, length=batch.lengths)
        audio, frames = self.encoder.encode_audio(features, lengths)
        return audio, frames.long(), self.audio_posteriors(audio)

    def _say(self, heard: tuple[Any, ...], texts: Transcripts) -> EncodedAudio:
        audio, frames, posteriors = heard
        fused, _ = self.encoder.fuse(audio, frames, texts.labels, texts.lengths, posteriors)
        return EncodedAudio(frames, self.fused_posteriors(fused), fused)

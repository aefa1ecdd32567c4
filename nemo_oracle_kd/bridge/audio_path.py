# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A second hearing of a batch by a student in training: its own modules or a copy of them, with or without augmentation."""

import contextlib
import copy
from collections.abc import Collection, Iterator
from typing import Any

from nemo.core.classes.mixins import AccessMixin
from torch import nn

from nemo_oracle_kd.bridge.encode import predict_labels
from nemo_oracle_kd.bridge.model import ctc_decoder
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio

__all__ = ['AudioPath', 'attention_contexts', 'evaluating', 'full_attention']


class AudioPath(nn.Module):
    """From audio to the outputs of a model's heads: the modules of the model, not copies of them.

    With `encoded` it also holds prediction network and joint, under the names that they have in a model.

    Args:
        model: a NeMo CTC, transducer or hybrid model.
        signals: what it gives besides the encoder's output: `log_probs` of the CTC head; with `encoded`, what the prediction
            network makes of the labels.
    """

    def __init__(self, model: Any, signals: Collection[str] = ('log_probs',)):
        super().__init__()
        self.preprocessor = model.preprocessor
        self.spec_augmentation = getattr(model, 'spec_augmentation', None)
        self.encoder = model.encoder
        self.ctc = ctc_decoder(model) if 'log_probs' in signals else None
        self.decoder, self.joint = (model.decoder, model.joint) if 'encoded' in signals else (None, None)
        self._guid = getattr(model, 'model_guid', None)

    def forward(self, batch: AudioBatch, augment: bool) -> EncodedAudio:
        """
        Args:
            batch: audio; its labels are read by the prediction network.
            augment: apply SpecAugment, in a draw of its own.

        Returns:
            Lengths `[B]`, `encoded`, and log-posteriors `[B, T, V + 1]`, float32, or `predicted`, or both.
        """
        with _unrecorded(self._guid):
            features, lengths = self.preprocessor(input_signal=batch.signal, length=batch.lengths)
            if augment and self.spec_augmentation is not None:
                features = self.spec_augmentation(input_spec=features, length=lengths)
            encoded, lengths = self.encoder(audio_signal=features, length=lengths)[:2]
            log_probs = predicted = None
            if self.ctc is not None:
                log_probs = self.ctc(encoder_output=encoded).float().log_softmax(dim=-1)
            if self.decoder is not None:
                predicted = predict_labels(self, batch.transcripts)
        return EncodedAudio(lengths.long(), log_probs, encoded, predicted)

    def frozen_copy(self) -> 'AudioPath':
        """A copy in eval mode, without gradients, and without the loss and the metric that a fused joint holds."""
        fused = [getattr(self.joint, name, None) for name in ('loss', 'wer')]
        left_out = {id(part): None for part in fused if part is not None}
        return copy.deepcopy(self, left_out).eval().requires_grad_(False)


@contextlib.contextmanager
def _unrecorded(guid: Any) -> Iterator[None]:
    """InterCTC records what every forward of the encoder gives, and refuses two records per step."""
    before = AccessMixin.is_access_enabled(guid)
    AccessMixin.set_access_enabled(False, guid)
    try:
        yield
    finally:
        AccessMixin.set_access_enabled(before, guid)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every sub-module is in the mode it was in, frozen ones too."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def attention_contexts(model: Any) -> list[list[int]]:
    """Attention contexts (frames to the left and to the right, -1: all) that the student's encoder is trained with.

    Empty for an encoder without a choice of contexts, and for one that limits attention in its kernel instead of by a mask.
    """
    encoder = model.encoder
    if getattr(encoder, 'self_attention_model', None) == 'rel_pos_local_attn':
        return []
    return [list(context) for context in getattr(encoder, 'att_context_size_all', None) or []]


@contextlib.contextmanager
def full_attention(encoder: Any) -> Iterator[None]:
    """In eval mode the encoder attends to the whole utterance for a while."""
    before = encoder.att_context_size
    encoder.att_context_size = [-1] * len(before)
    try:
        yield
    finally:
        encoder.att_context_size = before

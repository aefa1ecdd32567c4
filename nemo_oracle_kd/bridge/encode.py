# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs the encoder of any NeMo model with a CTC head, a transducer head or an attention decoder on a batch of audio.

Everything else that is computed from a model (frame posteriors, scores of texts, its lattice, its emissions) starts from the
result of :func:`encode_audio`. The encoder, by far the most expensive part, therefore runs once per batch.
"""

from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.bridge.attention_prompt import is_attention_model
from nemo_oracle_kd.bridge.model import ctc_decoder, has_ctc_head
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, Transcripts

__all__ = ['encode_audio', 'predict_labels']


def encode_audio(model: Any, batch: AudioBatch) -> EncodedAudio:
    """Runs the encoder, and the CTC head if there is one.

    This works for CTC, RNN-T, TDT, multi-blank and hybrid models, and for attention encoder-decoders, whose `encoded` is what their
    decoder attends to. An oracle also reads the transcripts of the batch.

    Args:
        model: a NeMo ASR model in eval mode.
        batch: audio and, for an oracle, transcripts in the model's vocabulary.

    Raises:
        ValueError: if the model is in training mode, in which dropout and augmentation would change the result.
    """
    if model.training:
        raise ValueError("the model is in training mode, in which its outputs are random: call model.eval() first")
    audio = {'input_signal': batch.signal, 'input_signal_length': batch.lengths}
    if getattr(model, 'reads_transcript', False):
        audio.update(transcript=batch.transcripts.labels, transcript_length=batch.transcripts.lengths)
    if is_attention_model(model):
        _, lengths, states, _ = model.forward(**audio)
        return EncodedAudio(lengths.long(), encoded=states.transpose(1, 2))
    if not hasattr(model, 'joint'):
        log_probs, lengths, _ = model.forward(**audio)
        return EncodedAudio(lengths.long(), _normalised(log_probs))
    encoded, lengths = model.forward(**audio)[:2]  # the forward of a transducer is its encoder
    log_probs = _normalised(ctc_decoder(model)(encoder_output=encoded)) if has_ctc_head(model) else None
    return EncodedAudio(lengths.long(), log_probs, encoded)


def predict_labels(model: Any, transcripts: Transcripts) -> Tensor:
    """Runs the prediction network of a transducer on labels `[B, U]` of its vocabulary; returns `[B, D', U+1]`."""
    return model.decoder(targets=transcripts.labels, target_length=transcripts.lengths)[0]


def _normalised(log_probs: Tensor) -> Tensor:
    return torch.log_softmax(log_probs.float(), dim=-1)

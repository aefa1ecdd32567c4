# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Frame posteriors of any NeMo model with a CTC head, oracle teachers included."""

from typing import Any

import torch

from nemo_oracle_kd.bridge.model import ctc_decoder, has_ctc_head
from nemo_oracle_kd.bridge.signals import AudioBatch, FramePosteriors

__all__ = ['frame_posteriors']


def frame_posteriors(model: Any, batch: AudioBatch) -> FramePosteriors:
    """Runs the model on a batch of audio.

    Works for CTC models, for the CTC head of hybrid models and for oracle models, which also get the transcript.

    Args:
        model: a NeMo ASR model with a CTC head.
        batch: audio and, for an oracle, transcripts in the model's vocabulary.

    Raises:
        ValueError: the model has no CTC head.
    """
    if not has_ctc_head(model):
        raise ValueError(
            f"{type(model).__name__} has no CTC head, so it gives no frame posteriors: use a CTC or hybrid RNNT-CTC model"
        )
    audio = {'input_signal': batch.signal, 'input_signal_length': batch.lengths}
    if getattr(model, 'reads_transcript', False):
        audio.update(transcript=batch.transcripts.labels, transcript_length=batch.transcripts.lengths)
    if hasattr(model, 'joint'):  # hybrid: forward() is the encoder alone
        encoded, lengths = model.forward(**audio)
        log_probs = ctc_decoder(model)(encoder_output=encoded)
    else:
        log_probs, lengths, _ = model.forward(**audio)
    return FramePosteriors(torch.log_softmax(log_probs.float(), dim=-1), lengths.long())

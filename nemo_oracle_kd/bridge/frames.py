# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Frame posteriors of any NeMo model with a CTC head, oracle teachers included."""

from typing import Any

import torch

from nemo_oracle_kd.bridge.describe import ctc_decoder, has_ctc_head
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

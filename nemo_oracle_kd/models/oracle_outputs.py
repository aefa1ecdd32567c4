# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The outputs of an oracle teacher for one batch: those of both branches, their difference in timing, and word errors."""

from typing import NamedTuple

import torch

from nemo_oracle_kd.functional.ctc import ctc_occupancy
from nemo_oracle_kd.functional.frames import occupancy_kl

__all__ = ['OracleBranches', 'WordErrors', 'timing_loss']

WordErrors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Word error rate, errors and words of a batch."""


class OracleBranches(NamedTuple):
    """The outputs of both branches of an oracle teacher for one batch."""

    log_probs: torch.Tensor | None
    """The fused branch: log-posteriors `[B, T, V + 1]`, natural log, blank last. None if no transcript was read, and for a
    transducer, which has a lattice instead."""
    audio_log_probs: torch.Tensor | None
    """The audio branch: log-posteriors `[B, T, V + 1]`. None if the model has no audio branch (`audio_ctc_weight: 0`)."""
    lengths: torch.Tensor
    """Valid frames, `[B]`."""
    attention: list[torch.Tensor]
    """Cross-attention per fusion layer, `[B, H, T, U + 1]`, where key 0 is "no text". Empty unless requested."""
    encoded: torch.Tensor | None
    """Output of the fusion, `[B, D, T]`, which the decoder or a transducer's joint reads. None if no transcript was read."""


def timing_loss(branches: OracleBranches, transcript: torch.Tensor, transcript_length: torch.Tensor) -> torch.Tensor:
    """Mean divergence of the fused posteriors from the audio branch's occupancy of the transcript, nats per utterance.

    A fused branch can know the words from the audio and still place them where the text suggests; its students learn that timing.

    Args:
        branches: outputs of both branches of a CTC teacher; the audio branch's are detached here.
        transcript: `[B, U]` true labels, without corruption.
        transcript_length: `[B]`.
    """
    heard = branches.audio_log_probs.detach()
    blank = heard.shape[2] - 1
    occupancy = ctc_occupancy(heard, transcript, branches.lengths, transcript_length, blank)
    return occupancy_kl(branches.log_probs, occupancy, branches.lengths).mean()

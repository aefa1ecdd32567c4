# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which frames of a CTC teacher are worth matching: treatment of the blank frames between the spikes.

CTC posteriors are peaky: most frames are almost surely blank and drown the few that carry labels. The modes are those
of blank elimination and symmetric selection (arXiv 2506.01503) and a plain weight.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from nemo_oracle_kd.functional.tensors import compute_dtype, length_mask

__all__ = ['BLANK_MODES', 'blank_frame_weights']

BLANK_MODES = ('keep', 'drop', 'window', 'weight')


@torch.no_grad()
def blank_frame_weights(
    teacher_log_probs: Tensor,
    lengths: Tensor,
    blank: int,
    mode: str = 'keep',
    window: int = 0,
    weight: float = 1.0,
) -> Tensor:
    """Weight of each frame by the teacher's preferred label.

    A frame is a blank frame where the teacher's argmax is blank, and a spike frame otherwise. Spike frames weigh 1.

    Args:
        teacher_log_probs: `[B, T, V]` log-probabilities or logits.
        lengths: `[B]` valid frames.
        blank: id of the blank.
        mode: what a blank frame weighs: 'keep' 1, 'drop' 0, 'window' 1 within `window` frames of a spike frame on
            either side and 0 elsewhere, 'weight' the given `weight`.
        window: frames on each side of a spike, for 'window'; 0 equals 'drop'.
        weight: weight of a blank frame, for 'weight'.

    Returns:
        `[B, T]` weights, zero in the padding.

    Raises:
        ValueError: on an unknown mode, a negative window or weight, or shapes that do not fit.
    """
    if mode not in BLANK_MODES:
        raise ValueError(f"Unknown blank mode '{mode}'; choose one of {', '.join(BLANK_MODES)}.")
    if window < 0 or weight < 0:
        raise ValueError(f"window and weight must not be negative, got {window} and {weight}.")
    if teacher_log_probs.dim() != 3 or lengths.shape != teacher_log_probs.shape[:1]:
        raise ValueError(
            f"teacher_log_probs must have shape [B, T, V] and lengths [B], got {list(teacher_log_probs.shape)} and "
            f"{list(lengths.shape)}."
        )
    valid = length_mask(lengths.to(teacher_log_probs.device), teacher_log_probs.shape[1])
    dtype = compute_dtype(teacher_log_probs.dtype)
    spike = ((teacher_log_probs.argmax(dim=2) != blank) & valid).to(dtype)
    if mode == 'keep':
        weights = torch.ones_like(spike)
    elif mode == 'drop':
        weights = spike
    elif mode == 'window':
        # Windows grow from valid spikes only: an argmax in the padding must not reach back into the utterance.
        padded = F.pad(spike, (window, window))
        weights = padded.unfold(1, 2 * window + 1, 1).amax(dim=2) if spike.numel() else spike
    else:
        weights = torch.where(spike > 0, spike, torch.full_like(spike, weight))
    return weights * valid

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Brings frame posteriors to another frame rate, or moves them in time."""

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import compute_dtype, fill_padding

__all__ = ['RESAMPLE_MODES', 'resample_frames', 'shift_frames']

RESAMPLE_MODES = ('nearest', 'linear')


def resample_frames(
    probs_or_logprobs: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    mode: str = 'nearest',
    *,
    are_log_probs: bool = True,
    max_target_length: int | None = None,
) -> Tensor:
    """Stretches or shrinks each utterance to a given number of frames.

    Both ends of an utterance stay in place: target frame j is read at its centre, which lies at `(j + 0.5) * T / T'`
    source frames. Equal lengths change nothing.

    Args:
        probs_or_logprobs: `[B, T, V]`.
        lengths: `[B]` valid source frames.
        target_lengths: `[B]` wanted frames.
        mode: 'nearest' copies frames and so keeps spikes sharp; 'linear' interpolates the *probabilities* of the two
            neighbours. (Interpolating log-probabilities would multiply the probabilities, and so erase a class that
            only one of the two frames makes probable.)
        are_log_probs: whether the input is logarithmic. This matters for 'linear' only, which then normalises the
            input, so that logits are accepted too, and returns log-probabilities.
        max_target_length: padded length T' of the result; the largest of `target_lengths` if omitted.

    Returns:
        `[B, T', V]`, zero in the padding. 'linear' gives float32 for float16 and bfloat16.

    Raises:
        ValueError: if the mode is unknown, the shapes do not match, `max_target_length` is too small, or an utterance
            without frames is to get some.
    """
    if mode not in RESAMPLE_MODES:
        raise ValueError(f"Unknown resampling mode '{mode}'; choose one of {', '.join(RESAMPLE_MODES)}.")
    x = fill_padding(probs_or_logprobs, lengths)
    if x.dim() != 3 or target_lengths.shape != lengths.shape:
        raise ValueError(
            f"Posteriors must have shape [B, T, V] and target_lengths {list(lengths.shape)}, got {list(x.shape)} and "
            f"{list(target_lengths.shape)}; pass one target length per utterance."
        )
    batch, frames, vocabulary = x.shape
    source = lengths.to(device=x.device, dtype=torch.long).unsqueeze(1)
    wanted = target_lengths.to(device=x.device, dtype=torch.long).unsqueeze(1)
    longest = int(wanted.max()) if batch else 0
    width = longest if max_target_length is None else max_target_length
    if width < longest:
        raise ValueError(
            f"max_target_length = {width} is smaller than the longest target length, {longest}; raise it or leave it out."
        )
    if ((source == 0) & (wanted > 0)).any():
        raise ValueError(
            "An utterance without frames cannot be resampled to one or more frames; leave empty utterances out."
        )
    if frames == 0:
        return x.new_zeros((batch, width, vocabulary))

    def at(position: Tensor) -> Tensor:
        position = torch.minimum(position, source - 1).clamp(min=0)
        return x.gather(1, position.unsqueeze(2).expand(batch, width, vocabulary))

    # Integer arithmetic in units of 1 / (2 T') source frames: no rounding, whatever the length.
    centre = (2 * torch.arange(width, device=x.device).unsqueeze(0) + 1) * source
    unit = 2 * wanted.clamp(min=1)
    if mode == 'nearest':
        return fill_padding(at(torch.div(centre, unit, rounding_mode='floor')), target_lengths)
    x = x.to(compute_dtype(x.dtype))
    if are_log_probs:
        x = x.log_softmax(dim=2)
    offset = centre - wanted.clamp(min=1)
    left = torch.div(offset, unit, rounding_mode='floor')
    share = ((offset - left * unit).to(x.dtype) / unit.to(x.dtype)).unsqueeze(2)
    if are_log_probs:
        mixed = torch.logaddexp(at(left) + torch.log1p(-share), at(left + 1) + share.log())
    else:
        mixed = at(left) * (1 - share) + at(left + 1) * share
    return fill_padding(mixed, target_lengths)


def shift_frames(probs_or_logprobs: Tensor, lengths: Tensor, shift: int) -> Tensor:
    """Moves each utterance later by a number of frames.

    Frame t of the result is frame t - shift, or the nearest valid frame where there is none: an utterance that is moved later
    begins with copies of its first frame, which is silence as a rule, and loses its last frames.

    Args:
        probs_or_logprobs: `[B, T, V]`.
        lengths: `[B]` valid frames.
        shift: number of frames; below 0 moves earlier.

    Returns:
        `[B, T, V]`, zero in the padding; the argument itself if `shift` is 0.

    Raises:
        ValueError: if the shapes do not match.
    """
    if shift == 0:
        return probs_or_logprobs
    x = fill_padding(probs_or_logprobs, lengths)
    if x.dim() != 3:
        raise ValueError(f"Posteriors must have shape [B, T, V], got {list(x.shape)}; add the missing dimensions.")
    last = (lengths.to(device=x.device, dtype=torch.long) - 1).unsqueeze(1)
    frames = (torch.arange(x.shape[1], device=x.device) - shift).unsqueeze(0)
    source = torch.minimum(frames, last).clamp(min=0)
    return fill_padding(x.gather(1, source.unsqueeze(2).expand_as(x)), lengths)

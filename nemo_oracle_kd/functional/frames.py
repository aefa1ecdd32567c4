# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distances between the frame posteriors of a CTC student and a CTC teacher, and which frames are worth matching.

The losses return one value per utterance, `[B]`: the *sum* over its valid frames. Splitting a batch, padding it further
or adding unused classes therefore changes nothing, and the caller chooses the reduction. Inputs may be log-probabilities
or logits. All are normalised here, so a constant added to the logits of a frame changes nothing, and log-probabilities
pass unchanged (log-softmax is idempotent). The teacher is detached. float16 and bfloat16 are computed in float32;
float64 stays float64.

A teacher that gives NaN in a valid frame is broken. The value of that utterance is then NaN, so that the fault is
visible, and its gradient is zero, so that the fault does not spread to the student's weights.

CTC posteriors are peaky: most frames are almost certainly blank and outweigh the few that carry labels.
`blank_frame_weights` offers blank elimination and symmetric selection (arXiv 2506.01503), and a plain weight.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nemo_oracle_kd.functional.tensors import check_lengths, compute_dtype, fill_padding, length_mask

__all__ = [
    'BLANK_MODES',
    'blank_frame_weights',
    'frame_agreement',
    'frame_entropy',
    'frame_kl',
    'guided_ctc',
    'occupancy_kl',
    'softmax_l2',
]

BLANK_MODES = ('keep', 'drop', 'window', 'weight')
"""How frames are weighted whose most probable label is blank, see `blank_frame_weights`."""


def frame_kl(
    student_log_probs: Tensor,
    teacher_log_probs: Tensor,
    lengths: Tensor,
    temperature: float = 1.0,
    frame_weights: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher, frame by frame (arXiv 1503.02531).

    `temperature ** 2 * sum_t w_t sum_k p(k|t) * (log p(k|t) - log q(k|t))`, with p the teacher and q the student at
    this temperature. The factor keeps the size of the gradient. The value is exactly zero for equal inputs.

    Args:
        student_log_probs: `[B, T, V]` log-probabilities or logits.
        teacher_log_probs: `[B, T, V]` log-probabilities or logits, detached.
        lengths: `[B]` valid frames.
        temperature: divides the logits of both, positive.
        frame_weights: `[B, T]` weight of each frame, detached; 1 if omitted.

    Returns:
        `[B]` in nats, at least zero.

    Raises:
        ValueError: if the shapes do not match, or if the temperature is not positive.
    """
    student, teacher, broken = _normalised_pair(student_log_probs, teacher_log_probs, lengths, temperature)
    return temperature**2 * _mark_broken(broken, _sum_over_frames(_kl(teacher, student), lengths, frame_weights))


def softmax_l2(
    student_log_probs: Tensor,
    teacher_log_probs: Tensor,
    lengths: Tensor,
    temperature: float = 1.0,
    frame_weights: Tensor | None = None,
) -> Tensor:
    """Squared distance of the posteriors, "softmax-level" distillation (TutorNet, arXiv 2008.00671).

    `sum_t w_t sum_k (p(k|t) - q(k|t)) ** 2` is bounded by 2 per frame, so it is gentler than the divergence on peaky CTC
    posteriors.

    Args:
        student_log_probs: `[B, T, V]` log-probabilities or logits.
        teacher_log_probs: `[B, T, V]` log-probabilities or logits, detached.
        lengths: `[B]` valid frames.
        temperature: divides the logits of both, positive; the result is not rescaled.
        frame_weights: `[B, T]` weight of each frame, detached; 1 if omitted.

    Returns:
        `[B]`, at least zero.

    Raises:
        ValueError: if the shapes do not match, or if the temperature is not positive.
    """
    student, teacher, broken = _normalised_pair(student_log_probs, teacher_log_probs, lengths, temperature)
    squares = (student.exp() - teacher.exp()).square().sum(dim=2)
    return _mark_broken(broken, _sum_over_frames(squares, lengths, frame_weights))


def guided_ctc(student_log_probs: Tensor, teacher_log_probs: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """Guided CTC training (arXiv 1904.08311): minus the student's posterior at the teacher's spikes.

    `-sum_{t: argmax p(.|t) != blank} q(argmax_k p(k|t) | t)`, the posterior itself and not its logarithm.

    Args:
        student_log_probs: `[B, T, V]` log-probabilities or logits.
        teacher_log_probs: `[B, T, V]` log-probabilities or logits, detached.
        lengths: `[B]` valid frames.
        blank: id of the blank.

    Returns:
        `[B]`, between minus the number of spike frames and zero.

    Raises:
        ValueError: if shapes, lengths or blank do not match.
    """
    _check_pair(student_log_probs, teacher_log_probs, lengths)
    _check_blank(blank, student_log_probs.shape[2])
    student = _normalised(student_log_probs, lengths)
    spike = teacher_log_probs.argmax(dim=2)
    broken = _any_valid(teacher_log_probs.gather(2, spike.unsqueeze(2)).squeeze(2).isnan(), lengths)
    spike = spike.to(student.device)
    posterior = student.gather(2, spike.unsqueeze(2)).squeeze(2).exp()
    return _mark_broken(broken, _sum_over_frames(-posterior, lengths, (spike != blank).to(posterior.dtype)))


def occupancy_kl(student_log_probs: Tensor, occupancy: Tensor, lengths: Tensor) -> Tensor:
    """Divergence of the student from a label-constrained occupancy (S-CTC, Huang et al. 2018).

    `sum_t sum_k gamma(t, k) * (log gamma(t, k) - log q(k|t))`. Utterances without any alignment have occupancy zero
    and contribute neither value nor gradient.

    Args:
        student_log_probs: `[B, T, V]` log-probabilities or logits.
        occupancy: `[B, T, V]` from `ctc_occupancy`, detached.
        lengths: `[B]` valid frames.

    Returns:
        `[B]` in nats.

    Raises:
        ValueError: if the shapes do not match.
    """
    _check_pair(student_log_probs, occupancy, lengths)
    student = _normalised(student_log_probs, lengths)
    target = fill_padding(occupancy.detach(), lengths).to(student.dtype)
    absent = target.sum(dim=2).isnan()
    _zero_frames(target, absent)
    values = (torch.xlogy(target, target) - _cross(target, student)).sum(dim=2)
    return _mark_broken(absent.any(dim=1), _sum_over_frames(values, lengths))


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

    A frame is a blank frame if the teacher's argmax is blank, and a spike frame otherwise. Spike frames have weight 1.

    Args:
        teacher_log_probs: `[B, T, V]` log-probabilities or logits.
        lengths: `[B]` valid frames.
        blank: id of the blank.
        mode: the weight of a blank frame. 'keep': 1; 'drop': 0; 'window': 1 within `window` frames of a spike frame on
            either side and 0 elsewhere; 'weight': the given `weight`.
        window: frames on each side of a spike, for 'window'; 0 equals 'drop'.
        weight: weight of a blank frame, for 'weight'.

    Returns:
        `[B, T]` weights, zero in the padding.

    Raises:
        ValueError: if the mode is unknown, window or weight is negative, or shapes, lengths or blank do not match.
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
    check_lengths(lengths, teacher_log_probs.shape[1])
    _check_blank(blank, teacher_log_probs.shape[2])
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


def frame_entropy(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """Mean entropy of the frame posteriors.

    Args:
        log_probs: `[B, T, V]` log-probabilities or logits.
        lengths: `[B]` valid frames.

    Returns:
        `[B]` nats per frame; zero for an utterance without frames.

    Raises:
        ValueError: if the shapes do not match.
    """
    check_lengths(lengths, log_probs.shape[1])
    normalised = _normalised(log_probs, lengths)
    total = _sum_over_frames(-_cross(normalised.exp(), normalised).sum(dim=2), lengths)
    total = _mark_broken(_is_broken(normalised).any(dim=1), total)
    return total / lengths.to(total.device).clamp(min=1)


@torch.no_grad()
def frame_agreement(a: Tensor, b: Tensor, lengths: Tensor) -> Tensor:
    """Share of frames in which two models prefer the same label.

    Args:
        a: `[B, T, V]` log-probabilities or logits of one model.
        b: `[B, T, V]` of the other.
        lengths: `[B]` valid frames.

    Returns:
        `[B]` between 0 and 1; zero for an utterance without frames.

    Raises:
        ValueError: if the shapes do not match.
    """
    _check_pair(a, b, lengths)
    same = (a.argmax(dim=2) == b.argmax(dim=2)).to(compute_dtype(a.dtype))
    return _sum_over_frames(same, lengths) / lengths.to(same.device).clamp(min=1)


def _check_pair(student: Tensor, teacher: Tensor, lengths: Tensor) -> None:
    if student.dim() != 3 or teacher.dim() != 3:
        raise ValueError(f"Posteriors must have shape [B, T, V], got {list(student.shape)} and {list(teacher.shape)}.")
    if student.shape[2] != teacher.shape[2]:
        raise ValueError(
            f"Student and teacher have {student.shape[2]} and {teacher.shape[2]} classes; a per-class distance needs "
            "one vocabulary, so give both models the same tokenizer."
        )
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            f"Student and teacher have [B, T] of {list(student.shape[:2])} and {list(teacher.shape[:2])}; bring the "
            "teacher to the student's frames with resample_frames."
        )
    if lengths.shape != student.shape[:1]:
        raise ValueError(
            f"lengths must have shape [{student.shape[0]}], one per utterance, got {list(lengths.shape)}."
        )
    check_lengths(lengths, student.shape[1])


def _check_blank(blank: int, classes: int) -> None:
    if not 0 <= blank < classes:
        raise ValueError(
            f"Blank {blank} does not exist among the {classes} classes of the posteriors; pass the models' own blank id."
        )


def _normalised(log_probs: Tensor, lengths: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-softmax over the last axis in at least float32; the padding is constant and gets no gradient."""
    log_probs = fill_padding(log_probs, lengths)
    return (log_probs.to(compute_dtype(log_probs.dtype)) / temperature).log_softmax(dim=2)


def _normalised_pair(
    student: Tensor, teacher: Tensor, lengths: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Both normalised, with the NaN of the teacher removed, and the utterances `[B]` in which there was any."""
    _check_pair(student, teacher, lengths)
    if not temperature > 0:
        raise ValueError(f"The temperature must be positive, got {temperature}.")
    student = _normalised(student, lengths, temperature)
    with torch.no_grad():
        teacher = _normalised(teacher, lengths, temperature).to(student.dtype)
        absent = _is_broken(teacher)
        _zero_frames(teacher, absent)
    return student, teacher, absent.any(dim=1)


def _is_broken(normalised: Tensor) -> Tensor:
    """`[B, T]` frames without posteriors. One NaN or infinite logit makes all classes of a frame NaN."""
    return normalised[:, :, :1].isnan().any(dim=2)


def _zero_frames(posteriors: Tensor, absent: Tensor) -> None:
    """Writes zeros over the absent frames of `posteriors [B, T, V]`, so that no gradient meets NaN."""
    # On a CPU the check is cheaper than the fill; on an accelerator it would force a synchronisation.
    if absent.device.type != 'cpu' or bool(absent.any()):
        posteriors.masked_fill_(absent.unsqueeze(2), 0.0)


def _any_valid(frames: Tensor, lengths: Tensor) -> Tensor:
    """`[B]` whether a valid frame of the utterance is marked in `frames [B, T]`."""
    return (frames & length_mask(lengths.to(frames.device), frames.shape[1])).any(dim=1)


def _mark_broken(broken: Tensor, values: Tensor) -> Tensor:
    """`values [B]`, NaN with gradient zero where the teacher is broken."""
    return values.masked_fill(broken.to(values.device), math.nan)


def _cross(p: Tensor, log_q: Tensor) -> Tensor:
    """`p * log q`; zero where p is zero, even if log q is -inf."""
    return torch.where(p > 0, p * log_q, torch.zeros_like(p))


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """`sum_k p (log p - log q)` over the last axis. The difference comes first, so equal inputs give exactly zero."""
    return _cross(log_p.exp(), log_p - log_q).sum(dim=-1)


def _sum_over_frames(values: Tensor, lengths: Tensor, frame_weights: Tensor | None = None) -> Tensor:
    """Weighted sum of `[B, T]` over the valid frames; a frame of weight zero adds nothing, even if its value is infinite."""
    mask = length_mask(lengths.to(values.device), values.shape[1])
    if frame_weights is not None:
        if frame_weights.shape != values.shape:
            raise ValueError(
                f"frame_weights must have shape {list(values.shape)}, one per frame, got {list(frame_weights.shape)}."
            )
        weights = frame_weights.detach().to(device=values.device, dtype=values.dtype)
        mask = mask & (weights != 0)
        values = values * weights
    return torch.where(mask, values, torch.zeros_like(values)).sum(dim=1)

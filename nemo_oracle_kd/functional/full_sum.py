# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Full-sum distillation (arXiv 2303.05958, section 3): distances between a student's and a teacher's sequence scores.

The scores are full sums, `-log P(Y|X)` of whole label sequences, whichever transducer or CTC lattice they come from.
Lattice nodes are never matched with one another, so frame rates and architectures may differ. The teacher contributes
one number per sequence, which can be stored.

With `delta = student_nll - teacher_nll`, the gradient of the L1 distance is `sign(delta)` times the gradient of the
student's own loss: weight +1 while the student is less confident than the teacher, -1 once it is more confident. The
gradient of MSE is `2 delta` times that of the loss, so long utterances and outliers dominate.

Normalised over an N-best list, the scores become posteriors, and whatever all hypotheses of an utterance have in common
cancels. The gradient is then that of maximum mutual information training, with the N-best list as the denominator.
"""

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import compute_dtype

__all__ = [
    'FULL_SUM_DISTANCES',
    'FULL_SUM_NORMALIZATIONS',
    'CONFIDENCE_MODES',
    'NBEST_OVER',
    'full_sum_distance',
    'full_sum_comparable',
    'full_sum_norm_distance',
    'full_sum_norm_comparable',
    'nbest_log_posteriors',
    'confidence_weight',
]

FULL_SUM_DISTANCES = ('l1', 'mse', 'huber')
"""The paper's L1 and MSE, and Huber: an L1 that is quadratic near zero, so that it does not oscillate around equal scores."""

FULL_SUM_NORMALIZATIONS = ('none', 'token')
"""Scores per sequence (the paper) or per token."""

NBEST_OVER = ('first', 'all')
"""Which texts of an N-best list are compared: the best one, or all of them (their mean)."""

CONFIDENCE_MODES = ('constant', 'probability', 'sigmoid', 'value')
"""How the teacher's confidence becomes a weight, see `confidence_weight`."""


def full_sum_distance(
    student_nll: Tensor,
    teacher_nll: Tensor,
    kind: str = 'l1',
    huber_width: float = 1.0,
    dead_zone: float = 0.0,
    normalization: str = 'none',
    target_lengths: Tensor | None = None,
    teacher_target_lengths: Tensor | None = None,
) -> Tensor:
    """Distance between the log-probabilities that student and teacher give to the same text (arXiv 2303.05958).

    With `excess = max(|delta| - dead_zone, 0)`: L1 is `excess`, MSE is `excess**2`, and Huber is
    `excess**2 / (2 width)` up to the width and `excess - width / 2` beyond it, so that its slope never exceeds that of
    L1. The gradient is exactly zero at equal scores and within the dead zone.

    Args:
        student_nll: `[B]` minus log-probability in nats. The gradient goes here.
        teacher_nll: `[B]` the same under the teacher; treated as a constant.
        kind: one of `FULL_SUM_DISTANCES`.
        huber_width: where Huber turns from quadratic to linear, in the unit of delta.
        dead_zone: differences up to this size cost nothing, in the unit of delta.
        normalization: 'none' leaves delta in nats. 'token' divides each score by its number of tokens (1 if there are
            none) before the difference is taken, so delta is in nats per token and MSE is divided by the squared
            length.
        target_lengths: `[B]` tokens of the text; only 'token' needs them.
        teacher_target_lengths: `[B]` tokens of the text in the teacher's tokenizer, if it is a different one.

    Returns:
        `[B]`, float64 for float64 input and float32 otherwise. If a score is infinite, because the text has no
        alignment, the distance is 0 with gradient zero; `full_sum_comparable` marks the others. NaN stays NaN.

    Raises:
        ValueError: if a name is unknown, a width is negative, `target_lengths` are missing, or the shapes do not match.
    """
    _check_distance(kind, huber_width, dead_zone)
    if normalization not in FULL_SUM_NORMALIZATIONS:
        raise ValueError(
            f"Unknown normalisation '{normalization}'; choose one of {', '.join(FULL_SUM_NORMALIZATIONS)}, or "
            "full_sum_norm_distance to normalise over an N-best list."
        )
    comparable = full_sum_comparable(student_nll, teacher_nll)
    dtype = compute_dtype(student_nll.dtype)
    student = _where(comparable, student_nll.to(dtype), 0.0)
    # Two large numbers are subtracted, so the teacher's stored score keeps its own precision until then.
    teacher = _where(comparable, teacher_nll.detach().to(student_nll.device), 0.0)
    if normalization == 'token':
        if target_lengths is None:
            raise ValueError("Normalisation 'token' needs target_lengths, the number of tokens of every text.")
        if teacher_target_lengths is None:
            teacher_target_lengths = target_lengths
        student = student / _tokens(target_lengths, student)
        teacher = teacher / _tokens(teacher_target_lengths, teacher)
    return _distance((student - teacher).to(dtype), kind, huber_width, dead_zone)


def full_sum_comparable(student_nll: Tensor, teacher_nll: Tensor) -> Tensor:
    """Utterances that `full_sum_distance` compares: `[B]` bool, false where the text has no alignment in one of the models.

    Raises:
        ValueError: if the shapes differ.
    """
    if student_nll.dim() != 1 or student_nll.shape != teacher_nll.shape:
        raise ValueError(
            f"Scores of student and teacher must both have shape [B], got {list(student_nll.shape)} and "
            f"{list(teacher_nll.shape)}."
        )
    return ~student_nll.detach().isinf() & ~teacher_nll.detach().isinf().to(student_nll.device)


def full_sum_norm_distance(
    student_nll: Tensor,
    teacher_nll: Tensor,
    mask: Tensor | None = None,
    kind: str = 'l1',
    huber_width: float = 1.0,
    dead_zone: float = 0.0,
    over: str = 'first',
) -> Tensor:
    """Sequence-discriminative full-sum distillation (arXiv 2303.05958, section 3.3): distance of log-posteriors.

    Both models' scores are normalised over the same N-best list, the teacher's; the distance is taken between the
    logarithms, `delta = log w_teacher(Y) - log w_student(Y)`. With L1 the gradient is
    `sign(delta) (grad nll(Y) - sum_n w_student(n) grad nll(n))`: that of maximum mutual information training until the
    student's posterior reaches the teacher's. There is no temperature.

    Args:
        student_nll: `[B, N]` minus log-probabilities of the hypotheses. The gradient goes here.
        teacher_nll: `[B, N]` the same under the teacher; treated as constants.
        mask: `[B, N]` true for hypotheses and false for padding, which is ignored, NaN included; None if all are valid.
            The hypotheses of an utterance must differ from one another.
        kind: one of `FULL_SUM_DISTANCES`.
        huber_width: where Huber turns from quadratic to linear, nats.
        dead_zone: differences up to this size cost nothing, nats.
        over: 'first' compares the posterior of the first hypothesis, the teacher's best, as the paper does; 'all' is
            the mean distance over all hypotheses of the utterance that both models can align.

    Returns:
        `[B]`, float64 for float64 input and float32 otherwise. A hypothesis with an infinite score has posterior 0
        and is not compared. The distance is 0 with gradient zero where there is nothing to compare
        (`full_sum_norm_comparable`): no second hypothesis that the student can align, or no alignment of the first
        ('first') or of any ('all') on one of the two sides. NaN stays NaN.

    Raises:
        ValueError: if a name is unknown, a width is negative, the shapes do not match, or N < 2.
    """
    _check_distance(kind, huber_width, dead_zone)
    comparable = full_sum_norm_comparable(student_nll, teacher_nll, mask, over)
    student = nbest_log_posteriors(student_nll, mask)
    teacher = nbest_log_posteriors(teacher_nll.detach().to(student_nll.device), mask)
    compared = _compared(student_nll, teacher_nll, mask) & comparable.unsqueeze(1)
    delta = _where(compared, teacher, 0.0) - _where(compared, student, 0.0)
    distance = _distance(delta.to(student.dtype), kind, huber_width, dead_zone)
    if over == 'first':
        return distance[:, 0]
    return distance.sum(1) / compared.sum(1).clamp(min=1)


def full_sum_norm_comparable(
    student_nll: Tensor, teacher_nll: Tensor, mask: Tensor | None = None, over: str = 'first'
) -> Tensor:
    """Utterances that `full_sum_norm_distance` compares, `[B]` bool. Arguments and errors as there."""
    if over not in NBEST_OVER:
        raise ValueError(f"Unknown over='{over}'; choose one of {', '.join(NBEST_OVER)}.")
    compared = _compared(student_nll, teacher_nll, mask)
    wanted = compared[:, 0] if over == 'first' else compared.any(1)
    # With a single hypothesis left, the posterior of the student is always 1.
    return wanted & (_alignable(student_nll, mask).sum(1) > 1)


def nbest_log_posteriors(nll: Tensor, mask: Tensor | None = None) -> Tensor:
    """Log-posteriors of hypotheses, normalised over the N-best list: `[B, N]`, differentiable.

    Args:
        nll: `[B, N]` minus log-probabilities.
        mask: `[B, N]` true for hypotheses; None if all are valid.

    Returns:
        `[B, N]`; `-inf` for padding and for hypotheses with an infinite score, without gradient.

    Raises:
        ValueError: if N < 2 (one hypothesis always has posterior 1) or the shapes differ.
    """
    if nll.dim() != 2 or nll.shape[1] < 2:
        raise ValueError(
            f"Normalisation over an N-best list needs scores of shape [B, N] with N of 2 or more, got "
            f"{list(nll.shape)}: a single hypothesis always has posterior 1; use more hypotheses or the unnormalised "
            "full-sum distance."
        )
    if mask is not None and mask.shape != nll.shape:
        raise ValueError(
            f"The N-best mask must have the shape of the scores {list(nll.shape)}, got {list(mask.shape)}."
        )
    alignable = _alignable(nll, mask)
    # A row without hypotheses would be 0 / 0, in the value and in the gradient.
    some = alignable.any(1, keepdim=True)
    scores = _where(alignable, -nll.to(compute_dtype(nll.dtype)), -torch.inf)
    return _where(alignable, _where(some, scores, 0.0).log_softmax(1), -torch.inf)


@torch.no_grad()
def confidence_weight(
    teacher_nll: Tensor,
    target_lengths: Tensor,
    mode: str = 'constant',
    sharpness: float = 1.0,
    threshold: float = 1.0,
    floor: float = 0.0,
    values: Tensor | None = None,
) -> Tensor:
    """Weight of each utterance by the teacher's confidence, a fixed form of adaptive loss mixing (arXiv 2202.03250).

    With `r = teacher_nll / tokens` in nats per token (tokens at least 1), or with `r = values` if there are any:

    * 'constant': 1;
    * 'probability': `exp(-sharpness r)`, the teacher's (geometric) mean probability per token to the power of the sharpness;
      at most 1;
    * 'sigmoid': `1 / (1 + exp(sharpness (r - threshold)))`, a soft cut at the threshold;
    * 'value': `r` to the power of the sharpness, for `r` from 0 to 1, such as a confidence or an agreement.

    The weight lies between 0 and 1, so it can also mix two losses: `w distillation + (1 - w) label loss`.

    Args:
        teacher_nll: `[B]` nats.
        target_lengths: `[B]` tokens in the teacher's tokenizer.
        mode: one of `CONFIDENCE_MODES`.
        sharpness: see above; positive, in tokens per nat.
        threshold: nats per token at which 'sigmoid' is one half.
        floor: the weights of all modes but 'constant' are moved from `[0, 1]` to `[floor, 1]`.
        values: `[B]` another measure of doubt, or, in mode 'value', of confidence.

    Returns:
        `[B]` without gradient, float64 for float64 input and float32 otherwise. An infinite score gives `floor` (in
        mode 'constant' 1).

    Raises:
        ValueError: if the mode is unknown or a value is out of range.
    """
    if mode not in CONFIDENCE_MODES:
        raise ValueError(f"Unknown confidence weight '{mode}'; choose one of {', '.join(CONFIDENCE_MODES)}.")
    if not sharpness > 0:
        raise ValueError(f"The sharpness of confidence weights must be positive, got {sharpness}.")
    if not 0 <= floor <= 1:
        raise ValueError(f"The floor of confidence weights must lie between 0 and 1, got {floor}.")
    if mode == 'value' and values is None:
        raise ValueError("Confidence weights of mode 'value' need values, such as a confidence from 0 to 1.")
    nll = teacher_nll.to(compute_dtype(teacher_nll.dtype))
    rate = nll / _tokens(target_lengths, nll) if values is None else values.to(nll)
    if mode == 'constant':
        return torch.ones_like(rate)
    if mode == 'sigmoid':
        weight = torch.sigmoid(sharpness * (threshold - rate))
    else:
        weight = torch.exp(-sharpness * rate.clamp(min=0)) if mode == 'probability' else rate.clamp(0, 1) ** sharpness
    return floor + (1.0 - floor) * weight


def _check_distance(kind: str, huber_width: float, dead_zone: float) -> None:
    if kind not in FULL_SUM_DISTANCES:
        raise ValueError(f"Unknown full-sum distance '{kind}'; choose one of {', '.join(FULL_SUM_DISTANCES)}.")
    if not huber_width > 0:
        raise ValueError(f"The Huber width must be positive, got {huber_width}.")
    if not dead_zone >= 0:
        raise ValueError(f"The dead zone must be zero or positive, got {dead_zone}.")


def _distance(delta: Tensor, name: str, width: float, dead_zone: float) -> Tensor:
    """Distance as a function of the difference; abs() and relu() have gradient 0 at 0."""
    excess = delta.abs()
    if dead_zone:
        excess = torch.relu(excess - dead_zone)
    if name == 'l1':
        return excess
    if name == 'mse':
        return excess.square()
    return torch.where(excess <= width, excess.square() / (2.0 * width), excess - 0.5 * width)


def _tokens(lengths: Tensor, scores: Tensor) -> Tensor:
    """Divisors of the scores. An empty text counts as one token."""
    if lengths.shape != scores.shape:
        raise ValueError(
            f"Target lengths must have the shape of the scores {list(scores.shape)}, got {list(lengths.shape)}."
        )
    return lengths.to(scores.device).clamp(min=1)


def _where(condition: Tensor, x: Tensor, value: float) -> Tensor:
    """`x` where the condition holds; elsewhere `value`, with gradient zero even if `x` is NaN or infinite."""
    return torch.where(condition, x, torch.full((), value, dtype=x.dtype, device=x.device))


def _alignable(nll: Tensor, mask: Tensor | None) -> Tensor:
    """`[B, N]` hypotheses with a finite score. NaN counts as finite, so that a fault stays visible."""
    finite = ~nll.detach().isinf()
    return finite if mask is None else finite & mask.to(device=nll.device, dtype=torch.bool)


def _compared(student_nll: Tensor, teacher_nll: Tensor, mask: Tensor | None) -> Tensor:
    """`[B, N]` hypotheses that both models can align."""
    if student_nll.shape != teacher_nll.shape:
        raise ValueError(
            f"Scores of student and teacher must both have shape [B, N], got {list(student_nll.shape)} and "
            f"{list(teacher_nll.shape)}."
        )
    return _alignable(student_nll, mask) & _alignable(teacher_nll.to(student_nll.device), mask)

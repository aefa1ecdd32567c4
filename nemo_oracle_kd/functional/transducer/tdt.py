# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The token-and-duration transducer's full-sum loss (TDT, arXiv 2304.06795, equations 5 to 8).

Every step emits a label or a blank together with a duration, the number of frames to move on, from two independent
softmaxes. The definition is that of NeMo:

* a label may have any duration, 0 included; a blank of duration 0 would not move at all and is left out, so that its
  probability is lost;
* the path ends with a blank whose duration leads exactly to frame T; steps that lead further cannot be taken, and a
  label never leads to frame T, since no frame would be left for that blank;
* `sigma` is subtracted from the label and blank log-probabilities, not from the durations.

Not every transcript fits: without duration 0 at most T - 1 labels do, and without duration 1 some lengths cannot be
reached. NeMo's implementations start their sums at -1000 nats (`tdt_pytorch`) or -10000 (its CUDA kernel), so that such a
transcript, and every score beyond, becomes about that; here it is exact, and `inf` where there is no path.
"""

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import compute_dtype
from nemo_oracle_kd.functional.transducer.log_probs import select_log_probs
from nemo_oracle_kd.functional.transducer.recursion import Arc, arc_full_sum
from nemo_oracle_kd.functional.transducer.rnnt import next_classes, scale_gradient

__all__ = ['tdt_full_sum', 'tdt_arcs', 'tdt_arc_scores']


def tdt_full_sum(
    logits: Tensor,
    duration_logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    durations: list[int] | tuple[int, ...],
    sigma: float = 0.0,
    fastemit_lambda: float = 0.0,
) -> Tensor:
    """Negative log-likelihood of each transcript, summed over all its alignments and durations.

    Args:
        logits: `[B, T, U+1, V]` of labels and blank, unnormalised (a constant added to a cell changes nothing).
        duration_logits: `[B, T, U+1, D]` of the durations, unnormalised likewise.
        targets: `[B, U]` labels without blanks.
        logit_lengths: `[B]` valid frames; what lies beyond, NaN included, changes nothing.
        target_lengths: `[B]` valid labels; what lies beyond is ignored.
        blank: id of the blank.
        durations: the D durations in frames, distinct, at least one of them positive.
        sigma: logit under-normalisation (section 3.4 of the paper). The result is a likelihood only for sigma 0.
        fastemit_lambda: as in `rnnt_full_sum`; as in NeMo, the gradient of the durations is not scaled.

    Returns:
        `[B]` in nats, float64 for float64 input and float32 otherwise; `inf` with gradient zero where there is no
        path. Differentiable once with respect to both logits.

    Raises:
        ValueError: on shapes, lengths, labels or durations that do not fit together.
    """
    arcs = tdt_arcs(durations)
    scores = tdt_arc_scores(
        logits, duration_logits, targets, logit_lengths, target_lengths, blank, durations, sigma, fastemit_lambda
    )
    log_prob = arc_full_sum(scores, arcs, logit_lengths, target_lengths)
    return -log_prob.to(compute_dtype(logits.dtype))


def tdt_arcs(durations: list[int] | tuple[int, ...]) -> tuple[Arc, ...]:
    """The label arcs, one per duration, then the blank arcs, one per positive duration; both in the order given.

    Raises:
        ValueError: if the durations are empty, negative, repeated, or all zero.
    """
    durations = [int(duration) for duration in durations]
    if not durations or min(durations) < 0 or max(durations) == 0 or len(set(durations)) < len(durations):
        raise ValueError(f"TDT durations must be distinct, not negative, and one must be positive; got {durations}.")
    return (*(Arc(d, 1) for d in durations), *(Arc(d, 0) for d in durations if d > 0))


def tdt_arc_scores(
    logits: Tensor,
    duration_logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    durations: list[int] | tuple[int, ...],
    sigma: float = 0.0,
    fastemit_lambda: float = 0.0,
) -> Tensor:
    """Log-scores of the arcs of `tdt_arcs(durations)`, `[K, B, T, U+1]`; differentiable.

    Raises:
        ValueError: on shapes, lengths or labels that do not fit together.
    """
    if duration_logits.shape != (*logits.shape[:3], len(durations)):
        raise ValueError(
            f"{len(durations)} durations and logits of shape {list(logits.shape)} need duration logits of shape "
            f"{[*logits.shape[:3], len(durations)]}, got {list(duration_logits.shape)}."
        )
    classes = next_classes(logits, targets, logit_lengths, target_lengths, (blank,))
    selected = select_log_probs(logits, classes, logit_lengths, target_lengths) - sigma
    label, blank_scores = selected.unbind(-1)
    if fastemit_lambda:
        label = scale_gradient(label, 1.0 + fastemit_lambda)
    all_durations = torch.arange(len(durations), device=logits.device).expand(*logits.shape[:3], -1)
    steps = select_log_probs(duration_logits, all_durations, logit_lengths, target_lengths).movedim(-1, 0)
    moving = [i for i, duration in enumerate(durations) if duration > 0]
    return torch.cat([label + steps, blank_scores + steps[moving]])

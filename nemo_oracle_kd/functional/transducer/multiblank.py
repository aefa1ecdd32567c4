# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The multi-blank transducer's full-sum loss (arXiv 2211.03541).

Beside the standard blank, which reads one frame, there are big blanks that read several frames at once. NeMo stores
them before the standard blank: the big blank of `durations[i]` has the id `blank - 1 - i`. A big blank that would read
past the last frame cannot be taken; the path ends with any blank that arrives exactly at T.
"""

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import compute_dtype
from nemo_oracle_kd.functional.transducer.log_probs import select_log_probs
from nemo_oracle_kd.functional.transducer.recursion import Arc, arc_full_sum
from nemo_oracle_kd.functional.transducer.rnnt import next_classes, scale_gradient

__all__ = ['multiblank_full_sum', 'multiblank_arcs', 'multiblank_arc_scores']


def multiblank_full_sum(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    big_blank_durations: list[int] | tuple[int, ...],
    sigma: float = 0.0,
    fastemit_lambda: float = 0.0,
) -> Tensor:
    """Negative log-likelihood of each transcript, summed over all its alignments with blanks of all durations.

    Args:
        logits: `[B, T, U+1, V]`, unnormalised; V counts labels, big blanks and the standard blank.
        targets: `[B, U]` labels without blanks.
        logit_lengths: `[B]` valid frames; what lies beyond, NaN included, changes nothing.
        target_lengths: `[B]` valid labels; what lies beyond is ignored.
        blank: id of the standard blank.
        big_blank_durations: frames read by the big blanks, each greater than one; the i-th has the id `blank - 1 - i`.
        sigma: logit under-normalisation (section 3.2 of the paper): subtracted from every log-probability, so that
            each step of a path costs sigma and long blanks are preferred. The result is a likelihood only for sigma 0.
        fastemit_lambda: as in `rnnt_full_sum`.

    Returns:
        `[B]` in nats, float64 for float64 input and float32 otherwise; `inf` with gradient zero where there is no path
        (no frames). Without big blanks and sigma it is `rnnt_full_sum`.

    Raises:
        ValueError: on shapes, lengths, labels or durations that do not fit together.
    """
    arcs = multiblank_arcs(big_blank_durations)
    scores = multiblank_arc_scores(logits, targets, logit_lengths, target_lengths, blank, len(arcs) - 2, sigma)
    if fastemit_lambda:
        scores = torch.cat([scale_gradient(scores[:1], 1.0 + fastemit_lambda), scores[1:]])
    log_prob = arc_full_sum(scores, arcs, logit_lengths, target_lengths)
    return -log_prob.to(compute_dtype(logits.dtype))


def multiblank_arcs(big_blank_durations: list[int] | tuple[int, ...]) -> tuple[Arc, ...]:
    """Label, standard blank and big blanks, in the order of the arc scores.

    Raises:
        ValueError: if a big blank reads fewer than two frames.
    """
    durations = [int(duration) for duration in big_blank_durations]
    if any(duration < 2 for duration in durations):
        raise ValueError(
            f"Big blanks read two frames or more, got durations {durations}; the standard blank reads one."
        )
    return (Arc(0, 1), Arc(1, 0), *(Arc(duration, 0) for duration in durations))


def multiblank_arc_scores(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    big_blanks: int,
    sigma: float = 0.0,
) -> Tensor:
    """Log-scores of the next label, the standard blank and the big blanks, `[2 + big_blanks, B, T, U+1]`."""
    blanks = tuple(blank - i for i in range(big_blanks + 1))
    classes = next_classes(logits, targets, logit_lengths, target_lengths, blanks)
    return select_log_probs(logits, classes, logit_lengths, target_lengths).movedim(-1, 0) - sigma

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Full-sum losses of transducers: minus the log-probability of a transcript, summed over all its alignments.

`-log sum_a prod_(t,u) in a p(step | t, u)`. The kind of transducer (`transducer/kinds.py`) defines the steps and their
scores; `transducer/recursion.py` sums them.
"""

from collections.abc import Sequence

from torch import Tensor

from nemo_oracle_kd.functional.tensors import compute_dtype
from nemo_oracle_kd.functional.transducer.kinds import RNNT, TDT, MultiBlank, Transducer
from nemo_oracle_kd.functional.transducer.recursion import arc_full_sum

__all__ = ['multiblank_full_sum', 'rnnt_full_sum', 'tdt_full_sum', 'transducer_full_sum']


def transducer_full_sum(
    transducer: Transducer,
    logits: Tensor | Sequence[Tensor],
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    sigma: float = 0.0,
    fastemit_lambda: float = 0.0,
) -> Tensor:
    """Negative log-likelihood of each transcript under any kind of transducer, summed over all its alignments.

    Args:
        transducer: the kind, with its blank and durations.
        logits: `[B, T, U+1, outputs]` of the joint, unnormalised or normalised: a constant added to a cell changes
            nothing.
            A TDT also accepts the pair of token and duration logits. Any float type and device; float16 and bfloat16
            are computed in float32, the recursion in float64.
        targets: `[B, U]` labels without blanks.
        logit_lengths: `[B]` valid frames; what lies beyond, NaN included, changes neither values nor gradients.
        target_lengths: `[B]` valid labels; what lies beyond is ignored.
        sigma: logit under-normalisation of multi-blank and TDT. It is subtracted from the log-probability of every label
            and blank, so each step of a path costs sigma and long steps are preferred. The result is a likelihood only
            for sigma 0.
        fastemit_lambda: weight of FastEmit (arXiv 2010.11148, equation 10): the gradient, and only the gradient, of
            every label's log-probability is multiplied by 1 + lambda.

    Returns:
        `[B]` in nats, float64 for float64 input and float32 otherwise. Without labels it is the score of the blanks.
        An utterance without frames, without any alignment, or all of whose alignments have probability zero, gives `inf`
        with gradient zero. Differentiable once with respect to `logits`, any number of times with `retain_graph`; the
        gradient has their type and shape.

    Raises:
        ValueError: if shapes, lengths or labels do not match.
    """
    scores = transducer.arc_scores(logits, targets, logit_lengths, target_lengths, sigma, fastemit_lambda)
    log_prob = arc_full_sum(scores, transducer.arcs, logit_lengths, target_lengths)
    return -log_prob.to(compute_dtype(scores.dtype))


def rnnt_full_sum(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    fastemit_lambda: float = 0.0,
) -> Tensor:
    """RNN-T (Graves 2012): `transducer_full_sum` of `RNNT(blank)`, for `logits [B, T, U+1, V]`."""
    return transducer_full_sum(
        RNNT(blank), logits, targets, logit_lengths, target_lengths, fastemit_lambda=fastemit_lambda
    )


def multiblank_full_sum(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    big_blank_durations: Sequence[int],
    sigma: float = 0.0,
    fastemit_lambda: float = 0.0,
) -> Tensor:
    """Multi-blank (arXiv 2211.03541): `transducer_full_sum` of `MultiBlank(blank, big_blank_durations)`.

    `logits [B, T, U+1, V]`, where V counts labels, big blanks and the standard blank. Section 3.2 of the paper
    introduces sigma.
    """
    transducer = MultiBlank(blank, tuple(big_blank_durations))
    return transducer_full_sum(transducer, logits, targets, logit_lengths, target_lengths, sigma, fastemit_lambda)


def tdt_full_sum(
    logits: Tensor | Sequence[Tensor],
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    durations: Sequence[int],
    sigma: float = 0.0,
    fastemit_lambda: float = 0.0,
) -> Tensor:
    """TDT (arXiv 2304.06795, equations 5 to 8): `transducer_full_sum` of `TDT(blank, durations)`.

    `logits [B, T, U+1, V + D]`, with the D durations last, or the pair of token and duration logits. Section 3.4
    of the paper introduces sigma.
    """
    transducer = TDT(blank, tuple(durations))
    return transducer_full_sum(transducer, logits, targets, logit_lengths, target_lengths, sigma, fastemit_lambda)

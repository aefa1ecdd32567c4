# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The RNN-T full-sum loss (Graves 2012): minus the log-probability of a transcript, summed over all its alignments.

An alignment walks from (t, u) = (0, 0) to (T, U): a blank reads the next frame, a label is emitted without reading
one, and the last step is a blank. Any number of labels may be emitted in a frame, so that a single frame fits every
transcript, whereas no frame fits none.
"""

from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import compute_dtype
from nemo_oracle_kd.functional.transducer.log_probs import select_log_probs
from nemo_oracle_kd.functional.transducer.recursion import Arc, ForwardBackward, arc_full_sum, forward_backward

__all__ = ['rnnt_full_sum', 'rnnt_alpha_beta', 'rnnt_arc_scores', 'RNNT_ARCS']

RNNT_ARCS = (Arc(frames=0, labels=1), Arc(frames=1, labels=0))
"""Label and blank, in the order of the arc scores."""


def rnnt_full_sum(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    fastemit_lambda: float = 0.0,
) -> Tensor:
    """Negative log-likelihood of each transcript, summed over all its alignments.

    Args:
        logits: `[B, T, U+1, V]` output of the joint, unnormalised or normalised: a constant added to a cell changes
            nothing. Any float type and device; float16 and bfloat16 are computed in float32, the recursion in float64.
        targets: `[B, U]` labels without blanks.
        logit_lengths: `[B]` valid frames; what lies beyond, NaN included, changes neither values nor gradients.
        target_lengths: `[B]` valid labels; what lies beyond is ignored.
        blank: id of the blank.
        fastemit_lambda: weight of FastEmit (arXiv 2010.11148, equation 10): the gradient, and only the gradient, of
            every label's log-probability is multiplied by 1 + lambda.

    Returns:
        `[B]` in nats, float64 for float64 input and float32 otherwise. Without labels it is the score of the blanks.
        An utterance without frames, or all of whose alignments have probability zero, gives `inf` with gradient zero.
        Differentiable once with respect to `logits`, any number of times with `retain_graph`; the gradient has their
        type and shape.

    Raises:
        ValueError: on shapes, lengths or labels that do not fit together.
    """
    scores = rnnt_arc_scores(logits, targets, logit_lengths, target_lengths, blank)
    if fastemit_lambda:
        scores = torch.cat([scale_gradient(scores[:1], 1.0 + fastemit_lambda), scores[1:]])
    log_prob = arc_full_sum(scores, RNNT_ARCS, logit_lengths, target_lengths)
    return -log_prob.to(compute_dtype(logits.dtype))


@torch.no_grad()
def rnnt_alpha_beta(
    logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int
) -> ForwardBackward:
    """Forward and backward scores of all nodes, in float64. Not differentiable. Arguments as in `rnnt_full_sum`.

    Returns:
        `alpha` and `beta` are `[B, T+1, U+1]`; node (T_b, U_b) is the end behind the last blank, `-inf` where no path
        passes. `scores` is `[2, B, T, U+1]`: label and blank.
    """
    scores = rnnt_arc_scores(logits, targets, logit_lengths, target_lengths, blank)
    return forward_backward(scores, RNNT_ARCS, logit_lengths, target_lengths)


def rnnt_arc_scores(
    logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blank: int
) -> Tensor:
    """Log-probabilities of the next label and of the blank in every cell, `[2, B, T, U+1]`; differentiable."""
    classes = next_classes(logits, targets, logit_lengths, target_lengths, (blank,))
    return select_log_probs(logits, classes, logit_lengths, target_lengths).movedim(-1, 0)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Returns `x` unchanged; its gradient is multiplied by `factor`."""
    return _ScaleGradient.apply(x, factor)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor):
        return grad_output * ctx.factor, None


def next_classes(
    logits: Tensor, targets: Tensor, logit_lengths: Tensor, target_lengths: Tensor, blanks: tuple[int, ...]
) -> Tensor:
    """Checks the arguments of a transducer loss and returns the ids of each position's next label and of the blanks.

    Returns:
        `[B, 1, U+1, 1 + blanks]`; the label of positions without one is the first blank.

    Raises:
        ValueError: on shapes, lengths or labels that do not fit together.
    """
    if logits.dim() != 4:
        raise ValueError(f"Transducer logits must have shape [B, T, U+1, V], got {list(logits.shape)}.")
    batch, frames, positions, classes = logits.shape
    if targets.shape != (batch, positions - 1):
        raise ValueError(
            f"Logits of shape {list(logits.shape)} need targets of shape {[batch, positions - 1]}, got "
            f"{list(targets.shape)}; the lattice has one position more than there are labels."
        )
    if logit_lengths.shape != (batch,) or target_lengths.shape != (batch,):
        raise ValueError(
            f"Lengths must have shape [{batch}], got {list(logit_lengths.shape)}, {list(target_lengths.shape)}."
        )
    if not all(0 <= blank < classes for blank in blanks):
        raise ValueError(f"Blank ids {list(blanks)} do not exist among the {classes} classes of the logits.")
    target_lengths = target_lengths.to(targets.device)
    valid = torch.arange(positions - 1, device=targets.device) < target_lengths.unsqueeze(1)
    labels = torch.where(valid, targets, blanks[0]).long()
    if targets.device.type == 'cpu' and batch:  # on an accelerator these would wait for it
        if int(logit_lengths.min()) < 0 or int(logit_lengths.max()) > frames:
            raise ValueError(f"Logit lengths must lie between 0 and T = {frames}, got {logit_lengths.tolist()}.")
        if int(target_lengths.min()) < 0 or int(target_lengths.max()) > positions - 1:
            raise ValueError(
                f"Target lengths must lie between 0 and U = {positions - 1}, got {target_lengths.tolist()}."
            )
        if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= classes):
            raise ValueError(
                f"Targets must be class ids between 0 and {classes - 1}; found others in the valid labels."
            )
    columns = [torch.nn.functional.pad(labels, (0, 1), value=blanks[0])]
    columns += [torch.full_like(columns[0], blank) for blank in blanks]
    return torch.stack(columns, -1).unsqueeze(1).to(logits.device)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The CTC full-sum loss and the label-constrained occupancy (Graves et al. 2006, equations 8, 14 and 15).

`-log P(y|x)` sums over all alignments of a transcript; the occupancy `gamma(t, k)` is the posterior that the path
emits label k in frame t, given the transcript. The occupancy is the derivative of the full sum,

    d log P(y|x) / d log p(t, k) = gamma(t, k),

and the backward pass uses it. Unlike `torch.nn.functional.ctc_loss`, whose gradient is correct only behind a
log-softmax, this is the gradient with respect to `log_probs` themselves, normalised or not.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo_oracle_kd.functional.ctc_lattice import CTCLattice, build_lattice, final_scores, forward_scores
from nemo_oracle_kd.functional.tensors import NEG_INF, compute_dtype, length_mask

__all__ = ['ctc_full_sum', 'ctc_occupancy', 'label_log_prior']


def ctc_full_sum(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
) -> Tensor:
    """Negative log-likelihood of each transcript, summed over all its CTC alignments.

    Args:
        log_probs: `[B, T, V]` log-probabilities, natural log. They are not renormalised: a constant added to them
            adds to the result. Any float type; the recursion runs in float64 where the device has it.
        targets: `[B, U]` labels without blanks.
        input_lengths: `[B]` valid frames; what lies beyond, NaN included, changes neither values nor gradients.
        target_lengths: `[B]` valid labels; what lies beyond is ignored.
        blank: id of the blank.

    Returns:
        `[B]` in nats, float64 for float64 input and float32 otherwise. An utterance without labels scores the
        all-blank path, which is 0 for no frames. An utterance without any alignment (fewer frames than labels plus
        repeats, or every alignment of probability zero) gives `inf` with gradient zero. Differentiable once with
        respect to `log_probs`.

    Raises:
        ValueError: if shapes, lengths or labels do not match.
    """
    return _FullSum.apply(log_probs, targets, input_lengths, target_lengths, blank)


@torch.no_grad()
def ctc_occupancy(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
) -> Tensor:
    """Posterior of each label in each frame, given the transcript. Not differentiable: it serves as a target.

    Args:
        log_probs: `[B, T, V]` log-probabilities, natural log, not renormalised (a constant per frame cancels).
        targets: `[B, U]` labels without blanks.
        input_lengths: `[B]` valid frames.
        target_lengths: `[B]` valid labels.
        blank: id of the blank.

    Returns:
        `[B, T, V]` occupancy, float64 for float64 input and float32 otherwise. Rows sum to one in the valid frames;
        zero in the padding and for utterances without any alignment.

    Raises:
        ValueError: if shapes, lengths or labels do not match.
    """
    lattice = build_lattice(log_probs, targets, input_lengths, target_lengths, blank)
    _, occupancy = _log_likelihood(lattice, with_occupancy=True)
    occupancy = occupancy.to(compute_dtype(log_probs.dtype))
    return _spread_over_vocabulary(occupancy, lattice.labels, blank, log_probs.shape[2])


@torch.no_grad()
def label_log_prior(log_probs: Tensor, input_lengths: Tensor) -> Tensor:
    """How often each class is emitted in an utterance: its mean posterior over the frames, with one more frame for every class.

    Subtracting a share of it from `log_probs` takes from the blank what peaky posteriors give it. arXiv 2406.02560 divides by priors
    of the whole corpus; those of the utterance need no memory of other batches.

    Args:
        log_probs: `[B, T, V]` log-probabilities, natural log.
        input_lengths: `[B]` valid frames.

    Returns:
        `[B, V]` natural log of probabilities that sum to one, float64 for float64 input and float32 otherwise.
    """
    valid = length_mask(input_lengths, log_probs.shape[1]).to(log_probs.device).unsqueeze(2)
    counts = log_probs.to(compute_dtype(log_probs.dtype)).exp().where(valid, 0.0).sum(1) + 1.0
    return (counts / counts.sum(1, keepdim=True)).log()


class _FullSum(torch.autograd.Function):
    """The full sum and its derivative, the negative occupancy, which is kept per state, `[T, B, S]`, until it is needed."""

    @staticmethod
    def forward(
        ctx: Any, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
    ) -> Tensor:
        lattice = build_lattice(log_probs, targets, input_lengths, target_lengths, blank)
        log_likelihood, occupancy = _log_likelihood(lattice, with_occupancy=ctx.needs_input_grad[0])
        if occupancy is not None:
            ctx.save_for_backward(occupancy.to(compute_dtype(log_probs.dtype)), lattice.labels)
            ctx.blank, ctx.vocabulary, ctx.dtype = blank, log_probs.shape[2], log_probs.dtype
        # Subtracting from zero, because the negative of zero is -0.0.
        return (0.0 - log_likelihood).to(compute_dtype(log_probs.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        occupancy, labels = ctx.saved_tensors
        # An occupancy of zero stays zero even if the incoming gradient is infinite, as for `nll ** 2` of an infeasible
        # utterance.
        weighted = (occupancy * -grad.view(1, -1, 1)).masked_fill_(occupancy == 0, 0.0)
        return (
            _spread_over_vocabulary(weighted, labels, ctx.blank, ctx.vocabulary).to(ctx.dtype),
            None,
            None,
            None,
            None,
        )


def _log_likelihood(lattice: CTCLattice, with_occupancy: bool) -> tuple[Tensor, Tensor | None]:
    """Log-likelihood `[B]` and, if asked for, the occupancy of the states `[T, B, S]`.

    The backward recursion is the forward recursion on the mirrored lattice, so both run in one loop over the frames.
    """
    emissions, can_skip = lattice.emissions, lattice.can_skip
    frames, batch, width = emissions.shape
    if frames == 0:
        empty = emissions.new_zeros(batch).masked_fill_(lattice.states > 1, NEG_INF)
        return empty, emissions if with_occupancy else None
    if not with_occupancy:
        return _total(forward_scores(emissions, can_skip) + emissions, lattice), None

    # Positions of the mirrored frames [T, B] and states [B, S]; those of the padding are arbitrary and masked below.
    time = (lattice.frames - 1 - torch.arange(frames, device=emissions.device).unsqueeze(1)).clamp(min=0)
    state = (lattice.states.unsqueeze(1) - 1 - torch.arange(width, device=emissions.device)).clamp(min=0)
    mirrored_labels = lattice.labels.gather(1, state)
    mirrored_skip = torch.zeros_like(can_skip)
    # A skip into a label leaves another label two states earlier; mirrored, the two swap roles.
    mirrored_skip[:, 3::2] = mirrored_labels[:, 3::2] != mirrored_labels[:, 1:-2:2]
    scores = forward_scores(
        torch.cat([emissions, _mirror(emissions, time, state)], dim=1), torch.cat([can_skip, mirrored_skip])
    )
    alpha = scores[:, :batch] + emissions
    joint = alpha + _mirror(scores[:, batch:], time, state)
    joint.masked_fill_(~length_mask(lattice.states, width), NEG_INF)
    total = _total(alpha, lattice)
    # The logsumexp over the states is log P(y|x) in every frame; normalising frame by frame cancels rounding errors.
    counted = length_mask(lattice.frames, frames).transpose(0, 1) & (total != NEG_INF)
    return total, joint.softmax(dim=2).masked_fill_(~counted.unsqueeze(2), 0.0)


def _total(alpha: Tensor, lattice: CTCLattice) -> Tensor:
    """Log-likelihood `[B]` from `alpha [T, B, S]`, read in the last valid frame of each utterance."""
    rows = torch.arange(alpha.shape[1], device=alpha.device)
    label, blank = final_scores(alpha[(lattice.frames - 1).clamp(min=0), rows], lattice.states)
    without_frames = torch.zeros_like(label).masked_fill_(lattice.states > 1, NEG_INF)
    return torch.where(lattice.frames > 0, torch.logaddexp(label, blank), without_frames)


def _mirror(x: Tensor, time: Tensor, state: Tensor) -> Tensor:
    """Reverses frames and states of each utterance: `x [T, B, S]` read at `time [T, B]` and `state [B, S]`."""
    rows = torch.arange(x.shape[1], device=x.device)
    return x[time.unsqueeze(2), rows.view(1, -1, 1), state.unsqueeze(0)]


def _spread_over_vocabulary(values: Tensor, labels: Tensor, blank: int, vocabulary: int) -> Tensor:
    """Sums the values of the states, `[T, B, S]`, per label: `[B, T, V]`."""
    frames, batch, _ = values.shape
    spread = values.new_zeros((batch, frames, vocabulary))
    values = values.transpose(0, 1)
    targets = labels[:, 1::2]
    # Labels in the padding are blank with value zero, so they add nothing to the column of blank.
    spread.scatter_add_(2, targets.unsqueeze(1).expand(batch, frames, targets.shape[1]), values[:, :, 1::2])
    spread[:, :, blank] += values[:, :, 0::2].sum(dim=2)
    return spread

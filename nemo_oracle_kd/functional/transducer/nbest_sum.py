# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""RNN-T full sums of all hypotheses of an N-best list at once, on their prefix tree.

The forward score of a cell (t, node) sums all alignments of the node's prefix with the first t frames, and a hypothesis
ends at its node. The forward scores of the tree are therefore those of all N lattices. Cells with equal t + depth do not
depend on one another, so one step of the recursion is one such anti-diagonal of all trees of the batch. Nodes are
ordered by depth, so the nodes on a diagonal are a contiguous range.

For the gradient, the weight that arrives at a cell is passed back to its predecessors in proportion to what they
contributed. (The weight has either sign, because hypotheses may be pushed up or down.) The result is the sum over the
hypotheses of their occupancies, each times the gradient of its score, without a pass per hypothesis.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo_oracle_kd.functional.tensors import NEG_INF, recursion_dtype
from nemo_oracle_kd.functional.transducer.nbest_tree import NBestTree

__all__ = ['tree_full_sum']


def tree_full_sum(scores: Tensor, tree: NBestTree, logit_lengths: Tensor) -> Tensor:
    """Log-probabilities of all hypotheses from the scores of the arcs. Differentiable once with respect to them.

    Args:
        scores: `[2, nodes, T]`, natural log: first the label that leads from the parent to the node (`-inf` for roots), then
            the blank of the node. Values in the padding are ignored, NaN included.
        tree: prefix tree of the hypotheses.
        logit_lengths: `[B]` valid frames.

    Returns:
        `[B, N]` natural log, in the type of the recursion (float64 if the device has it); `-inf` with gradient zero
        for padding and where there is no path. Equal hypotheses have equal values.
    """
    return _TreeFullSum.apply(scores, tree, logit_lengths)


class _TreeFullSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, tree: NBestTree, logit_lengths: Tensor) -> Tensor:
        lengths = logit_lengths.to(scores.device)
        frames, roots = scores.shape[2], tree.starts[1]
        valid = torch.arange(frames, device=scores.device) < lengths[tree.utterance].unsqueeze(1)
        valid = torch.stack([valid & (tree.depth > 0).unsqueeze(1), valid])
        masked = scores.to(recursion_dtype(scores.device)).masked_fill(~valid, NEG_INF)
        # By diagonal of arrival and by node, [T+U+1, nodes]; -inf before the first frame and after the last.
        masked = torch.nn.functional.pad(masked, (1, 1), value=NEG_INF).transpose(1, 2)
        diagonals = torch.arange(frames + tree.max_depth + 1, device=scores.device)
        arrival = diagonals.unsqueeze(1) - tree.depth
        label = masked[0].gather(0, (arrival + 1).clamp(0, frames + 1))
        blank = masked[1].gather(0, arrival.clamp(0, frames + 1))

        # Column 0 stands for the missing parent of the roots.
        parent = tree.parent + 1
        alpha = label.new_full((len(diagonals), tree.nodes + 1), NEG_INF)
        alpha[0, 1 : roots + 1] = 0.0
        for n, low, high in _ranges(tree, frames):
            stay = alpha[n - 1, low + 1 : high + 1] + blank[n, low:high]
            move = alpha[n - 1].index_select(0, parent[low:high]) + label[n, low:high]
            torch.logaddexp(stay, move, out=alpha[n, low + 1 : high + 1])

        end = tree.end.clamp(min=0)
        row = lengths.unsqueeze(1) + tree.depth[end] if tree.nodes else end
        log_prob = alpha[row, end + 1].masked_fill((tree.end < 0) | (lengths == 0).unsqueeze(1), NEG_INF)
        if ctx.needs_input_grad[0]:
            # What a cell took from each of the two cells before it, as shares of its own probability.
            total = alpha[1:, 1:].masked_fill(alpha[1:, 1:] == NEG_INF, 0.0)
            blank[1:] += alpha[:-1, 1:]
            blank[1:] -= total
            label[1:] += alpha[:-1].index_select(1, parent)
            label[1:] -= total
            ctx.save_for_backward(label[1:].exp_(), blank[1:].exp_(), row, end, log_prob)
            ctx.tree, ctx.score_dtype, ctx.frames = tree, scores.dtype, frames
        return log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor):
        label_share, blank_share, row, end, log_prob = ctx.saved_tensors
        tree, frames = ctx.tree, ctx.frames
        parent = tree.parent + 1
        weight = grad_output.to(log_prob.dtype).masked_fill(log_prob == NEG_INF, 0.0)
        arrived = weight.new_zeros(label_share.shape[0] + 1, tree.nodes + 1)
        arrived.index_put_((row, end + 1), weight, accumulate=True)
        for n, low, high in reversed(_ranges(tree, frames)):
            here = arrived[n, low + 1 : high + 1]
            arrived[n - 1, low + 1 : high + 1].addcmul_(here, blank_share[n - 1, low:high])
            arrived[n - 1].index_add_(0, parent[low:high], here * label_share[n - 1, low:high])
        arrived = arrived[1:, 1:]
        t = torch.arange(frames, device=weight.device).unsqueeze(1)
        # Row n - 1 of the shares is diagonal n: label arcs arrive at t + depth, blanks one later. No label arc arrives
        # at diagonal 0; the roots, whose row would be -1, have none.
        blank = (arrived * blank_share).gather(0, t + tree.depth)
        label = (arrived * label_share).gather(0, (t + tree.depth - 1).clamp(min=0))
        label = label.masked_fill(tree.depth == 0, 0.0)
        return torch.stack([label, blank]).transpose(1, 2).to(ctx.score_dtype), None, None


def _ranges(tree: NBestTree, frames: int) -> list[tuple[int, int, int]]:
    """Every diagonal n after the first, with the range of its nodes: those with `0 <= n - depth <= T`."""
    deepest = tree.max_depth
    return [
        (n, tree.starts[max(0, n - frames)], tree.starts[min(n, deepest) + 1]) for n in range(1, frames + deepest + 1)
    ]

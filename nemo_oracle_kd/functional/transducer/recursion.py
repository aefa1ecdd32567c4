# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Recursions over a transducer lattice: full sum, posteriors and best path, one anti-diagonal at a time.

All transducers that NeMo trains differ only in their arcs. An arc leaves node (t, u), "t frames read, u labels
emitted", and arrives at (t + frames, u + labels):

* RNN-T (Graves 2012): label (0, 1), blank (1, 0);
* multi-blank (arXiv 2211.03541): label (0, 1), blanks (d, 0), one per duration d;
* TDT (arXiv 2304.06795): labels (d, 1) and, for d > 0, blanks (d, 0).

A path starts at (0, 0) and ends at (T, U). Its last arc is a blank: a label arc never arrives at frame T.

Nodes with equal t + u do not depend on one another. The scores are therefore stored by anti-diagonal n = t + u, with u
as the fastest axis, so that one step of the recursion is two or three operations on contiguous rows. The backward
scores are the forward scores of the lattice read from its end, so both directions run as one batch of 2 B lattices.
Scores are float64 wherever the device has it; they are small compared with the logits.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nemo_oracle_kd.functional.tensors import NEG_INF, recursion_dtype

__all__ = ['Arc', 'ForwardBackward', 'arc_full_sum', 'forward_backward', 'best_arcs']


@dataclass(frozen=True)
class Arc:
    """A kind of arc: how many frames it reads and how many labels (0 or 1) it emits. It does at least one of the two."""

    frames: int
    labels: int

    @property
    def lag(self) -> int:
        """How many anti-diagonals the arc crosses."""
        return self.frames + self.labels


@dataclass
class ForwardBackward:
    """Scores of the nodes of a batch of lattices.

    Attributes:
        log_prob: `[B]` log-probability of the lattice; `-inf` if no path reaches its end.
        alpha: `[B, T+1, U+1]` log-probability of all paths from the start to a node; row T holds the final nodes.
        beta: `[B, T+1, U+1]` log-probability of all paths from a node to the end, or None if they were not computed.
        scores: `[K, B, T, U+1]` log-scores of the arcs, `-inf` where an arc leaves its utterance.
    """

    log_prob: Tensor
    alpha: Tensor
    beta: Tensor | None
    scores: Tensor

    def occupancy(self, arcs: tuple[Arc, ...]) -> Tensor:
        """Posterior of every arc, `[K, B, T, U+1]`; zero in the padding and where no path exists.

        Raises:
            ValueError: if the backward scores were not computed.
        """
        if self.beta is None:
            raise ValueError("Occupancies need the backward scores; call forward_backward with backward=True.")
        frames, positions = self.scores.shape[2:]
        reach = max(arc.frames for arc in arcs)
        beta = torch.nn.functional.pad(self.beta, (0, 1, 0, reach), value=NEG_INF)
        # Without any path every sum below is -inf. A finite replacement for the total makes the result zero and not NaN.
        total = self.log_prob.masked_fill(self.log_prob == NEG_INF, 0.0).view(-1, 1, 1)
        through = self.alpha[:, :frames] - total
        occupancy = torch.empty_like(self.scores)
        for k, arc in enumerate(arcs):
            arrival = beta[:, arc.frames : arc.frames + frames, arc.labels : arc.labels + positions]
            torch.add(through, arrival, out=occupancy[k])
        return occupancy.add_(self.scores).exp_()


def arc_full_sum(scores: Tensor, arcs: tuple[Arc, ...], logit_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Log-probability of a lattice, summed over all its paths. Differentiable once with respect to the arc scores.

    The gradient is the arc's posterior: `d log P / d score(k, t, u) = occupancy(k, t, u)`.

    Args:
        scores: `[K, B, T, U+1]` log-score of arc k leaving node (t, u). Values in the padding are ignored, NaN
            included.
        arcs: the K kinds of arcs.
        logit_lengths: `[B]` valid frames.
        target_lengths: `[B]` valid labels.

    Returns:
        `[B]` natural log, in the type of the recursion (float64 if the device has it); `-inf` with gradient zero if
        there is no path, which includes every utterance without frames.
    """
    return _ArcFullSum.apply(scores, arcs, logit_lengths, target_lengths)


class _ArcFullSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, arcs: tuple[Arc, ...], logit_lengths: Tensor, target_lengths: Tensor):
        training = ctx.needs_input_grad[0]
        lattice = forward_backward(scores, arcs, logit_lengths, target_lengths, backward=training)
        if training:
            ctx.save_for_backward(lattice.occupancy(arcs))
            ctx.score_dtype = scores.dtype
        return lattice.log_prob

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor):
        (occupancy,) = ctx.saved_tensors
        return (occupancy * grad_output.view(1, -1, 1, 1)).to(ctx.score_dtype), None, None, None


@torch.no_grad()
def forward_backward(
    scores: Tensor, arcs: tuple[Arc, ...], logit_lengths: Tensor, target_lengths: Tensor, backward: bool = True
) -> ForwardBackward:
    """Forward and, on request, backward scores of all nodes. Not differentiable.

    Arguments as in `arc_full_sum`; `backward` says whether the backward scores are computed too, at twice the cost.
    """
    logit_lengths, target_lengths = logit_lengths.to(scores.device), target_lengths.to(scores.device)
    scores = _mask_arcs(scores, arcs, logit_lengths, target_lengths)
    batch, frames, positions = scores.shape[1:]
    padded = 2 * batch if backward else batch
    shape = _Shape(padded, frames, positions, arcs)

    entering = shape.entering(scores)
    back = _reverse_index(logit_lengths, target_lengths, frames, positions) if backward else None
    for k, arc in enumerate(arcs):
        shape.enter(entering[:, shape.slots[k], :batch], scores[k], arc.lag, arc.labels)
        if back is not None:
            # Read from the end, an arc arrives at the node that it leaves. Row T, the end itself, has no arc.
            node_scores = torch.nn.functional.pad(scores[k], (0, 0, 0, 1), value=NEG_INF)
            shape.enter(entering[:, shape.slots[k], batch:], _reverse(node_scores, back), 0, 0)
    alpha = _sum_diagonals(entering, shape)

    nodes = shape.unskew(alpha)
    forward = nodes[:, :batch].transpose(0, 1)
    ends = forward.gather(1, logit_lengths.view(-1, 1, 1).expand(-1, 1, positions)).squeeze(1)
    log_prob = ends.gather(1, target_lengths.unsqueeze(1)).squeeze(1)
    log_prob = log_prob.masked_fill(logit_lengths == 0, NEG_INF)
    beta = None if back is None else _reverse(nodes[:, batch:].transpose(0, 1), back)
    return ForwardBackward(log_prob, forward, beta, scores)


@torch.no_grad()
def best_arcs(
    scores: Tensor, arcs: tuple[Arc, ...], logit_lengths: Tensor, target_lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The best single path of every lattice. Not differentiable. Arguments as in `arc_full_sum`.

    Returns:
        `(score [B], path [B, L], frames [B, L])`: the log-score of the path (`-inf` if there is none), the kind of
        each of its arcs in order, and the frame that each arc leaves. L is at most T + U; both are padded with -1.
    """
    logit_lengths, target_lengths = logit_lengths.to(scores.device), target_lengths.to(scores.device)
    scores = _mask_arcs(scores, arcs, logit_lengths, target_lengths)
    batch, frames, positions = scores.shape[1:]
    shape = _Shape(batch, frames, positions, arcs)
    entering = shape.entering(scores)
    for k, arc in enumerate(arcs):
        shape.enter(entering[:, shape.slots[k], :batch], scores[k], arc.lag, arc.labels)
    alpha = shape.unskew(_sum_diagonals(entering, shape, best=True)).transpose(0, 1)

    score = alpha[torch.arange(batch, device=scores.device), logit_lengths, target_lengths]
    score = score.masked_fill(logit_lengths == 0, NEG_INF)
    # What arrives at each node was left in `entering`. The walk back takes as many steps as the path has arcs, so it is done
    # on the host, after one transfer of a byte per node.
    arrived = _best_slot(entering[: shape.diagonals], shape.slots).transpose(0, 1).tolist()
    ends = zip(logit_lengths.tolist(), target_lengths.tolist(), (score > NEG_INF).tolist(), arrived)
    kinds, leaves = [], []
    for t, u, reached, kind_at in ends:
        kinds.append([])
        leaves.append([])
        while reached and (t > 0 or u > 0):
            kind = kind_at[t + u][u]
            t, u = t - arcs[kind].frames, u - arcs[kind].labels
            kinds[-1].append(kind)
            leaves[-1].append(t)
    steps = max(map(len, kinds), default=0)
    path, leave = (
        torch.tensor([row[::-1] + [-1] * (steps - len(row)) for row in rows], dtype=torch.long, device=scores.device)
        for rows in (kinds, leaves)
    )
    return score, path.view(batch, steps), leave.view(batch, steps)


def _best_slot(entering: Tensor, slots: list[int]) -> Tensor:
    """For each node the index of the largest of its values, the first of equal ones; an argmax across a stride is several times slower."""
    best = entering[:, slots[0]]
    kind = torch.zeros_like(best, dtype=torch.uint8)
    for k, slot in enumerate(slots[1:], start=1):
        kind.masked_fill_(entering[:, slot] > best, k)
        best = torch.maximum(best, entering[:, slot])
    return kind


def _mask_arcs(scores: Tensor, arcs: tuple[Arc, ...], logit_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Arc scores in the type of the recursion, `-inf` for arcs that leave a padding node or their utterance."""
    frames, positions = scores.shape[2:]
    t = torch.arange(frames, device=scores.device).view(1, 1, -1, 1)
    u = torch.arange(positions, device=scores.device).view(1, 1, 1, -1)
    reads = torch.tensor([arc.frames for arc in arcs], device=scores.device).view(-1, 1, 1, 1)
    emits = torch.tensor([arc.labels for arc in arcs], device=scores.device).view(-1, 1, 1, 1)
    # A label arc must leave one frame for the blank that ends the path, hence "+ emits".
    in_time = t + torch.clamp(reads + emits, min=1) <= logit_lengths.view(1, -1, 1, 1)
    in_labels = u + emits <= target_lengths.view(1, -1, 1, 1)
    inside = in_time & in_labels
    return scores.to(recursion_dtype(scores.device), memory_format=torch.contiguous_format).masked_fill(
        ~inside, NEG_INF
    )


class _Shape:
    """Sizes and strides of the scores by anti-diagonal: rows n = t + u of `[batch, U+1]` with a border of `-inf`."""

    def __init__(self, batch: int, frames: int, positions: int, arcs: tuple[Arc, ...]) -> None:
        self.batch, self.frames, self.positions = batch, frames, positions
        self.lag = max(arc.lag for arc in arcs)
        self.diagonals = frames + positions
        self.width = positions + 1  # one column of -inf on the left: the label before the first
        self.row = batch * self.width
        # Distance of the origin of an arc from the first row. The arcs are stored in an order in which neighbouring
        # origins lie at constant distances, see _sum_diagonals.
        origins = [(self.lag - arc.lag) * self.row + 1 - arc.labels for arc in arcs]
        order = sorted(range(len(arcs)), key=lambda k: (-arcs[k].labels, origins[k]))
        self.origins = [origins[k] for k in order]
        self.slots = [order.index(k) for k in range(len(arcs))]

    def entering(self, like: Tensor) -> Tensor:
        """`[N, K, batch, U+1]` of `-inf`, by diagonal and position of arrival; N has room for arcs that overshoot."""
        return like.new_full((self.diagonals + self.lag, len(self.slots), self.batch, self.positions), NEG_INF)

    def enter(self, entering: Tensor, scores: Tensor, lag: int, labels: int) -> None:
        """Writes `scores [B, T, U+1]` of the arcs that leave (t, u) to their places of arrival in `entering [N, B, U+1]`."""
        scores = scores[..., : scores.shape[2] - labels].transpose(0, 1)
        row, lattice, _ = entering.stride()
        offset = entering.storage_offset() + lag * row + labels
        entering.as_strided(scores.shape, (row, lattice, row + 1), offset).copy_(scores)

    def unskew(self, alpha: Tensor) -> Tensor:
        """`[T+1, batch, U+1]` view of the scores by node."""
        size = (self.frames + 1, self.batch, self.positions)
        return alpha.as_strided(size, (self.row, self.width, self.row + 1), self.lag * self.row + 1)


def _sum_diagonals(entering: Tensor, shape: _Shape, best: bool = False) -> Tensor:
    """Scores of all nodes by diagonal, `[lag + diagonals, batch, 1 + U+1]`; overwrites `entering`.

    Every step adds the scores of the earlier nodes to those of the arcs and sums (or, for `best`, maximises) over the
    kinds of arcs. Kinds whose origins lie at a constant distance from one another in memory share one addition; for
    RNN-T that is all of them.
    """
    alpha = entering.new_full((shape.lag + shape.diagonals, shape.batch, shape.width), NEG_INF)
    alpha[shape.lag, :, 1] = 0.0
    arrivals = alpha[shape.lag :, :, 1:].unbind(0)

    origins, kinds = shape.origins, len(shape.origins)
    additions = []
    first = 0
    while first < kinds:
        last = first + 1
        step = origins[last] - origins[first] if last < kinds else 0
        while last < kinds and step > 0 and origins[last] - origins[last - 1] == step:
            last += 1
        size = (shape.diagonals, last - first, shape.batch, shape.positions)
        stride = (shape.row, max(step, 0), shape.width, 1)
        views = alpha.as_strided(size, stride, origins[first]).unbind(0)
        additions.append((views, entering[: shape.diagonals, first:last].unbind(0)))
        first = last

    if kinds == 2:
        one, two = (entering[: shape.diagonals, k].unbind(0) for k in range(2))
        combine = torch.maximum if best else torch.logaddexp
        for n in range(1, shape.diagonals):
            for views, targets in additions:
                targets[n].add_(views[n])
            combine(one[n], two[n], out=arrivals[n])
    else:
        stacks = entering.unbind(0)
        for n in range(1, shape.diagonals):
            for views, targets in additions:
                targets[n].add_(views[n])
            if best:
                torch.amax(stacks[n], 0, out=arrivals[n])
            else:
                torch.logsumexp(stacks[n], 0, out=arrivals[n])
    return alpha


def _reverse_index(
    logit_lengths: Tensor, target_lengths: Tensor, frames: int, positions: int
) -> tuple[Tensor, Tensor]:
    """For every node of the reversed lattice: the flat index of its original, and whether there is one."""
    t = logit_lengths.view(-1, 1, 1) - torch.arange(frames + 1, device=logit_lengths.device).view(1, -1, 1)
    u = target_lengths.view(-1, 1, 1) - torch.arange(positions, device=logit_lengths.device).view(1, 1, -1)
    return (t.clamp(min=0) * positions + u.clamp(min=0)).flatten(1), (t >= 0) & (u >= 0)


def _reverse(nodes: Tensor, index: tuple[Tensor, Tensor]) -> Tensor:
    """Reverses node values `[B, T+1, U+1]`, each utterance from its own end; `-inf` where there is no node."""
    positions, inside = index
    return nodes.flatten(1).gather(1, positions).view(nodes.shape).masked_fill(~inside, NEG_INF)

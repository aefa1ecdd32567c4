# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The divergence of one lattice cell, and the classes over which it is taken.

All functions work in place and compute value and gradient together. With student logits z, q = softmax(z) and the
teacher's p, the divergences are:

* 'kl': `sum_k p (log p - log q)`, gradient with respect to z: `q - p`;
* 'reverse_kl': `sum_k q (log q - log p)`, gradient `q (d - sum_j q_j d_j)` with `d = log q - log p`;
* 'jensen_shannon': `(KL(p||m) + KL(q||m)) / 2` with `m = (p + q) / 2`, at most log 2; gradient
  `q (d - sum_j q_j d_j) / 2` with `d = log q - log m`.

Differences of logarithms are taken first, so that equal distributions give exactly zero. All three are f-divergences, so
merging classes never makes them larger (data-processing inequality).

A bin is a class, or several classes that are compared together. The bins are:

* 'full': every class on its own;
* 'topk': the teacher's k most probable classes, the next label and the blanks on their own, all others in one bin;
* 'collapsed': the next label and the blanks on their own, all others in one bin (arXiv 2011.06110). In the last row,
  u = U, there is no next label, so the bins are the blanks and the rest.

The log-probability of the last bin is a log-sum-exp over its members, never `log(1 - sum)`, which cancels where the rest
is small. A bin's logit is the log-sum-exp of its members' logits. The divergence of the bins therefore has a gradient g
with respect to the bin logits, and a member k of the rest receives its share `g_rest * softmax_rest(k)`. The partitions
are nested, so KL_collapsed <= KL_topk <= KL_full.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    'LATTICE_BINS',
    'LATTICE_DIVERGENCES',
    'LatticeOptions',
    'binned_divergence',
    'full_divergence',
    'repeated_classes',
    'select_singles',
    'work_buffers',
]

LATTICE_BINS = ('full', 'topk', 'collapsed')
"""Which classes are compared one by one."""


def _kl(log_q: Tensor, log_p: Tensor, work: list[Tensor]) -> Tensor:
    difference = torch.sub(log_p, log_q, out=work[0])
    p = log_p.exp_()
    value = difference.mul_(p).sum(-1)
    log_q.exp_().sub_(p)
    return value


def _reverse_kl(log_q: Tensor, log_p: Tensor, work: list[Tensor]) -> Tensor:
    difference = torch.sub(log_q, log_p, out=work[0])
    q = log_q.exp_()
    value = torch.mul(q, difference, out=log_p).sum(-1)
    q.mul_(difference.sub_(value.unsqueeze(-1)))
    return value


def _jensen_shannon(log_q: Tensor, log_p: Tensor, work: list[Tensor]) -> Tensor:
    # log m - log q = log((1 + p/q) / 2). A softplus of the difference neither overflows nor cancels.
    ratio = torch.sub(log_p, log_q, out=work[0])
    p = log_p.exp_()
    to_mean = torch.nn.functional.softplus(ratio, threshold=40.0).sub_(math.log(2.0))
    value = p.mul_(ratio.sub_(to_mean)).sum(-1)
    q = log_q.exp_()
    from_mean = to_mean.neg_()
    share = torch.mul(q, from_mean, out=work[0]).sum(-1)
    q.mul_(from_mean.sub_(share.unsqueeze(-1))).mul_(0.5)
    return value.add_(share).mul_(0.5)


LATTICE_DIVERGENCES: dict[str, Callable[[Tensor, Tensor, list[Tensor]], Tensor]] = {
    'kl': _kl,
    'reverse_kl': _reverse_kl,
    'jensen_shannon': _jensen_shannon,
}
"""Name -> function `(log_q, log_p, work) -> [N]`, which leaves the gradient in `log_q`, see `_divergence_and_gradient`."""


@dataclass(frozen=True)
class LatticeOptions:
    """How lattices are compared: the keyword arguments of `lattice_divergence`.

    Attributes:
        bins: 'full': all classes one by one; 'topk': the teacher's `top_k` best classes, the next label and the blanks one
            by one, the rest together; 'collapsed': the next label and the blanks one by one, the rest together.
        divergence: 'kl' (teacher to student), 'reverse_kl' or 'jensen_shannon'.
        temperature: divides the logits of both; the divergence is multiplied by its square.
        top_k: number of the teacher's best classes that 'topk' compares one by one, besides label and blanks.
        tile_cells: cells per tile; by default as many as fit into the cache.
        matmul_dtype: type of the matrix products. The default is float64 for float64 input, the type of a half precision
            encoder on a GPU, and float32 otherwise. The softmax is always computed in float32 or float64.
        dropout_seed: seed of the student's dropout; by default drawn from torch's global generator.
        backend: 'torch', 'triton', or 'auto', which takes the Triton kernel where possible and PyTorch elsewhere.

    Raises:
        ValueError: if an option is unknown or out of range.
    """

    bins: str = 'full'
    divergence: str = 'kl'
    temperature: float = 1.0
    top_k: int = 8
    tile_cells: int | None = None
    matmul_dtype: torch.dtype | None = None
    dropout_seed: int | None = None
    backend: str = 'auto'

    def __post_init__(self) -> None:
        if self.bins not in LATTICE_BINS:
            raise ValueError(f"Unknown bins '{self.bins}'; choose one of {', '.join(LATTICE_BINS)}.")
        if self.divergence not in LATTICE_DIVERGENCES:
            raise ValueError(
                f"Unknown divergence '{self.divergence}'; choose one of {', '.join(LATTICE_DIVERGENCES)}."
            )
        if not self.temperature > 0:
            raise ValueError(f"The temperature must be positive, got {self.temperature}.")
        if self.bins == 'topk' and self.top_k < 1:
            raise ValueError(
                f"top_k must be at least 1, got {self.top_k}; for label, blank and rest alone use bins='collapsed'."
            )
        if self.tile_cells is not None and self.tile_cells < 1:
            raise ValueError(f"tile_cells must be at least 1, got {self.tile_cells}.")


def work_buffers(shape: tuple[int, ...], like: Tensor) -> list[Tensor]:
    """Allocates the buffers that `full_divergence` needs for rows of this shape."""
    return [like.new_empty(shape)]


def full_divergence(name: str, student: Tensor, teacher: Tensor, work: list[Tensor]) -> Tensor:
    """Divergence of the full distributions of a tile, in place.

    Args:
        name: the divergence.
        student: `[N, V]` logits; overwritten with the gradient with respect to them.
        teacher: `[N, V]` logits; destroyed.
        work: from `work_buffers`, shape `[N, V]`.

    Returns:
        `[N]` in nats.
    """
    torch.log_softmax(student, -1, out=student)
    torch.log_softmax(teacher, -1, out=teacher)
    return _divergence_and_gradient(name, student, teacher, work)


def binned_divergence(name: str, student: Tensor, teacher: Tensor, singles: Tensor, gradient: bool) -> Tensor:
    """Divergence of the distributions over the single classes and the rest, in place.

    Args:
        name: the divergence.
        student: `[N, V]` logits; overwritten with the gradient with respect to them if `gradient`, else destroyed.
        teacher: `[N, V]` logits; destroyed.
        singles: `[N, K]` classes that are compared on their own. A class that is named twice counts once.
        gradient: whether to compute the gradient.

    Returns:
        `[N]` in nats.
    """
    repeated = repeated_classes(singles)
    log_p, _ = _bins(teacher, singles, repeated)
    log_q, total = _bins(student, singles, repeated)
    torch.log_softmax(log_p, -1, out=log_p)
    torch.log_softmax(log_q, -1, out=log_q)
    value = _divergence_and_gradient(name, log_q, log_p, work_buffers(tuple(log_q.shape), log_q))
    if gradient:
        # `student` now holds the probabilities of the rest up to the factor 1 / total, and zero for the single classes.
        student.mul_((log_q[:, -1] / total).unsqueeze(1))
        student.scatter_add_(1, singles, log_q[:, :-1].masked_fill_(repeated, 0.0))
    return value


def select_singles(bins: str, teacher: Tensor, labels: Tensor, blanks: Tensor, top_k: int) -> Tensor:
    """Classes `[N, K]` of a tile that are compared on their own, from teacher logits `[N, V]` and next labels `[N]`."""
    chosen = [labels.unsqueeze(1), blanks.expand(labels.shape[0], -1)]
    if bins == 'topk':
        chosen.append(torch.topk(teacher, min(top_k, teacher.shape[1]), dim=1).indices)
    return torch.cat(chosen, dim=1)


def repeated_classes(singles: Tensor) -> Tensor:
    """`[N, K]` true where the same class already occurs further left."""
    same = singles.unsqueeze(2) == singles.unsqueeze(1)
    return same.tril(diagonal=-1).any(dim=2)


def _bins(logits: Tensor, singles: Tensor, repeated: Tensor) -> tuple[Tensor, Tensor]:
    """Bin logits `[N, K+1]`, the rest last, and the sum of `exp(logit - largest)` over the rest, which stays in `logits`.

    Single classes in the rest, and repetitions, get a very low finite number instead of -inf. Their probability is exactly
    zero, and where two such numbers meet (a rest without members) the difference is 0 and not NaN.
    """
    lowest = torch.finfo(logits.dtype).min / 4
    bins = logits.new_empty(logits.shape[0], singles.shape[1] + 1)
    bins[:, :-1] = logits.gather(1, singles).masked_fill_(repeated, lowest)
    logits.scatter_(1, singles, lowest)
    largest = logits.amax(dim=1, keepdim=True)
    total = logits.sub_(largest).exp_().sum(dim=1)
    bins[:, -1] = largest.squeeze(1) + total.log()
    return bins, total


def _divergence_and_gradient(name: str, log_q: Tensor, log_p: Tensor, work: list[Tensor]) -> Tensor:
    """Divergence of every row. Its gradient with respect to the student's logits is left in `log_q`.

    Args:
        name: a key of `LATTICE_DIVERGENCES`.
        log_q: `[N, K]` student log-distribution, natural log, finite; overwritten with the gradient.
        log_p: `[N, K]` teacher log-distribution, natural log, finite; destroyed.
        work: buffers of the same shape.

    Returns:
        `[N]` in nats.
    """
    return LATTICE_DIVERGENCES[name](log_q, log_p, work)

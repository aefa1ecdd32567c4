# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What is compared in a lattice cell: which divergence, and of which classes; in place, value and gradient in one go.

The divergences, with student logits z, q = softmax(z), and the teacher's p:

* 'kl': `sum_k p (log p - log q)`, gradient with respect to z: `q - p`;
* 'reverse_kl': `sum_k q (log q - log p)`, gradient `q (d - sum_j q_j d_j)` with `d = log q - log p`;
* 'jensen_shannon': `(KL(p||m) + KL(q||m)) / 2` with `m = (p + q) / 2`, at most log 2; gradient
  `q (d - sum_j q_j d_j) / 2` with `d = log q - log m`.

Differences of logarithms are taken first, so that equal distributions give exactly zero. All of them are
f-divergences: merging classes never makes them larger (data-processing inequality).

The bins, classes that are compared one by one or together:

* 'full': every class on its own;
* 'topk': the teacher's k most probable classes, the next label and the blanks on their own, all others in one bin;
* 'collapsed': the next label and the blanks on their own, all others in one bin (arXiv 2011.06110). In the last row,
  u = U, there is no next label: the bins are the blanks and the rest.

The last bin is a real one: its log-probability is a log-sum-exp over its members, never `log(1 - sum)`, which cancels
where the rest is small. A bin's logit is the log-sum-exp of its members' logits, so the divergence of the bins has a
gradient g with respect to bin logits, and a member of the rest receives its share of it: `g_rest * softmax_rest(k)`.
As the partitions are nested, KL_collapsed <= KL_topk <= KL_full.
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
    'select_singles',
    'work_buffers',
]

LATTICE_BINS = ('full', 'topk', 'collapsed')


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
    # log m - log q = log((1 + p/q) / 2); a softplus of the difference neither overflows nor cancels.
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


@dataclass(frozen=True)
class LatticeOptions:
    """How lattices are compared: the keyword arguments of `lattice_divergence`.

    Attributes:
        bins: 'full': all classes one by one; 'topk': the teacher's `top_k` best, the next label and the blanks, the rest
            together; 'collapsed': next label, blanks, and the rest.
        divergence: 'kl' (teacher to student), 'reverse_kl' or 'jensen_shannon'.
        temperature: divides the logits of both; the divergence is multiplied with its square.
        top_k: number of the teacher's classes that 'topk' keeps beside label and blank.
        tile_cells: cells per tile; by default what fits the cache.
        matmul_dtype: type of the matrix products. Default: float64 for float64 input, on a GPU the type of a half
            precision encoder, else float32. The softmax is computed in float32 or float64 always.
        dropout_seed: seed of the student's dropout; by default drawn from torch's global generator.
        backend: 'torch', 'triton', or 'auto' for the Triton kernel where it is possible and PyTorch elsewhere.

    Raises:
        ValueError: on a choice that does not exist.
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
    """The buffers that `full_divergence` needs for rows of this shape."""
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
        singles: `[N, K]` classes that are compared on their own. A class may be named twice, it counts once.
        gradient: whether the gradient is wanted.

    Returns:
        `[N]` in nats.
    """
    repeated = _repeated(singles)
    log_p, _ = _bins(teacher, singles, repeated)
    log_q, total = _bins(student, singles, repeated)
    torch.log_softmax(log_p, -1, out=log_p)
    torch.log_softmax(log_q, -1, out=log_q)
    value = _divergence_and_gradient(name, log_q, log_p, work_buffers(tuple(log_q.shape), log_q))
    if gradient:
        # `student` now holds the members of the rest, up to the factor 1 / total, and zero for the single classes.
        student.mul_((log_q[:, -1] / total).unsqueeze(1))
        student.scatter_add_(1, singles, log_q[:, :-1].masked_fill_(repeated, 0.0))
    return value


def select_singles(bins: str, teacher: Tensor, labels: Tensor, blanks: Tensor, top_k: int) -> Tensor:
    """Classes `[N, K]` of a tile to compare on their own, from teacher logits `[N, V]` and next labels `[N]`."""
    chosen = [labels.unsqueeze(1), blanks.expand(labels.shape[0], -1)]
    if bins == 'topk':
        chosen.append(torch.topk(teacher, min(top_k, teacher.shape[1]), dim=1).indices)
    return torch.cat(chosen, dim=1)


def _repeated(singles: Tensor) -> Tensor:
    """`[N, K]` true where a class stands further left already."""
    same = singles.unsqueeze(2) == singles.unsqueeze(1)
    return same.tril(diagonal=-1).any(dim=2)


def _bins(logits: Tensor, singles: Tensor, repeated: Tensor) -> tuple[Tensor, Tensor]:
    """Bin logits `[N, K+1]`, the rest last; leaves `exp(logit - largest)` of the rest in `logits`, and returns its sum.

    Taken out classes and repetitions get the lowest finite number in place of -inf: their probability is exactly zero,
    and where two of them meet (a rest without members) the difference is 0 and not NaN.
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
    """Divergence of every row; leaves its gradient with respect to the student's logits in `log_q`.

    Args:
        name: a key of `LATTICE_DIVERGENCES`.
        log_q: `[N, K]` student log-distribution, natural log, finite; overwritten with the gradient.
        log_p: `[N, K]` teacher log-distribution, natural log, finite; destroyed.
        work: buffers of the same shape.

    Returns:
        `[N]` in nats.
    """
    return LATTICE_DIVERGENCES[name](log_q, log_p, work)

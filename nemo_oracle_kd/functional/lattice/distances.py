# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Divergences between two log-distributions per row, made for a tile: in place, value and gradient in one go.

With student logits z, q = softmax(z), and the teacher's p:

* 'kl': `sum_k p (log p - log q)`, gradient with respect to z: `q - p`;
* 'reverse_kl': `sum_k q (log q - log p)`, gradient `q (d - sum_j q_j d_j)` with `d = log q - log p`;
* 'jensen_shannon': `(KL(p||m) + KL(q||m)) / 2` with `m = (p + q) / 2`, at most log 2; gradient
  `q (d - sum_j q_j d_j) / 2` with `d = log q - log m`.

Differences of logarithms are taken first, so that equal distributions give exactly zero. All of them are
f-divergences: merging classes never makes them larger (data-processing inequality).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ['LATTICE_DIVERGENCES', 'divergence_and_gradient', 'work_buffers']


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


def work_buffers(shape: tuple[int, ...], like: Tensor) -> list[Tensor]:
    """The buffers that `divergence_and_gradient` needs for rows of this shape."""
    return [like.new_empty(shape)]


def divergence_and_gradient(name: str, log_q: Tensor, log_p: Tensor, work: list[Tensor]) -> Tensor:
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

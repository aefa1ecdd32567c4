# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which classes of a lattice cell are compared one by one, and which together: full, top-k + tail, collapsed.

* 'full': every class on its own;
* 'topk': the teacher's k most probable classes, the next label and the blanks on their own, all others in one bin;
* 'collapsed': the next label and the blanks on their own, all others in one bin (arXiv 2011.06110). In the last row,
  u = U, there is no next label: the bins are the blanks and the rest.

The last bin is a real one: its log-probability is a log-sum-exp over its members, never `log(1 - sum)`, which cancels
where the rest is small. A bin's logit is the log-sum-exp of its members' logits, so the divergence of the bins has a
gradient g with respect to bin logits, and a member of the rest receives its share of it: `g_rest * softmax_rest(k)`.
As the partitions are nested, KL_collapsed <= KL_topk <= KL_full.
"""

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.distances import divergence_and_gradient, work_buffers

__all__ = ['LATTICE_BINS', 'binned_divergence', 'full_divergence']

LATTICE_BINS = ('full', 'topk', 'collapsed')


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
    return divergence_and_gradient(name, student, teacher, work)


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
    value = divergence_and_gradient(name, log_q, log_p, work_buffers(tuple(log_q.shape), log_q))
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

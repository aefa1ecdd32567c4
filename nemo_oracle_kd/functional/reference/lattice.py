# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The lattice divergence computed from the whole lattice, slowly and readably, in float64; for tests and benchmarks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.cells import valid_cells
from nemo_oracle_kd.functional.lattice.distances import LatticeOptions
from nemo_oracle_kd.functional.lattice.joint import JointTensors

__all__ = ['reference_lattice_divergence', 'reference_distribution_divergence']


def reference_lattice_divergence(
    student: JointTensors,
    teacher: JointTensors,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int | Sequence[int],
    weights: Tensor | None = None,
    teacher_frames: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """`lattice_divergence` by building both lattices and leaving the gradient to autograd. `[B]` in float64.

    It needs memory for several times B T (U+1) V numbers. Arguments as in `lattice_divergence`; none are checked.
    """
    chosen = LatticeOptions(**options)
    temperature = chosen.temperature
    log_q = (_float64(student).logits() / temperature).log_softmax(-1)
    with torch.no_grad():
        teacher_logits = _float64(teacher).logits()
        batch, frames, positions = log_q.shape[:3]
        if teacher_frames is not None:
            rows = torch.arange(batch, device=log_q.device).unsqueeze(1)
            teacher_logits = teacher_logits[rows, teacher_frames.clamp(min=0)]
        log_p = (teacher_logits[:, :frames] / temperature).log_softmax(-1)
        cells = valid_cells(logit_lengths, target_lengths, frames, positions)
        if teacher_frames is not None:
            cells = cells & (teacher_frames >= 0).unsqueeze(2)
        single = _single_classes(chosen.bins, log_p, targets, target_lengths, blank, chosen.top_k)
    if single is not None:
        log_q, log_p = _merge(log_q, single), _merge(log_p, single)
    values = temperature**2 * reference_distribution_divergence(chosen.divergence, log_p, log_q)
    if weights is not None:
        values = values * weights.detach().to(values.dtype)
    return torch.where(cells, values, torch.zeros_like(values)).sum((1, 2))


def reference_distribution_divergence(divergence: str, log_p: Tensor, log_q: Tensor) -> Tensor:
    """Divergence between teacher `log_p` and student `log_q` over the last axis.

    A class with log-probability -inf in both counts as absent.
    """
    absent = torch.isinf(log_p) & torch.isinf(log_q)
    log_p, log_q = log_p.masked_fill(absent, 0.0), log_q.masked_fill(absent, 0.0)
    p, q = log_p.exp().masked_fill(absent, 0.0), log_q.exp().masked_fill(absent, 0.0)
    if divergence == 'kl':
        return (p * (log_p - log_q)).sum(-1)
    if divergence == 'reverse_kl':
        return (q * (log_q - log_p)).sum(-1)
    log_m = torch.logaddexp(log_p, log_q) - torch.tensor(2.0, dtype=torch.float64).log()
    return 0.5 * (p * (log_p - log_m)).sum(-1) + 0.5 * (q * (log_q - log_m)).sum(-1)


def _float64(joint: JointTensors) -> JointTensors:
    bias = None if joint.bias is None else joint.bias.double()
    return JointTensors(
        joint.encoder.double(), joint.prediction.double(), joint.weight.double(), bias, joint.activation
    )


def _single_classes(
    bins: str, log_p: Tensor, targets: Tensor, target_lengths: Tensor, blank: int | Sequence[int], top_k: int
) -> Tensor | None:
    """Bool `[B, T, U+1, V]`: the classes with a bin of their own; None if all have."""
    if bins == 'full':
        return None
    single = torch.zeros(log_p.shape, dtype=torch.bool, device=log_p.device)
    if bins == 'topk':
        single.scatter_(3, log_p.topk(min(top_k, log_p.shape[3]), dim=3).indices, True)
    for b in [blank] if isinstance(blank, int) else blank:
        single[..., b] = True
    for utterance, length in enumerate(target_lengths.tolist()):
        for u in range(length):
            single[utterance, :, u, int(targets[utterance, u])] = True
    return single


def _merge(log_probs: Tensor, single: Tensor) -> Tensor:
    """Log-probabilities `[..., V + 1]`: single classes keep their column, others get -inf, and the last holds their sum."""
    alone = log_probs.masked_fill(~single, float('-inf'))
    others = log_probs.masked_fill(single, float('-inf'))
    # The logsumexp of no classes is -inf; computed like this, its gradient has no NaN.
    empty = single.all(-1, keepdim=True)
    rest = others.masked_fill(empty, 0.0).logsumexp(-1, keepdim=True).masked_fill(empty, float('-inf'))
    return torch.cat([alone, rest], dim=-1)

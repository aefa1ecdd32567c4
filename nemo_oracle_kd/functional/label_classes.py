# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Frame posteriors over classes of labels, in which models of different vocabularies can be compared."""

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import compute_dtype, fill_padding

__all__ = ['merge_labels']


def merge_labels(log_probs: Tensor, lengths: Tensor, classes: Tensor, count: int) -> Tensor:
    """Adds the posteriors of labels that belong to the same class.

    `P(c|t) = sum of P(k|t) over the labels k of class c`. The frames of CTC are independent, so the product of these posteriors is
    exactly the distribution over sequences of classes to which the map takes the model's own distribution over paths.

    Args:
        log_probs: `[B, T, V]` log-probabilities or logits.
        lengths: `[B]` valid frames.
        classes: `[V]` class of each label, from 0 to `count - 1`.
        count: number of classes C.

    Returns:
        `[B, T, C]` log-probabilities; `-inf` for a class without labels, NaN in a valid frame that holds NaN, constant in the padding.

    Raises:
        ValueError: if shapes or classes do not match.
    """
    if log_probs.dim() != 3 or classes.shape != log_probs.shape[2:]:
        raise ValueError(
            f"Posteriors of shape {list(log_probs.shape)} need one class per label, got classes of shape {list(classes.shape)}."
        )
    classes = classes.to(log_probs.device)
    if classes.device.type == 'cpu' and not 0 <= int(classes.min()) <= int(classes.max()) < count:
        raise ValueError(f"Classes must lie between 0 and {count - 1}, got {classes.tolist()}.")
    labels = fill_padding(log_probs, lengths)
    labels = labels.to(compute_dtype(labels.dtype)).log_softmax(dim=2)
    shape = (*labels.shape[:2], count)
    highest = labels.new_full(shape, -torch.inf).scatter_reduce(2, classes.expand_as(labels), labels.detach(), 'amax')
    highest = torch.where(highest.isfinite(), highest, torch.zeros_like(highest))
    parts = (labels - highest.index_select(2, classes)).exp()
    merged = labels.new_zeros(shape).index_add(2, classes, parts).log() + highest
    return merged.masked_fill(labels[:, :, :1].isnan(), torch.nan)

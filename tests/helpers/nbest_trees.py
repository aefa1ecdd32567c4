# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""RNN-T full sums on a prefix tree from the outputs of a joint at all its nodes, which a training never holds at once."""

import torch
from torch import Tensor

from nemo_oracle_kd.functional import NBestTree, tree_full_sum
from nemo_oracle_kd.functional.tensors import NEG_INF, compute_dtype
from nemo_oracle_kd.functional.transducer.log_probs import select_log_probs


def rnnt_tree_full_sum(logits: Tensor, tree: NBestTree, logit_lengths: Tensor, blank: int) -> Tensor:
    """Negative log-likelihood of every hypothesis, `[B, N]` in nats; equal to N calls of `rnnt_full_sum`.

    Args:
        logits: outputs of the joint at every (frame, node): padded `[B, T, M, V]` in the order of `tree.gather`, or
            packed `[nodes, T, V]`.
        tree: prefix tree of the hypotheses.
        logit_lengths: `[B]` valid frames.
        blank: id of the blank.
    """
    scores = rnnt_tree_scores(logits, tree, logit_lengths, blank)
    return -tree_full_sum(scores, tree, logit_lengths).to(compute_dtype(logits.dtype))


def rnnt_tree_scores(logits: Tensor, tree: NBestTree, logit_lengths: Tensor, blank: int) -> Tensor:
    """The scores `[2, nodes, T]` that `tree_full_sum` takes; arguments as in :func:`rnnt_tree_full_sum`."""
    columns = 1 + tree.max_children
    classes = torch.full((tree.nodes, columns), blank, device=logits.device)
    roots = tree.starts[1]
    parent, rank = tree.parent[roots:], tree.rank[roots:]
    classes[parent, 1 + rank] = tree.label[roots:]
    if logits.dim() == 4:
        classes = tree.pad(classes).unsqueeze(1)
        selected = select_log_probs(logits, classes, logit_lengths, tree.sizes - 1)
        selected = selected.transpose(1, 2).flatten(0, 1)
        selected = selected.index_select(0, tree.utterance * tree.packed.shape[1] + tree.slot)
    else:
        frames = logit_lengths[tree.utterance]
        selected = select_log_probs(logits.unsqueeze(2), classes[:, None, None], frames, torch.zeros_like(frames))
        selected = selected.squeeze(2)
    by_class = selected.transpose(1, 2)
    entering = by_class.flatten(0, 1).index_select(0, parent * columns + 1 + rank)
    none = entering.new_full((roots, entering.shape[1]), NEG_INF)
    return torch.stack([torch.cat([none, entering]), by_class[:, 0]])

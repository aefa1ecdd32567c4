# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Where a joint must be evaluated for the hypotheses of a batch, and how lattices are built from the results.

A joint sees the labels only through the prediction network. A prediction network that reads all labels (an LSTM) gives
every node of the prefix tree a value of its own. A "stateless" one, which reads the last k labels, gives the same value
to all nodes of an utterance that end in the same k labels, even after a label in which two hypotheses differ. Such nodes
share a position. Either way every value is computed exactly once.

Of the V log-probabilities of a cell the lattices need those of the blanks, and those of the labels that lead from the
nodes of the position to their children. With them an RNN-T recursion runs on the tree (`nbest_sum`). TDT and multi-blank
transducers, whose arcs skip frames, sum over one lattice per hypothesis, built from the same values. The joint, which is
by far the larger part of the work, is shared in both cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import NEG_INF
from nemo_oracle_kd.functional.transducer.nbest_tree import NBestTree

__all__ = ['JointPositions', 'joint_positions', 'spread_lattices']


@dataclass(frozen=True, eq=False)
class JointPositions:
    """Label contexts of a batch at which a joint is evaluated in every frame, ordered by utterance.

    Attributes:
        tree: the prefix trees of the hypotheses.
        position: `[nodes]` the position of every node.
        node: `[positions]` the first node of every position, which represents it.
        utterance: `[positions]` index of the utterance in the batch.
        sizes: `[B]` positions per utterance; those of utterance b are contiguous.
        classes: `[positions, C]` ids of the classes needed: the blanks, then labels; padded with the first blank.
        column: `[nodes]` column in `classes` of the label that leads from the parent's position to the node; 0 for roots.
        blanks: number of blanks among the classes.
    """

    tree: NBestTree
    position: Tensor
    node: Tensor
    utterance: Tensor
    sizes: Tensor
    classes: Tensor
    column: Tensor
    blanks: int

    def arcs(self, selected: Tensor) -> tuple[Tensor, Tensor]:
        """Values of the nodes from log-probabilities of the positions' classes; differentiable.

        Args:
            selected: `[positions, T, C]`.

        Returns:
            `(labels [nodes, T], blanks [blanks, nodes, T])`: log-probabilities of the label that leads from the parent to
            the node (`-inf` for roots), and of the blanks of the node.
        """
        device, roots, columns = selected.device, self.tree.starts[1], self.classes.shape[1]
        by_class = selected.transpose(1, 2)
        index = self.position[self.tree.parent[roots:]] * columns + self.column[roots:]
        labels = by_class.flatten(0, 1).index_select(0, index.to(device))
        none = labels.new_full((roots, labels.shape[1]), NEG_INF)
        blanks = by_class[:, : self.blanks].index_select(0, self.position.to(device)).transpose(0, 1)
        return torch.cat([none, labels]), blanks


@torch.no_grad()
def joint_positions(tree: NBestTree, blanks: Sequence[int], context: int | None = None) -> JointPositions:
    """Finds the label contexts of a batch at which the joint must be evaluated.

    Args:
        tree: prefix tree of the hypotheses, on the CPU.
        blanks: ids of the blanks, at least one.
        context: how many labels the prediction network sees; None for all.

    Raises:
        ValueError: if there are no blanks, or if the context is below one.
    """
    if not blanks or (context is not None and context < 1):
        raise ValueError(
            f"Positions need at least one blank and a context of 1 or more labels, got {list(blanks)} and {context}."
        )
    each = torch.arange(tree.nodes)
    if context is None:
        keys = [each]
    else:
        keys, above = [], each
        for _ in range(context):
            keys.append(torch.where(above < 0, -1, tree.label[above]))
            above = torch.where(above < 0, -1, tree.parent[above])
    columns = torch.stack([tree.utterance, *keys], 1)
    unique, position = torch.unique(columns, dim=0, return_inverse=True)
    utterance = unique[:, 0]
    node = torch.full((len(unique),), tree.nodes).scatter_reduce(0, position, each, 'amin')

    # Every label that leaves a position, once: a table with as many columns as the position with most labels needs.
    roots, first = tree.starts[1], len(blanks)
    leaving = torch.stack([position[tree.parent[roots:]], tree.label[roots:]], 1)
    pairs, pair = torch.unique(leaving, dim=0, return_inverse=True)
    where = torch.arange(len(pairs))
    eldest = torch.full((len(unique),), len(pairs)).scatter_reduce(0, pairs[:, 0], where, 'amin')
    rank = first + where - eldest[pairs[:, 0]]
    classes = torch.full((len(unique), int(rank.max()) + 1 if len(pairs) else first), blanks[0])
    classes[:, :first] = torch.tensor(list(blanks))
    classes[pairs[:, 0], rank] = pairs[:, 1]
    column = torch.cat([torch.zeros(roots, dtype=torch.long), rank[pair]])
    sizes = torch.bincount(utterance, minlength=len(tree.sizes))
    return JointPositions(tree, position, node, utterance, sizes, classes, column, first)


def spread_lattices(labels: Tensor, others: Tensor, node: Tensor) -> tuple[Tensor, Tensor]:
    """Builds one lattice per hypothesis from values of the tree; differentiable.

    Args:
        labels: `[nodes, T]` as from `JointPositions.arcs`.
        others: `[K, nodes, T]` further values of the nodes, such as the blanks'.
        node: `[P, U+1]` rows of `tree.node`: the nodes of P hypotheses; -1 in the padding.

    Returns:
        `(labels [P, T, U+1], others [K, P, T, U+1])`: values of the next label at every position, and the rest. The
        padding, and the next label of the last position, hold the values of some other cell.
    """
    here = node.clamp(min=0)
    following = torch.cat([here[:, 1:], here[:, -1:]], 1)
    spread = labels.index_select(0, following.flatten()).unflatten(0, node.shape).transpose(1, 2)
    rest = others.index_select(1, here.flatten()).unflatten(1, node.shape).transpose(2, 3)
    return spread, rest

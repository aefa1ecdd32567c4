# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The prefix tree of the hypotheses of an utterance.

The hypotheses of an N-best list differ in a few words and share the rest. In a transducer everything at position u
depends on the audio and on the first u labels only, so hypotheses with a common prefix share the outputs of prediction
network and joint there, and the forward scores. A node of the tree is a distinct prefix. Working once per node instead
of once per hypothesis and position gives the same numbers. See `nbest_sum` for the recursion.

CTC has nothing to share: its posteriors do not depend on the labels, and its lattices are small.

Values per node come in two layouts. The packed one, `[nodes, ...]`, holds the nodes of all utterances in the order of
the tree, by depth. The padded one, `[B, M, ...]`, holds up to M nodes per utterance, of which the first is the empty
prefix; M is the largest number of nodes of an utterance. A stock joint network takes the padded layout where it expects
the positions of one hypothesis.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import length_mask

__all__ = ['NBestTree', 'TreeCells', 'build_nbest_tree']


@dataclass(frozen=True)
class TreeCells:
    """Cells (frame, node) at which a joint is evaluated, by tree and by separate lattices.

    Attributes:
        tree: cells of the prefix trees.
        separate: cells of one lattice per hypothesis.
        padded_tree: cells of the prefix trees including the padding of the batch, `B T M`.
        padded_separate: cells of the separate lattices including the padding of the batch, `B N T (U+1)`.
    """

    tree: int
    separate: int
    padded_tree: int
    padded_separate: int

    @property
    def ratio(self) -> float:
        """Cells of the tree as a share of those of separate lattices, without padding; 1 if there are none."""
        return self.tree / self.separate if self.separate else 1.0

    @property
    def padded_ratio(self) -> float:
        """The same share with padding: how large the tensors are relative to those of separate lattices."""
        return self.padded_tree / self.padded_separate if self.padded_separate else 1.0


@dataclass(frozen=True, eq=False)
class NBestTree:
    """Prefix trees of a batch of N-best lists.

    Nodes are ordered by depth, then by parent, then by label. The first B nodes are the roots, the empty prefixes.

    Attributes:
        parent: `[nodes]` node of the prefix without its last label; -1 for roots.
        label: `[nodes]` last label of the prefix; -1 for roots.
        depth: `[nodes]` length of the prefix.
        utterance: `[nodes]` index of the utterance in the batch.
        hypothesis: `[nodes]` the first hypothesis with this prefix; it represents all of them.
        slot: `[nodes]` position in the padded layout.
        rank: `[nodes]` number of the node among the children of its parent, from 0.
        packed: `[B, M]` node at every slot of the padded layout; -1 in the padding.
        sizes: `[B]` nodes per utterance.
        node: `[B, N, U+1]` node of the first u labels of every hypothesis; -1 in the padding.
        end: `[B, N]` node of the whole hypothesis; -1 for padding.
        starts: the nodes of depth d are `starts[d]` up to but not including `starts[d + 1]`.
        max_children: largest number of children of a node.
        largest_label: largest label of all hypotheses; -1 if there are none.
    """

    parent: Tensor
    label: Tensor
    depth: Tensor
    utterance: Tensor
    hypothesis: Tensor
    slot: Tensor
    rank: Tensor
    packed: Tensor
    sizes: Tensor
    node: Tensor
    end: Tensor
    starts: tuple[int, ...]
    max_children: int
    largest_label: int

    @property
    def nodes(self) -> int:
        """Number of nodes of all utterances."""
        return self.parent.shape[0]

    @property
    def max_depth(self) -> int:
        """Length of the longest hypothesis."""
        return len(self.starts) - 2

    def to(self, device: torch.device | str) -> 'NBestTree':
        """The same tree on another device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    def gather(self, x: Tensor, padded: bool = True) -> Tensor:
        """Values of the nodes from values of the hypotheses' positions, such as outputs of a prediction network.

        Each node takes the value of the first hypothesis with its prefix, which receives the node's gradient.
        Hypotheses with a common prefix therefore share one dropout mask.

        Args:
            x: `[B, N, U+1, ...]`.
            padded: whether to return the padded layout.

        Returns:
            `[B, M, ...]`, zero in the padding, or packed `[nodes, ...]`.

        Raises:
            ValueError: if `x` does not hold the positions of these hypotheses.
        """
        if x.shape[:3] != self.node.shape:
            raise ValueError(
                f"Values per hypothesis and position must have shape {list(self.node.shape)} and more, got "
                f"{list(x.shape)}."
            )
        values = x[self.utterance, self.hypothesis, self.depth]
        return self.pad(values) if padded else values

    def pad(self, x: Tensor) -> Tensor:
        """Converts the packed layout `[nodes, ...]` to the padded one, `[B, M, ...]`, zero in the padding."""
        padded = x.index_select(0, self.packed.clamp(min=0).flatten()).unflatten(0, self.packed.shape)
        return padded.masked_fill((self.packed < 0).view(*self.packed.shape, *[1] * (x.dim() - 1)), 0)

    def spread(self, x: Tensor) -> Tensor:
        """Values of the hypotheses' positions from packed values of the nodes: `[B, N, U+1, ...]`, zero in the padding.

        The inverse of `gather`. It makes separate lattices from the values of the tree.
        """
        spread = x.index_select(0, self.node.clamp(min=0).flatten()).unflatten(0, self.node.shape)
        return spread.masked_fill((self.node < 0).view(*self.node.shape, *[1] * (x.dim() - 1)), 0)

    def cells(self, logit_lengths: Tensor) -> TreeCells:
        """Counts the cells of the tree and those of separate lattices, for `logit_lengths [B]` frames.

        Raises:
            ValueError: if there is not one length per utterance.
        """
        frames = logit_lengths.to(self.sizes.device)
        if frames.shape != self.sizes.shape:
            raise ValueError(
                f"Lengths must have shape {list(self.sizes.shape)}, got {list(frames.shape)}; pass one per utterance."
            )
        positions = (self.node >= 0).sum((1, 2))
        longest = int(frames.max()) if frames.numel() else 0
        return TreeCells(
            tree=int((self.sizes * frames).sum()),
            separate=int((positions * frames).sum()),
            padded_tree=self.packed.numel() * longest,
            padded_separate=self.node.numel() * longest,
        )


@torch.no_grad()
def build_nbest_tree(labels: Tensor, lengths: Tensor, mask: Tensor | None = None) -> NBestTree:
    """Builds the prefix trees of a batch, depth by depth.

    Args:
        labels: `[B, N, U]` label ids; values beyond the length of a hypothesis are ignored.
        lengths: `[B, N]` labels per hypothesis; 0 is the empty hypothesis.
        mask: `[B, N]` true for hypotheses, false for padding; None if all are valid. Equal hypotheses share all nodes.

    Returns:
        the trees, on the device of `labels`; they are built on the CPU. Every utterance has a root.

    Raises:
        ValueError: if shapes, lengths or labels do not match.
    """
    if labels.dim() != 3 or lengths.shape != labels.shape[:2] or (mask is not None and mask.shape != lengths.shape):
        raise ValueError(
            f"A tree needs labels [B, N, U] and lengths (and mask) [B, N], got {list(labels.shape)}, "
            f"{list(lengths.shape)}{'' if mask is None else f' and {list(mask.shape)}'}."
        )
    device, (batch, hypotheses, longest) = labels.device, labels.shape
    labels, lengths = labels.cpu().long(), lengths.cpu().long()
    valid = torch.ones_like(lengths, dtype=torch.bool) if mask is None else mask.cpu().bool()
    lengths = torch.where(valid, lengths, 0)
    if lengths.numel() and (int(lengths.min()) < 0 or int(lengths.max()) > longest):
        raise ValueError(f"Lengths of hypotheses must lie between 0 and U = {longest}, got {lengths.tolist()}.")
    used = labels[length_mask(lengths.flatten(), longest).view_as(labels)]
    if used.numel() and int(used.min()) < 0:
        raise ValueError(
            f"Labels of hypotheses must not be negative, got {int(used.min())}; pad only behind their lengths."
        )
    largest = int(used.max()) if used.numel() else -1

    which = torch.arange(hypotheses).expand(batch, -1)
    node = torch.full((batch, hypotheses, longest + 1), -1)
    node[:, :, 0] = torch.where(valid, torch.arange(batch).unsqueeze(1), -1)
    roots = torch.full((batch,), -1)
    parents, last, first = [roots], [roots], [torch.zeros_like(roots)]
    if hypotheses:
        first = [valid.long().argmax(1)]
    starts = [0, batch]
    for u in range(1, int(lengths.max()) + 1 if lengths.numel() else 1):
        longer = lengths >= u
        key = node[:, :, u - 1][longer] * (largest + 1) + labels[:, :, u - 1][longer]
        # unique() sorts, so nodes of equal depth follow the order of their parents, and siblings that of their labels.
        prefixes, index = torch.unique(key, return_inverse=True)
        node[:, :, u][longer] = starts[-1] + index
        parents.append(prefixes // (largest + 1))
        last.append(prefixes % (largest + 1))
        first.append(torch.full_like(prefixes, hypotheses).scatter_reduce(0, index, which[longer], 'amin'))
        starts.append(starts[-1] + prefixes.numel())

    parent, nodes = torch.cat(parents), starts[-1]
    depth = torch.repeat_interleave(torch.arange(len(starts) - 1), torch.tensor(starts).diff())
    utterance = torch.arange(batch)
    for above in parents[1:]:
        utterance = torch.cat([utterance, utterance[above]])
    each = torch.arange(nodes)
    children = parent[batch:]
    eldest = torch.full((nodes,), nodes).scatter_reduce(0, children, each[batch:], 'amin')
    rank = torch.cat([torch.zeros(batch, dtype=torch.long), each[batch:] - eldest[children]])

    sizes = torch.bincount(utterance, minlength=batch)
    order = utterance.argsort(stable=True)
    slot = torch.empty_like(order)
    slot[order] = each - (sizes.cumsum(0) - sizes)[utterance[order]]
    packed = torch.full((batch, int(sizes.max()) if batch else 0), -1)
    packed[utterance, slot] = each
    tree = NBestTree(
        parent=parent,
        label=torch.cat(last),
        depth=depth,
        utterance=utterance,
        hypothesis=torch.cat(first),
        slot=slot,
        rank=rank,
        packed=packed,
        sizes=sizes,
        node=node,
        end=node.gather(2, lengths.unsqueeze(2)).squeeze(2),
        starts=tuple(starts),
        max_children=int(rank.max()) + 1 if children.numel() else 0,
        largest_label=largest,
    )
    return tree.to(device)

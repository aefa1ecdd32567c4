# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`-log P(y|x)` of N hypotheses per utterance under a student in training, with gradients.

The hypotheses of an utterance share most of their labels. In a transducer the joint sees the labels only through the
prediction network, so projection and joint are evaluated once per distinct label context. A context is a node of the prefix
tree, or for a stateless prediction network the last few labels. This is exact. An RNN-T also sums on the tree. TDT and
multi-blank transducers sum over one lattice per hypothesis, built from the shared values. In CTC only the encoder is shared.

Memory: the joint runs utterance by utterance, without padding, and an utterance of more than `max_cells` cells is cut along
time. Of each portion only the few log-probabilities that the lattices need are kept, and its logits are computed again in
the backward pass. The exception are the last portions, up to `max_cells` cells in all, because the backward pass begins with
them. At most that many cells are held at a time, and a batch with no more cells is computed only once.

Dropout: the prediction network draws a mask per hypothesis that it reads, and a context gets that of the first hypothesis
that has it. The joint draws a mask per cell. Hypotheses that share a context therefore share its masks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nemo_oracle_kd.bridge.model import Head
from nemo_oracle_kd.bridge.sequence_scores import MAX_CELLS, Hypotheses
from nemo_oracle_kd.bridge.signals import StudentStep
from nemo_oracle_kd.functional.ctc import ctc_full_sum
from nemo_oracle_kd.functional.tensors import compute_dtype, length_mask
from nemo_oracle_kd.functional.transducer.nbest_positions import joint_positions, spread_lattices
from nemo_oracle_kd.functional.transducer.nbest_sum import tree_full_sum
from nemo_oracle_kd.functional.transducer.nbest_tree import build_nbest_tree
from nemo_oracle_kd.functional.transducer.recursion import arc_full_sum

__all__ = ['NBestCells', 'NBestScores', 'label_context', 'nbest_scores']


@dataclass(frozen=True)
class NBestCells:
    """Joint cells (frame, position) of the N-best lists of a batch.

    Attributes:
        evaluated: cells that the joint computed; none of them is padding.
        tree: cells of the prefix trees; may exceed `evaluated` if the prediction network is stateless.
        separate: cells of one lattice per hypothesis, without padding.
    """

    evaluated: int
    tree: int
    separate: int

    @property
    def ratio(self) -> float:
        """Evaluated cells as a share of those of separate lattices; 1 if there are none."""
        return self.evaluated / self.separate if self.separate else 1.0


@dataclass(frozen=True)
class NBestScores:
    """Scores of the hypotheses of a batch.

    Attributes:
        nll: `[B, N]` minus log-probabilities, differentiable; `inf`, with gradient zero, where there is no hypothesis or
            no alignment.
        cells: the cells of the joint, `None` for a CTC head.
        arcs: log-probabilities of the next label, `[B, T, U+1]`, and of blanks and durations, `[C, B, T, U+1]`, without gradient;
            `None` unless they were asked for.
    """

    nll: Tensor
    cells: NBestCells | None
    arcs: tuple[Tensor, Tensor] | None = None


def nbest_scores(
    model: Any,
    head: Head,
    step: StudentStep,
    hypotheses: Hypotheses,
    max_cells: int = MAX_CELLS,
    predicted: Tensor | None = None,
    keep_arcs: bool = False,
) -> NBestScores:
    """`-log P(y|x)` of N hypotheses per utterance, with gradients into encoder, prediction network and joint.

    Args:
        model: a NeMo model, in training or eval mode.
        head: what `find_head(model)` found; `step` must belong to it.
        step: the student's step, of which `lengths` and `log_probs` (CTC) or `encoded` (transducer) are read.
        hypotheses: label sequences in the student's vocabulary; equal ones are computed once.
        max_cells: number of joint cells, frames times nodes, that are held at a time.
        predicted: `[B N, D', U+1]` what the prediction network of a transducer gave for the hypotheses, all those of an
            utterance in a row; `None`: it runs here.
        keep_arcs: also return the log-probabilities of the arcs, for lists of one hypothesis of a transducer.

    Returns:
        the scores, float64 for float64 tensors and float32 otherwise, the cells, and the arcs.

    Raises:
        ValueError: if the head does not have some label, if `max_cells` is not positive, or if arcs are to be kept of longer lists.
    """
    if max_cells < 1:
        raise ValueError(f"max_cells must be positive, not {max_cells}")
    if keep_arcs and (head.transducer is None or hypotheses.lengths.shape[1] != 1):
        raise ValueError("arcs are kept of lists of one hypothesis of a transducer: set keep_arcs=False")
    _check_labels(hypotheses, len(head.vocabulary))
    if head.transducer is None:
        return NBestScores(_ctc_nll(step.log_probs, step.lengths, hypotheses, head.blank), None)
    lattices = _SharedLattices(model, head, hypotheses, max_cells)
    return lattices.score(step.encoded, step.lengths, predicted, keep_arcs)


def label_context(model: Any) -> int | None:
    """Number of labels that the prediction network of a transducer sees, `None` for all."""
    from nemo.collections.asr.modules import StatelessTransducerDecoder

    return model.decoder.context_size if isinstance(model.decoder, StatelessTransducerDecoder) else None


def _check_labels(hypotheses: Hypotheses, classes: int) -> None:
    lengths, longest = hypotheses.lengths, hypotheses.labels.shape[2]
    labels = hypotheses.labels[length_mask(lengths.flatten().clamp(min=0), longest).view_as(hypotheses.labels)]
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise ValueError(
            f"hypotheses have labels between {int(labels.min())} and {int(labels.max())}, but the student has {classes} labels: "
            "encode the texts with the student's tokenizer"
        )


def _ctc_nll(log_probs: Tensor, frames: Tensor, hypotheses: Hypotheses, blank: int) -> Tensor:
    lengths = hypotheses.lengths.to(log_probs.device)
    columns = []
    for n in range(lengths.shape[1]):
        labels = hypotheses.labels[:, n].to(log_probs.device)
        nll = ctc_full_sum(log_probs, labels, frames, lengths[:, n].clamp(min=0), blank)
        columns.append(nll.masked_fill(lengths[:, n] < 0, math.inf))
    if not columns:
        return torch.zeros(lengths.shape, dtype=compute_dtype(log_probs.dtype), device=log_probs.device)
    return torch.stack(columns, 1)


@dataclass(frozen=True)
class _Portion:
    """The cells of one call of the joint: some frames of one utterance at all its positions."""

    utterance: int
    start: int
    stop: int
    recompute: bool


def _portions(frames: list[int], sizes: list[int], max_cells: int) -> list[list[_Portion]]:
    """The portions of every utterance; none for an utterance without frames."""
    left = sum(length * size for length, size in zip(frames, sizes))
    portions = []
    for b, (length, size) in enumerate(zip(frames, sizes)):
        step = max(1, max_cells // size)
        of_one = []
        for start in range(0, length, step):
            stop = min(start + step, length)
            cells = (stop - start) * size
            # the last portions are kept, because the backward pass reads and frees them first
            of_one.append(_Portion(b, start, stop, recompute=left > max(max_cells, cells)))
            left -= cells
        portions.append(of_one)
    return portions


class _SharedLattices:
    """The lattices of the hypotheses of one batch."""

    def __init__(self, model: Any, head: Head, hypotheses: Hypotheses, max_cells: int):
        self.model, self.transducer, self.max_cells = model, head.transducer, max_cells
        self.labels, self.lengths = hypotheses.labels.cpu(), hypotheses.lengths.cpu()
        self.tree = build_nbest_tree(self.labels, self.lengths, self.lengths >= 0)
        self.positions = joint_positions(self.tree, head.transducer.blanks, label_context(model))

    def score(self, encoded: Tensor, lengths: Tensor, predicted: Tensor | None, keep_arcs: bool) -> NBestScores:
        """Scores of the hypotheses from the output of the encoder, `[B, D, T]`."""
        lengths = torch.where((self.tree.end >= 0).any(1), lengths.long().cpu(), 0)
        heard = encoded.transpose(1, 2)[length_mask(lengths, encoded.shape[2]).to(encoded.device)]
        frames = self.model.joint.project_encoder(heard.unsqueeze(0)).squeeze(0)
        portions = _portions(lengths.tolist(), self.positions.sizes.tolist(), self.max_cells)
        cells = NBestCells(
            evaluated=int((self.positions.sizes * lengths).sum()),
            tree=int((self.tree.sizes * lengths).sum()),
            separate=int(((self.tree.node >= 0).sum((1, 2)) * lengths).sum()),
        )
        dtype = compute_dtype(frames.dtype)
        if not any(portions):
            return NBestScores(frames.new_full(self.tree.end.shape, math.inf, dtype=dtype), cells)
        values = self._values(frames.split(lengths.tolist()), self._projected(encoded.device, predicted), portions)
        arcs = self._arcs(values.detach(), encoded.shape[2]) if keep_arcs else None
        return NBestScores(-self._log_probs(values, lengths).to(dtype), cells, arcs)

    def _arcs(self, values: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """The lattices of lists of one hypothesis, as `NBestScores.arcs`."""
        padded = torch.nn.functional.pad(values, (0, 0, 0, frames - values.shape[1]))
        return spread_lattices(*self._of_nodes(padded), self.tree.node[:, 0].to(values.device))

    def _projected(self, device: torch.device, predicted: Tensor | None) -> Tensor:
        """Projected outputs of the prediction network at the positions, `[positions, H]`."""
        tree, node = self.tree, self.positions.node
        row = tree.utterance[node] * self.lengths.shape[1] + tree.hypothesis[node]
        if predicted is None:
            read, row = torch.unique(row, return_inverse=True)
            lengths = self.lengths.flatten()[read].clamp(min=0)
            labels = self.labels.flatten(0, 1)[read, : tree.max_depth].long()
            # the embedding has no row for padding
            labels = torch.where(length_mask(lengths, labels.shape[1]), labels, 0)
            predicted, _, _ = self.model.decoder(targets=labels.to(device), target_length=lengths.to(device))
        index = row * predicted.shape[2] + tree.depth[node]
        chosen = predicted.transpose(1, 2).flatten(0, 1).index_select(0, index.to(device))
        return self.model.joint.project_prednet(chosen.unsqueeze(0)).squeeze(0)

    def _values(self, frames: Sequence[Tensor], projected: Tensor, portions: list[list[_Portion]]) -> Tensor:
        """The log-probabilities that the lattices need, `[positions, T, C]`, zero after the last frame."""
        device, sizes = projected.device, self.positions.sizes.tolist()
        longest = max(of_one[-1].stop for of_one in portions if of_one)
        positions = zip(projected.split(sizes), self.positions.classes.to(device).split(sizes))
        columns = self.positions.classes.shape[1] + self.transducer.duration_outputs
        values: list[Tensor] = []
        for (at, classes), of_one in zip(positions, portions):
            pieces = []
            for portion in of_one:
                arguments = (frames[portion.utterance][portion.start : portion.stop], at, classes)
                if portion.recompute and torch.is_grad_enabled():
                    random = self.model.training
                    piece = checkpoint(self._select, *arguments, use_reentrant=False, preserve_rng_state=random)
                else:
                    piece = self._select(*arguments)
                pieces.append(piece)
            if not pieces:  # an utterance without frames or hypotheses
                pieces.append(at.new_zeros(len(at), 0, columns, dtype=compute_dtype(at.dtype)))
            whole = torch.cat(pieces, 1)
            values.append(torch.nn.functional.pad(whole, (0, 0, 0, longest - whole.shape[1])))
        return torch.cat(values)

    def _select(self, frames: Tensor, projected: Tensor, classes: Tensor) -> Tensor:
        """Log-probabilities `[S, T, C]` of `classes [S, C]`, followed by those of a TDT's durations, for `frames [T, H]`."""
        logits = self.model.joint.joint_after_projection(frames.unsqueeze(0), projected.unsqueeze(0))
        lengths, last = torch.tensor([len(frames)]), torch.tensor([len(projected) - 1])
        return self.transducer.select(logits, classes[None, None], lengths, last)[0].transpose(0, 1)

    def _log_probs(self, values: Tensor, lengths: Tensor) -> Tensor:
        """`log P(y|x)` of the hypotheses, `[B, N]`."""
        tree = self.tree
        labels, others = self._of_nodes(values)
        if self.transducer.sums_on_tree:
            scores = torch.stack([labels, others[0]])
            return tree_full_sum(scores, tree.to(values.device), lengths.to(values.device))
        # hypotheses that end at the same node are equal and need only one lattice
        ends, which = torch.unique(tree.end, return_inverse=True)
        example = torch.zeros(len(ends), dtype=torch.long).scatter_(0, which.flatten(), torch.arange(which.numel()))
        present = (ends >= 0).nonzero().squeeze(1)
        node = tree.node.flatten(0, 1)[example[present]].to(values.device)
        label, others = spread_lattices(labels, others, node)
        scores = self.transducer.combine(label, others)
        end = ends[present]
        log_prob = arc_full_sum(scores, self.transducer.arcs, lengths[tree.utterance[end]], tree.depth[end])
        padded = torch.cat([log_prob.new_full((len(ends) - len(present),), -math.inf), log_prob])
        return padded[which.to(values.device)]

    def _of_nodes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities at the nodes of the tree: of the label that leads to it, `[nodes, T]`, of blanks and durations, `[C, nodes, T]`."""
        positions = self.positions
        count = positions.classes.shape[1]
        labels, others = positions.arcs(values[..., :count])
        if values.shape[-1] > count:
            steps = values[..., count:].index_select(0, positions.position.to(values.device))
            others = torch.cat([others, steps.movedim(-1, 0)])
        return labels, others

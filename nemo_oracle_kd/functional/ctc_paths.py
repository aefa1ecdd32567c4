# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""CTC paths: the best alignment of a transcript, the greedy path, and where their labels spike.

A path is a tensor `[B, T]` with one label per frame: the blank id in blank frames and -1 in the padding.
"""

import torch
from torch import Tensor

from nemo_oracle_kd.functional.ctc_lattice import build_lattice, final_scores
from nemo_oracle_kd.functional.tensors import NEG_INF, fill_padding, length_mask

__all__ = ['PATH_PADDING', 'ctc_best_path', 'ctc_greedy_path', 'spike_times', 'collapse_path']

PATH_PADDING = -1


@torch.no_grad()
def ctc_best_path(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
) -> Tensor:
    """The most probable alignment of each transcript (Viterbi search in the CTC lattice).

    Among equally probable alignments it prefers staying in a state to advancing, advancing to skipping a blank, and
    ending in the blank to ending in the last label.

    Args:
        log_probs: `[B, T, V]` log-probabilities, natural log.
        targets: `[B, U]` labels without blanks.
        input_lengths: `[B]` valid frames.
        target_lengths: `[B]` valid labels.
        blank: id of the blank.

    Returns:
        `[B, T]` path, int64. Utterances without any alignment are -1 throughout.

    Raises:
        ValueError: if shapes, lengths or labels do not match.
    """
    lattice = build_lattice(log_probs, targets, input_lengths, target_lengths, blank)
    emissions = lattice.emissions
    frames, batch, width = emissions.shape
    path = torch.full((batch, frames), PATH_PADDING, dtype=torch.long, device=emissions.device)
    if frames == 0:
        return path
    skip_score = torch.zeros_like(emissions[0]).masked_fill_(~lattice.can_skip, NEG_INF)
    padded = emissions.new_full((batch, width + 2), NEG_INF)
    best = torch.empty_like(emissions)
    steps = torch.zeros((frames, batch, width), dtype=torch.uint8, device=emissions.device)
    best[0] = NEG_INF
    best[0, :, :2] = emissions[0, :, :2]
    for t in range(1, frames):
        padded[:, 2:] = best[t - 1]
        candidates = torch.stack([padded[:, 2:], padded[:, 1:-1], padded[:, :-2] + skip_score])
        score, step = candidates.max(dim=0)
        best[t] = score + emissions[t]
        steps[t] = step

    rows = torch.arange(batch, device=emissions.device)
    label, silence = final_scores(best[(lattice.frames - 1).clamp(min=0), rows], lattice.states)
    last = lattice.states - 1 - (label > silence).long()
    feasible = torch.maximum(label, silence) != NEG_INF
    state = last
    for t in range(frames - 1, -1, -1):
        # The pointer of an utterance waits in the final state until the loop reaches its own last frame.
        path[:, t] = lattice.labels.gather(1, state.unsqueeze(1)).squeeze(1)
        moved = state - steps[t].gather(1, state.unsqueeze(1)).squeeze(1).long()
        state = torch.where(t < lattice.frames, moved, last)
    valid = length_mask(lattice.frames, frames) & feasible.unsqueeze(1)
    return torch.where(valid, path, torch.full_like(path, PATH_PADDING))


@torch.no_grad()
def ctc_greedy_path(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """The most probable label of each frame.

    Args:
        log_probs: `[B, T, V]` log-probabilities or logits.
        lengths: `[B]` valid frames.

    Returns:
        `[B, T]` path, int64, -1 in the padding.
    """
    return fill_padding(log_probs.argmax(dim=2), lengths, PATH_PADDING)


@torch.no_grad()
def spike_times(path: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """First frame of each label that a path emits.

    A label is emitted where it is neither blank nor equal to the frame before (the CTC mapping).

    Args:
        path: `[B, T]` labels, the blank id in blank frames, -1 in the padding.
        blank: id of the blank.

    Returns:
        frames `[B, U']`, int64, -1 past the number of emitted labels, and counts `[B]`, the number of emitted labels;
        U' is the largest count.

    Raises:
        ValueError: if `path` is not two-dimensional.
    """
    emitted, counts, slots = _emissions(path, blank)
    row, frame = emitted.nonzero(as_tuple=True)
    slots[row, emitted.cumsum(dim=1)[row, frame] - 1] = frame
    return slots, counts


@torch.no_grad()
def collapse_path(path: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """The label sequence that a path stands for: repeats merged, blanks removed.

    Args:
        path: `[B, T]` labels, the blank id in blank frames, -1 in the padding.
        blank: id of the blank.

    Returns:
        labels `[B, U']`, -1 past the number of emitted labels, and counts `[B]`.

    Raises:
        ValueError: if `path` is not two-dimensional.
    """
    emitted, counts, slots = _emissions(path, blank)
    row, frame = emitted.nonzero(as_tuple=True)
    slots[row, emitted.cumsum(dim=1)[row, frame] - 1] = path[row, frame].long()
    return slots, counts


def _emissions(path: Tensor, blank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mask `[B, T]` of emitting frames, their number `[B]`, and empty slots `[B, U']` filled with -1."""
    if path.dim() != 2:
        raise ValueError(f"A path must have shape [B, T], got {list(path.shape)}; pass one row per utterance.")
    emitted = (path != blank) & (path != PATH_PADDING)
    emitted[:, 1:] &= path[:, 1:] != path[:, :-1]
    counts = emitted.sum(dim=1)
    width = int(counts.max()) if counts.numel() else 0
    return emitted, counts, torch.full((path.shape[0], width), PATH_PADDING, dtype=torch.long, device=path.device)

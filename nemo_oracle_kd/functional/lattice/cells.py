# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which cells of a lattice count, and how much: weights `[B, T, U+1]` for `lattice_divergence`.

Nothing (all valid cells), an occupancy (cells that no alignment visits do not count), or the cells on the best path
(arXiv 2110.03334) or in a band around it. Occupancies and paths come from elsewhere; here they become weights.
"""

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import length_mask

__all__ = ['band_cells', 'occupancy_weights', 'path_cells', 'valid_cells']


def valid_cells(logit_lengths: Tensor, target_lengths: Tensor, frames: int, positions: int) -> Tensor:
    """Marks the cells of every utterance: t < T_b and u <= U_b.

    Args:
        logit_lengths: `[B]` valid frames.
        target_lengths: `[B]` valid labels.
        frames: padded T.
        positions: padded U + 1.

    Returns:
        bool `[B, T, U+1]`.
    """
    in_time = length_mask(logit_lengths, frames)
    in_labels = length_mask(target_lengths + 1, positions)
    return in_time.unsqueeze(2) & in_labels.unsqueeze(1)


def occupancy_weights(occupancy: Tensor, threshold: float = 0.0) -> Tensor:
    """Weights from a node occupancy; cells below the threshold get zero and are then not computed at all.

    Args:
        occupancy: `[B, T, U+1]` posterior of visiting each node, of teacher or student.
        threshold: least occupancy that counts. Most cells of a trained model lie far below 1e-3.

    Returns:
        `[B, T, U+1]`, detached.

    Raises:
        ValueError: if the threshold does not lie in [0, 1].
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"An occupancy threshold must lie in [0, 1], got {threshold}.")
    occupancy = occupancy.detach()
    return torch.where(occupancy >= threshold, occupancy, torch.zeros_like(occupancy))


def path_cells(step_frames: Tensor, step_labels: Tensor, frames: int, positions: int) -> Tensor:
    """Marks the nodes that an alignment visits.

    Args:
        step_frames: `[B, L]` frame of every step of the alignment, in order, -1 in the padding.
        step_labels: `[B, L]` number of labels emitted by the step, 0 or 1, -1 in the padding.
        frames: padded T.
        positions: padded U + 1.

    Returns:
        bool `[B, T, U+1]`; nothing for an utterance without an alignment.

    Raises:
        ValueError: if the shapes differ or the alignment leaves the lattice.
    """
    if step_frames.dim() != 2 or step_frames.shape != step_labels.shape:
        raise ValueError(
            f"step_frames and step_labels must have one shape [B, L], got {list(step_frames.shape)} and "
            f"{list(step_labels.shape)}."
        )
    real = step_frames >= 0
    emitted = torch.where(real, step_labels, torch.zeros_like(step_labels))
    position = emitted.cumsum(1) - emitted
    if real.any() and (int(step_frames.max()) >= frames or int(position[real].max()) >= positions):
        raise ValueError(f"The alignment leaves a lattice of {frames} frames and {positions} positions.")
    cells = torch.zeros(step_frames.shape[0], frames, positions, dtype=torch.bool, device=step_frames.device)
    utterance = torch.arange(step_frames.shape[0], device=cells.device).unsqueeze(1).expand_as(step_frames)
    cells[utterance[real], step_frames[real], position[real]] = True
    return cells


def band_cells(cells: Tensor, before: int, after: int) -> Tensor:
    """Widens marked cells in time.

    Args:
        cells: bool `[B, T, U+1]`, such as from `path_cells`.
        before: how many frames earlier still count.
        after: how many frames later still count.

    Returns:
        bool `[B, T, U+1]`: (t, u) is marked if any of (t - after, u) to (t + before, u) is marked in `cells`. It may
        reach into the padding, where `lattice_divergence` ignores it.

    Raises:
        ValueError: on a negative width.
    """
    if before < 0 or after < 0:
        raise ValueError(f"A band is 0 or more frames wide on either side, got {before} and {after}.")
    x = torch.nn.functional.pad(cells.transpose(1, 2).float(), (after, before))
    return torch.nn.functional.max_pool1d(x, before + after + 1, stride=1).transpose(1, 2) > 0

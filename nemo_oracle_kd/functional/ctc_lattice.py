# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The CTC lattice: its states, its emissions, and the forward recursion that the losses and the path searches share.

A transcript of U labels gives S = 2U + 1 states, alternately blank and label: `blank y1 blank y2 ... yU blank`. From one
frame to the next a path stays in its state, advances by one, or skips a blank between two *different* labels:

    A(t, s) = e(t, s) + log( exp A(t-1, s) + exp A(t-1, s-1) + [skip allowed] exp A(t-1, s-2) )

with `e(t, s)` the log-probability of the label of state s in frame t (Graves et al. 2006, section 4.1). All routines
loop over frames only; they are vectorised over utterances and states and never touch the vocabulary axis once
the emissions have been gathered.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import NEG_INF, length_mask, recursion_dtype

__all__ = ['CTCLattice', 'build_lattice', 'forward_scores', 'final_scores']


class CTCLattice(NamedTuple):
    """The lattices of a padded batch.

    Attributes:
        emissions: `[T, B, S]` log-probability of each state's label. Padding frames hold whatever the input holds, NaN
            included, because no valid score is ever computed from a later frame.
        labels: `[B, S]` label of each state; blank in padding states.
        can_skip: `[B, S]` bool, whether state s may be entered from state s - 2.
        frames: `[B]` valid frames.
        states: `[B]` valid states, 2U + 1.
    """

    emissions: Tensor
    labels: Tensor
    can_skip: Tensor
    frames: Tensor
    states: Tensor


def check_ctc_inputs(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
) -> None:
    """Refuses inputs that no CTC lattice can be built from.

    Raises:
        ValueError: if a shape, length, label or blank id is wrong; one sentence says what to change.
    """
    if log_probs.dim() != 3:
        raise ValueError(f"log_probs must have shape [B, T, V], got {list(log_probs.shape)}.")
    if not log_probs.is_floating_point():
        raise ValueError(f"log_probs must be a floating point tensor, got {log_probs.dtype}.")
    batch, frames, vocabulary = log_probs.shape
    if targets.dim() != 2 or targets.shape[0] != batch:
        raise ValueError(
            f"targets must have shape [B, U] with B = {batch}, got {list(targets.shape)}; pad the transcripts to "
            "one tensor."
        )
    for name, lengths in (('input_lengths', input_lengths), ('target_lengths', target_lengths)):
        if lengths.shape != (batch,):
            raise ValueError(f"{name} must have shape [{batch}], one per utterance, got {list(lengths.shape)}.")
    for name, indices in (('targets', targets), ('input_lengths', input_lengths), ('target_lengths', target_lengths)):
        if indices.is_floating_point() or indices.dtype == torch.bool:
            raise ValueError(f"{name} must hold integers, got {indices.dtype}.")
    if not 0 <= blank < vocabulary:
        raise ValueError(f"blank = {blank} lies outside the vocabulary of log_probs, 0..{vocabulary - 1}.")
    within = length_mask(target_lengths.to(targets.device), targets.shape[1])
    bad_labels = within & ((targets < 0) | (targets >= vocabulary) | (targets == blank))
    bad_frames = (input_lengths < 0) | (input_lengths > frames)
    bad_target_lengths = (target_lengths < 0) | (target_lengths > targets.shape[1])
    # Valid input costs one synchronisation with the device; only after a failure it is read which check failed.
    device = log_probs.device
    flags = [flag.any().to(device) for flag in (bad_labels, bad_frames, bad_target_lengths)]
    if not torch.stack(flags).any():
        return
    if flags[1]:
        raise ValueError(f"input_lengths must lie in 0..{frames} (frames of log_probs), got {input_lengths.tolist()}.")
    if flags[2]:
        raise ValueError(
            f"target_lengths must lie in 0..{targets.shape[1]} (width of targets), got {target_lengths.tolist()}."
        )
    raise ValueError(
        f"targets must be labels in 0..{vocabulary - 1} other than blank = {blank}, got "
        f"{targets[bad_labels].unique().tolist()[:5]}; check that tokenizer and blank id belong to this model."
    )


def build_lattice(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
) -> CTCLattice:
    """Builds the lattices of a batch and gathers their emissions `[T, B, S]` in the type of the recursion.

    Args:
        log_probs: `[B, T, V]` log-probabilities, not renormalised.
        targets: `[B, U]` labels; the values past `target_lengths` are ignored.
        input_lengths: `[B]` valid frames.
        target_lengths: `[B]` valid labels.
        blank: id of the blank.

    Returns:
        the lattices, all tensors on the device of `log_probs`.

    Raises:
        ValueError: as `check_ctc_inputs`.
    """
    check_ctc_inputs(log_probs, targets, input_lengths, target_lengths, blank)
    device = log_probs.device
    batch, frames, _ = log_probs.shape
    width = targets.shape[1]
    input_lengths = input_lengths.to(device=device, dtype=torch.long)
    target_lengths = target_lengths.to(device=device, dtype=torch.long)
    targets = targets.to(device=device, dtype=torch.long)
    targets = torch.where(length_mask(target_lengths, width), targets, torch.full_like(targets, blank))

    labels = targets.new_full((batch, 2 * width + 1), blank)
    labels[:, 1::2] = targets
    can_skip = torch.zeros_like(labels, dtype=torch.bool)
    can_skip[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])

    emissions = log_probs.new_empty((frames, batch, 2 * width + 1), dtype=recursion_dtype(device))
    emissions[:, :, 0::2] = log_probs[:, :, blank].transpose(0, 1).unsqueeze(2)
    emissions[:, :, 1::2] = log_probs.gather(2, targets.unsqueeze(1).expand(batch, frames, width)).transpose(0, 1)
    return CTCLattice(emissions, labels, can_skip, input_lengths, 2 * target_lengths + 1)


def forward_scores(emissions: Tensor, can_skip: Tensor) -> Tensor:
    """Runs the recursion and returns the score of all partial paths for each frame and state *before* its emission.

    The occupancy needs scores without the frame's own emission: adding and then subtracting an emission of -inf would
    give NaN. `scores + emissions` is A(t, s) of the module docstring.

    Args:
        emissions: `[T, N, S]`, T at least 1.
        can_skip: `[N, S]` bool.

    Returns:
        `[T, N, S]` scores, -inf where no path leads.
    """
    frames, batch, states = emissions.shape
    scores = emissions.new_full((frames, batch, states), NEG_INF)
    scores[0, :, :2] = 0.0
    skip_score = torch.zeros_like(emissions[0]).masked_fill_(~can_skip, NEG_INF)
    # Two unreachable states in front turn "one state back" and "two states back" into slices.
    padded = emissions.new_full((batch, states + 2), NEG_INF)
    stay, advance, skip = padded[:, 2:], padded[:, 1:-1], padded[:, :-2]
    skipped = torch.empty_like(skip_score)
    torch.add(scores[0], emissions[0], out=stay)
    for t in range(1, frames):
        torch.logaddexp(stay, advance, out=scores[t])
        torch.add(skip, skip_score, out=skipped)
        torch.logaddexp(scores[t], skipped, out=scores[t])
        torch.add(scores[t], emissions[t], out=stay)
    return scores


def final_scores(last: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the two states a path may end in: the last label and the last blank.

    Args:
        last: `[B, S]` scores in the last valid frame of each utterance.
        states: `[B]` valid states.

    Returns:
        `[B]` score of the last label (-inf without labels) and `[B]` score of the last blank.
    """
    blank = last.gather(1, states.unsqueeze(1) - 1).squeeze(1)
    label = last.gather(1, (states.unsqueeze(1) - 2).clamp(min=0)).squeeze(1)
    return label.masked_fill(states == 1, NEG_INF), blank

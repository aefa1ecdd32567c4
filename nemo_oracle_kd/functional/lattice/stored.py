# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A teacher's lattice that was computed before, of which only the bins of a divergence are known.

It takes the place of the teacher's :class:`JointTensors` in a lattice divergence, an occupancy and a best path. A cell is
described by the log-probabilities of the next label and of the blanks, of the k best classes where they were kept, and of all
other classes together. The divergence over these bins is that of the whole distribution over them, because the sum of the others
is kept and not how it was divided. On a best path, single cells are known in full.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.distances import repeated_classes
from nemo_oracle_kd.functional.top_posteriors import IMPOSSIBLE

__all__ = ['StoredLattice', 'StoredTiles', 'remaining_log_prob']


def remaining_log_prob(log_probs: Tensor) -> Tensor:
    """Log-probability of all classes but some, `[...]`, from those of the distinct others, `[..., K]`.

    It is at least that of a rounding error of float32, 1e-7, so that the values of half precision may sum to slightly more than 1.
    """
    return torch.log((1.0 - log_probs.exp().sum(-1)).clamp(min=1e-7))


@dataclass(frozen=True)
class StoredLattice:
    """What is known of the lattices of a batch, at one temperature.

    Attributes:
        label: `[B, T, U+1]` log-probability of the next label; that of the blank where there is no next label.
        blanks: `[B, T, U+1, K]` of the blanks, in the order of `blank_ids`.
        next_labels: `[B, U+1]` ids; the blank where there is no next label.
        blank_ids: ids of the blanks, the standard one first.
        vocabulary: number of classes, blanks included.
        rest: `[B, T, U+1]` of all classes that are not known one by one.
        best: `[B, T, U+1, k]` ids of the best classes, or `None`.
        best_values: `[B, T, U+1, k]` of the best classes, or `None`.
        durations: `[B, T, U+1, D]` of the durations of a TDT, or `None`.
        whole: `[R, V]` distributions that are known in full, or `None`.
        place: `[B, T, U+1]` the row of `whole` of each cell, -1 for cells of which nothing is known; `None` without `whole`.
        of_durations: whether the durations are meant and not the classes.
    """

    label: Tensor
    blanks: Tensor
    next_labels: Tensor
    blank_ids: tuple[int, ...]
    vocabulary: int
    rest: Tensor
    best: Tensor | None = None
    best_values: Tensor | None = None
    durations: Tensor | None = None
    whole: Tensor | None = None
    place: Tensor | None = None
    of_durations: bool = False

    #: as of a joint in evaluation
    dropout = 0.0

    @property
    def classes(self) -> int:
        """Number of outputs that are compared."""
        return self.durations.shape[-1] if self.of_durations else self.vocabulary

    @property
    def shape(self) -> tuple[int, int, int]:
        """Utterances, frames T and positions U+1."""
        batch, frames, positions = self.label.shape
        return batch, frames, positions

    def head(self, start: int, stop: int) -> 'StoredLattice':
        """The distribution of the classes, or that of a TDT's durations; as `JointTensors.head`."""
        return replace(self, of_durations=start > 0)

    def detach(self) -> 'StoredLattice':
        """Itself: nothing here has a gradient."""
        return self

    def pick_frames(self, index: Tensor) -> 'StoredLattice':
        """The lattice on other frames, `index [B, T']`."""

        def pick(cells: Tensor | None) -> Tensor | None:
            if cells is None:
                return None
            where = index.view(*index.shape, *[1] * (cells.dim() - 2)).expand(-1, -1, *cells.shape[2:])
            return cells.gather(1, where)

        of_cells = ('label', 'blanks', 'rest', 'best', 'best_values', 'durations', 'place')
        return replace(
            self, **{field.name: pick(getattr(self, field.name)) for field in fields(self) if field.name in of_cells}
        )

    def arc_parts(self) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the next label, `[B, T, U+1]`, and of blanks and durations, `[C, B, T, U+1]`."""
        others = self.blanks if self.durations is None else torch.cat([self.blanks, self.durations], -1)
        return self.label, others.movedim(-1, 0)

    def logits(self, cells: Tensor) -> Tensor:
        """Log-probabilities of cells, `[N, V]` (or `[N, D]`), with the rest spread evenly; `cells [N]` of a flat `[B, T, U+1]`."""
        if self.of_durations:
            return self.durations.flatten(0, 2)[cells]
        if self.whole is not None:
            return self.whole[self.place.flatten()[cells].clamp(min=0)]
        positions = self.label.shape[2]
        utterance = torch.div(cells, self.label.shape[1] * positions, rounding_mode='floor')
        singles = [self.next_labels[utterance, cells % positions].unsqueeze(1)]
        known = [self.label.flatten()[cells].unsqueeze(1), self.blanks.flatten(0, 2)[cells]]
        singles.append(torch.tensor(self.blank_ids, device=cells.device).expand(len(cells), -1))
        if self.best is not None:
            singles.append(self.best.flatten(0, 2)[cells])
            known.append(self.best_values.flatten(0, 2)[cells])
        named = torch.cat(singles, 1)
        others = self.vocabulary - named.shape[1] + repeated_classes(named).sum(1)
        even = self.rest.flatten()[cells] - others.clamp(min=1).to(self.rest.dtype).log()
        spread = even.clamp(min=IMPOSSIBLE).unsqueeze(1).repeat(1, self.vocabulary)
        return spread.scatter_(1, named, torch.cat(known, 1))


class StoredTiles:
    """The teacher's side of the loop over tiles, as `TileJoint`.

    Args:
        lattice: what is known.
        dtype: type of the divergence.
    """

    def __init__(self, lattice: StoredLattice, dtype: torch.dtype):
        self.lattice, self.dtype = lattice, dtype

    def project(self, frame: Tensor, position: Tensor, tile: int) -> Tensor:
        """Logits of a tile, `[N, V]`, from rows of a flat `[B, T]` and of a flat `[B, U+1]`."""
        _, frames, positions = self.lattice.shape
        utterance = torch.div(frame, frames, rounding_mode='floor')
        return self.lattice.logits(frame * positions + position - utterance * positions).to(self.dtype)

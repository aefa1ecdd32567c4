# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Composes training batches with a fixed share of rows that have true transcripts (arXiv 2303.05958 trains with 10 %)."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from nemo.utils import logging
from torch.utils.data import DataLoader, DistributedSampler

from nemo_oracle_kd.bridge.rows.shares import LoaderBatches, loader_batches, replace_batches
from nemo_oracle_kd.corpus.manifest import SUPERVISED_KEY
from nemo_oracle_kd.errors import ConfigError

__all__ = ['MixedBatchSampler', 'set_supervised_share']


class MixedBatchSampler(DistributedSampler):
    """Yields batches of row indices, each with its share of supervised rows.

    An epoch is one pass over the unsupervised rows. Supervised rows come from an endless stream that continues across epochs
    and is reshuffled at each pass. A batch has `share * batch_size` of them. If that is not a whole number, the fractions add
    up from batch to batch and from epoch to epoch, so that the share is exact in the long run. Every batch is full: the last
    one of an epoch is filled up with unsupervised rows from the beginning of the pass, or left out with `drop_last`. The
    content of an epoch depends on the seed and the epoch alone.

    A training that is resumed within an epoch continues with the right batch if `position` is given. Without it, the epoch
    would start again from its beginning, and with loader workers it would be epoch 0, because Lightning starts the workers
    before it sets the epoch.

    With R processes, each takes every R-th batch of one common sequence. The class is a `DistributedSampler` and is given to
    the loader as `sampler` with `batch_size=None`, as NeMo does with its semi-sorted batches: Lightning then neither replaces
    nor wraps it, but sets its epoch.

    Args:
        supervised: indices of rows with true transcripts.
        unsupervised: indices of all other rows.
        share: share of supervised rows, between 0 and 1.
        batches: size of the batches, number of processes, and whether rows are shuffled. With `drop_last`, rows that do not
            fill a batch in every process are left out. Without `position`, `set_epoch` sets the epoch, which starts from its
            beginning.
        seed: seed of the shuffling.

    Raises:
        ConfigError: no rows of one kind, a share outside (0, 1), or too few rows to fill a batch.
    """

    def __init__(
        self,
        supervised: Sequence[int],
        unsupervised: Sequence[int],
        share: float,
        batches: LoaderBatches,
        seed: int = 0,
    ):
        # DistributedSampler.__init__ is not called: it would require a data set, and split it
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
            raise ConfigError(
                f"supervised_share is {share!r}: set a number between 0 and 1, such as 0.1, or null to leave batches unchanged"
            )
        for name, rows in (('', supervised), ('not ', unsupervised)):
            if not len(rows):
                raise ConfigError(
                    f"supervised_share is {share}, but no row of model.train_ds is {name}marked \"{SUPERVISED_KEY}\": true: add "
                    "such rows, or set supervised_share=null"
                )
        self.supervised, self.unsupervised = np.asarray(supervised), np.asarray(unsupervised)
        self.micro_batch_size = batches.size  # the name under which NeMo's learning-rate schedules look for the size
        self.shuffle, self.seed, self.drop_last = batches.shuffle, seed, batches.drop_last
        self.rank, self.num_replicas = batches.rank, batches.processes
        self.position = batches.position
        self.epoch = 0
        self._per_batch = Fraction(share).limit_denominator(10**6) * batches.size
        self._batches = self._count_batches()
        if not self._batches:
            processes = f" in each of {batches.processes} processes" if batches.processes > 1 else ""
            raise ConfigError(
                f"{len(unsupervised)} unsupervised rows fill no batch of {batches.size}{processes}: set "
                "model.train_ds.drop_last=false, or a smaller batch_size"
            )

    def _count_batches(self) -> int:
        """Number of batches per process, which is the same in every epoch whatever fraction is carried over."""
        size, rows = self.micro_batch_size, len(self.unsupervised)
        group = self.num_replicas

        def room(batches: int) -> int:  # places for unsupervised rows: a lower bound, with drop_last an upper one
            due = batches * group * self._per_batch
            return batches * group * size - (due.__floor__() if self.drop_last else due.__ceil__())

        batches = int(rows / (group * (size - self._per_batch)))
        while batches and room(batches) > rows:
            batches -= 1
        if self.drop_last:
            while room(batches + 1) <= rows:
                batches += 1
        else:
            while room(batches) < rows:
                batches += 1
        return batches

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch = self._batches * self.num_replicas
        epoch, done = self.position() if self.position is not None else (self.epoch, 0)
        begin = epoch * per_epoch
        order = self._order(self.unsupervised, 0, epoch)
        done %= self._batches  # a checkpoint from the end of an epoch counts all its batches as done
        for batch in range(begin + done * self.num_replicas + self.rank, begin + per_epoch, self.num_replicas):
            first, last = self._due(batch), self._due(batch + 1)
            size = self.micro_batch_size
            start = (batch - begin) * size - (first - self._due(begin))
            unsupervised = [order[(start + n) % len(order)] for n in range(size - (last - first))]
            yield [self._supervised_row(n) for n in range(first, last)] + [int(index) for index in unsupervised]

    def _due(self, batches: int) -> int:
        """Number of supervised rows in the first `batches` batches of the whole training."""
        return (batches * self._per_batch + Fraction(1, 2)).__floor__()

    def _supervised_row(self, position: int) -> int:
        turn, place = divmod(position, len(self.supervised))
        if getattr(self, '_turn', None) != (turn, self.seed):
            self._turn, self._turn_order = (turn, self.seed), self._order(self.supervised, 1, turn)
        return int(self._turn_order[place])

    def _order(self, rows: np.ndarray, kind: int, turn: int) -> np.ndarray:
        if not self.shuffle:
            return rows
        return rows[np.random.default_rng([self.seed, kind, turn]).permutation(len(rows))]


def set_supervised_share(model: Any, share: float, supervised: Sequence[bool], seed: int = 0) -> DataLoader:
    """Replaces a model's training loader by one whose batches have a fixed share of supervised rows.

    Args:
        model: a NeMo ASR model whose `train_ds` is one native, map-style data set (one manifest or several).
        share: share of supervised rows, between 0 and 1.
        supervised: for each utterance of the data set, in the order of its indices, whether its row is supervised.
        seed: seed of the shuffling.

    Returns:
        The loader that was replaced; `bridge.rows.shares.give_back` undoes it.

    Raises:
        ConfigError: another kind of loader, or no rows of one kind.
    """
    batches = loader_batches(model, 'supervised_share')
    flags = np.asarray(supervised, dtype=bool)
    sampler = MixedBatchSampler(np.flatnonzero(flags), np.flatnonzero(~flags), share, batches, seed)
    expected = -(-len(flags) // (batches.size * batches.processes))
    if len(sampler) != expected and batches.counts_epochs:
        logging.warning(
            f"With supervised_share an epoch has {len(sampler)} batches, but NeMo's learning-rate schedule assumes {expected}, from "
            "the number of rows: set trainer.max_steps, or max_steps of the schedule, so that the schedule ends with the training."
        )
    return replace_batches(model, sampler)

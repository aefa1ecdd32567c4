# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Training for a given time, so that models of different size get the same seconds and anneal to the end of them."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from nemo.core.classes.common import Serialization
from nemo.utils import logging

from nemo_oracle_kd.callbacks.training_clock import CLOCKS, TrainingClock
from nemo_oracle_kd.errors import ConfigError

__all__ = ['TimeBudget', 'learning_rate_share']

DECAYS = ('cosine', 'linear', 'none')


def learning_rate_share(spent: float, warmup_share: float, decay: str, final_share: float) -> float:
    """Learning rate as a share of the configured one, after a given share of the budget.

    It rises linearly from 0 to 1 over ``warmup_share`` and then falls to ``final_share`` at the end of the budget.

    Args:
        spent: share of the budget that has been used; values above 1 count as 1.
        warmup_share: share of the budget for the rise.
        decay: ``cosine``, ``linear`` or ``none``.
        final_share: value at the end of the budget.

    Returns:
        A factor between 0 and 1.
    """
    spent = min(max(spent, 0.0), 1.0)
    if spent < warmup_share:
        return spent / warmup_share
    if decay == 'none':
        return 1.0
    done = (spent - warmup_share) / (1.0 - warmup_share)
    falling = 0.5 * (1.0 + math.cos(math.pi * done)) if decay == 'cosine' else 1.0 - done
    return final_share + (1.0 - final_share) * falling


# Serialization: NeMo 3 instantiates a callback from YAML only if its class derives from one of NeMo's own
class TimeBudget(Callback, Serialization):
    """Stops the training after ``seconds`` of training, and sets the learning rate by the share of them that is used.

    ```yaml
    trainer:
      max_epochs: 100000     # the budget ends the training first
      max_steps: -1
      callbacks:
        - _target_: nemo_oracle_kd.callbacks.TimeBudget
          seconds: 240
    model:
      optim: {name: adamw, lr: 2e-3, sched: null}
    ```

    Only training counts, not validation. A resumed run continues its budget. The number of updates, and therefore the
    result, depends on the machine. For results that do not, use ``max_steps`` and a NeMo scheduler.

    Args:
        seconds: the budget in seconds of training.
        warmup_share: share of the budget in which the learning rate rises from 0 to ``optim.lr``.
        decay: ``cosine`` or ``linear`` to the end of the budget, or ``none`` to keep the learning rate constant after
            the rise.
        final_share: share of ``optim.lr`` that is left at the end.
        clock: ``wall``, or ``cpu`` for processor seconds if a training on a CPU shares it with other work.

    Raises:
        ConfigError: if a value is out of range, and at the start of the training if the model has a scheduler of its own.
    """

    def __init__(
        self,
        seconds: float,
        warmup_share: float = 0.05,
        decay: str = 'cosine',
        final_share: float = 0.0,
        clock: str = 'wall',
    ) -> None:
        super().__init__()
        wrong = []
        if not seconds > 0:
            wrong.append(f"`TimeBudget.seconds` must be greater than 0, not {seconds}")
        if not 0.0 <= warmup_share < 1.0:
            wrong.append(f"`TimeBudget.warmup_share` must be at least 0 and below 1, not {warmup_share}")
        if decay not in DECAYS:
            wrong.append(f"`TimeBudget.decay` is {decay!r}: choose one of {', '.join(DECAYS)}")
        if not 0.0 <= final_share <= 1.0:
            wrong.append(f"`TimeBudget.final_share` must lie between 0 and 1, not {final_share}")
        if clock not in CLOCKS:
            wrong.append(f"`TimeBudget.clock` is {clock!r}: choose one of {', '.join(CLOCKS)}")
        ConfigError.raise_if_any(wrong)
        self.seconds = float(seconds)
        self.warmup_share = float(warmup_share)
        self.decay = decay
        self.final_share = float(final_share)
        self.clock = TrainingClock(clock)
        self._rates: list[list[float]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint: the seconds of training so far, and the configured learning rates."""
        return {'seconds': self.clock.seconds, 'rates': self._rates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues the budget of the checkpoint."""
        self.clock.set(state_dict['seconds'])
        self._rates = state_dict['rates']

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remembers the configured learning rates and starts the clock.

        Raises:
            ConfigError: if the model has a scheduler of its own.
        """
        if trainer.lr_scheduler_configs:
            raise ConfigError(
                "TimeBudget sets the learning rate by the clock, but the model has a scheduler too: remove it with "
                "`model.optim.sched: null` (command line: `~model.optim.sched`)"
            )
        if self._rates is None:
            self._rates = [[group['lr'] for group in optimizer.param_groups] for optimizer in trainer.optimizers]
        self.clock.start()
        self._stop_if_spent(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Sets the learning rate of this update."""
        share = learning_rate_share(
            self._elapsed(trainer) / self.seconds, self.warmup_share, self.decay, self.final_share
        )
        for optimizer, rates in zip(trainer.optimizers, self._rates):
            for group, rate in zip(optimizer.param_groups, rates):
                group['lr'] = rate * share

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends the training when the budget is spent; Lightning then validates and saves once more."""
        self._stop_if_spent(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock."""
        self.clock.stop()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock again, unless this was a validation outside the training."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.clock.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock and logs how much of the budget was used."""
        self.clock.stop()
        logging.info(f"Trained for {self.clock.seconds:.1f} of {self.seconds:.1f} s: {trainer.global_step} updates.")

    def _elapsed(self, trainer: pl.Trainer) -> float:
        """Seconds of the first process, so that all processes have the same learning rate and stop at the same update."""
        seconds = self.clock.seconds
        return trainer.strategy.broadcast(seconds, 0) if trainer.world_size > 1 else seconds

    def _stop_if_spent(self, trainer: pl.Trainer) -> None:
        if self._elapsed(trainer) >= self.seconds:
            trainer.should_stop = True
            # Lightning validates when it stops, but only in an epoch in which a validation is due. The last weights always
            # need one.
            trainer.check_val_every_n_epoch = trainer.check_val_every_n_epoch and 1

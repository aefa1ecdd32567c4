# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`KnowledgeDistillation`: distillation in any unmodified NeMo recipe, named in `trainer.callbacks`."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from nemo.core.classes.common import Serialization
from nemo.utils import logging
from omegaconf import DictConfig, OmegaConf

from nemo_oracle_kd.callbacks.oracle_listening import OracleListening
from nemo_oracle_kd.distillation.distiller import Distiller

__all__ = ['KnowledgeDistillation']

#: where a checkpoint keeps the state of a distillation
CHECKPOINT_KEY = 'nemo_oracle_kd'


def _plain(values: Any) -> Any:
    return OmegaConf.to_container(values, resolve=True) if OmegaConf.is_config(values) else values


# Serialization: NeMo 3 instantiates a callback from YAML only if its class derives from one of NeMo's own
class KnowledgeDistillation(Callback, Serialization):
    """Distils a teacher into the model that is being trained.

    ```yaml
    trainer:
      callbacks:
        - _target_: nemo_oracle_kd.callbacks.KnowledgeDistillation
          teacher: {restore_from: teacher.nemo}
          objectives: {frame_kl: {weight: 0.05}}
    ```

    The teacher is restored at the start of each fit (also of a resumed one) and lives in this callback: it is in no
    state dict, checkpoint, optimizer, DDP bucket or `.nemo`. With `scores: manifest` there is none, only the scores that
    `nemo-oracle-kd score` wrote into the training manifest; with `cache` its outputs come from the folder that `nemo-oracle-kd cache`
    wrote; with `self` the student teaches itself. Logs every term as `train/kd/<term>` and
    `train/kd/<term>_weighted`, with statistics of the outputs of teacher and student.

    Args:
        teacher: `restore_from` or `cache`, with or without `scores: manifest`, or `scores: manifest` alone, or `self` (oracle, ema,
            view, context), with the options of that kind.
        objectives: name -> options, see `nemo-oracle-kd presets`.
        label_loss: `weight` of NeMo's own loss, default 1; `on: supervised` for rows with `"supervised": true` alone.
        supervised_share: share of such rows in every batch.

    Raises:
        ConfigError: unknown keys or contradictions; lists them all.
        FileNotFoundError: there is no file at the teacher's path.
    """

    def __init__(
        self,
        teacher: Mapping | None = None,
        objectives: Mapping | None = None,
        label_loss: Mapping | None = None,
        supervised_share: float | None = None,
        **unknown: Any,
    ):
        super().__init__()
        values = {'teacher': teacher, 'objectives': objectives, 'label_loss': label_loss, **unknown}
        values['supervised_share'] = supervised_share
        self.distiller = Distiller(_plain(DictConfig(values)), path='KnowledgeDistillation')
        self._written = False
        self._fitting = False
        self._resumed_from: dict | None = None
        self._guest_states: list | None = None
        self._listening: OracleListening | None = None
        self.distiller.config.teacher.check()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restores the teacher, checks everything, hooks into the loss."""
        if stage == 'fit':
            report = self.distiller.attach(pl_module)
            teacher = self.distiller.teacher
            if teacher is not None and teacher.held_out_batches:
                self._listening = OracleListening(teacher.held_out_batches, teacher.held_out_losses)
            logging.info(f'Distillation from {self.distiller.config.teacher.name}\n{report}')

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Moves a teacher to the student's device; the optimizers are there now, and are loaded after this."""
        self._fitting = True
        if self.distiller.teacher is not None:
            self.distiller.teacher.to(pl_module.device)
        if self._resumed_from is not None:
            self._put_guests_back(trainer, self._resumed_from)
            self._resumed_from = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """Hands the batch to the distiller."""
        # the steps that Lightning writes: counted over epochs, which may be shorter than log_every_n_steps
        every = trainer.log_every_n_steps
        self._written = every > 0 and (trainer.global_step + 1) % every == 0
        self.distiller.begin_step(batch, trainer.global_step, with_statistics=self._written)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Logs every term, but only on the steps that are written: a call of Lightning's log takes milliseconds."""
        metrics = self.distiller.metrics()
        last = trainer.is_last_batch or trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if self._written or last:
            pl_module.log_dict(
                {f'train/kd/{name}': value for name, value in metrics.items()}, on_step=True, on_epoch=False
            )

    def on_validation_epoch_start(self, trainer, pl_module) -> None:
        """Begins to measure whether a label branch listens."""
        if self._listening is not None:
            self._listening.on_validation_epoch_start(trainer, pl_module)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        """Measures it on one of the first batches."""
        if self._listening is not None:
            self._listening.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        """Logs what was measured."""
        if self._listening is not None:
            self._listening.on_validation_epoch_end(trainer, pl_module)

    # not `state_dict`, with which Lightning refuses a second distillation in words of its own
    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        """Saves what the training has estimated or learned and a resumed one needs: delays, a label branch, an averaged student.

        The model and optimizer parts of the checkpoint are those of the student alone.
        """
        state, guests = self.distiller.state(), self.distiller.guests()
        if guests is not None and 'optimizer_states' in checkpoint:
            checkpoint['optimizer_states'], self._guest_states = guests.take_out(
                checkpoint['optimizer_states'], trainer.optimizers
            )
        if self._guest_states is not None:
            state = {**state, 'optimizer': self._guest_states}
        if state:
            checkpoint[CHECKPOINT_KEY] = state

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        """Called by Lightning after :meth:`setup` when a training is resumed, or within a fit that loads its best weights."""
        self.distiller.load_state(checkpoint.get(CHECKPOINT_KEY, {}))
        if self._fitting:
            self._put_guests_back(trainer, checkpoint)
        else:
            self._resumed_from = checkpoint

    def _put_guests_back(self, trainer: pl.Trainer, checkpoint: dict) -> None:
        guests = self.distiller.guests()
        if guests is not None and 'optimizer_states' in checkpoint:
            ours = checkpoint.get(CHECKPOINT_KEY, {}).get('optimizer', ())
            states = guests.put_back(checkpoint['optimizer_states'], trainer.optimizers, ours)
            checkpoint['optimizer_states'] = states

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Turns the student back into a stock model."""
        if stage == 'fit':
            self._leave(trainer, pl_module)

    def on_exception(self, trainer, pl_module, exception) -> None:
        """Does the same as :meth:`teardown` when training fails."""
        self._leave(trainer, pl_module)

    def _leave(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        guests = self.distiller.guests()
        if guests is not None and self._fitting:
            self._guest_states = guests.leave(trainer.optimizers)
        self._fitting, self._resumed_from, self._listening = False, None, None
        self.distiller.detach(pl_module)

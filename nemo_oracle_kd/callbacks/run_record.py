# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A record of a training run that can be read without TensorBoard: the learning curve and the training time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from nemo.core.classes.common import Serialization

from nemo_oracle_kd.callbacks.training_clock import CLOCKS, TrainingClock
from nemo_oracle_kd.corpus.outputs import write_text_atomically
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.folder_lock import locked

__all__ = ['RunRecord']


# Serialization: NeMo 3 instantiates a callback from YAML only if its class derives from one of NeMo's own
class RunRecord(Callback, Serialization):
    """Writes ``curve.jsonl`` during the training and ``run.json`` at its end.

    ```yaml
    trainer:
      callbacks:
        - _target_: nemo_oracle_kd.callbacks.RunRecord
          directory: out/student_alone
    ```

    A line of ``curve.jsonl``: ``update`` (optimizer updates so far), ``max_updates`` (``null`` if time decides),
    ``epoch``, ``seconds`` (of training, without validation), ``train_loss`` (mean since the line before) and, after a
    validation, ``val_loss`` and ``val_wer`` as NeMo logs them (a share, not percent) and the further ``metrics``
    that were requested.

    ``run.json``: ``parameters``, ``trainable_parameters``, ``updates``, ``epochs``, ``train_seconds``,
    ``last_val_wer``, ``best_val_wer``. It is written only when the training has ended normally.

    A resumed run continues the file. Lines after the update of the checkpoint are dropped, because these updates are trained
    again, and a validation that is repeated adds no line. A second training that would write into the same folder at the
    same time is refused.

    Args:
        directory: where to write; by default the trainer's log folder.
        every_n_updates: also write a line after this many updates, to show the progress between validations; None to write
            lines only for validations.
        metrics: further names of logged values to put into the lines of a validation, for example
            ``train/kd/frame_kl``.
        clock: ``wall`` seconds, or ``cpu`` for processor seconds if a training on a CPU shares it with other work.

    Raises:
        ConfigError: if an option is out of range.
        FolderBusy: at the start of the training, if another training writes into the folder.
    """

    def __init__(
        self,
        directory: str | None = None,
        every_n_updates: int | None = 50,
        metrics: Sequence[str] = (),
        clock: str = 'wall',
    ) -> None:
        super().__init__()
        if every_n_updates is not None and every_n_updates < 1:
            raise ConfigError(
                f"`RunRecord.every_n_updates` must be at least 1, or null for validations only, not {every_n_updates}"
            )
        if clock not in CLOCKS:
            raise ConfigError(f"`RunRecord.clock` is {clock!r}: choose one of {', '.join(CLOCKS)}")
        self.directory = directory
        self.every_n_updates = every_n_updates
        self.metrics = tuple(metrics)
        self.clock = TrainingClock(clock)
        self._loss_sum: torch.Tensor | float = 0.0
        self._loss_count = 0
        self._written_update = 0
        self._max_updates: int | None = None
        self._val_wers: list[float] = []
        self._validated_update: int | None = None
        self._lock: ExitStack | None = None

    @property
    def curve_path(self) -> Path:
        """Path of the learning curve, which is known from the start of the training."""
        return Path(self.directory) / 'curve.jsonl'

    @property
    def run_path(self) -> Path:
        """Path of the summary, which is known from the start of the training."""
        return Path(self.directory) / 'run.json'

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint: the seconds of training so far."""
        return {'seconds': self.clock.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the seconds of training from the checkpoint."""
        self.clock.set(state_dict['seconds'])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts a new record, or continues the lines up to the update of the checkpoint.

        Raises:
            FolderBusy: if another training writes into the folder.
        """
        if self.directory is None:
            self.directory = str(trainer.log_dir or trainer.default_root_dir)
        if trainer.is_global_zero:
            self._lock = ExitStack()
            self._lock.enter_context(
                locked(
                    self.directory,
                    f"another training writes its record into '{self.directory}': wait for it to end, or give "
                    "RunRecord another directory",
                )
            )
        self._max_updates = trainer.max_steps if trainer.max_steps > 0 else None
        self._written_update = trainer.global_step
        kept = [row for row in read_rows(self.curve_path) if row['update'] <= trainer.global_step]
        if trainer.global_step == 0:
            kept = []
        self._val_wers = [row['val_wer'] for row in kept if row.get('val_wer') is not None]
        self._validated_update = max((row['update'] for row in kept if 'val_wer' in row), default=None)
        if trainer.is_global_zero:
            self.run_path.unlink(missing_ok=True)
            write_text_atomically(self.curve_path, ''.join(json.dumps(row) + '\n' for row in kept))
        self.clock.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Sums the loss without synchronising the device, and writes a line if one is due."""
        loss = outputs.get('loss') if isinstance(outputs, dict) else outputs
        if loss is not None:
            # Lightning passes the loss divided by the number of accumulated batches.
            self._loss_sum = self._loss_sum + loss.detach() * trainer.accumulate_grad_batches
            self._loss_count += 1
        due = self.every_n_updates is not None and trainer.global_step >= self._written_update + self.every_n_updates
        if due:
            self._write(trainer, {})

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops the clock."""
        self.clock.stop()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the line of the validation and starts the clock again."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        # a resumed training repeats the validation before its checkpoint
        if self._validated_update == trainer.global_step:
            self.clock.start()
            return
        self._validated_update = trainer.global_step
        logged = trainer.callback_metrics
        values = {name: float(logged[name]) if name in logged else None for name in ('val_loss', 'val_wer')}
        values.update({name: float(logged[name]) for name in self.metrics if name in logged})
        if values['val_wer'] is not None:
            self._val_wers.append(values['val_wer'])
        self._write(trainer, values)
        self.clock.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the summary."""
        self.clock.stop()
        if not trainer.is_global_zero:
            return
        parameters = list(pl_module.parameters())
        summary = {
            'parameters': sum(parameter.numel() for parameter in parameters),
            'trainable_parameters': sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            'updates': trainer.global_step,
            'epochs': trainer.current_epoch,
            'train_seconds': round(self.clock.seconds, 3),
            'last_val_wer': self._val_wers[-1] if self._val_wers else None,
            'best_val_wer': min(self._val_wers, default=None),
        }
        write_text_atomically(self.run_path, json.dumps(summary, indent=2) + '\n')

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Releases the folder when the training has ended, normally or not."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Releases the folder after an error, because Lightning may then skip the tear-down."""
        self.teardown(trainer, pl_module, 'fit')

    def _write(self, trainer: pl.Trainer, values: dict[str, float | None]) -> None:
        row = {
            'update': trainer.global_step,
            'max_updates': self._max_updates,
            'epoch': trainer.current_epoch,
            'seconds': round(self.clock.seconds, 3),
            'train_loss': float(self._loss_sum) / self._loss_count if self._loss_count else None,
            **values,
        }
        self._loss_sum, self._loss_count = 0.0, 0
        self._written_update = trainer.global_step
        if trainer.is_global_zero:
            with open(self.curve_path, 'a', encoding='utf-8') as stream:
                stream.write(json.dumps(row) + '\n')


def read_rows(path: str | Path) -> list[dict]:
    """Reads the rows of a learning curve; ``[]`` if there is none. An incomplete last line after a crash is left out."""
    path = Path(path)
    if not path.is_file():
        return []
    complete = path.read_text(encoding='utf-8').split('\n')[:-1]
    return [json.loads(line) for line in complete if line.strip()]

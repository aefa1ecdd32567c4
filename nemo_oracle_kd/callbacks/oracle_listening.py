# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Watches on held-out rows whether an oracle in training listens: the numbers of `nemo-oracle-kd diagnose` at every validation."""

from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from nemo.utils import logging

from nemo_oracle_kd.bridge.signals import AudioBatch
from nemo_oracle_kd.callbacks.pictures import log_picture, takes_pictures
from nemo_oracle_kd.distillation.contradictions import ContradictionLosses
from nemo_oracle_kd.evaluation.diagnosis.verdict import HeardShare, Rates, Thresholds, heard_share

__all__ = ['PREFIX', 'OracleListening']

#: beginning of the names in the log
PREFIX = 'val_oracle_'


class OracleListening(Callback):
    """Logs losses and heard shares of the first batches of every validation, draws them, and warns of an oracle that copies.

    Logged are `val_oracle_own`, `val_oracle_other`, `val_oracle_chance` and `val_oracle_silence`, losses in nats per label with the
    meaning that :class:`ContradictionLosses` gives them; `val_oracle_heard_share` with its 95 % interval (`..._low`, `..._high`), by
    another utterance's text; and `val_oracle_heard_share_silence`. A share is missing while the oracle is no better than chance. The
    warning comes when the interval lies below the limit under which `diagnose` says that a teacher copies.

    It is added to the trainer by the distillation or by the oracle teacher itself, and not named in a config.

    Args:
        batches: batches of each validation, in every process; those of the first validation data set.
        losses: the losses of a batch, or `None` while there is nothing to measure.
    """

    def __init__(self, batches: int, losses: Callable[[AudioBatch], ContradictionLosses | None]):
        super().__init__()
        self.batches = batches
        self._losses = losses
        self._found: list[np.ndarray] = []
        self._warned = False
        #: what was logged, by optimizer step
        self.history: dict[int, dict[str, float]] = {}

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets the validation before."""
        self._found = []

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Measures one of the first batches."""
        if not _fits(trainer) or dataloader_idx or batch_idx >= self.batches:
            return
        if getattr(batch, 'has_processed_signal', False):  # features cannot be made silent
            return
        found = self._losses(AudioBatch.from_nemo(batch))
        if found is not None:
            columns = [getattr(found, part.name).double().cpu().numpy() for part in fields(found)]
            self._found.append(np.stack(columns))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs, draws and warns, from the losses of all processes."""
        if not _fits(trainer):
            return
        found = _of_all_processes(self._found)
        if not found:
            return
        values, share = summary(ContradictionLosses(*np.concatenate(found, axis=1)))
        pl_module.log_dict({f'{PREFIX}{name}': value for name, value in values.items()})
        self.history[trainer.global_step] = values
        self._warn(share, trainer.global_step)
        if trainer.is_global_zero:
            self._draw(trainer)

    def _warn(self, share: HeardShare, step: int) -> None:
        copies = share.high is not None and share.learnt >= Thresholds.learnt and share.high < Thresholds.copies
        if copies and not self._warned:
            logging.warning(
                f"Step {step}: on held-out rows the oracle has stopped listening: given the text of another utterance, it follows that "
                f"text (heard share {share}, below {100 * Thresholds.copies:.0f} %). What it teaches no longer comes from the audio: "
                "raise label_corruption.masking_ratio, let it read later (start_below, audio_only_steps), or widen "
                "fusion.alignment_prior."
            )
        self._warned = copies

    def _draw(self, trainer: pl.Trainer) -> None:
        loggers = [logger for logger in trainer.loggers if takes_pictures(logger)]
        if not loggers or find_spec('matplotlib') is None:
            return
        from nemo_oracle_kd.evaluation.listening_plot import listening_plot

        figure = listening_plot(self.history)
        for logger in loggers:
            log_picture(logger, f'{PREFIX}listening', figure, trainer.global_step)


def summary(found: ContradictionLosses) -> tuple[dict[str, float], HeardShare]:
    """The values that are logged, and the heard share by another utterance's text.

    Args:
        found: the losses of all utterances.
    """
    own, silence = Rates(found.own, found.labels), Rates(found.silence, found.labels)
    other, chance = Rates(found.other, found.other_labels), Rates(found.chance, found.other_labels)
    rates = {'own': own, 'other': other, 'chance': chance, 'silence': silence}
    values = {name: float(rate.corpus()) for name, rate in rates.items()}
    share, silent = heard_share(own, other, chance), heard_share(own, silence, chance)
    if share.value is not None:
        values.update(heard_share=share.value, heard_share_low=share.low, heard_share_high=share.high)
        values['heard_share_silence'] = silent.value
    return values, share


def _fits(trainer: pl.Trainer) -> bool:
    return not trainer.sanity_checking and trainer.state.fn == TrainerFn.FITTING


def _of_all_processes(found: list[np.ndarray]) -> list[np.ndarray]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return found
    gathered: list[list[np.ndarray]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(gathered, found)
    return [part for of_one in gathered for part in of_one]

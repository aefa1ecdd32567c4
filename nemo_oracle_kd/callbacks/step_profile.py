# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures where the time of a training step goes: data, student, teacher, objectives, backward, optimizer, logging."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from nemo_oracle_kd.callbacks.knowledge_distillation import KnowledgeDistillation

__all__ = ['PARTS', 'StepProfile']

#: part -> what it covers
PARTS = {
    'data': 'waiting for the loader, and moving the batch',
    'student': "the student's forward and its own loss",
    'teacher': "the teacher's forward and scores",
    'objectives': 'the distillation terms',
    'backward': 'through the student and the terms',
    'optimizer': 'the update',
    'logging': 'of the terms',
    'rest': "hooks and loops of Lightning and NeMo",
}


class StepProfile(Callback):
    """Adds up the seconds of each part over the steps after a warm-up.

    The parts exclude each other: a teacher that runs while the student's loss is computed counts as teacher alone. On a GPU every
    boundary waits for the work that was begun, which makes the whole slower than a training without a profile.

    Args:
        distillation: the callback whose parts are told apart; `None` for a plain training.
        warm_up: steps that are not counted.

    Attributes:
        seconds: part -> seconds over the counted steps.
        steps: number of counted steps.
    """

    def __init__(self, distillation: KnowledgeDistillation | None = None, warm_up: int = 3):
        self.distillation, self.warm_up = distillation, warm_up
        self.seconds: Counter[str] = Counter()
        self.steps = 0
        self._open: list[str] = []
        self._since = 0.0
        self._undo = contextlib.ExitStack()
        self._waits = False

    @property
    def total(self) -> float:
        """Seconds of one step."""
        return sum(self.seconds.values()) / max(1, self.steps)

    def table(self) -> list[tuple[str, float, float, str]]:
        """`(part, seconds per step, share, what it covers)` for each part."""
        whole = sum(self.seconds.values()) or 1.0
        return [
            (part, self.seconds[part] / max(1, self.steps), self.seconds[part] / whole, text)
            for part, text in PARTS.items()
        ]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to measure, when teacher and objectives are in place."""
        self._waits = pl_module.device.type == 'cuda'
        self._measure(pl_module, 'training_step', 'student')
        self._measure(trainer.strategy, 'backward', 'backward')
        self._measure(trainer.strategy, 'optimizer_step', 'optimizer')
        if self.distillation is not None:
            distiller = self.distillation.distiller
            self._measure(self.distillation, 'on_train_batch_end', 'logging')
            self._measure(self.distillation, 'on_train_batch_start', 'rest')
            for name in ('hear', 'sequence_nll', 'own_losses') if distiller.teacher is not None else ():
                self._measure(distiller.teacher, name, 'teacher')
            for family in distiller.families:
                for name in ('losses', 'losses_back'):
                    if hasattr(family, name):
                        self._measure(family, name, 'objectives')
        self._since, self._open = self._now(), ['rest', 'data']

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """Ends the wait for data."""
        self._leave()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Counts the step, and begins to wait for data."""
        self._enter('data')
        if batch_idx >= 0:
            self.steps += 1
        if self.warm_up and self.steps == self.warm_up:
            self.warm_up, self.steps = 0, 0
            self.seconds.clear()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Removes what measures."""
        self._leave()
        self._undo.close()

    def on_exception(self, trainer, pl_module, exception) -> None:
        """Does the same when training fails."""
        self._undo.close()

    def _measure(self, owner: Any, name: str, part: str) -> None:
        original: Callable = getattr(owner, name)
        own = vars(owner).get(name)

        def measured(*arguments: Any, **options: Any) -> Any:
            with self._part(part):
                return original(*arguments, **options)

        object.__setattr__(owner, name, measured)
        if own is None:
            self._undo.callback(object.__delattr__, owner, name)
        else:
            self._undo.callback(object.__setattr__, owner, name, own)

    @contextlib.contextmanager
    def _part(self, name: str) -> Iterator[None]:
        self._enter(name)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, name: str) -> None:
        self._tick()
        self._open.append(name)

    def _leave(self) -> None:
        self._tick()
        self._open.pop()

    def _tick(self) -> None:
        now = self._now()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def _now(self) -> float:
        if self._waits:
            torch.cuda.synchronize()
        return time.perf_counter()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Gradients and terms of trainings that differ only in how the same rows are put into batches and processes."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import tiny
import torch
from omegaconf import DictConfig
from tiny_self import calm_config, calm_transducer

from nemo_oracle_kd.callbacks import KnowledgeDistillation

#: kind of student -> its config, and the objectives that one training combines
CASES = {
    'ctc': (calm_config, ['frame_kl', 'softmax_l2', 'guided_ctc', 'occupancy', 'full_sum']),
    'transducer': (calm_transducer, ['lattice', 'lattice_collapsed', 'encoder', 'full_sum']),
}


def save_transducer(path: Path) -> Path:
    """Writes the teacher of the transducers; that of the CTC students is the fixture `tone_teacher`."""
    tiny.rnnt_model(tiny.rnnt_config(hidden=24), seed=7).save_to(str(path))
    return path


class Steps(pl.Callback):
    """Keeps what each step adds up to.

    Attributes:
        gradients: of each update, name -> tensor, after the processes have averaged them.
        terms: of each batch, its number of rows and every term of the loss.
    """

    def __init__(self, distillation: KnowledgeDistillation):
        self.distillation = distillation
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.terms: list[tuple[int, dict[str, float]]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        named = pl_module.named_parameters()
        self.gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        metrics = self.distillation.distiller.metrics().items()
        self.terms.append((len(batch[1]), {name: float(value) for name, value in metrics}))


def train(case: str, manifest: Any, teacher: Any, batch_size: int, updates: int = 1, **options: Any) -> Steps:
    """Trains a student whose weights stay as they are, and in which no row depends on the others of its batch."""
    make, objectives = CASES[case]
    distillation = KnowledgeDistillation({'restore_from': str(teacher)}, dict.fromkeys(objectives))
    steps = Steps(distillation)
    trainer = tiny.trainer(updates, callbacks=[distillation, steps], log_every_n_steps=1000, **options)
    config: DictConfig = make(manifest, batch_size=batch_size, learning_rate=1e-12)
    student = (tiny.ctc_model if case == 'ctc' else tiny.rnnt_model)(config, trainer)
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm1d):  # the statistics of a batch depend on its rows by design
            module.eval()
            module.train = lambda mode=True: None
    trainer.fit(student)
    return steps

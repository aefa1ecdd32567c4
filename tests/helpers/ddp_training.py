# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A distillation on two processes, to be run as a script in each: they find each other by the variables of torchrun.

    python ddp_training.py MANIFEST TEACHER.nemo OUT

Each process writes what it saw to `OUT/rank_N.json`; the first one also writes `OUT/last.ckpt` and `OUT/student.nemo`.
"""

import json
import sys
from pathlib import Path

import lightning.pytorch as pl
import tiny
import torch

from nemo_oracle_kd.callbacks import KnowledgeDistillation

UPDATES = 3


def tensor_names(module: torch.nn.Module) -> list[str]:
    """Names of all parameters and buffers."""
    return sorted(name for named in (module.named_parameters(), module.named_buffers()) for name, _ in named)


class Witness(pl.Callback):
    """Notes what each process hears, learns and synchronises."""

    def __init__(self, distillation: KnowledgeDistillation, folder: Path):
        self.distillation = distillation
        self.folder = folder
        self.seen = {'batches': [], 'frame_kl': [], 'loss': []}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen['batches'].append(batch[1].tolist())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        metrics = self.distillation.distiller.metrics()
        self.seen['frame_kl'].append(float(metrics['frame_kl']))
        self.seen['loss'].append(float(outputs['loss']))
        teacher = self.distillation.distiller.teacher.model
        wrapped = trainer.strategy.model  # DistributedDataParallel: what it holds is what it synchronises
        self.seen |= {
            'wrapper': type(wrapped).__name__,
            'synchronised': [name.removeprefix('module.') for name in tensor_names(wrapped)],
            'teacher_trains': any(module.training for module in teacher.modules()),
            'teacher_sum': sum(float(value.double().sum()) for value in teacher.state_dict().values()),
        }

    def on_train_end(self, trainer, pl_module):
        self.seen |= {
            'updates': trainer.global_step,
            'world_size': trainer.world_size,
            'student_sum': sum(float(value.detach().double().sum()) for value in pl_module.parameters()),
        }
        (self.folder / f'rank_{trainer.global_rank}.json').write_text(json.dumps(self.seen))


def main(manifest: str, teacher: str, folder: Path) -> None:
    """Trains."""
    torch.set_num_threads(1)
    distillation = KnowledgeDistillation({'restore_from': teacher}, {'frame_kl': {'weight': 0.1}})
    witness = Witness(distillation, folder)
    options = {'devices': 2, 'strategy': 'ddp', 'log_every_n_steps': 1}
    trainer = tiny.trainer(UPDATES, callbacks=[distillation, witness], **options)
    student = tiny.ctc_model(tiny.ctc_config(manifest, hidden=16), trainer)
    witness.seen['own'] = tensor_names(student)
    trainer.fit(student)
    trainer.save_checkpoint(folder / 'last.ckpt')
    if trainer.is_global_zero:
        student.save_to(str(folder / 'student.nemo'))


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))

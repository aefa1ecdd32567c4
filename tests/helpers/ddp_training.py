# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A distillation on two processes, to be run as a script in each: they find each other by the variables of torchrun.

    python ddp_training.py MANIFEST TEACHER.nemo OUT

Each process writes what it saw to `OUT/rank_N.json`; the first one also writes `OUT/last.ckpt` and `OUT/student.nemo`. Then a CTC
student and an RNN-T each train with a label branch that starts in the middle, and `OUT/oracle_HEAD_rank_N.json` says how. An
oracle teacher that begins to read in the middle leaves `OUT/teacher_rank_N.json`.
"""

import json
import os
import sys
from pathlib import Path

import batches
import lightning.pytorch as pl
import tiny
import tiny_oracle
import torch
from tiny_self import calm_config, calm_transducer

from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.models import EncDecOracleCTCModel

UPDATES = 3
#: head -> config of the student, loss below which its branch starts in the fourth or fifth update, objective
ORACLES = {'ctc': (calm_config, 5.6, 'softmax_l2'), 'transducer': (calm_transducer, 10.0, 'one_best_path')}
ORACLE_UPDATES = 6
#: running loss below which the audio branch of the oracle teacher of tones is in the third or fourth update
TEACHER_START = 7.7


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


class OracleWitness(pl.Callback):
    """Notes when a label branch starts and teaches, and what it and its student have learned."""

    def __init__(self, distillation: KnowledgeDistillation, path: Path):
        self.distillation, self.path = distillation, path
        self.seen = {'batches': [], 'running': [], 'started': [], 'taught': [], 'branch': [], 'student': []}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        distiller = self.distillation.distiller
        branch = {id(parameter) for parameter in distiller.teacher.parameters()}
        for side in ('branch', 'student'):
            own = [p for p in pl_module.parameters() if (id(p) in branch) == (side == 'branch')]
            self.seen[side].append(sum(float(parameter.detach().double().abs().sum()) for parameter in own))
        self.seen['batches'].append(batch[1].tolist())
        self.seen['running'].append(distiller.teacher.start.loss.value)
        self.seen['started'].append(distiller.teacher.start.since is not None)
        self.seen['taught'].append(
            any(name.endswith('_weighted') and 'loss' not in name for name in distiller.metrics())
        )

    def on_train_end(self, trainer, pl_module):
        metrics = trainer.callback_metrics.items()
        self.seen['held_out'] = {name: float(value) for name, value in metrics if name.startswith('val_oracle_')}
        self.path.write_text(json.dumps(self.seen))


def train_oracle(manifest: str, folder: Path, head: str) -> None:
    """Trains a student with a label branch, and validates it at the end of each epoch."""
    make, start_below, objective = ORACLES[head]
    teacher = {'self': 'oracle', 'start_below': start_below, 'teach_below': None, 'ramp': 0}
    distillation = KnowledgeDistillation(teacher, {objective: {}})
    witness = OracleWitness(distillation, folder)
    options = {'devices': 2, 'strategy': 'ddp', 'limit_val_batches': 1.0, 'log_every_n_steps': 1}
    trainer = tiny.trainer(ORACLE_UPDATES, callbacks=[distillation, witness], **options)
    witness.path = folder / f'oracle_{head}_rank_{trainer.global_rank}.json'
    config = make(manifest, validation=manifest)
    student = (tiny.ctc_model if head == 'ctc' else tiny.rnnt_model)(config, trainer)
    trainer.fit(student)


class TeacherWitness(pl.Callback):
    """Notes when an oracle teacher reads, and the weights of its fusion."""

    def __init__(self):
        self.seen = {'reads': [], 'fusion': [], 'loss': []}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen['reads'].append(pl_module.reads_at(trainer.global_step))
        self.seen['loss'].append(pl_module._start.loss.value)
        weights = pl_module.encoder.fusion.parameters()
        self.seen['fusion'].append(sum(float(value.detach().double().abs().sum()) for value in weights))


def train_oracle_teacher(manifest: str, folder: Path) -> None:
    """Trains an oracle teacher that begins to read by the loss of its audio branch."""
    witness = TeacherWitness()
    options = {'devices': 2, 'strategy': 'ddp', 'callbacks': [witness]}
    config = tiny_oracle.oracle_config(manifest, start_below=TEACHER_START)
    trainer, _ = tiny_oracle.fit(config, EncDecOracleCTCModel, ORACLE_UPDATES, **options)
    (folder / f'teacher_rank_{trainer.global_rank}.json').write_text(json.dumps(witness.seen))


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
    for head in ORACLES:
        train_oracle(manifest, folder, head)
    train_oracle_teacher(manifest, folder)
    for case, of_case in (('ctc', teacher), ('transducer', folder / 'rnnt.nemo')):
        rank = os.environ['RANK']
        options = {'devices': 2, 'strategy': 'ddp', 'use_distributed_sampler': False}
        steps = batches.train(case, folder / f'half_{rank}.jsonl', of_case, batch_size=4, **options)
        torch.save((steps.gradients, steps.terms), folder / f'gradients_{case}_rank_{rank}.pt')


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Scored manifests of the tone corpus, and trainings on them; shared by the tests of full-sum distillation."""

import json

import tiny
from lightning.pytorch.callbacks import LambdaCallback

from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.labelling.format import header_path

FINGERPRINT = '01234567-89abcdef-00000000'


def write_rows(rows, path, teacher_class='EncDecCTCModel'):
    """Writes a manifest and, if its rows have scores, a header that says whose they are."""
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    if teacher_class and any('teacher_log_prob' in row for row in rows):
        header_path(path).write_text(json.dumps({'teacher': {'class': teacher_class}}))
    return path


def read_rows(manifest):
    """Reads a manifest."""
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def with_score(tone_corpus, path, log_prob, **changes):
    """The corpus with one and the same score for all rows."""
    rows = read_rows(tone_corpus)
    for row in rows:
        row.update(teacher_log_prob=log_prob, teacher_tokens=len(row['text']), teacher_fingerprint=FINGERPRINT)
        row.update(changes)
    return write_rows(rows, path)


def distillation(objectives, teacher=None, **options):
    """The callback, with stored scores unless a teacher is given."""
    return KnowledgeDistillation(teacher=teacher or {'scores': 'manifest'}, objectives=objectives, **options)


def fit(manifest, callback, steps=2, kind='rnnt', config=None, cls=None, before=None, **options):
    """Trains a student; returns the last step's metrics, the student and the gradients of the first step."""
    gradients = {}

    def keep(trainer, module, optimizer):
        if not gradients:
            gradients.update({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})

    callbacks = [LambdaCallback(on_before_optimizer_step=keep)] + ([callback] if callback else [])
    trainer = tiny.trainer(steps, callbacks=callbacks, log_every_n_steps=steps)
    if config is None:
        config = (
            tiny.ctc_config(manifest, hidden=16) if kind == 'ctc' else transducer_config(manifest, kind, **options)
        )
    config.train_ds.shuffle = False
    config.preprocessor.dither = 0.0
    student = (tiny.ctc_model if 'joint' not in config else tiny.rnnt_model)(config, trainer, cls)
    if before is not None:
        before(student)
    trainer.fit(student)
    logged = {name.removeprefix('train/kd/'): float(value) for name, value in trainer.callback_metrics.items()}
    return logged, student, gradients


def transducer_config(manifest, kind='rnnt', hybrid=False, fused=False, **options):
    """Config of a transducer whose loss is the plain `-log P`."""
    config = tiny.rnnt_config(manifest, kind=kind, hybrid=hybrid, hidden=16, **{'stride': 4, **options})
    config.joint.fuse_loss_wer, config.joint.fused_batch_size = fused, 3
    if kind != 'rnnt':
        config.loss[f'{config.loss.loss_name}_kwargs'].sigma = 0.0
    return config

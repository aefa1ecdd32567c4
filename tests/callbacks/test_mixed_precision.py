# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distillation under mixed precision: the losses stay finite and near those of float32."""

import math

import lightning.pytorch as pl
import pytest
import tiny
import torch

from nemo_oracle_kd.callbacks import KnowledgeDistillation

pytestmark = pytest.mark.integration

OBJECTIVES = {'frame_kl': {'weight': 0.1}, 'guided_ctc': {'weight': 0.5}, 'occupancy': {'weight': 0.02}}


class Precisions(pl.Callback):
    """Notes the terms of every step, and whether both models compute under autocast."""

    def __init__(self, distillation):
        self.distillation = distillation
        self.terms, self.autocast, self.dtypes = [], {'student': set(), 'teacher': set()}, set()

    def on_fit_start(self, trainer, pl_module):
        for name, model in (('student', pl_module), ('teacher', self.distillation.distiller.teacher.model)):
            model.decoder.register_forward_hook(
                lambda *_, seen=self.autocast[name]: seen.add(torch.is_autocast_enabled('cpu'))
            )

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        metrics = self.distillation.distiller.metrics()
        self.terms.append({name: float(value) for name, value in metrics.items()})
        self.dtypes |= {parameter.grad.dtype for parameter in pl_module.parameters() if parameter.grad is not None}


def _distil(train, teacher, precision):
    distillation = KnowledgeDistillation({'restore_from': str(teacher)}, OBJECTIVES)
    notes = Precisions(distillation)
    trainer = tiny.trainer(6, callbacks=[distillation, notes], precision=precision)
    config = tiny.ctc_config(train, hidden=16)
    config.train_ds.shuffle = False  # the same batches for both
    config.preprocessor.dither = 0.0
    trainer.fit(tiny.ctc_model(config, trainer))
    return notes


def test_a_distillation_in_bfloat16_gives_finite_terms_near_those_of_float32(tone_corpus, tone_teacher):
    full = _distil(tone_corpus, tone_teacher, '32-true')
    mixed = _distil(tone_corpus, tone_teacher, 'bf16-mixed')
    assert full.autocast == {'student': {False}, 'teacher': {False}}
    assert mixed.autocast == {'student': {True}, 'teacher': {True}}
    assert mixed.dtypes == {torch.float32}  # weights and gradients stay in float32
    for expected, found in zip(full.terms, mixed.terms):
        for name in ('loss', 'label_loss', *OBJECTIVES):
            assert math.isfinite(found[name]) and found[name] == pytest.approx(expected[name], rel=0.03)

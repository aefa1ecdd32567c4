# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""An oracle teacher reads its first transcript when its audio branch has learned something, by its loss."""

import lightning.pytorch as pl
import pytest
import tiny
import tiny_oracle
import torch
from nemo.utils import logging as nemo_logging

from nemo_oracle_kd.callbacks.oracle_listening import PREFIX
from nemo_oracle_kd.models import EncDecOracleCTCModel, EncDecOracleRNNTModel

pytestmark = pytest.mark.integration

HEADS = {
    'ctc': (tiny_oracle.oracle_config, EncDecOracleCTCModel),
    'rnnt': (tiny_oracle.oracle_rnnt_config, EncDecOracleRNNTModel),
}
FEW, MANY = 1e-3, 1e6
VALIDATE = {'limit_val_batches': 1.0, 'val_check_interval': 1.0, 'check_val_every_n_epoch': 1}


class _Watch(pl.Callback):
    """What a training does in each step: weights of the fusion, whether the audio encoder is frozen, and what is logged."""

    def __init__(self):
        self.fusion, self.frozen, self.losses, self.expected = [], [], [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        weight = module.encoder.fusion.layers[0].cross_attention.value.weight
        self.fusion.append(weight.detach().clone())
        self.frozen.append(module.encoder.audio_is_frozen)
        self.losses.append(trainer.callback_metrics.get('train_audio_loss_per_label'))
        mean = float(trainer.callback_metrics['train_loss_audio'])  # over the utterances
        self.expected.append(mean * len(batch[3]) / float(batch[3].sum()))

    @property
    def reads(self):
        """Whether the weights of the fusion changed, from the second step on."""
        return [not torch.equal(*pair) for pair in zip(self.fusion, self.fusion[1:])]


@pytest.fixture
def said(monkeypatch):
    """What is written to NeMo's log."""
    lines = []
    for level in ('info', 'warning'):
        monkeypatch.setattr(nemo_logging, level, lambda text, *_, **__: lines.append(str(text)))
    return lines


def _fit(corpus, head='ctc', steps=3, validation=None, options=None, **oracle):
    make, cls = HEADS[head]
    watch = _Watch()
    trainer, teacher = tiny_oracle.fit(
        make(corpus, validation, **oracle), cls, steps, callbacks=[watch], **(options or {})
    )
    return trainer, teacher, watch


@pytest.mark.parametrize('head', HEADS)
def test_it_reads_from_the_step_after_the_loss_fell_below_the_limit(tone_corpus, head, said):
    trainer, _, watch = _fit(tone_corpus, head, start_below=MANY)
    assert watch.reads == [True, True]
    assert sum('the transcript is read from step 1 on' in line for line in said) == 1
    assert float(watch.losses[0]) == pytest.approx(watch.expected[0], rel=1e-4)
    assert 'train_loss_fused' in trainer.callback_metrics
    assert not any('has not read a single transcript' in line for line in said)


@pytest.mark.parametrize('head', HEADS)
def test_it_waits_while_the_audio_branch_hears_too_little_and_says_so_at_the_end(tone_corpus, head, said):
    trainer, teacher, watch = _fit(tone_corpus, head, validation=tone_corpus, options=VALIDATE, start_below=FEW)
    assert watch.reads == [False, False]
    one, two = watch.expected[:2]
    assert float(watch.losses[1]) == pytest.approx(0.95 * one + 0.05 * two, rel=1e-4)
    assert 'train_loss_fused' not in trainer.callback_metrics
    assert not any(name.startswith(PREFIX) for name in trainer.callback_metrics), 'there is nothing to listen to yet'
    (warning,) = [line for line in said if 'has not read a single transcript' in line]
    assert 'start_below (now 0.001)' in warning and f'{teacher._start.loss.value:.3g} nats per label' in warning


def test_the_least_number_of_steps_is_waited_for_as_well(tone_corpus, said):
    _, _, watch = _fit(tone_corpus, steps=4, start_below=MANY, audio_only_steps=2)
    assert watch.reads == [False, True, True]
    assert any('read from step 2 on' in line for line in said)
    _fit(tone_corpus, steps=1, audio_only_steps=2)
    assert any('the training ended before audio_only_steps' in line for line in said)


def test_the_audio_encoder_is_frozen_when_the_transcript_is_read(tone_corpus):
    _, _, watch = _fit(tone_corpus, start_below=MANY, freeze_audio_encoder=True)
    assert watch.frozen == [False, True, True]


def test_a_resumed_training_knows_what_the_audio_branch_had_learned(tone_corpus, tmp_path):
    config = tiny_oracle.oracle_config(tone_corpus, start_below=MANY)
    trainer, teacher = tiny_oracle.fit(config, EncDecOracleCTCModel, 2)
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    watch = _Watch()
    trainer = tiny.trainer(4, callbacks=[watch])
    resumed = EncDecOracleCTCModel(cfg=config, trainer=trainer)
    trainer.fit(resumed, ckpt_path=str(tmp_path / 'last.ckpt'))
    assert resumed._start.state() == teacher._start.state() and teacher._start.since == 0
    assert watch.losses == [None, None] and watch.reads == [True], 'it does not wait a second time'
    assert sorted(resumed.state_dict()) == sorted(teacher.state_dict())


def test_a_restored_teacher_reads_whatever_its_training_waited_for(tone_corpus, tmp_path):
    _, teacher, _ = _fit(tone_corpus, steps=1, start_below=FEW)
    teacher.save_to(str(tmp_path / 'oracle.nemo'))
    restored = EncDecOracleCTCModel.restore_from(str(tmp_path / 'oracle.nemo'), map_location='cpu').eval()
    with torch.no_grad():
        assert restored(**tiny_oracle.batch())[0].isfinite().all()
    assert restored.oracle.start_below == FEW

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Student model classes: the same mechanism as the callback, stock when saved."""

import shutil
import tarfile
from pathlib import Path

import pytest
import tiny
import torch
from omegaconf import OmegaConf, open_dict

from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.models import DistillEncDecCTCModel, DistillEncDecCTCModelBPE


def _config(train, teacher, **changes):
    config = tiny.ctc_config(train, hidden=16)
    with open_dict(config):
        config.distillation = {'teacher': {'restore_from': str(teacher)}, 'objectives': {'frame_kl': {'weight': 0.1}}}
        config.distillation.update(changes)
    return config


def _fit(model, trainer):
    model.set_trainer(trainer)
    trainer.fit(model)
    return model


def test_the_class_and_the_callback_make_the_same_student(tone_corpus, tone_teacher):
    trainer = tiny.trainer(4)
    by_class = _fit(tiny.ctc_model(_config(tone_corpus, tone_teacher), trainer, DistillEncDecCTCModel), trainer)
    callback = KnowledgeDistillation({'restore_from': str(tone_teacher)}, {'frame_kl': {'weight': 0.1}})
    trainer = tiny.trainer(4, callbacks=[callback])
    by_callback = _fit(tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer), trainer)
    assert 'train/kd/frame_kl' in trainer.callback_metrics
    for (name, left), right in zip(by_class.state_dict().items(), by_callback.state_dict().values()):
        torch.testing.assert_close(left, right, msg=name)


def test_the_saved_student_is_stock_and_restores_as_either_class(tone_corpus, tone_teacher, tmp_path):
    from nemo.collections.asr.models import ASRModel, EncDecCTCModel

    trainer = tiny.trainer(2)
    student = _fit(tiny.ctc_model(_config(tone_corpus, tone_teacher), trainer, DistillEncDecCTCModel), trainer)
    path = str(tmp_path / 'student.nemo')
    student.save_to(path)
    with tarfile.open(path) as archive:
        config = archive.extractfile(next(m for m in archive.getmembers() if m.name.endswith('.yaml'))).read().decode()
    assert 'distillation' not in config and 'nemo_oracle_kd' not in config and str(tone_teacher) not in config
    assert OmegaConf.create(config).target == 'nemo.collections.asr.models.ctc_models.EncDecCTCModel'
    assert type(ASRModel.restore_from(path)) is EncDecCTCModel
    again = DistillEncDecCTCModel.restore_from(path)
    assert type(again) is DistillEncDecCTCModel
    for (name, left), right in zip(student.state_dict().items(), again.state_dict().values()):
        torch.testing.assert_close(left, right, msg=name)


def test_a_lightning_checkpoint_loads_where_the_teacher_is_gone(tone_corpus, tone_teacher, tmp_path):
    teacher = Path(shutil.copy(tone_teacher, tmp_path / 'teacher.nemo'))
    trainer = tiny.trainer(2)
    student = _fit(tiny.ctc_model(_config(tone_corpus, teacher), trainer, DistillEncDecCTCModel), trainer)
    assert 'distillation' in student.cfg
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    assert 'distillation' in student.cfg  # the running student goes on distilling
    teacher.unlink()
    again = DistillEncDecCTCModel.load_from_checkpoint(str(tmp_path / 'last.ckpt'))
    assert 'distillation' not in again.cfg and str(teacher) not in OmegaConf.to_yaml(again.cfg)
    for (name, left), right in zip(student.state_dict().items(), again.state_dict().values()):
        torch.testing.assert_close(left, right, msg=name)


def test_a_restored_model_can_be_fine_tuned_from_a_teacher(tone_corpus, tone_teacher):
    student = DistillEncDecCTCModel.restore_from(str(tone_teacher))
    student.setup_training_data(tiny.ctc_config(tone_corpus).train_ds)
    student.setup_optimization(OmegaConf.create({'name': 'sgd', 'lr': 0.0}))
    student.set_distillation({'teacher': {'restore_from': str(tone_teacher)}, 'objectives': {'frame_kl': {}}})
    trainer = tiny.trainer(2)
    _fit(student, trainer)
    assert float(trainer.callback_metrics['train/kd/agreement']) > 0.8  # the teacher's own weights, in training mode


def test_without_the_section_the_class_trains_as_nemo_does(tone_corpus):
    trainer = tiny.trainer(3)
    ours = _fit(tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer, DistillEncDecCTCModel), trainer)
    trainer = tiny.trainer(3)
    plain = _fit(tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer), trainer)
    for left, right in zip(ours.state_dict().values(), plain.state_dict().values()):
        torch.testing.assert_close(left, right)


def test_a_second_fit_distils_again(tone_corpus, tone_teacher):
    trainer = tiny.trainer(1)
    student = _fit(tiny.ctc_model(_config(tone_corpus, tone_teacher), trainer, DistillEncDecCTCModel), trainer)
    trainer.fit_loop.epoch_loop.max_steps = 2
    trainer.fit(student)
    assert trainer.global_step == 2 and 'train/kd/frame_kl' in trainer.callback_metrics


def test_class_and_callback_together_are_refused(tone_corpus, tone_teacher):
    callback = KnowledgeDistillation({'restore_from': str(tone_teacher)}, {'frame_kl': {}})
    trainer = tiny.trainer(1, callbacks=[callback])
    with pytest.raises(ConfigError, match='keep one of them'):
        _fit(tiny.ctc_model(_config(tone_corpus, tone_teacher), trainer, DistillEncDecCTCModel), trainer)


def test_a_wrong_section_is_refused_before_the_data_is_read(tone_teacher):
    config = _config('/nowhere/train.jsonl', tone_teacher, objectives={'framekl': {}})
    with pytest.raises(ConfigError, match="Did you mean 'frame_kl'"):
        tiny.ctc_model(config, None, DistillEncDecCTCModel)


@pytest.mark.parametrize('cls', [DistillEncDecCTCModel, DistillEncDecCTCModelBPE])
def test_our_classes_list_no_pretrained_models_of_nemo_as_theirs(cls):
    from nemo.collections.asr.models import ASRModel

    assert cls.list_available_models() == []
    assert not any(info.class_ is cls for info in ASRModel.list_available_models())

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Transducer and hybrid students as model classes: the same mechanism as the callback, stock when saved."""

import tarfile

import pytest
import tiny
import torch
from omegaconf import OmegaConf, open_dict

from nemo_oracle_kd import models
from nemo_oracle_kd.callbacks import KnowledgeDistillation

CLASSES = ['DistillEncDecRNNTModel', 'DistillEncDecHybridRNNTCTCModel']
CLASSES += ['DistillEncDecRNNTBPEModel', 'DistillEncDecHybridRNNTCTCBPEModel']


def _student(name, train, section, tokenizer, callbacks=()):
    """A fitted student, by class if `section` is given; otherwise NeMo's own with the callbacks."""
    cls = getattr(models, name)
    config = tiny.rnnt_config(train, hidden=16, hybrid='Hybrid' in name)
    config = tiny.with_tokenizer(config, tokenizer) if 'BPE' in name else config
    with open_dict(config):
        if section is not None:
            config.distillation = section
    trainer = tiny.trainer(2, callbacks=list(callbacks), log_every_n_steps=50)
    student = tiny.rnnt_model(config, trainer, cls if section is not None else cls.stock_class())
    student.set_trainer(trainer)
    trainer.fit(student)
    return student


@pytest.mark.parametrize('name', CLASSES)
def test_the_class_and_the_callback_make_the_same_stock_student(name, tone_corpus, tone_teacher, tmp_path):
    from nemo.collections.asr.models import ASRModel

    tokenizer = tiny.train_tokenizer(tmp_path / 'tokenizer')
    section = {'teacher': {'restore_from': str(tone_teacher)}, 'objectives': {'full_sum': {'normalization': 'token'}}}
    student = _student(name, tone_corpus, section, tokenizer)
    callback = KnowledgeDistillation(**section)
    other = _student(name, tone_corpus, None, tokenizer, [callback])
    assert type(other).__module__.startswith('nemo.') and type(student).__name__ == name
    for (key, left), right in zip(student.state_dict().items(), other.state_dict().values()):
        torch.testing.assert_close(left, right, msg=key)
    path = str(tmp_path / 'student.nemo')
    student.save_to(path)
    with tarfile.open(path) as archive:
        config = archive.extractfile(next(m for m in archive.getmembers() if m.name.endswith('.yaml'))).read().decode()
    assert 'distillation' not in config and 'oracle_kd' not in config and str(tone_teacher) not in config
    stock = type(student).stock_class()
    assert OmegaConf.create(config).target == f'{stock.__module__}.{stock.__qualname__}'
    restored = ASRModel.restore_from(path)
    assert type(restored) is stock and type(student).list_available_models() == []
    assert list(restored.state_dict()) == list(student.state_dict())

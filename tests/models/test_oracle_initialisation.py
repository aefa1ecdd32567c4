# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""An oracle teacher that starts from a trained NeMo encoder."""

import lightning.pytorch as pl
import pytest
import tiny
import tiny_oracle
import torch

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.models import EncDecOracleCTCModel

pytestmark = pytest.mark.integration


def _config(train, source, hidden=48, **oracle):
    config = tiny_oracle.oracle_config(train, init_audio_encoder_from=str(source), **oracle)
    config.encoder.audio_encoder = tiny_oracle.audio_encoder(width=hidden)
    return config


def _fit(config, max_steps=1):
    trainer = tiny.trainer(max_steps)
    teacher = EncDecOracleCTCModel(cfg=config, trainer=trainer)
    trainer.fit(teacher)
    return teacher


def _same(module, other):
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in module.state_dict().items())


@pytest.fixture(scope='module')
def source(tone_teacher):
    """The trained CTC model behind `tone_teacher`."""
    from nemo.collections.asr.models import EncDecCTCModel

    return EncDecCTCModel.restore_from(str(tone_teacher), map_location='cpu')


def test_encoder_and_decoder_of_a_trained_model_are_copied_and_stay_frozen(tone_corpus, tone_teacher, source):
    teacher = _fit(_config(tone_corpus, tone_teacher, freeze_audio_encoder=True), max_steps=2)
    assert _same(teacher.encoder.audio_encoder, source.encoder)
    fresh = EncDecOracleCTCModel(cfg=_config(None, tone_teacher))
    fresh.initialise_audio_encoder()
    assert _same(fresh.audio_decoder, source.decoder)


class _Watch(pl.Callback):
    """Keeps, for every step, whether a part of the audio encoder was in training mode or had a gradient."""

    def __init__(self):
        self.trained = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        encoder = pl_module.encoder.audio_encoder
        modes = any(module.training for module in encoder.modules())
        self.trained.append(modes or any(parameter.grad is not None for parameter in encoder.parameters()))


@pytest.mark.parametrize('freeze, start_below', [(True, None), (False, None), (True, 1e6)])
def test_on_a_frozen_encoder_the_label_branch_alone_is_trained_from_the_first_step(
    tone_corpus, tone_teacher, source, freeze, start_below
):
    watch = _Watch()
    trainer = tiny.trainer(3, callbacks=[watch])
    guards = {'freeze_audio_encoder': freeze, 'start_below': start_below}
    config = _config(tone_corpus, tone_teacher, **guards, audio_only_steps=0)
    teacher = EncDecOracleCTCModel(cfg=config, trainer=trainer)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    trainer.fit(teacher)
    assert watch.trained == [not freeze] * 3
    statistics = [name for name in source.encoder.state_dict() if name.endswith(('running_mean', 'running_var'))]
    assert statistics and _same(teacher.encoder.audio_encoder, source.encoder) == freeze
    parts = ('encoder.label_encoder.', 'encoder.fusion.', 'decoder.')
    changed = [name for name, value in teacher.state_dict().items() if not torch.equal(value, before[name])]
    for part in parts:
        assert any(name.startswith(part) for name in changed), part


def test_the_source_is_needed_neither_at_restore_nor_when_training_goes_on(
    tone_corpus, tone_teacher, source, tmp_path
):
    copy = tmp_path / 'source.nemo'
    copy.write_bytes(tone_teacher.read_bytes())
    teacher = _fit(_config(tone_corpus, copy))
    teacher.save_to(str(tmp_path / 'oracle.nemo'))
    copy.unlink()
    restored = EncDecOracleCTCModel.restore_from(str(tmp_path / 'oracle.nemo'), map_location='cpu')
    assert _same(restored.encoder, teacher.encoder)
    assert restored.cfg.oracle.init_audio_encoder_from is None
    restored.initialise_audio_encoder()
    assert _same(restored.encoder, teacher.encoder)


def test_weights_of_a_source_are_not_loaded_at_construction(tone_teacher, source):
    teacher = EncDecOracleCTCModel(cfg=_config(None, tone_teacher))
    assert not _same(teacher.encoder.audio_encoder, source.encoder)


def test_an_oracle_teacher_may_be_the_source(tone_corpus, tone_teacher, source, tmp_path):
    first = _fit(_config(tone_corpus, tone_teacher, freeze_audio_encoder=True))
    first.save_to(str(tmp_path / 'first.nemo'))
    second = _fit(_config(tone_corpus, tmp_path / 'first.nemo', freeze_audio_encoder=True))
    assert _same(second.encoder.audio_encoder, source.encoder)


def test_other_shapes_are_refused_in_one_sentence(tone_corpus, tone_teacher):
    with pytest.raises(ConfigError, match='do not fit `encoder.audio_encoder`') as refusal:
        _fit(_config(tone_corpus, tone_teacher, hidden=32))
    assert '\n' not in str(refusal.value)


def test_other_features_are_refused(tone_corpus, tone_teacher):
    config = _config(tone_corpus, tone_teacher)
    config.preprocessor.window_size = 0.03
    with pytest.raises(ConfigError, match='window_size 0.02 there, 0.03 here'):
        _fit(config)


def test_a_source_that_does_not_exist_is_refused(tone_corpus):
    with pytest.raises(ConfigError, match='there is no model at'):
        _fit(_config(tone_corpus, 'nowhere/model.nemo'))


def test_a_wrong_name_of_a_pretrained_model_is_refused_with_the_nearest_names(tone_corpus):
    message = 'oracle.init_audio_encoder_from`: .*nearest names: stt_en_citrinet_256'
    with pytest.raises(ConfigError, match=message):
        _fit(_config(tone_corpus, 'stt_en_citrinett_256'))


def test_a_file_that_is_no_model_is_refused(tone_corpus, tmp_path):
    (tmp_path / 'broken.nemo').write_text('no archive')
    with pytest.raises(ConfigError, match='cannot be read as a .nemo file'):
        _fit(_config(tone_corpus, tmp_path / 'broken.nemo'))

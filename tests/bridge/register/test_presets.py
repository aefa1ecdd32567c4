# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Presets in a recipe: ``resolve_trainer_cfg`` appends the callback, and nothing is overwritten or ignored."""

import lightning.pytorch as pl
import pytest
import tiny
from hydra import compose, initialize_config_dir
from nemo.collections.asr.models import EncDecCTCModel
from nemo.utils.exp_manager import exp_manager
from nemo.utils.trainer_utils import resolve_trainer_cfg
from omegaconf import OmegaConf

from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.errors import ConfigError

RECIPE = """
trainer:
  max_epochs: 1
  accelerator: cpu
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - _target_: lightning.pytorch.callbacks.Timer
exp_manager:
  create_tensorboard_logger: false
"""
AS_LIST_ENTRY = (
    "trainer.callbacks=[{_target_: nemo_oracle_kd.callbacks.KnowledgeDistillation, teacher: {restore_from: t.nemo}, "
    "objectives: {frame_kl: {weight: 0.05}}}]"
)


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp('teacher') / 'teacher.nemo'
    EncDecCTCModel(cfg=tiny.ctc_config()).save_to(str(path))
    return path


@pytest.fixture
def composed(tmp_path):
    """Composes the recipe with overrides, as ``hydra_runner`` does."""

    def make(*overrides, recipe=RECIPE):
        (tmp_path / 'recipe.yaml').write_text(recipe)
        with initialize_config_dir(config_dir=str(tmp_path), version_base=None):
            return compose('recipe', overrides=list(overrides))

    return make


def _names(callbacks):
    return [type(callback).__name__ for callback in callbacks]


def test_a_preset_is_appended_to_the_callbacks_of_the_recipe(composed, teacher):
    cfg = composed('+oracle_kd=frame_kl', f'oracle_kd.teacher.restore_from={teacher}')
    arguments = resolve_trainer_cfg(cfg.trainer)
    assert _names(arguments['callbacks']) == ['Timer', 'KnowledgeDistillation']
    assert 'oracle_kd' not in arguments
    assert len(cfg.trainer.callbacks) == 1, "the configuration of the recipe itself stays as it is"


@pytest.mark.parametrize('callbacks', ['null', '[]'])
def test_a_preset_works_in_a_recipe_without_callbacks(composed, teacher, callbacks):
    cfg = composed(
        '+oracle_kd=frame_kl', f'oracle_kd.teacher.restore_from={teacher}', f'trainer.callbacks={callbacks}'
    )
    assert _names(resolve_trainer_cfg(cfg.trainer)['callbacks']) == ['KnowledgeDistillation']


def test_without_a_preset_the_trainer_gets_what_nemo_gives_it(composed):
    assert _names(resolve_trainer_cfg(composed().trainer)['callbacks']) == ['Timer']
    alone = OmegaConf.create({'max_epochs': 1})
    assert resolve_trainer_cfg(alone) == {'max_epochs': 1}


def test_two_presets_are_merged_and_options_can_be_changed(composed, teacher):
    cfg = composed(
        '+oracle_kd=[frame_kl,softmax_l2]',
        f'oracle_kd.teacher.restore_from={teacher}',
        'oracle_kd.objectives.frame_kl.weight=0.5',
    )
    (callback,) = [
        callback
        for callback in resolve_trainer_cfg(cfg.trainer)['callbacks']
        if isinstance(callback, KnowledgeDistillation)
    ]
    assert set(callback.distiller.config.objectives) == {'frame_kl', 'softmax_l2'}
    assert cfg.oracle_kd.objectives.frame_kl.weight == 0.5


def test_presets_of_two_kinds_of_teachers_are_refused_in_one_sentence(composed, teacher):
    for overrides in (['+oracle_kd=[frame_kl,ema]'], ['+oracle_kd=[cr_ctc,frame_kl]']):
        with pytest.raises(ConfigError, match='one has the student for its own teacher') as refused:
            resolve_trainer_cfg(composed(*overrides).trainer)
        assert len(refused.value.messages) == 1
    cfg = composed('+oracle_kd=[frame_kl,ema]', f'oracle_kd.teacher.restore_from={teacher}')
    with pytest.raises(ConfigError, match='restore_from and self name different teachers'):
        resolve_trainer_cfg(cfg.trainer)


@pytest.mark.integration
def test_a_preset_of_frames_and_one_of_texts_train_together(composed, tone_teacher, tone_corpus):
    cfg = composed(
        '+oracle_kd=[frame_kl,full_sum]',
        f'oracle_kd.teacher.restore_from={tone_teacher}',
        'oracle_kd.teacher.scores=null',
        '+trainer.max_steps=2',
        '+trainer.log_every_n_steps=1',
    )
    trainer = pl.Trainer(**resolve_trainer_cfg(cfg.trainer))
    trainer.fit(tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer))
    logged = {name.removeprefix('train/kd/'): float(value) for name, value in trainer.logged_metrics.items()}
    parts = [logged[f'{name}_weighted'] for name in ('label_loss', 'frame_kl', 'full_sum')]
    assert parts[0] == 0 and min(parts[1:]) > 0, 'no row is marked as supervised'
    assert sum(parts) == pytest.approx(logged['loss'], rel=1e-5)


def test_an_interpolation_into_the_rest_of_the_recipe_is_resolved(composed, teacher):
    cfg = composed(
        '+oracle_kd=frame_kl',
        'oracle_kd.teacher.restore_from=${init_from_nemo_model}',
        f'+init_from_nemo_model={teacher}',
    )
    assert _names(resolve_trainer_cfg(cfg.trainer)['callbacks'])[-1] == 'KnowledgeDistillation'


def test_a_teacher_that_was_not_named_is_refused_with_the_words_to_add(composed):
    cfg = composed('+oracle_kd=frame_kl')
    with pytest.raises(ConfigError, match="^`oracle_kd.teacher.restore_from` is not set: add 'oracle_kd.teacher.rest"):
        resolve_trainer_cfg(cfg.trainer)


def test_a_teacher_that_does_not_exist_is_refused_before_a_model_is_built(composed):
    cfg = composed('+oracle_kd=frame_kl', 'oracle_kd.teacher.restore_from=nowhere.nemo')
    with pytest.raises(FileNotFoundError, match="nowhere.nemo"):
        resolve_trainer_cfg(cfg.trainer)


def test_a_preset_beside_an_entry_of_the_list_is_refused(composed, teacher):
    cfg = composed('+oracle_kd=frame_kl', f'oracle_kd.teacher.restore_from={teacher}', AS_LIST_ENTRY)
    with pytest.raises(ConfigError, match="configured twice"):
        resolve_trainer_cfg(cfg.trainer)


def test_callbacks_that_are_no_list_are_refused_together_with_the_missing_teacher(composed):
    cfg = composed('+oracle_kd=frame_kl', recipe="trainer:\n  callbacks:\n    _target_: a.B\n")
    with pytest.raises(ConfigError) as error:
        resolve_trainer_cfg(cfg.trainer)
    assert len(error.value.messages) == 2 and "and not a list: write it with a dash" in error.value.messages[1]


def test_a_preset_name_that_hydra_took_for_a_value_is_refused():
    # What '+oracle_kd=frame_kl' becomes when the plug-in was not active.
    cfg = OmegaConf.create({'trainer': {}, 'oracle_kd': 'frame_kl'})
    with pytest.raises(ConfigError, match="plug-in of nemo_oracle_kd was not active"):
        resolve_trainer_cfg(cfg.trainer)


def test_a_preset_that_reached_no_trainer_is_refused(composed, teacher, tmp_path):
    cfg = composed('+oracle_kd=frame_kl', f'oracle_kd.teacher.restore_from={teacher}')
    trainer = pl.Trainer(accelerator='cpu', logger=False, enable_checkpointing=False)
    with pytest.raises(ConfigError, match="does not build its trainer with NeMo's resolve_trainer_cfg"):
        exp_manager(trainer, cfg.exp_manager)


@pytest.mark.integration
def test_a_recipe_trains_with_a_preset_and_leaves_a_stock_model(composed, teacher, tmp_path):
    cfg = composed('+oracle_kd=frame_kl', f'oracle_kd.teacher.restore_from={teacher}')
    manifest = tiny.write_tone_corpus(tmp_path, count=4)
    # The lines of NeMo's speech_to_text_ctc.py.
    trainer = pl.Trainer(**resolve_trainer_cfg(cfg.trainer))
    model = EncDecCTCModel(cfg=tiny.ctc_config(train=manifest), trainer=trainer)
    trainer.fit(model)
    assert any(name.startswith('train/kd/frame_kl') for name in trainer.logged_metrics)
    assert not any('teacher' in name for name in model.state_dict())

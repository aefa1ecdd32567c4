# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Students that teach themselves in a fit: resumed as if uninterrupted, and nothing of the branch in what is saved."""

import copy
import tarfile

import pytest
import tiny
import torch
from omegaconf import OmegaConf
from tiny_self import CALM_ORACLE, callback, calm_config, calm_transducer, fit, logged

from nemo_oracle_kd.bridge.hooks.encoder import EncoderWatch
from nemo_oracle_kd.bridge.hooks.guest import GUEST, GuestModule
from nemo_oracle_kd.bridge.register.presets import append_callback
from nemo_oracle_kd.callbacks.knowledge_distillation import CHECKPOINT_KEY
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.cli.presets import preset_text
from nemo_oracle_kd.errors import ConfigError

# optimizer steps before and after the interruption; an epoch is one batch, for NeMo's loaders begin an epoch anew
STOPS = (2, 4)


def _assert_stock_checkpoint(checkpoint, student):
    assert sorted(checkpoint['state_dict']) == sorted(student.state_dict())
    assert not any(GUEST in name for name in checkpoint['state_dict'])
    (state,) = checkpoint['optimizer_states']
    numbers = [number for group in state['param_groups'] for number in group['params']]
    own = [parameter for name, parameter in student.named_parameters() if GUEST not in name]
    assert numbers == list(range(len(own)))
    for number, value in state['state'].items():
        assert value['exp_avg'].shape == own[number].shape
    assert GUEST not in str(checkpoint['hyper_parameters'])


@pytest.mark.parametrize('groups', [None, {'decoder': {'lr': 0.005}}])
def test_a_resumed_training_equals_an_uninterrupted_one(tone_corpus, tmp_path, groups):
    config = calm_config(tone_corpus, batch_size=16)
    if groups:
        config.optim_param_groups = groups
    seen = {}

    def save(trainer, student, when):
        path = tmp_path / f'{when}.ckpt'
        trainer.save_checkpoint(path)
        _assert_stock_checkpoint(torch.load(path, weights_only=False), student)

    def keep(name):
        def look(trainer, student):
            seen[name] = {key: value.clone() for key, value in student.named_parameters()}
            if name == 'first' and trainer.global_step == STOPS[0]:
                save(trainer, student, 'in the fit')

        return look

    fit(callback(CALM_ORACLE), config, STOPS[1], keep('whole'))
    save(*fit(callback(CALM_ORACLE), config, STOPS[0], keep('first')), 'after it')
    assert any(GUEST in name for name in seen['whole'])
    for saved in ('in the fit', 'after it'):
        path = str(tmp_path / f'{saved}.ckpt')
        trainer, _ = fit(callback(CALM_ORACLE), config, STOPS[1], keep(saved), ckpt_path=path, seed=1)
        assert trainer.global_step == STOPS[1] and seen[saved].keys() == seen['whole'].keys()
        for name, value in seen['whole'].items():
            torch.testing.assert_close(seen[saved][name], value, rtol=1e-3, atol=1e-4, msg=f'{name}, saved {saved}')


def test_a_checkpoint_goes_on_without_the_branch_and_one_without_it_goes_on_with_it(tone_corpus, tmp_path):
    config = calm_config(tone_corpus)
    trainer, _ = fit(callback(CALM_ORACLE), config, 2)
    trainer.save_checkpoint(tmp_path / 'one.ckpt')
    assert torch.load(tmp_path / 'one.ckpt', weights_only=False)[CHECKPOINT_KEY]['teacher']['branch']
    trainer, _ = fit(None, config, 3, ckpt_path=str(tmp_path / 'one.ckpt'))
    trainer.save_checkpoint(tmp_path / 'two.ckpt')
    assert CHECKPOINT_KEY not in torch.load(tmp_path / 'two.ckpt', weights_only=False)
    trainer, _ = fit(callback(CALM_ORACLE), config, 5, ckpt_path=str(tmp_path / 'two.ckpt'))
    assert trainer.global_step == 5 and logged(trainer)['oracle_loss'] > 0


def test_during_the_fit_the_branch_is_optimised_and_hidden_and_afterwards_gone(tone_corpus, tmp_path):
    seen = {}

    def look(trainer, student):
        branch = {id(p) for name, p in student.named_parameters() if GUEST in name}
        held = {id(p) for group in trainer.optimizers[0].param_groups for p in group['params']}
        seen.update(branch=branch, held=held, keys=sorted(student.state_dict()))
        student.save_to(str(tmp_path / 'during.nemo'))
        student.load_state_dict(student.state_dict())
        seen['copy'] = copy.deepcopy(student.encoder)

    config = calm_config(tone_corpus)
    plain = sorted(tiny.ctc_model(config).state_dict())
    trainer, student = fit(callback(CALM_ORACLE), config, 2, look)
    assert seen['branch'] and seen['branch'] <= seen['held']
    assert seen['keys'] == plain == sorted(student.state_dict())
    assert not any(isinstance(hook, EncoderWatch) for hook in seen['copy']._forward_hooks.values())
    assert not hasattr(student, GUEST) and not student.encoder._forward_hooks
    left = {id(p) for group in trainer.optimizers[0].param_groups for p in group['params']}
    assert left == {id(p) for p in student.parameters()} == {id(p) for p in trainer.optimizers[0].state}
    student.save_to(str(tmp_path / 'after.nemo'))
    for name in ('during', 'after'):
        with tarfile.open(tmp_path / f'{name}.nemo') as archive:
            files = [member for member in archive.getmembers() if member.isfile()]
            members = {member.name: archive.extractfile(member).read() for member in files}
        config_text = next(data.decode() for key, data in members.items() if key.endswith('.yaml'))
        assert OmegaConf.create(config_text).target == 'nemo.collections.asr.models.ctc_models.EncDecCTCModel'
        assert 'oracle' not in config_text and not any(GUEST.encode() in data for data in members.values())


def test_a_fit_that_fails_leaves_a_stock_student(tone_corpus):
    def fail(trainer, student):
        raise RuntimeError('the disk is full')

    config = calm_config(tone_corpus)
    trainer = tiny.trainer(2)
    student = tiny.ctc_model(config, trainer)
    with pytest.raises(RuntimeError, match='the disk is full'):
        fit(callback(CALM_ORACLE), config, 2, fail, student=student)
    assert not hasattr(student, GUEST)


def test_missing_keys_of_the_student_itself_are_still_refused(tone_corpus):
    student = tiny.ctc_model(calm_config(tone_corpus))
    student.add_module(GUEST, GuestModule(torch.nn.Linear(2, 2)))
    state = student.state_dict()
    student.load_state_dict(state)
    state.pop(next(iter(state)))
    with pytest.raises(RuntimeError, match='Missing key'):
        student.load_state_dict(state)


@pytest.mark.parametrize('name', ['oracle_self', 'oracle_self_rnnt', 'ema', 'cr_ctc'])
def test_the_presets_train_a_stock_recipe_and_check_says_so_first(tone_corpus, tmp_path, name, capsys):
    config, make = calm_config(tone_corpus, augment=True), tiny.ctc_model
    if name.endswith('rnnt'):
        config, make = calm_transducer(tone_corpus), tiny.rnnt_model
    make(config).save_to(str(tmp_path / 'student.nemo'))
    assert main(['check', str(tmp_path / 'student.nemo'), '--preset', name]) == 0
    assert 'ready to distil' in capsys.readouterr().out
    arguments = {}
    append_callback(arguments, OmegaConf.to_container(OmegaConf.create(preset_text(name))))
    trainer = tiny.trainer(2, log_every_n_steps=1, **arguments)
    student = make(config, trainer)
    trainer.fit(student)
    assert logged(trainer)['label_loss'] > 0 and not hasattr(student, GUEST)


def test_mistakes_in_a_preset_are_told_by_the_keys_of_the_preset():
    options = OmegaConf.to_container(OmegaConf.create(preset_text('full_sum')))
    options['objectives']['frame_kl'] = {'wieght': 1.0}
    with pytest.raises(ConfigError) as caught:
        append_callback({}, options)
    unknown, stored = caught.value.messages
    assert unknown.startswith('`oracle_kd.objectives.frame_kl`') and "Did you mean 'weight'" in unknown
    assert 'give oracle_kd.teacher.restore_from or oracle_kd.teacher.cache as well' in stored


def test_check_refuses_what_training_refuses(tone_corpus, tmp_path, capsys):
    tiny.ctc_model(calm_config(tone_corpus)).save_to(str(tmp_path / 'student.nemo'))
    assert main(['check', str(tmp_path / 'student.nemo'), '--preset', 'cr_ctc']) == 1
    assert 'add a spec_augment section' in capsys.readouterr().out
    assert main(['check', str(tmp_path / 'student.nemo'), '--preset', 'context']) == 1
    assert 'has no limited att_context_size' in capsys.readouterr().out

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The averaged student: the formula of the mean, the mode it hears in, what a checkpoint keeps."""

import pytest
import torch
from tiny_self import callback, calm_config, fit, logged

from nemo_oracle_kd.errors import ConfigError

KL = {'frame_kl': {'weight': 0.5}}


def test_the_mean_follows_the_formula_once_per_optimizer_step(tone_corpus):
    history, means = [], []

    def look(trainer, student):
        teacher = distillation.distiller.teacher
        history.append({name: value.clone() for name, value in student.state_dict().items()})
        means.append({name: value.clone() for name, value in teacher.copy.state_dict().items()})

    distillation = callback({'self': 'ema', 'decay': 0.15, 'start_below': None, 'ramp': 0}, KL)
    fit(distillation, calm_config(tone_corpus, batch_size=4), 6, look, accumulate_grad_batches=2)
    weights = [state['encoder.encoder.0.mconv.0.conv.weight'] for state in history]
    found = [mean['encoder.encoder.0.mconv.0.conv.weight'] for mean in means]
    assert len(weights) == 12
    mean, updates = found[0], 0  # the student before the first step
    for index in range(1, 12):
        if index % 2 == 0:  # an optimizer step lies behind
            decay = min(0.15, (1 + updates) / (10 + updates))
            mean = decay * mean + (1 - decay) * weights[index - 1]
            updates += 1
        torch.testing.assert_close(found[index], mean)
    buffer = 'encoder.encoder.0.mconv.2.running_var'
    assert not torch.equal(means[-1][buffer], means[0][buffer]), "buffers are averaged too"
    assert all(parameter.requires_grad is False for parameter in [*found])


def test_without_a_start_it_teaches_at_once_and_equal_models_have_no_distance(tone_corpus):
    config = calm_config(tone_corpus)
    distillation = callback({'self': 'ema', 'start_below': None, 'ramp': 0}, KL)
    seen = {}

    def look(trainer, student):
        seen['training'] = [part.training for part in distillation.distiller.teacher.copy.modules()]
        seen['held'] = {id(parameter) for parameter in distillation.distiller.teacher.copy.parameters()}
        seen['optimized'] = {id(p) for group in trainer.optimizers[0].param_groups for p in group['params']}

    trainer, student = fit(distillation, config, 1, look)
    # batch statistics against running ones: the only difference at the first step
    assert 0 <= logged(trainer)['frame_kl'] < 50
    assert not any(seen['training']) and not seen['held'] & seen['optimized']
    assert not seen['held'] & {id(parameter) for parameter in student.parameters()}


def test_a_resumed_training_goes_on_with_the_mean(tone_corpus, tmp_path):
    config = calm_config(tone_corpus, batch_size=16)  # one batch is an epoch: NeMo's loaders begin an epoch anew
    teacher = {'self': 'ema', 'decay': 0.9, 'start_below': None}
    _, whole = fit(callback(teacher, KL), config, 4)
    trainer, _ = fit(callback(teacher, KL), config, 2)
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    _, resumed = fit(callback(teacher, KL), config, 4, ckpt_path=str(tmp_path / 'last.ckpt'), seed=1)
    for (name, left), right in zip(resumed.state_dict().items(), whole.state_dict().values()):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6, msg=name)


def test_a_decay_of_one_is_refused():
    with pytest.raises(ConfigError, match='decay` must be at least 0 and below 1'):
        callback({'self': 'ema', 'decay': 1.0})

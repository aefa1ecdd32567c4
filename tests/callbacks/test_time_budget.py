# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the time budget: the shape of the schedule, and real trainings that stop and anneal by the clock."""

import time

import lightning.pytorch as pl
import pytest
import tiny
from omegaconf import open_dict

from nemo_oracle_kd.callbacks import TimeBudget
from nemo_oracle_kd.callbacks.time_budget import learning_rate_share
from nemo_oracle_kd.errors import ConfigError


class RatesByHand(pl.Callback):
    """Keeps the learning rate of every update, and makes an update last a known time."""

    def __init__(self, seconds_per_update=0.05):
        self.rates = []
        self.seconds_per_update = seconds_per_update

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]['lr'])
        time.sleep(self.seconds_per_update)


def trainer_with(callbacks, **options):
    return tiny.trainer(callbacks=callbacks, **{'max_steps': -1, 'limit_val_batches': 1.0, **options})


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
    return tiny.write_tone_corpus(tmp_path_factory.mktemp('corpus'), count=6)


def build(manifest, trainer, learning_rate=1e-2):
    config = tiny.ctc_config(manifest, manifest, batch_size=2, learning_rate=learning_rate)
    return tiny.ctc_model(config, trainer)


@pytest.mark.unit
@pytest.mark.parametrize('decay', ['cosine', 'linear'])
def test_learning_rate_rises_over_the_warm_up_and_ends_at_its_final_share(decay):
    shares = [learning_rate_share(spent / 100, 0.1, decay, 0.02) for spent in range(101)]
    assert shares[0] == 0.0 and shares[5] == pytest.approx(0.5) and shares[10] == pytest.approx(1.0)
    assert all(a < b for a, b in zip(shares[:10], shares[1:11]))
    assert all(a > b for a, b in zip(shares[10:-1], shares[11:]))
    assert shares[55] == pytest.approx(0.51)  # half way down from 1 to 0.02, for both shapes
    assert shares[-1] == pytest.approx(0.02)
    assert learning_rate_share(1.7, 0.1, decay, 0.02) == pytest.approx(0.02)
    assert learning_rate_share(0.0, 0.0, decay, 0.02) == 1.0


@pytest.mark.unit
def test_without_decay_the_learning_rate_stays():
    assert learning_rate_share(0.9, 0.1, 'none', 0.0) == 1.0


@pytest.mark.integration
def test_training_ends_with_the_budget_after_a_last_validation_and_anneals(manifest):
    budget, rates = TimeBudget(1.5, warmup_share=0.2), RatesByHand()
    trainer = trainer_with([budget, rates], check_val_every_n_epoch=1000)
    model = build(manifest, trainer, learning_rate=1e-3)
    trainer.fit(model)
    assert 1.5 <= budget.clock.seconds < 2.5
    assert trainer.global_step == len(rates.rates) > 5
    assert max(rates.rates) <= 1e-3 and max(rates.rates) > 0.7e-3
    assert rates.rates[0] < 0.5e-3 and rates.rates[-1] < 0.15e-3
    assert 'val_wer' in trainer.callback_metrics  # the end of the budget brings the validation that no epoch was due


@pytest.mark.integration
def test_validation_does_not_use_up_the_budget(manifest):
    class SlowValidation(pl.Callback):
        def on_validation_start(self, trainer, pl_module):
            time.sleep(0.4)

    budget = TimeBudget(1.0)
    trainer = trainer_with([budget, SlowValidation(), RatesByHand()], check_val_every_n_epoch=1)
    model = build(manifest, trainer)
    before = time.monotonic()
    trainer.fit(model)
    assert 1.0 <= budget.clock.seconds < 2.0
    assert time.monotonic() - before > 1.0 + 0.4 * 2


@pytest.mark.integration
def test_a_resumed_run_goes_on_with_its_budget_and_its_learning_rate(tmp_path, manifest):
    budget, rates = TimeBudget(2.0, warmup_share=0.0), RatesByHand()
    trainer = trainer_with([budget, rates], max_steps=8, limit_val_batches=0)
    trainer.fit(build(manifest, trainer, learning_rate=1e-3))
    trainer.save_checkpoint(tmp_path / 'stopped.ckpt')
    spent = budget.clock.seconds
    assert spent < 2.0

    budget, later = TimeBudget(2.0, warmup_share=0.0), RatesByHand()
    trainer = trainer_with([budget, later], limit_val_batches=0)
    trainer.fit(build(manifest, trainer, learning_rate=1e-3), ckpt_path=str(tmp_path / 'stopped.ckpt'))
    assert 2.0 <= budget.clock.seconds < 3.0
    assert later.rates[0] == pytest.approx(1e-3 * learning_rate_share(spent / 2.0, 0.0, 'cosine', 0.0), rel=0.2)
    assert later.rates[-1] < 0.1e-3
    trainer.save_checkpoint(tmp_path / 'spent.ckpt')

    budget, none = TimeBudget(2.0), RatesByHand()
    trainer = trainer_with([budget, none], limit_val_batches=0)
    trainer.fit(build(manifest, trainer), ckpt_path=str(tmp_path / 'spent.ckpt'))
    assert none.rates == []  # a spent budget trains no further


@pytest.mark.integration
def test_a_scheduler_of_the_model_is_refused_with_the_fix(manifest):
    cfg = tiny.ctc_config(manifest)
    with open_dict(cfg):
        cfg.optim.sched = {'name': 'CosineAnnealing', 'warmup_steps': 1, 'max_steps': 10}
    trainer = trainer_with([TimeBudget(1.0)], max_steps=10)
    with pytest.raises(ConfigError, match='model.optim.sched'):
        trainer.fit(tiny.ctc_model(cfg, trainer))


@pytest.mark.unit
def test_all_mistakes_in_the_settings_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        TimeBudget(0, warmup_share=1.0, decay='exponential', final_share=2, clock='sun')
    assert caught.value.messages == [
        "`TimeBudget.seconds` must be greater than 0, not 0",
        "`TimeBudget.warmup_share` must be at least 0 and below 1, not 1.0",
        "`TimeBudget.decay` is 'exponential': choose one of cosine, linear, none",
        "`TimeBudget.final_share` must lie between 0 and 1, not 2",
        "`TimeBudget.clock` is 'sun': choose one of wall, cpu",
    ]

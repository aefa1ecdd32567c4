# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the run record, with a tiny NeMo model that is really trained, stopped and resumed."""

import json
import time

import lightning.pytorch as pl
import pytest
import tiny
import torch

from nemo_oracle_kd.callbacks import RunRecord, TimeBudget
from nemo_oracle_kd.callbacks.run_record import read_rows
from nemo_oracle_kd.callbacks.training_clock import TrainingClock
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.folder_lock import FolderBusy, locked


def trainer_with(folder, callbacks, **options):
    options = {'limit_val_batches': 1.0, 'num_sanity_val_steps': 1, **options}
    return tiny.trainer(callbacks=callbacks, default_root_dir=str(folder), **options)


class LossesByHand(pl.Callback):
    """Keeps every training loss."""

    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs['loss']))


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
    return tiny.write_tone_corpus(tmp_path_factory.mktemp('corpus'), count=6)


def build(manifest, trainer, learning_rate=1e-2):
    config = tiny.ctc_config(manifest, manifest, batch_size=2, learning_rate=learning_rate)
    return tiny.ctc_model(config, trainer)


@pytest.mark.unit
def test_clock_stands_still_while_stopped_and_goes_on_from_what_was_measured_before():
    clock = TrainingClock()
    clock.set(5.0)
    clock.start()
    clock.start()
    time.sleep(0.05)
    clock.stop()
    stopped = clock.seconds
    time.sleep(0.05)
    assert clock.seconds == stopped and 5.05 <= stopped < 5.5


@pytest.mark.unit
def test_the_cpu_clock_counts_work_and_not_sleep():
    clock = TrainingClock('cpu')
    clock.start()
    time.sleep(0.3)
    slept = clock.seconds
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert slept < 0.1 and 0.1 <= clock.seconds - slept < 0.2


@pytest.mark.integration
def test_seconds_of_the_processor_leave_out_the_time_in_which_a_training_waits(tmp_path, manifest):
    class Waiting(pl.Callback):
        def on_before_optimizer_step(self, *args, **keywords):
            time.sleep(0.3)

    record, budget = RunRecord(str(tmp_path), clock='cpu'), TimeBudget(1000.0, clock='cpu')
    trainer = trainer_with(tmp_path, [record, budget, Waiting()], max_steps=4, limit_val_batches=0)
    model = build(manifest, trainer)
    before = time.monotonic()
    trainer.fit(model)
    whole = time.monotonic() - before
    for clock in (record.clock, budget.clock):
        assert 0 < clock.seconds < whole - 1.1  # four waits of 0.3 s
    assert json.loads(record.run_path.read_text())['train_seconds'] == pytest.approx(record.clock.seconds, abs=0.1)


@pytest.mark.integration
def test_record_holds_one_line_per_validation_with_the_mean_loss_and_a_summary_at_the_end(tmp_path, manifest):
    record, by_hand = RunRecord(str(tmp_path / 'run'), every_n_updates=None), LossesByHand()
    trainer = trainer_with(tmp_path, [record, by_hand], max_steps=9)
    model = build(manifest, trainer)
    trainer.fit(model)
    rows = read_rows(tmp_path / 'run' / 'curve.jsonl')
    assert [row['update'] for row in rows] == [3, 6, 9]  # 6 utterances in batches of 2; the sanity check leaves none
    assert [row['epoch'] for row in rows] == [0, 1, 2]
    for row, start in zip(rows, (0, 3, 6)):
        assert row['train_loss'] == pytest.approx(sum(by_hand.losses[start : start + 3]) / 3, rel=1e-5)
        assert row['val_loss'] > 0 and row['val_wer'] >= 0
    assert rows[0]['seconds'] <= rows[1]['seconds'] <= rows[2]['seconds']
    summary = json.loads((tmp_path / 'run' / 'run.json').read_text())
    assert summary['parameters'] == sum(p.numel() for p in model.parameters()) == summary['trainable_parameters']
    assert summary['updates'] == 9 and summary['epochs'] == 3
    assert summary['train_seconds'] >= rows[-1]['seconds'] > 0
    assert summary['last_val_wer'] == rows[-1]['val_wer']
    assert summary['best_val_wer'] == min(row['val_wer'] for row in rows)


@pytest.mark.integration
def test_seconds_are_those_of_training_without_validation(tmp_path, manifest):
    class SlowValidation(pl.Callback):
        def on_validation_batch_end(self, *args, **keywords):
            time.sleep(0.3)

    record = RunRecord(str(tmp_path / 'run'))
    trainer = trainer_with(tmp_path, [record, SlowValidation()], max_steps=6)
    model = build(manifest, trainer)
    before = time.monotonic()
    trainer.fit(model)
    whole = time.monotonic() - before
    assert record.clock.seconds < whole - 1.5  # two validations of three batches and more waited 0.3 s each


@pytest.mark.integration
def test_lines_between_validations_show_progress(tmp_path, manifest):
    record = RunRecord(str(tmp_path / 'run'), every_n_updates=2)
    trainer = trainer_with(tmp_path, [record], max_steps=6, limit_val_batches=0)
    trainer.fit(build(manifest, trainer))
    rows = read_rows(record.curve_path)
    assert [(row['update'], row['max_updates']) for row in rows] == [(2, 6), (4, 6), (6, 6)]
    assert all(row['train_loss'] > 0 and 'val_wer' not in row for row in rows)


@pytest.mark.integration
def test_a_resumed_run_drops_what_it_trains_again_and_keeps_the_seconds(tmp_path, manifest):
    first = RunRecord(str(tmp_path / 'run'), every_n_updates=1)
    trainer = trainer_with(tmp_path, [first], max_steps=4, limit_val_batches=0)
    trainer.fit(build(manifest, trainer))
    trainer.save_checkpoint(tmp_path / 'at_4.ckpt')
    with open(first.curve_path, 'a') as stream:  # what a run that was killed after its last checkpoint leaves behind
        stream.write(json.dumps({'update': 5, 'train_loss': -1.0}) + '\n' + '{"update": 6, "tr')
    state = torch.load(tmp_path / 'at_4.ckpt', weights_only=False)['callbacks']
    saved = next(value for key, value in state.items() if 'RunRecord' in key)['seconds']

    second = RunRecord(str(tmp_path / 'run'), every_n_updates=1)
    trainer = trainer_with(tmp_path, [second], max_steps=6, limit_val_batches=0)
    trainer.fit(build(manifest, trainer), ckpt_path=str(tmp_path / 'at_4.ckpt'))
    rows = read_rows(second.curve_path)
    assert [row['update'] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[4]['train_loss'] > 0
    assert json.loads(second.run_path.read_text())['train_seconds'] > saved > 0


@pytest.mark.unit
def test_bad_settings_are_refused_in_a_sentence():
    with pytest.raises(ConfigError, match='every_n_updates'):
        RunRecord(every_n_updates=0)
    with pytest.raises(ConfigError, match="RunRecord.clock` is 'sun': choose one of wall, cpu"):
        RunRecord(clock='sun')


@pytest.mark.integration
def test_nemo_builds_both_callbacks_from_a_recipe(tmp_path):
    from nemo.utils.trainer_utils import resolve_trainer_cfg
    from omegaconf import OmegaConf

    import nemo_oracle_kd  # noqa: F401 - registers the package with NeMo

    config = OmegaConf.create(
        {
            'devices': 1,
            'callbacks': [
                {'_target_': 'nemo_oracle_kd.callbacks.RunRecord', 'directory': str(tmp_path)},
                {'_target_': 'nemo_oracle_kd.callbacks.TimeBudget', 'seconds': 5},
            ],
        }
    )
    record, budget = resolve_trainer_cfg(config)['callbacks']
    assert isinstance(record, RunRecord) and record.directory == str(tmp_path)
    assert budget.seconds == 5.0


@pytest.mark.integration
def test_two_trainings_cannot_write_one_record_at_a_time_but_one_after_the_other(tmp_path, manifest):
    record = RunRecord(str(tmp_path / 'record'), every_n_updates=1)

    class AnotherTraining(pl.Callback):
        """Starts a second training into the same folder in the middle of the first."""

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            second = trainer_with(tmp_path / 'second', [RunRecord(str(tmp_path / 'record'))], max_steps=1)
            with pytest.raises(FolderBusy, match='another training writes its record into .*give RunRecord another'):
                second.fit(build(manifest, second))

    trainer = trainer_with(tmp_path / 'first', [record, AnotherTraining()], max_steps=1)
    trainer.fit(build(manifest, trainer))
    lines = read_rows(tmp_path / 'record' / 'curve.jsonl')
    assert [row['update'] for row in lines][:1] == [1] and (tmp_path / 'record' / 'run.json').is_file()
    after = trainer_with(tmp_path / 'after', [RunRecord(str(tmp_path / 'record'))], max_steps=2)
    after.fit(build(manifest, after))
    assert json.loads((tmp_path / 'record' / 'run.json').read_text())['updates'] == 2


@pytest.mark.integration
def test_a_training_that_fails_leaves_the_folder_free(tmp_path, manifest):
    class Fails(pl.Callback):
        def on_train_batch_end(self, *arguments):
            raise RuntimeError('out of memory')

    trainer = trainer_with(tmp_path, [RunRecord(str(tmp_path / 'record')), Fails()], max_steps=1)
    with pytest.raises(RuntimeError, match='out of memory'):
        trainer.fit(build(manifest, trainer))
    with locked(tmp_path / 'record', 'still held'):
        pass

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Batches with a share of supervised rows: exact shares, one pass per epoch, processes, epochs, and real training."""

import json

import lightning.pytorch as pl
import numpy as np
import pytest
import tiny
from omegaconf import open_dict

from nemo_oracle_kd.bridge.rows.batch import UtteranceRows
from nemo_oracle_kd.bridge.rows.shares import LoaderBatches, give_back
from nemo_oracle_kd.distillation.data.shares import MixedBatchSampler, set_supervised_share
from nemo_oracle_kd.errors import ConfigError

SUPERVISED, UNSUPERVISED = list(range(100, 107)), list(range(53))


def sampler(share=0.3, batch_size=4, seed=0, **options):
    return MixedBatchSampler(SUPERVISED, UNSUPERVISED, share, LoaderBatches(batch_size, **options), seed)


def flags(rows):
    return [row['supervised'] for row in rows]


def epochs(made, count):
    found = []
    for epoch in range(count):
        made.set_epoch(epoch)
        found.append(list(made))
    return found


def counts(batches):
    return [sum(index >= 100 for index in batch) for batch in batches]


@pytest.mark.parametrize('share', [0.02, 0.1, 0.25, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize('drop_last', [False, True])
def test_the_share_is_exact_in_the_long_run_and_off_by_less_than_one_row_anywhere(share, drop_last):
    made = sampler(share, batch_size=6, drop_last=drop_last)
    found = counts(sum(epochs(made, 40), []))
    due = share * 6 * np.arange(1, len(found) + 1)
    assert np.abs(np.cumsum(found) - due).max() <= 0.5 + 1e-6
    assert set(found) <= {int(share * 6), int(share * 6) + 1}


@pytest.mark.parametrize('share', [0.1, 0.3, 0.9])
@pytest.mark.parametrize('ranks', [1, 3])
def test_an_epoch_is_one_pass_over_the_unsupervised_rows_in_full_batches(share, ranks):
    parts = [epochs(sampler(share, rank=rank, processes=ranks), 12) for rank in range(ranks)]
    length = len(sampler(share, processes=ranks))
    for epoch in range(12):
        batches = sum((part[epoch] for part in parts), [])
        assert all(len(part[epoch]) == length for part in parts) and {len(batch) for batch in batches} == {4}
        rows = [index for batch in batches for index in batch if index < 100]
        assert set(rows) == set(UNSUPERVISED)
        # what fills up the last batches of all processes, and no more
        assert len(rows) - len(UNSUPERVISED) < 4 * ranks + 1


def test_with_drop_last_no_row_comes_twice_and_less_than_a_round_of_batches_is_left_out():
    for ranks in (1, 3):
        parts = [epochs(sampler(0.3, rank=rank, processes=ranks, drop_last=True), 6) for rank in range(ranks)]
        for epoch in range(6):
            rows = [index for part in parts for batch in part[epoch] for index in batch if index < 100]
            assert len(set(rows)) == len(rows) > len(UNSUPERVISED) - 4 * ranks - 1


def test_supervised_rows_go_round_each_as_often_as_the_others():
    stream = [index for batches in epochs(sampler(0.3), 20) for batch in batches for index in batch if index >= 100]
    turns = [tuple(stream[n : n + 7]) for n in range(0, len(stream) - 6, 7)]
    assert all(sorted(turn) == SUPERVISED for turn in turns) and len(set(turns)) > len(turns) / 2


def test_batches_depend_on_seed_and_epoch_alone():
    first = epochs(sampler(seed=1), 3)
    again = sampler(seed=1)
    again.set_epoch(2)
    assert list(again) == first[2] and list(again) == first[2]
    assert first[0] != first[1] and epochs(sampler(seed=2), 1)[0] != first[0]
    ordered = sampler(0.25, shuffle=False)
    assert next(iter(ordered)) == [100, 0, 1, 2]


def test_wrong_shares_and_missing_rows_are_refused_with_the_fix():
    for share in (0, 1, -0.1, 1.5, float('nan'), True, '0.1'):
        with pytest.raises(ConfigError, match='supervised_share is .*: set a number between 0 and 1'):
            sampler(share)
    with pytest.raises(ConfigError, match='no row of model.train_ds is marked "supervised": true'):
        MixedBatchSampler([], UNSUPERVISED, 0.1, LoaderBatches(4))
    with pytest.raises(ConfigError, match='no row of model.train_ds is not marked'):
        MixedBatchSampler(SUPERVISED, [], 0.1, LoaderBatches(4))
    with pytest.raises(ConfigError, match='53 unsupervised rows fill no batch of 64: .*drop_last=false'):
        MixedBatchSampler(SUPERVISED, UNSUPERVISED, 0.1, LoaderBatches(64, drop_last=True))
    assert len(MixedBatchSampler(SUPERVISED, UNSUPERVISED, 0.1, LoaderBatches(64))) == 1


# -- with models and loaders ------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def manifests(tmp_path_factory):
    """Paths of 5 supervised and 20 other rows."""
    folder = tmp_path_factory.mktemp('shares')
    rows = [json.loads(line) for line in tiny.write_tone_corpus(folder, 'all', 25).read_text().splitlines()]
    paths = []
    for name, part in (('true', rows[:5]), ('scored', rows[5:])):
        for row in part:
            row['supervised'] = name == 'true'
        paths.append(folder / f'{name}.jsonl')
        paths[-1].write_text(''.join(json.dumps(row) + '\n' for row in part))
    return [str(path) for path in paths]


def config_of(manifests, **options):
    config = tiny.ctc_config('unused', batch_size=5)
    with open_dict(config):
        config.train_ds.update(manifest_filepath=manifests, **options)
    return config


class Recorder(pl.Callback):
    """Sets the share as the distillation does, and keeps which rows each batch held."""

    def __init__(self, share):
        self.share, self.batches = share, []

    def setup(self, trainer, pl_module, stage):
        self.rows = UtteranceRows.attach(pl_module)
        set_supervised_share(pl_module, self.share, flags(self.rows), seed=3)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append([(row['supervised'], row['audio_filepath']) for row in self.rows.of_batch()])


@pytest.mark.parametrize('workers', [0, 2])
def test_training_sees_the_share_in_every_batch_and_every_row_in_every_epoch(manifests, workers):
    recorder = Recorder(0.2)
    trainer = tiny.trainer(-1, max_epochs=2, callbacks=[recorder])
    trainer.fit(tiny.ctc_model(config_of(manifests, num_workers=workers), trainer))
    assert trainer.global_step == 10 and trainer.num_training_batches == 5
    assert all(sum(flag for flag, _ in batch) == 1 and len(batch) == 5 for batch in recorder.batches)
    passes = [
        sorted(path for batch in recorder.batches[begin : begin + 5] for flag, path in batch if not flag)
        for begin in (0, 5)
    ]
    assert passes[0] == passes[1] and len(set(passes[0])) == 20
    assert recorder.batches[:5] != recorder.batches[5:]  # Lightning told the epoch


class Saver(pl.Callback):
    def __init__(self, folder, steps):
        self.folder, self.steps = folder, steps

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step in self.steps:
            trainer.save_checkpoint(self.folder / f'{trainer.global_step}.ckpt', weights_only=False)


def train(manifests, max_epochs=3, ckpt_path=None, callbacks=(), workers=0):
    recorder = Recorder(0.3)
    trainer = tiny.trainer(-1, max_epochs=max_epochs, callbacks=[recorder, *callbacks])
    model = tiny.ctc_model(config_of(manifests, num_workers=workers), trainer)
    trainer.fit(model, ckpt_path=ckpt_path and str(ckpt_path))
    assert trainer.current_epoch == max_epochs
    return trainer, recorder.batches


def test_a_resumed_training_goes_on_with_the_batch_that_is_due(manifests, tmp_path):
    _, whole = train(manifests, callbacks=[Saver(tmp_path, (2, 8))])
    assert len(whole) == 18
    for step, workers in ((2, 0), (8, 2)):
        _, resumed = train(manifests, ckpt_path=tmp_path / f'{step}.ckpt', workers=workers)
        assert resumed == whole[step - 1 :]  # Lightning repeats the batch at whose end a callback saved
    trainer, first = train(manifests, max_epochs=1)
    trainer.save_checkpoint(tmp_path / 'epoch.ckpt', weights_only=False)
    _, resumed = train(manifests, ckpt_path=tmp_path / 'epoch.ckpt')
    assert first + resumed == whole


def test_a_learning_rate_schedule_finds_the_batch_size(manifests):
    config = config_of(manifests)
    with open_dict(config):
        config.optim.sched = {'name': 'CosineAnnealing', 'warmup_steps': 1}
    trainer = tiny.trainer(-1, max_epochs=1, callbacks=[Recorder(0.2)])
    trainer.fit(tiny.ctc_model(config, trainer))
    assert trainer.global_step == 5


def test_other_loaders_are_refused_with_the_fix(manifests):
    concat = {'is_concat': True, 'concat_sampling_technique': 'round-robin'}
    semi_sorted = {'use_semi_sorted_batching': True, 'randomization_factor': 0.1, 'drop_last': False}
    for options, sentence in (
        ({'use_lhotse': True}, 'a `weight` each in model.train_ds.input_cfg'),
        (concat, 'concat_sampling_probabilities, or list the manifests without is_concat'),
        (semi_sorted, 'use_semi_sorted_batching=false'),
    ):
        # Lhotse takes several manifests as sources with weights only
        model = tiny.ctc_model(config_of(manifests if 'use_lhotse' not in options else manifests[0], **options))
        with pytest.raises(ConfigError, match=sentence):
            set_supervised_share(model, 0.1, flags(UtteranceRows.attach(model)))
    trainer = tiny.trainer(1, overfit_batches=1)
    model = tiny.ctc_model(config_of(manifests), trainer)
    with pytest.raises(ConfigError, match='trainer.overfit_batches: set it to 0'):
        set_supervised_share(model, 0.1, flags(UtteranceRows.attach(model)))


def test_the_loader_that_was_replaced_comes_back(manifests):
    model = tiny.ctc_model(config_of(manifests, drop_last=True))
    before = model._train_dl
    rows = UtteranceRows.attach(model)
    assert set_supervised_share(model, 0.2, flags(rows)) is before
    assert model._train_dl.sampler.drop_last and len(next(iter(model._train_dl))[0]) == 5
    give_back(model, before)
    assert model._train_dl is before

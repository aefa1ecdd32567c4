# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Rows of a batch: with every loader of NeMo, each row is that of the audio and the labels beside it."""

import json
import tarfile
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import tiny
import torch
from omegaconf import open_dict

from nemo_oracle_kd.bridge.rows.batch import UtteranceRows
from nemo_oracle_kd.bridge.rows.manifests import training_manifests
from nemo_oracle_kd.errors import ConfigError


def write_rows(path, rows):
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')
    return path


def read_rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding='utf-8').splitlines()]


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    """Manifest of 16 rows with scores; `utt` tells the rows apart."""
    folder = tmp_path_factory.mktemp('rows')
    rows = read_rows(tiny.write_tone_corpus(folder, 'all', 16, seed=3))
    for number, row in enumerate(rows):
        row.update(utt=f'u{number}', teacher_log_prob=-1.5 * number, teacher_nbest=[{'text': row['text']}])
    return write_rows(folder / 'scored.jsonl', rows)


class Witness(pl.Callback):
    """Attaches rows, and compares every batch with what its rows say."""

    def __init__(self):
        self.seen = []
        self.sizes = set()

    def setup(self, trainer, pl_module, stage):
        self.rows = UtteranceRows.attach(pl_module)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.sizes.add(len(batch))
        signal, signal_length, tokens, token_length = batch
        rows = self.rows.of_batch()
        assert len(rows) == len(signal)
        for b, row in enumerate(rows):
            assert ''.join(tiny.LABELS[i] for i in tokens[b, : token_length[b]].long()) == row['text'].lower()
            self.seen.append((row, signal[b, : signal_length[b]].numpy()))

    def on_fit_end(self, trainer, pl_module):
        self.rows.detach()


def same_audio(row, signal, folder=''):
    start = round((row.get('offset') or 0.0) * tiny.SAMPLE_RATE)
    audio, _ = soundfile.read(str(Path(folder) / row['audio_filepath']), start=start, dtype='float32')
    assert len(signal) <= len(audio)
    np.testing.assert_allclose(signal, audio[: len(signal)], atol=2e-4)


def fit(config, steps=4, model=tiny.ctc_model, **options):
    """Trains a few steps; returns what the witness saw."""
    witness = Witness()
    trainer = tiny.trainer(steps, callbacks=[witness], **options)
    trainer.fit(model(config, trainer))
    assert witness.sizes == {4} and trainer.global_step == steps
    return witness


def train_config(manifest, **options):
    config = tiny.ctc_config('unused', batch_size=options.pop('batch_size', 4))
    with open_dict(config):
        config.train_ds.update(manifest_filepath=manifest, **options)
    return config


def check(witness, folder='', every=None):
    assert witness.seen
    for row, signal in witness.seen:
        same_audio(row, signal, folder)
        assert row['teacher_log_prob'] == -1.5 * int(row['utt'][1:])
    found = {row['utt'] for row, _ in witness.seen}
    if every is not None:
        assert found == every
    return found


ALL = {f'u{n}' for n in range(16)}


@pytest.mark.parametrize('workers', [0, 2])
def test_a_native_loader_gives_the_row_of_each_utterance(corpus, workers):
    witness = fit(train_config(str(corpus), num_workers=workers))
    check(witness, every=ALL)
    assert len(witness.seen) == 16


@pytest.mark.parametrize('hybrid', [False, True])
def test_transducers_train_with_rows_too(corpus, hybrid):
    config = tiny.rnnt_config(corpus, hybrid=hybrid)
    check(fit(config, 1, model=tiny.rnnt_model, log_every_n_steps=50))


def test_rows_are_found_when_the_loader_filters_and_normalises(corpus, tmp_path):
    rows = read_rows(corpus)
    for row in rows:
        row['text'] = row['text'].upper()
    durations = sorted(row['duration'] for row in rows)
    manifest = write_rows(tmp_path / 'upper.jsonl', rows)
    limits = {'min_duration': durations[3], 'max_duration': durations[-4]}
    witness = fit(train_config(str(manifest), normalize_transcripts=True, **limits), 2)
    kept = {row['utt'] for row in rows if durations[3] <= row['duration'] <= durations[-4]}
    assert check(witness) <= kept and len(kept) == 10
    assert all(row['text'].isupper() for row, _ in witness.seen)


def test_rows_of_several_manifests_concatenated_bucketed_or_in_a_list_are_told_apart(corpus, tmp_path):
    rows = read_rows(corpus)
    first, second = write_rows(tmp_path / 'a.jsonl', rows[:6]), write_rows(tmp_path / 'b.jsonl', rows[6:])
    check(fit(train_config([str(first), str(second)])), every=ALL)
    check(fit(train_config(f'{first},{second}')), every=ALL)
    for workers in (0, 2):
        config = train_config(
            [str(first), str(second)], is_concat=True, concat_sampling_technique='round-robin', num_workers=workers
        )
        config.train_ds.update(shuffle=False, concat_shuffle=False)  # the second is a switch of its own
        found = check(fit(config))
        assert {'u0', 'u6'} <= found and any(int(name[1:]) >= 6 for name in found)


def tar_of(path, rows):
    with tarfile.open(path, 'w') as tar:
        for row in rows:
            tar.add(row['audio_filepath'], arcname=Path(row['audio_filepath']).name)
    return path


def tarred_rows(rows, shard=0):
    return [{**row, 'audio_filepath': Path(row['audio_filepath']).name, 'shard_id': shard} for row in rows]


def test_tarred_data_and_tarred_buckets_give_their_rows(corpus, tmp_path):
    rows = read_rows(corpus)
    folder = Path(rows[0]['audio_filepath']).parent
    manifests, tars = [], []
    for number, part in enumerate((rows[:7], rows[7:])):
        manifests.append([str(write_rows(tmp_path / f'tarred_{number}.jsonl', tarred_rows(part)))])
        tars.append([str(tar_of(tmp_path / f'audio_{number}.tar', part))])
    one = train_config(manifests[0][0], is_tarred=True, tarred_audio_filepaths=tars[0][0], max_duration=1.2)
    check(fit(one, 1), folder)
    buckets = {'is_tarred': True, 'tarred_audio_filepaths': tars}
    check(fit(train_config(manifests, **buckets)), folder, every=ALL)
    adaptive = train_config(manifests, **buckets, bucketing_batch_size=[4, 3], bucketing_weights=[1, 2], batch_size=1)
    check(fit(adaptive, 8), folder, every=ALL)
    concat = train_config(
        [entry[0] for entry in manifests],
        is_tarred=True,
        tarred_audio_filepaths=[entry[0] for entry in tars],
        is_concat=True,
        concat_sampling_technique='round-robin',
    )
    found = check(fit(concat, 4), folder)
    assert any(int(name[1:]) < 7 for name in found) and any(int(name[1:]) >= 7 for name in found)


#: tarred data are repeated without end, and Lhotse fills its buffer before it gives the first batch
LHOTSE = {'use_lhotse': True, 'shuffle': True, 'shuffle_buffer_size': 32, 'seed': 1}


@pytest.mark.parametrize(
    'options',
    [
        {'batch_size': 4},
        {'batch_duration': 4.0, 'use_bucketing': True, 'num_buckets': 2, 'bucket_buffer_size': 16, 'num_workers': 2},
    ],
    ids=['fixed batches', 'dynamic bucketing'],
)
def test_lhotse_gives_the_rows_of_its_cuts(corpus, options):
    config = train_config(str(corpus), **LHOTSE, **{'batch_size': None, **options})
    check(fit(config, use_distributed_sampler=False))


def test_tags_of_lhotse_are_in_the_rows(corpus):
    config = train_config(None, **LHOTSE)
    with open_dict(config):
        source = {'type': 'nemo', 'manifest_filepath': str(corpus), 'tags': {'supervised': True}}
        config.train_ds.update(input_cfg=[source], manifest_filepath=None)
    witness = fit(config, 2, use_distributed_sampler=False)
    assert check(witness) and all(row['supervised'] is True for row, _ in witness.seen)


def test_lhotse_gives_the_rows_of_tarred_data(corpus, tmp_path):
    rows = read_rows(corpus)
    for number, part in enumerate((rows[:8], rows[8:])):
        write_rows(tmp_path / f'manifest_{number}.json', tarred_rows(part, number))
        tar_of(tmp_path / f'audio_{number}.tar', part)
    config = train_config(
        f'{tmp_path}/manifest__OP_0..1_CL_.json', **LHOTSE, tarred_audio_filepaths=f'{tmp_path}/audio__OP_0..1_CL_.tar'
    )
    witness = fit(config, use_distributed_sampler=False, limit_train_batches=4)
    check(witness, Path(rows[0]['audio_filepath']).parent)
    files = training_manifests(config.train_ds).files
    assert [Path(path).name for path in files] == ['manifest_0.json', 'manifest_1.json']


def test_rows_of_the_same_audio_are_told_apart_by_offset_by_text_and_else_by_line(corpus, tmp_path):
    row = read_rows(corpus)[0]
    rows = [
        {**row, 'utt': 'u0'},
        {**row, 'utt': 'u1', 'text': 'a b', 'teacher_log_prob': -1.5},
        {**row, 'utt': 'u2', 'teacher_log_prob': -3.0, 'offset': 0.1, 'duration': row['duration'] - 0.1},
        {**row, 'utt': 'u3', 'teacher_log_prob': -4.5},  # as the first, with another score
    ]
    manifest = write_rows(tmp_path / 'same.jsonl', rows)
    witness = fit(train_config(str(manifest), batch_size=2), 2)
    check(witness, every={'u0', 'u1', 'u2', 'u3'})
    halves = [write_rows(tmp_path / f'{n}.jsonl', rows[n : n + 1]) for n in (0, 3)]
    config = train_config(
        [str(path) for path in halves], is_concat=True, concat_sampling_technique='round-robin', batch_size=2
    )
    assert {row['utt'] for row, _ in fit(config, 1).seen} == {'u0', 'u3'}
    nested = train_config(
        [f'{halves[0]},{halves[1]}', str(corpus)], is_concat=True, concat_sampling_technique='round-robin'
    )
    model = tiny.ctc_model(nested)
    nested.train_ds.manifest_filepath = [str(halves[0]), str(halves[1]), str(corpus)]
    model.cfg = nested  # no longer what the loader was made from
    with pytest.raises(ConfigError, match='several rows .* keep one row per utterance'):
        UtteranceRows.attach(model)


def test_a_manifest_that_changed_since_the_loader_was_made_is_refused(corpus, tmp_path):
    rows = read_rows(corpus)
    manifest = write_rows(tmp_path / 'changing.jsonl', rows)
    model = tiny.ctc_model(train_config(str(manifest)))
    write_rows(manifest, rows[1:])
    with pytest.raises(ConfigError, match='no row .* do not change the manifest'):
        UtteranceRows.attach(model)


def test_detaching_leaves_model_and_loader_as_they_were(corpus):
    manifests = [str(corpus), str(corpus)]
    for config in (
        train_config(str(corpus)),
        train_config(manifests, is_concat=True, concat_sampling_technique='round-robin'),
        train_config(str(corpus), **LHOTSE),
    ):
        model = tiny.ctc_model(config)
        state = dict(vars(model))
        parts = getattr(model._train_dl.dataset, 'datasets', [model._train_dl.dataset])
        before = [dict(vars(part)) for part in parts]
        rows = UtteranceRows.attach(model)
        assert len(next(iter(model._train_dl))) == 5
        rows.detach()
        parts = [getattr(part, 'dataset', part) for part in parts]
        assert [dict(vars(part)) for part in parts] == before and dict(vars(model)) == state
        assert len(next(iter(model._train_dl))) == 4
        rows.detach()


def test_loader_workers_that_outlive_an_epoch_are_told(corpus):
    config = train_config(str(corpus), **LHOTSE, num_workers=1, force_iterable_dataset=True)
    model = tiny.ctc_model(config, tiny.trainer(limit_train_batches=2))
    assert model._train_dl.persistent_workers and len(next(iter(model._train_dl))) == 4
    rows = UtteranceRows.attach(model)
    assert len(next(iter(model._train_dl))) == 5
    rows.detach()
    assert len(next(iter(model._train_dl))) == 4


def test_data_that_nemo_sets_up_late_and_loaders_given_to_fit_are_found(corpus):
    check(fit(train_config(str(corpus), defer_setup=True)), every=ALL)
    other = tiny.ctc_model(train_config(str(corpus)))._train_dl
    witness = Witness()
    trainer = tiny.trainer(4, callbacks=[witness])
    trainer.fit(tiny.ctc_model(train_config(str(corpus)), trainer), other)
    check(witness, every=ALL)


def test_validation_batches_pass_untouched_and_leave_the_training_rows_alone(corpus):
    config = train_config(str(corpus))
    with open_dict(config):
        config.validation_ds = {**config.train_ds, 'shuffle': False}
    witness = fit(config, 4, limit_val_batches=2, val_check_interval=1, num_sanity_val_steps=1)
    check(witness, every=ALL)


def test_data_that_cannot_be_traced_are_refused_in_one_sentence(corpus):
    model = tiny.ctc_model(train_config(str(corpus)))
    with pytest.raises(RuntimeError, match='no training batch'):
        UtteranceRows.attach(model).of_batch()
    model._train_dl = torch.utils.data.DataLoader([1, 2, 3])
    with pytest.raises(ConfigError, match='makes a list, whose batches .* use_dali, hf_data_cfg, is_code_switched'):
        UtteranceRows.attach(model)
    model._train_dl = None
    with pytest.raises(ConfigError, match='set `model.train_ds`'):
        UtteranceRows.attach(model)


def test_a_batch_of_another_loader_is_refused(corpus):
    model = tiny.ctc_model(train_config(str(corpus)))
    rows = UtteranceRows.attach(model)
    batch = next(iter(model._train_dl))
    assert len(model.on_before_batch_transfer(batch, 0)) == 4 and len(rows.of_batch()) == 4
    with pytest.raises(RuntimeError, match='comes from a loader other than the one that was set up'):
        model.on_before_batch_transfer(batch[:4], 0)


def test_utterances_that_lhotse_joins_or_cuts_are_refused(corpus, tmp_path):
    joined = {'concatenate_samples': True, 'db_norm': None}
    for options in (joined, {'cut_into_windows_duration': 0.5}, {'truncate_duration': 0.5}):
        model = tiny.ctc_model(train_config(str(corpus), **LHOTSE, **options))
        with pytest.raises(ConfigError, match=f'model.train_ds.{next(iter(options))}` joins or cuts utterances'):
            UtteranceRows.attach(model)
    rows = read_rows(corpus)
    noise = write_rows(tmp_path / 'noise.json', [{**rows[3], 'text': 'a'}])
    model = tiny.ctc_model(train_config(str(corpus), **LHOTSE, noise_path=str(noise), noise_mix_prob=1.0))
    rows = UtteranceRows.attach(model)
    with pytest.raises(ValueError, match='holds several transcripts, .*a noise manifest must have no `text`'):
        rows.take(next(iter(model._train_dl)))


def test_noise_mixed_in_by_lhotse_does_not_hide_the_row(corpus, tmp_path):
    rows = read_rows(corpus)
    noise = write_rows(tmp_path / 'noise.json', [{key: rows[3][key] for key in ('audio_filepath', 'duration')}])
    config = train_config(str(corpus), **LHOTSE, noise_path=str(noise), noise_mix_prob=1.0, noise_snr=[20.0, 20.0])
    witness = fit(config, use_distributed_sampler=False)
    for row, _ in witness.seen:
        assert row['teacher_log_prob'] == -1.5 * int(row['utt'][1:])


def test_manifests_are_found_in_every_form_that_nemo_takes(corpus, tmp_path):
    first, second = str(corpus), str(write_rows(tmp_path / 'b.jsonl', read_rows(corpus)[:1]))

    def found(**config):
        manifests = training_manifests(config)
        return tuple(source.files for source in manifests.sources), manifests.complete

    assert found(manifest_filepath=first) == (((first,),), True)
    assert found(manifest_filepath=[[first], [second]]) == (((first,), (second,)), True)
    assert found(manifest_filepath=[[first, 0.3], [second, 0.7]]) == (((first,), (second,)), True)
    several = {
        'one': {'manifest_filepath': first},
        'two': {'manifest_filepath': second},
        'sampler_weights': {'one': 0.1},
    }
    assert found(multi_config=True, **several) == (((first,), (second,)), True)
    assert found(shar_path='x') == ((), False)
    weighted = [{'type': 'nemo', 'manifest_filepath': first, 'weight': 0.1}]
    group = {'type': 'group', 'input_cfg': [{'type': 'nemo', 'manifest_filepath': second}]}
    assert found(input_cfg=weighted + [group]) == (((first,), (second,)), True)
    assert found(input_cfg=weighted + [{'type': 'lhotse_shar', 'shar_path': 'x'}]) == (((first,),), False)

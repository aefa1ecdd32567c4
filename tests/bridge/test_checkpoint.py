# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Lightning checkpoints as teachers: config and weights are read as data, and the model is that of the `.nemo` file."""

import os

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from nemo.collections.asr.models import EncDecCTCModel
from nemo.utils.app_state import AppState
from omegaconf import OmegaConf, open_dict

from nemo_oracle_kd.bridge.restore import check_source, model_file, restore_frozen
from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import model_fingerprint


def _train(folder, config, cls=None, callbacks=()):
    """A checkpoint as a training leaves it, with optimizer, schedule and callbacks, and the same model as a `.nemo` file."""
    with open_dict(config):
        config.optim.sched = {'name': 'CosineAnnealing', 'warmup_steps': 1, 'min_lr': 1e-6}
    keep = ModelCheckpoint(folder, filename='best', monitor='val_loss', save_last=True)
    options = {'enable_checkpointing': True, 'limit_val_batches': 1, 'log_every_n_steps': 1, 'max_epochs': 1}
    trainer = tiny.trainer(2, callbacks=[keep, *callbacks], **options)
    make = tiny.ctc_model if 'joint' not in config else tiny.rnnt_model
    model = make(config, trainer, cls)
    trainer.fit(model)
    model.save_to(str(folder / 'model.nemo'))
    return folder / 'last.ckpt', folder / 'model.nemo'


@pytest.fixture(scope='module')
def trained(tone_corpus, tone_teacher, tmp_path_factory):
    """A distilled student: `last.ckpt` and `model.nemo`."""
    callback = KnowledgeDistillation({'restore_from': str(tone_teacher)}, {'frame_kl': {}})
    config = tiny.ctc_config(tone_corpus, tone_corpus, hidden=16)
    return _train(tmp_path_factory.mktemp('trained'), config, callbacks=[callback])


@pytest.mark.integration
def test_a_checkpoint_is_the_same_teacher_as_the_nemo_file(trained, tone_corpus, capsys):
    checkpoint, archive = (str(path) for path in trained)
    before, stream = dict(vars(AppState())), torch.random.get_rng_state()
    model, other = restore_frozen(checkpoint), restore_frozen(archive)
    assert vars(AppState()) == before and torch.equal(torch.random.get_rng_state(), stream)
    assert type(model) is type(other) and not model.training and not any(p.requires_grad for p in model.parameters())
    assert model._train_dl is None and 'train_ds' not in model.cfg
    assert str(model_fingerprint(model)) == str(model_fingerprint(other))
    losses = []
    for source in (checkpoint, archive):
        callback = KnowledgeDistillation({'restore_from': source}, {'frame_kl': {}})
        trainer = tiny.trainer(1, callbacks=[callback], log_every_n_steps=1)
        config = tiny.ctc_config(tone_corpus, hidden=16)
        config.preprocessor.dither = 0.0
        trainer.fit(tiny.ctc_model(config, trainer, seed=1))
        losses.append(float(trainer.logged_metrics['train/kd/frame_kl']))
    assert losses[0] == losses[1] > 0
    assert main(['check', archive, checkpoint]) == 0
    assert 'ready to distil frame_kl' in capsys.readouterr().out
    assert main(['evaluate', checkpoint, '--manifest', str(tone_corpus)]) == 0
    assert 'WER' in capsys.readouterr().out


@pytest.mark.integration
def test_a_checkpoint_of_sub_words_needs_its_tokenizer_where_it_was(tone_corpus, tmp_path):
    from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel

    folder = tiny.train_tokenizer(tmp_path / 'tokenizer')
    config = tiny.with_tokenizer(tiny.rnnt_config(tone_corpus, tone_corpus, hybrid=True, hidden=16, stride=4), folder)
    checkpoint, archive = _train(tmp_path, config, EncDecHybridRNNTCTCBPEModel)
    model, other = restore_frozen(str(checkpoint)), restore_frozen(str(archive))
    assert str(model_fingerprint(model, 'ctc')) == str(model_fingerprint(other, 'ctc'))
    folder.rename(tmp_path / 'moved')
    with pytest.raises(ConfigError, match='needs its tokenizer, which a checkpoint does not hold'):
        restore_frozen(str(checkpoint))


@pytest.mark.integration
def test_what_is_no_checkpoint_of_a_model_is_one_sentence(trained, tmp_path, capsys):
    sound = torch.load(trained[0], weights_only=False)
    weights, config = sound['state_dict'], sound['hyper_parameters']
    contents = {
        'not a checkpoint of a NeMo model': {'state_dict': weights},
        'is not a checkpoint': [1],
        'do not fit its configuration': {'state_dict': dict(list(weights.items())[1:]), 'hyper_parameters': config},
        'cannot be built': {
            'state_dict': weights,
            'hyper_parameters': {**config, 'cfg': {**config.cfg, 'decoder': {}}},
        },
    }
    path = tmp_path / 'other.ckpt'
    for sentence, content in contents.items():
        torch.save(content, path)
        with pytest.raises(ConfigError, match=sentence):
            restore_frozen(str(path))
        assert main(['check', str(trained[1]), str(path)]) == 2
        assert sentence in capsys.readouterr().err
    for content, sentence in ((b'', 'is empty'), (b'half', 'cannot be read as a Lightning checkpoint')):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=sentence):
            check_source(str(path))
    path.write_bytes(trained[0].read_bytes()[:-2000])
    with pytest.raises(ValueError, match='cannot be read as a'):
        restore_frozen(str(path))
    with pytest.raises(FileNotFoundError, match='no model at'):
        restore_frozen('gone.ckpt')
    with pytest.raises(ValueError, match='give the .nemo file here'):
        model_file(str(trained[0]))


class _Shell:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


class _Ours(_Shell):
    def __reduce__(self):
        from nemo_oracle_kd.corpus.outputs import write_text_atomically

        return write_text_atomically, (self.marker, 'evil')


@pytest.mark.integration
@pytest.mark.parametrize('place', ['callbacks', 'state_dict', 'config', 'top'])
@pytest.mark.parametrize('kind', [_Shell, _Ours])
def test_a_malicious_checkpoint_runs_nothing(kind, place, trained, tmp_path):
    content, marker = torch.load(trained[0], weights_only=False), tmp_path / 'marker'
    evil = kind(str(marker))
    if place == 'top':
        content = evil
    elif place == 'config':
        content['hyper_parameters'] = {
            'cfg': {**OmegaConf.to_container(content['hyper_parameters'].cfg), 'labels': evil}
        }
    else:
        content[place] = {**content[place], 'evil': evil}
    path = tmp_path / 'evil.ckpt'
    torch.save(content, path)
    if kind is _Ours and place in ('callbacks', 'state_dict'):  # where nothing is read, it is data of no meaning
        assert type(restore_frozen(str(path))) is EncDecCTCModel
    else:
        with pytest.raises(ConfigError, match='evil.ckpt.* (cannot be read as|is not) a checkpoint'):
            restore_frozen(str(path))
    assert not marker.exists()


@pytest.mark.integration
def test_a_config_in_a_checkpoint_builds_no_more_than_one_in_an_archive(trained, tmp_path):
    marker = tmp_path / 'marker'
    path = tmp_path / 'evil.ckpt'
    writer = {'_target_': 'nemo_oracle_kd.corpus.outputs.write_text_atomically', 'path': str(marker), 'text': 'evil'}
    for change in ({'encoder': writer}, {'target': 'nemo_oracle_kd.cli.main.main'}, {'preprocessor': writer}):
        content = torch.load(trained[0], weights_only=False)
        content['hyper_parameters'] = {'cfg': {**OmegaConf.to_container(content['hyper_parameters'].cfg), **change}}
        torch.save(content, path)
        with pytest.raises(ConfigError, match='evil.ckpt'):
            restore_frozen(str(path))
        assert not marker.exists()

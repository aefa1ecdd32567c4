# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A damaged `.nemo` file ends in one sentence, in every command and at the start of a training, and leaves no trace."""

import copy
import gzip
import io
import tarfile

import pytest
import tiny
import torch
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.cli.main import main

CONFIG, WEIGHTS = './model_config.yaml', './model_weights.ckpt'


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    """A sound file: its path, and name -> content of its members."""
    path = tmp_path_factory.mktemp('sound') / 'sound.nemo'
    tiny.ctc_model(tiny.ctc_config(hidden=8)).save_to(str(path))
    with tarfile.open(path) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
    assert {CONFIG, WEIGHTS} <= set(members)
    return path, members


def _pack(path, members):
    with tarfile.open(path, 'w') as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _saved(value):
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def _changed(members, **changes):
    config = OmegaConf.create(members[CONFIG].decode())
    for key, value in changes.items():
        OmegaConf.update(config, key.replace('__', '.'), value)
    return {**members, CONFIG: OmegaConf.to_yaml(config).encode()}


#: damage -> (members -> members, what the sentence says)
DAMAGES = {
    'no config': (lambda m: {WEIGHTS: m[WEIGHTS]}, 'holds no model_config.yaml'),
    'config that is not YAML': (lambda m: {**m, CONFIG: b'a: [1, :\n}'}, 'is not YAML'),
    'config of bytes': (lambda m: {**m, CONFIG: b'\xff\xfe\x00'}, 'is not YAML'),
    'config that is a list': (lambda m: {**m, CONFIG: b'- a\n- b\n'}, 'is a list and not a mapping'),
    'config that is a word': (lambda m: {**m, CONFIG: b'hello'}, 'sound.nemo'),
    'config without a class': (lambda m: {**m, CONFIG: b'sample_rate: 8000'}, 'names no class in `target`'),
    'no weights': (lambda m: {CONFIG: m[CONFIG]}, 'holds no model_weights.ckpt'),
    'weights cut short': (lambda m: {**m, WEIGHTS: m[WEIGHTS][:300]}, 'weights cannot be loaded'),
    'weights of another model': (
        lambda m: {**m, WEIGHTS: _saved({'a': torch.ones(1)})},
        'do not fit its configuration',
    ),
    'weights that are a list': (lambda m: {**m, WEIGHTS: _saved([1, 2])}, 'are a list and not a mapping'),
    'class that there is not': (
        lambda m: _changed(m, target='nemo.collections.asr.models.ctc_models.NoSuchModel'),
        'does not admit or does not have',
    ),
    'class that is no model': (
        lambda m: _changed(m, target='nemo.collections.asr.modules.ConvASREncoder'),
        'cannot be restored',
    ),
    'class that is refused': (lambda m: _changed(m, target='os.system'), "unsafe target 'os.system' is blocked"),
    'part that is refused': (lambda m: _changed(m, encoder___target_='os.system'), "unsafe target 'os.system'"),
    'part that cannot be built': (lambda m: _changed(m, encoder__feat_in='x'), 'its model cannot be built'),
}


def _damaged(folder, damage, sound):
    path, members = sound
    target = folder / 'sound.nemo'
    if damage in DAMAGES:
        _pack(target, DAMAGES[damage][0](members))
        return target, DAMAGES[damage][1]
    content = path.read_bytes()
    contents = {
        'cut short': (content[: len(content) // 2], 'cannot be re'),
        'cut short and compressed': (gzip.compress(content)[:3000], 'cannot be re'),
        'empty': (b'', 'is empty'),
        'no archive': (b'half a download', 'cannot be re'),
    }
    if damage == 'folder':
        target.mkdir()
        return target, 'is a folder'
    target.write_bytes(contents[damage][0])
    return target, contents[damage][1]


ALL = [*DAMAGES, 'cut short', 'cut short and compressed', 'empty', 'no archive', 'folder']


@pytest.mark.parametrize('damage', ALL)
def test_a_damaged_file_is_one_sentence_and_leaves_nemos_state_as_it_was(damage, sound, tmp_path):
    from nemo.utils.app_state import AppState

    path, sentence = _damaged(tmp_path, damage, sound)
    before = {name: copy.copy(v) if isinstance(v, (list, dict)) else v for name, v in vars(AppState()).items()}
    with pytest.raises(ValueError, match=sentence) as error:
        restore_frozen(str(path))
    assert 'sound.nemo' in str(error.value) and '\n' not in str(error.value)
    assert vars(AppState()) == before and not AppState().is_model_being_restored


@pytest.mark.parametrize('damage', ['cut short', 'no weights', 'weights of another model', 'part that is refused'])
@pytest.mark.parametrize('command', ['check', 'score', 'evaluate', 'diagnose'])
def test_every_command_says_it_without_a_traceback(command, damage, sound, tone_corpus, tmp_path, capsys):
    path, sentence = (str(x) for x in _damaged(tmp_path, damage, sound))
    words = {
        'check': [str(sound[0]), path],
        'score': ['--teacher', path, '--manifest', str(tone_corpus), '--output', str(tmp_path / 'out.jsonl')],
        'evaluate': [path, '--manifest', str(tone_corpus)],
        'diagnose': [path, '--manifest', str(tone_corpus), '--output', str(tmp_path / 'out')],
    }[command]
    assert main([command, *words]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and 'Traceback' not in captured.err + captured.out
    assert [path.name for path in tmp_path.iterdir()] == ['sound.nemo']


@pytest.mark.parametrize('damage', ['cut short', 'weights of another model', 'class that is refused'])
def test_a_damaged_teacher_is_told_at_the_start_of_a_training(damage, sound, tone_corpus, tmp_path):
    from nemo_oracle_kd.callbacks import KnowledgeDistillation

    path, sentence = _damaged(tmp_path, damage, sound)
    callback = KnowledgeDistillation(teacher={'restore_from': str(path)}, objectives={'frame_kl': {}})
    trainer = tiny.trainer(1, callbacks=[callback])
    with pytest.raises(ValueError, match=sentence):
        trainer.fit(tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=8), trainer))


@pytest.fixture(scope='module')
def speaker_model():
    """A NeMo model that recognises speakers."""
    from nemo.collections.asr.models import EncDecSpeakerLabelModel

    decoder = {
        '_target_': 'nemo.collections.asr.modules.SpeakerDecoder',
        'feat_in': 8,
        'num_classes': 2,
        'pool_mode': 'tap',
        'emb_sizes': 4,
    }
    config = {
        'sample_rate': 8000,
        'loss': {'_target_': 'nemo.collections.common.losses.CrossEntropyLoss'},
        'preprocessor': tiny.ctc_config().preprocessor,
        'encoder': tiny.ctc_config(hidden=8).encoder,
        'decoder': decoder,
    }
    return EncDecSpeakerLabelModel(cfg=OmegaConf.create(config))


def test_a_model_of_another_kind_is_named(speaker_model, tmp_path):
    speaker_model.save_to(str(tmp_path / 'speaker.nemo'))
    with pytest.raises(ValueError, match='holds a EncDecSpeakerLabelModel: give a speech recognition model'):
        restore_frozen(str(tmp_path / 'speaker.nemo'))


def test_a_model_without_a_ctc_or_transducer_head_is_not_evaluated(speaker_model, tone_corpus):
    from nemo_oracle_kd.evaluation.transcription import transcribe_manifest

    with pytest.raises(ValueError, match='EncDecSpeakerLabelModel has neither a CTC nor a transducer head'):
        transcribe_manifest(speaker_model, tone_corpus, progress=False)


def test_a_version_of_nemo_without_its_own_error_for_unsafe_targets_restores_too(sound, monkeypatch):
    import nemo.core.classes.common as common

    monkeypatch.delattr(common, 'UnsafeTargetError', raising=False)  # NeMo 2 has none
    assert type(restore_frozen(str(sound[0]))).__name__ == 'EncDecCTCModel'

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A file from elsewhere is data: no `.nemo` names a function of this package, or any class but those that it must."""

import importlib
import inspect
import os
import pkgutil
import tarfile
from pathlib import Path

import pytest
import torch
from nemo.collections.asr.models import ASRModel
from nemo.core.classes import common
from omegaconf import OmegaConf
from tiny import ctc_config, write_tone_corpus

import nemo_oracle_kd
from nemo_oracle_kd.bridge.register.rnnt_losses import _RNNT_LOSSES
from nemo_oracle_kd.bridge.register.targets import PUBLIC_TARGETS
from nemo_oracle_kd.bridge.restore import _app_state_kept
from nemo_oracle_kd.cli.main import main

# Its decorators need a GPU compiler; NeMo cannot import it either.
SKIPPED = {'nemo_oracle_kd.functional.lattice.triton_kernel'}
EVIL = 'nemo_oracle_kd.bridge.register.rnnt_losses'


def _members():
    """Every function, class and instance with a call that can be reached as an attribute of a module of ours."""
    for module in pkgutil.walk_packages(nemo_oracle_kd.__path__, 'nemo_oracle_kd.'):
        if module.name in SKIPPED or module.name.endswith('__main__'):
            continue
        found = importlib.import_module(module.name)
        # some packages import their classes when they are first asked for
        for name in sorted({*dir(found), *getattr(found, '__all__', ())}):
            value = getattr(found, name, None)
            if callable(value):
                yield f'{module.name}.{name}', value


MEMBERS = dict(_members())


def test_the_whole_package_has_eighteen_targets_and_all_of_them_are_classes():
    admitted = {path for path in MEMBERS if common._is_target_allowed(path)}
    assert admitted == set(PUBLIC_TARGETS) and len(MEMBERS) > 900
    assert all(inspect.isclass(MEMBERS[path]) for path in admitted)


def test_no_method_of_a_target_is_a_target():
    for path in PUBLIC_TARGETS:
        names = {name for name, value in inspect.getmembers(MEMBERS[path]) if callable(value)}
        assert len(names) > 30
        assert [name for name in names if common._is_target_allowed(f'{path}.{name}')] == []


@pytest.mark.parametrize('path', [path for path in PUBLIC_TARGETS if '.callbacks.' in path])
def test_the_constructor_of_a_callback_leaves_nothing_behind(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = {
        'RunRecord': {'directory': str(tmp_path / 'evil')},
        'TimeBudget': {'seconds': 1.0},
        'KnowledgeDistillation': {'teacher': {'scores': 'manifest'}, 'objectives': {'hard': {}}},
    }
    assert common.safe_instantiate(OmegaConf.create({'_target_': path, **arguments.get(path.split('.')[-1], {})}))
    assert list(tmp_path.iterdir()) == []


def _attacks(folder: Path) -> dict:
    """Name of the attack -> what it puts in the place of the model's encoder, or of its target."""
    victim, marker = str(folder / 'victim.txt'), str(folder / 'marker')
    shell = {'_target_': f'{EVIL}.register_rnnt_loss', 'name': 'evil', 'factory': 'os:system'}
    writer = 'nemo_oracle_kd.corpus.manifest.write_text_atomically'
    command = {'_target_': 'nemo_oracle_kd.cli.main.main', 'arguments': ['synthesize', marker, '--train', '1']}
    return {
        'a factory that runs a shell command': {
            '_target_': f'{EVIL}._make_rnnt_loss',
            'name': 'evil',
            'blank_idx': f'touch {marker}',
            'options': shell,
        },
        'a factory that is registered alone': shell,
        'a factory that is registered by its short path': {**shell, '_target_': 'nemo_oracle_kd.register_rnnt_loss'},
        'a file that is overwritten': {'_target_': writer, 'path': victim, 'text': 'evil'},
        'the command line': command,
        'the command line by its package': {**command, '_target_': 'nemo_oracle_kd.__main__.main'},
        'a function that a module imports': {'_target_': f'{EVIL}.importlib.import_module', 'name': 'antigravity'},
        'a nested function': {
            '_target_': 'nemo_oracle_kd.modules.OracleEncoder',
            'd_model': 8,
            'audio_encoder': {'_target_': writer, 'path': victim, 'text': 'evil'},
        },
        'a partial function': {'_target_': 'nemo_oracle_kd.corpus.manifest.write_manifest', '_partial_': True},
        'a restored second file': {'_target_': 'nemo_oracle_kd.bridge.restore.restore_frozen', 'source': victim},
        'a callback that would write': {'_target_': 'nemo_oracle_kd.callbacks.RunRecord', 'directory': marker},
        'a job of the runner': {'_target_': 'nemo_oracle_kd.experiments.runner.Runner', 'folder': marker},
        'a method of a target': {'_target_': 'nemo_oracle_kd.callbacks.RunRecord.on_train_start', 'self': marker},
        'the target of the model': 'nemo_oracle_kd.cli.main.main',
    }


ATTACKS = sorted(_attacks(Path('.')))


def _malicious_file(folder: Path, attack: str) -> Path:
    content = _attacks(folder)[attack]
    config = OmegaConf.to_container(ctc_config())
    config['target'] = 'nemo.collections.asr.models.ctc_models.EncDecCTCModel'
    if isinstance(content, str):
        config['target'] = content
    else:
        config['encoder'] = content
    (folder / 'model_config.yaml').write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    torch.save({}, folder / 'model_weights.ckpt')
    path = folder / 'evil.nemo'
    with tarfile.open(path, 'w') as archive:
        for name in ('model_config.yaml', 'model_weights.ckpt'):
            archive.add(folder / name, arcname=f'./{name}')
            (folder / name).unlink()
    return path


def _contents(folder: Path) -> dict:
    return {path.relative_to(folder).as_posix(): path.is_file() and path.read_bytes() for path in folder.rglob('*')}


@pytest.mark.parametrize('attack', ATTACKS)
def test_a_malicious_file_runs_nothing_when_it_is_restored_checked_or_asked_for_scores(
    attack, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / 'files'
    folder.mkdir()
    (folder / 'victim.txt').write_text('precious')
    manifest = write_tone_corpus(folder, count=1)
    evil = str(_malicious_file(folder, attack))
    monkeypatch.chdir(folder)
    ran = []
    monkeypatch.setattr(os, 'system', lambda command: ran.append(command))
    before = _contents(folder)
    # NeMo forgets to say that it is no longer restoring when it fails.
    # NeMo 2 goes on to the class that was asked for, which is abstract: a TypeError.
    with _app_state_kept(), pytest.raises((ValueError, RuntimeError, TypeError)):
        ASRModel.restore_from(evil, map_location='cpu')
    for command in (
        ['check', evil, evil],
        ['score', '--teacher', evil, '--manifest', str(manifest), '--output', str(folder / 'out.jsonl')],
    ):
        assert main(command) == 2
        errors = capsys.readouterr().err
        assert evil in errors and 'Traceback' not in errors
        assert before == _contents(folder)
    assert not ran and _contents(folder) == before
    assert 'evil' not in _RNNT_LOSSES

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipe scripts as a user runs them, and the command lines that the comparison builds."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import tiny
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / 'examples' / 'asr_ctc'
sys.path.insert(0, str(RECIPES))

TINY = ['trainer.max_steps=2', 'trainer.max_epochs=-1', 'trainer.check_val_every_n_epoch=null']
TINY += ['trainer.val_check_interval=2', 'num_threads=1', 'exp_manager.create_checkpoint_callback=false']


def _run(script, folder, *overrides):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, str(RECIPES / script), *overrides]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.integration
def test_an_oracle_teacher_and_its_student_come_from_the_two_recipes(tone_corpus, tmp_path):
    data = [f'model.train_ds.manifest_filepath={tone_corpus}', f'model.validation_ds.manifest_filepath={tone_corpus}']
    oracle = _run(
        'train_oracle_ctc.py',
        tmp_path,
        '--config-name=oracle_separable_ctc_char',
        *data,
        *TINY,
        'model.width=16',
        'model.oracle.audio_only_steps=0',
        'save_to=oracle.nemo',
    )
    assert (tmp_path / 'oracle.nemo').is_file(), oracle.stderr[-2000:]
    record = '{_target_: nemo_oracle_kd.callbacks.RunRecord, directory: record}'
    student = _run(
        'train_ctc.py',
        tmp_path,
        *data,
        *TINY,
        'model.width=16',
        'save_to=student.nemo',
        f'+trainer.callbacks=[{record}]',
        '+oracle_kd=frame_kl',
        'oracle_kd.teacher.restore_from=oracle.nemo',
    )
    assert (tmp_path / 'student.nemo').is_file(), student.stderr[-2000:]
    summary = json.loads((tmp_path / 'record' / 'run.json').read_text())
    assert summary['updates'] == 2 and summary['train_seconds'] > 0
    with tarfile.open(tmp_path / 'student.nemo') as archive:
        config = archive.extractfile(next(m for m in archive.getmembers() if m.name.endswith('.yaml'))).read().decode()
    assert OmegaConf.create(config).target == 'nemo.collections.asr.models.ctc_models.EncDecCTCModel'
    assert 'oracle' not in config


def _runs(tmp_path):
    from comparison import Distilled, Plan, system_runs

    students = {
        'student_alone': None,
        'student_from_oracle_teacher': Distilled(
            'oracle_teacher', 'frame_kl', ['oracle_kd.objectives.frame_kl.weight=0.6']
        ),
        'student_guided_ctc': Distilled('oracle_teacher', 'guided_ctc'),
        'student_occupancy': Distilled('conventional_teacher', 'occupancy'),
    }
    manifest = tiny.write_tone_corpus(tmp_path / "it's, a=path", 'train', 2)
    data = {'train': manifest, 'dev': manifest, 'teacher_train': manifest}
    plan = Plan(students, updates=40, teacher_seconds=12)
    return system_runs(plan, data, tmp_path / 'out', [0, 3], ['corpus']), manifest


def test_every_command_of_the_comparison_composes_and_all_students_get_the_same_updates(tmp_path):
    from hydra import compose, initialize_config_dir

    import nemo_oracle_kd  # noqa: F401  registers the presets

    runs, manifest = _runs(tmp_path)
    assert len(runs) == 12
    for run in runs:
        script, config, overrides = run.job.command[1], run.job.command[2].split('=')[1], run.job.command[3:]
        folder = ROOT / 'conf' / ('oracle_ctc' if 'oracle' in script else 'ctc')
        with initialize_config_dir(str(folder), version_base=None):
            cfg = compose(config, overrides=list(overrides))
        assert cfg.model.train_ds.manifest_filepath == str(manifest) and cfg.seed == run.seed
        assert Path(cfg.save_to) == Path(run.model)
        targets = [callback['_target_'].rsplit('.', 1)[1] for callback in cfg.trainer.callbacks]
        if 'student' in run.name:
            assert cfg.trainer.max_steps == 40 and targets == ['RunRecord']
            assert ('oracle_kd' in cfg) == (run.name != 'student_alone')
        else:
            assert targets == ['RunRecord', 'TimeBudget'] and cfg.trainer.callbacks[1].seconds == 12
            assert 'sched' not in cfg.model.optim


def test_students_wait_for_their_teacher_of_the_same_seed(tmp_path):
    waits = {run.job.name: list(run.job.depends) for run in _runs(tmp_path)[0]}
    assert waits['seed_3/student_guided_ctc'] == ['corpus', 'seed_3/oracle_teacher']
    assert waits['seed_0/student_occupancy'] == ['corpus', 'seed_0/conventional_teacher']
    assert waits['seed_0/student_alone'] == waits['seed_0/oracle_teacher'] == ['corpus']

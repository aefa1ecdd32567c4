# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipe scripts as a user runs them, and the command lines that the comparison builds."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from load_script import load_script
from omegaconf import OmegaConf
from recipes import ROOT, composed, composed_at_once, run_alone, run_here

from nemo_oracle_kd.experiments.ctc_plan import TEACHERS, Plan, Student
from nemo_oracle_kd.experiments.recipes import config_folder
from nemo_oracle_kd.experiments.runner import JobRunner

TINY = ['trainer.max_steps=2', 'trainer.max_epochs=-1', 'trainer.check_val_every_n_epoch=null']
TINY += ['trainer.val_check_interval=2', 'num_threads=1', 'exp_manager.create_checkpoint_callback=false']


@pytest.mark.integration
def test_an_oracle_teacher_and_its_student_come_from_the_two_recipes(tone_corpus, tmp_path, monkeypatch):
    data = [f'model.train_ds.manifest_filepath={tone_corpus}', f'model.validation_ds.manifest_filepath={tone_corpus}']
    oracle = run_alone(
        'asr_ctc/train_oracle_ctc.py',
        tmp_path,
        '--config-name=oracle_separable_ctc_char',
        *data,
        *TINY,
        'model.width=16',
        'model.oracle.start_below=null',
        'save_to=oracle.nemo',
    )
    assert (tmp_path / 'oracle.nemo').is_file(), oracle.stderr[-2000:]
    record = '{_target_: nemo_oracle_kd.callbacks.RunRecord, directory: record}'
    run_here(
        'asr_ctc/train_ctc.py',
        tmp_path,
        monkeypatch,
        *data,
        *TINY,
        'model.width=16',
        'save_to=student.nemo',
        f'+trainer.callbacks=[{record}]',
        '+oracle_kd=frame_kl',
        'oracle_kd.teacher.restore_from=oracle.nemo',
    )
    assert (tmp_path / 'student.nemo').is_file()
    summary = json.loads((tmp_path / 'record' / 'run.json').read_text())
    assert summary['updates'] == 2 and summary['train_seconds'] > 0
    with tarfile.open(tmp_path / 'student.nemo') as archive:
        config = archive.extractfile(next(m for m in archive.getmembers() if m.name.endswith('.yaml'))).read().decode()
    assert OmegaConf.create(config).target == 'nemo.collections.asr.models.ctc_models.EncDecCTCModel'
    assert 'oracle' not in config


def _runs(tmp_path):
    students = {
        'student_alone': Student(),
        'student_from_oracle_teacher': Student(
            'oracle_teacher', 'frame_kl', ['oracle_kd.objectives.frame_kl.weight=0.6']
        ),
        'student_guided_ctc': Student('oracle_teacher', 'guided_ctc'),
        'student_occupancy': Student('conventional_teacher', 'occupancy'),
    }
    manifest = tiny.write_tone_corpus(tmp_path / "it's, a=path", 'train', 2)
    data = {'train': manifest, 'dev': manifest, 'teacher_train': manifest}
    plan = Plan(students, updates=40, teacher_seconds=12)
    return plan.runs(data, tmp_path / 'out', [0, 3], ['corpus']), manifest


def test_every_command_of_the_comparison_composes_and_all_students_get_the_same_updates(tmp_path):
    runs, manifest = _runs(tmp_path)
    assert len(runs) == 12
    for run in runs:
        cfg = composed(run)
        if run.seed == 3:
            assert cfg == composed_at_once(run)
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


def test_the_oracle_of_the_demo_is_a_label_branch_on_its_conventional_teacher(tmp_path):
    demo = load_script('examples/demo/run.py')
    args = demo.make_parser().parse_args(['--teacher-seconds', '7', '--branch-seconds', '3'])
    manifest = tiny.write_tone_corpus(tmp_path, 'train', 2)
    runs = {run.name: run for run in demo.plan_of(args).runs({'train': manifest, 'dev': manifest}, tmp_path, [5])}
    assert set(runs) == {*demo.STUDENTS, 'conventional_teacher', 'oracle_teacher'}
    oracle, conventional = composed(runs['oracle_teacher']), composed(runs['conventional_teacher'])
    assert list(runs['oracle_teacher'].job.depends) == ['seed_5/conventional_teacher']
    assert oracle.model.oracle.init_audio_encoder_from == str(tmp_path / 'seed_5' / 'conventional_teacher.nemo')
    assert oracle.model.oracle.freeze_audio_encoder and not oracle.model.oracle.audio_only_steps
    assert [cfg.trainer.callbacks[1].seconds for cfg in (oracle, conventional)] == [3, 7]
    assert 'oracle' not in conventional.model


def test_a_teacher_whose_encoder_another_has_is_trained_although_no_student_learns_from_it():
    branch = replace(TEACHERS['oracle_teacher'], encoder_of='conventional_teacher')
    plan = Plan({'a': Student('oracle_teacher', 'frame_kl')}, 1, 1, teachers={**TEACHERS, 'oracle_teacher': branch})
    assert set(plan.teachers_used) == set(TEACHERS)


def test_other_recordings_in_the_same_folder_leave_no_copies_of_the_old_ones(tmp_path):
    recipe = load_script('examples/an4/run.py')
    copies, seen = tmp_path / 'out' / 'data', []
    for number, count in ((1, 3), (2, 2)):  # the same names of files and texts, other recordings, and fewer
        manifest = tiny.write_tone_corpus(tmp_path / str(number), 'train', count, seed=number)
        JobRunner([recipe.speed_job(manifest, copies)], tmp_path / 'out' / 'jobs', progress=False).run()
        rows = [json.loads(line) for line in (copies / 'train.jsonl').read_text().splitlines()]
        made = {path: path.read_bytes() for path in copies.rglob('*.flac')}
        assert len(rows) >= 3 * count and len(made) % count == 0
        seen.append(made)
    assert len(seen[1]) == len(seen[0]) * 2 // 3
    assert not set(seen[0].values()) & set(seen[1].values())


def test_the_config_decides_the_class_of_the_model():
    from nemo_oracle_kd.experiments.train import model_class

    sections = {'EncDecCTCModel': [], 'EncDecCTCModelBPE': ['tokenizer'], 'EncDecRNNTModel': ['joint']}
    sections |= {'EncDecRNNTBPEModel': ['joint', 'tokenizer'], 'EncDecOracleCTCModel': ['oracle']}
    sections |= {'EncDecOracleCTCModelBPE': ['oracle', 'tokenizer'], 'EncDecOracleRNNTModel': ['joint', 'oracle']}
    sections |= {'EncDecOracleRNNTModelBPE': ['joint', 'oracle', 'tokenizer']}
    for name, keys in sections.items():
        assert model_class(OmegaConf.create(dict.fromkeys(keys, {}))).__name__ == name
    for path in Path(config_folder('.')).glob('*/*_*.yaml'):  # and that is what the installed configs say
        family, config = path.parent.name, OmegaConf.load(path)
        if 'model' in config:
            found = model_class(config.model).__name__
            assert ('Oracle' in found, 'RNNT' in found) == (
                f'{family}/{path.stem}'.count('oracle_') > 0,
                'rnnt' in family,
            )
            assert ('Picture' in found) == (family == 'scene_text')
            assert ('BPE' in found) == path.stem.endswith('_bpe')


def test_recipes_import_only_the_package_and_their_own_folder():
    for path in sorted((ROOT / 'examples').rglob('*.py')):
        assert 'sys.path' not in path.read_text() and '../' not in path.read_text(), path

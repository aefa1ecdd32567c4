# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipes of transducers: an oracle teacher and a student, trained by their scripts for two steps."""

import json
import tarfile

import pytest
from omegaconf import OmegaConf
from recipes import run_alone, run_here

TINY = ['trainer.max_steps=2', 'trainer.max_epochs=-1', 'trainer.check_val_every_n_epoch=null']
TINY += [
    'trainer.val_check_interval=2',
    'num_threads=1',
    'exp_manager.create_checkpoint_callback=false',
    'model.width=16',
]


def _words(manifest, *overrides):
    data = [f'model.train_ds.manifest_filepath={manifest}', f'model.validation_ds.manifest_filepath={manifest}']
    return [*data, *TINY, *overrides]


def _config(path):
    with tarfile.open(path) as archive:
        member = next(member for member in archive.getmembers() if member.name.endswith('.yaml'))
        return OmegaConf.create(archive.extractfile(member).read().decode())


@pytest.mark.integration
def test_the_student_s_recipe_trains_a_stock_rnnt(tone_corpus, tmp_path):
    record = '{_target_: nemo_oracle_kd.callbacks.RunRecord, directory: record}'
    words = _words(tone_corpus, 'save_to=student.nemo', f'+trainer.callbacks=[{record}]')
    run = run_alone('asr_rnnt/train_rnnt.py', tmp_path, *words)
    assert (tmp_path / 'student.nemo').is_file(), run.stderr[-2000:]
    assert json.loads((tmp_path / 'record' / 'run.json').read_text())['updates'] == 2
    config = _config(tmp_path / 'student.nemo')
    assert config.target == 'nemo.collections.asr.models.rnnt_models.EncDecRNNTModel'
    assert config.loss.loss_name == 'default' and 'oracle' not in config


@pytest.mark.integration
def test_the_oracle_s_recipe_trains_a_teacher_that_reads_the_transcript(tone_corpus, tmp_path, monkeypatch):
    from nemo_oracle_kd.bridge.restore import restore_frozen

    words = _words(tone_corpus, 'save_to=oracle.nemo', 'model.oracle.start_below=null')
    run_here('asr_rnnt/train_oracle_rnnt.py', tmp_path, monkeypatch, *words)
    assert (tmp_path / 'oracle.nemo').is_file()
    teacher = restore_frozen(str(tmp_path / 'oracle.nemo'))
    assert teacher.reads_transcript and teacher.head_vocabulary[1] == 'a'
    first = json.loads(tone_corpus.read_text().splitlines()[0])
    assert len(teacher.transcribe([first['audio_filepath']], transcripts=[first['text']], verbose=False)) == 1

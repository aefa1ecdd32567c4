# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The whole way from the command line: a manifest is scored, and an unmodified recipe trains on it with a preset."""

import json
import os
import sys
import tarfile

import forks
import pytest
from tiny_scores import read_rows, write_rows

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.experiments.recipes import config_folder


@pytest.mark.integration
def test_a_recipe_trains_on_scored_and_supervised_rows_with_a_preset(tone_corpus, tone_teacher, tmp_path):
    rows = read_rows(tone_corpus)
    speech = write_rows(rows[:12], tmp_path / 'speech.jsonl')
    labelled = write_rows([{**row, 'supervised': True} for row in rows[12:]], tmp_path / 'labelled.jsonl')
    scored = tmp_path / 'scored.jsonl'
    command = ['score', '--teacher', str(tone_teacher), '--manifest', str(speech), '--output', str(scored)]
    assert main([*command, '--nbest', '4', '--device', 'cpu']) == 0
    terms = ('label_loss', 'full_sum', 'full_sum_norm', 'full_sum_norm_cells_saved', 'loss')
    logged = [f'train/kd/{term}' for term in terms]
    options = [
        f'model.train_ds.manifest_filepath=[{scored},{labelled}]',
        f'model.validation_ds.manifest_filepath={tone_corpus}',
        'model.train_ds.batch_size=4',
        'model.sample_rate=8000',
        'model.train_ds.sample_rate=8000',
        'model.preprocessor.sample_rate=8000',
        'model.validation_ds.sample_rate=8000',
        'model.width=16',
        'num_threads=1',
        'trainer.max_steps=3',
        'trainer.max_epochs=-1',
        '+trainer.limit_val_batches=1',
        'trainer.check_val_every_n_epoch=null',
        'trainer.val_check_interval=3',
        'trainer.log_every_n_steps=3',
        'exp_manager.create_checkpoint_callback=false',
        'exp_manager.create_tensorboard_logger=false',
        f'+trainer.callbacks=[{{_target_: nemo_oracle_kd.callbacks.RunRecord, directory: record, metrics: {logged}}}]',
        '+oracle_kd=full_sum_norm',
        'oracle_kd.supervised_share=0.25',
        'oracle_kd.objectives.full_sum_norm.nbest=4',
        '+oracle_kd.objectives.full_sum.dead_zone=0.5',
        'save_to=student.nemo',
    ]
    # as the jobs of the comparisons do it: the module, with an installed config
    module = ['-m', 'nemo_oracle_kd.experiments.train']
    config = [f'--config-path={config_folder("rnnt")}', '--config-name=separable_rnnt_char']
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, *module, *config, *options]
    run = forks.run(command, cwd=tmp_path, env=environment)
    assert (tmp_path / 'student.nemo').is_file(), run.stderr[-3000:]
    last = json.loads((tmp_path / 'record/curve.jsonl').read_text().splitlines()[-1])
    values = [last[name] for name in logged]
    assert last['update'] == 3 and all(value > 0 for value in values)
    assert sum(values[:3]) == pytest.approx(values[4], rel=1e-5)
    with tarfile.open(tmp_path / 'student.nemo') as archive:
        member = next(member for member in archive.getmembers() if member.name.endswith('.yaml'))
        config = archive.extractfile(member).read().decode()
    assert 'models.rnnt_models.EncDecRNNTModel' in config and 'oracle' not in config

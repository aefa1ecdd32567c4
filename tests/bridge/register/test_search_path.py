# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Presets of the user's own folders come before ours, whichever way Hydra is told of the folders."""

import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir

from nemo_oracle_kd.cli.main import main

APP = """
import os
import hydra
from omegaconf import OmegaConf
from nemo_oracle_kd.bridge.register.presets import find_preset

@hydra.main(config_path='.', config_name='recipe', version_base='1.1')
def run(cfg):
    teacher = find_preset(cfg.trainer)['teacher']['restore_from']
    print('RESULT', list(cfg.oracle_kd.objectives), OmegaConf.to_container(cfg.oracle_kd.objectives), teacher)

run()
"""


@pytest.fixture
def folder(tmp_path):
    """A recipe, and a copy of the preset frame_kl under its own name in which another objective stands."""
    (tmp_path / 'recipe.yaml').write_text('trainer: {max_epochs: 1}\n')
    (tmp_path / 'recipe.py').write_text(APP)
    assert main(['presets', 'cp', 'frame_kl', f'{tmp_path}/mine/oracle_kd/']) == 0
    copy = tmp_path / 'mine/oracle_kd/frame_kl.yaml'
    text = copy.read_text()
    copy.write_text(text[: text.index('objectives:')] + 'objectives:\n  softmax_l2:\n    weight: 0.125\n')
    return tmp_path


def _objectives(folder, *overrides):
    with initialize_config_dir(config_dir=str(folder), version_base=None):
        cfg = compose('recipe', overrides=['+oracle_kd=frame_kl', *overrides])
    return {name: options.weight for name, options in cfg.oracle_kd.objectives.items()}


def _run(folder, *words):
    command = [sys.executable, 'recipe.py', *words, 'hydra.output_subdir=null']
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [line for line in result.stdout.splitlines() if line.startswith('RESULT')]


def test_a_folder_of_the_search_path_comes_before_ours_and_nothing_is_merged(folder):
    assert 'frame_kl' in _objectives(folder)
    assert _objectives(folder, f'hydra.searchpath=[file://{folder}/mine]') == {'softmax_l2': 0.125}
    (folder / 'other' / 'oracle_kd').mkdir(parents=True)
    both = f'hydra.searchpath=[file://{folder}/other,file://{folder}/mine]'
    assert _objectives(folder, both) == {'softmax_l2': 0.125}
    other = (folder / 'mine/oracle_kd/frame_kl.yaml').read_text().replace('0.125', '0.25')
    (folder / 'other/oracle_kd/frame_kl.yaml').write_text(other)
    assert _objectives(folder, both) == {'softmax_l2': 0.25}, 'the first folder of the list wins'
    assert 'guided_ctc' in _objectives(folder, both, '+oracle_kd=guided_ctc'.replace('+oracle_kd', 'oracle_kd'))


def test_a_folder_beside_the_recipe_and_one_of_the_command_line_come_before_ours(folder):
    words = ['+oracle_kd=frame_kl', 'oracle_kd.teacher.restore_from=/t.nemo', 'hydra.run.dir=.']
    (line,) = _run(folder, *words)
    assert "['frame_kl']" in line
    (line,) = _run(folder, '--config-dir', 'mine', *words)
    assert "['softmax_l2'] {'softmax_l2': {'weight': 0.125}}" in line
    (folder / 'oracle_kd').mkdir()
    (folder / 'mine/oracle_kd/frame_kl.yaml').rename(folder / 'oracle_kd/frame_kl.yaml')
    (line,) = _run(folder, *words)
    assert 'softmax_l2' in line


def test_a_sweep_finds_the_teacher_where_the_command_was_given(folder):
    (folder / 'teacher.nemo').write_bytes(b'')
    words = ['-m', '+oracle_kd=frame_kl', 'oracle_kd.teacher.restore_from=teacher.nemo']
    lines = _run(folder, *words, 'oracle_kd.objectives.frame_kl.weight=0.25,0.5')
    assert len(lines) == 2 and all(line.endswith(f' {folder}/teacher.nemo') for line in lines)
    lines = _run(
        folder, *words, 'oracle_kd.objectives.frame_kl.weight=0.25,0.5', 'hydra.sweep.dir=.', 'hydra.sweep.subdir=.'
    )
    assert len(lines) == 2 and all(line.endswith(' teacher.nemo') for line in lines)
    swept = _run(folder, '-m', '+oracle_kd=frame_kl,softmax_l2', '++oracle_kd.teacher.restore_from=teacher.nemo')
    assert "['frame_kl']" in swept[0] and "['softmax_l2']" in swept[1]

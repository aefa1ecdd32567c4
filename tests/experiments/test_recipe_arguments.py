# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Mistakes on the command line of a recipe are one sentence, before anything is trained."""

import pytest
import tiny
from load_script import load_script
from recipes import run_alone

from nemo_oracle_kd.experiments.recipe_arguments import one_sentence
from nemo_oracle_kd.folder_lock import locked

RECIPES = [
    'an4',
    'noisy_teachers',
    'causal_student',
    'read_english',
    'speed_up',
    'label_branch',
    'unlabelled_speech',
    'scene_text',
]


@pytest.mark.parametrize('recipe', RECIPES)
def test_a_recipe_copied_alone_starts_and_data_that_are_not_there_are_one_sentence(recipe, tmp_path):
    missing = ['--data', tmp_path / 'none', '--test', 'test.jsonl', '--out', tmp_path / 'out']
    missing += ['--model', 'trained.nemo'] if recipe == 'label_branch' else []
    ended = run_alone(f'{recipe}/run.py', tmp_path, *missing)
    assert ended.returncode == 2 and 'Traceback' not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith('run.py: error: the manifest') and 'train.jsonl' in ended.stderr


def test_the_demo_copied_alone_starts(tmp_path):
    ended = run_alone('demo/run.py', tmp_path, '--updates', '0')
    assert ended.returncode == 2 and '0 is too small: give at least 1' in ended.stderr


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        (['--seeds', '1', '1'], 'holds a seed twice'),
        (['--updates', '0'], '0 is too small: give at least 1'),
        (['--parallel', '-1'], '-1 is too small: give at least 1'),
    ],
)
def test_counts_below_one_and_repeated_seeds_are_refused(arguments, sentence, tmp_path, monkeypatch, capsys):
    recipe = load_script('examples/noisy_teachers/run.py')
    manifest = tiny.write_tone_corpus(tmp_path, 'train', 2)
    command = ['run.py', '--data', tmp_path, '--test', manifest, '--out', tmp_path / 'out', *arguments]
    monkeypatch.setattr('sys.argv', list(map(str, command)))
    with pytest.raises(SystemExit) as ended:
        recipe.main()
    assert ended.value.code == 2 and sentence in capsys.readouterr().err and not (tmp_path / 'out').exists()


def test_a_second_run_in_one_folder_is_told_in_a_sentence(tmp_path):
    parser = load_script('examples/demo/run.py').make_parser()
    with locked(tmp_path, 'not used'):
        with pytest.raises(SystemExit, match='^Another run works here.$'), one_sentence(parser):
            with locked(tmp_path, 'Another run works here.'):
                pass
    with locked(tmp_path, 'free again'):
        pass

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Mistakes on the command line of a recipe are one sentence, before anything is trained."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny

EXAMPLES = Path(__file__).resolve().parents[2] / 'examples'


def run(recipe, *arguments):
    command = [sys.executable, str(EXAMPLES / recipe / 'run.py'), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize('recipe', ['an4', 'noisy_teachers', 'causal_student'])
def test_data_that_are_not_there_are_one_sentence(recipe, tmp_path):
    ended = run(recipe, '--data', tmp_path / 'none', '--test', 'test.jsonl', '--out', tmp_path / 'out')
    assert ended.returncode == 2 and 'Traceback' not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith('run.py: error: Manifest') and 'train.jsonl' in ended.stderr


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        (['--seeds', '1', '1'], 'holds a seed twice'),
        (['--updates', '0'], 'must be at least 1, not 0'),
        (['--parallel', '-1'], 'must be at least 1, not -1'),
    ],
)
def test_counts_below_one_and_repeated_seeds_are_refused(arguments, sentence, tmp_path):
    manifest = tiny.write_tone_corpus(tmp_path, 'train', 2)
    ended = run('noisy_teachers', '--data', tmp_path, '--test', manifest, '--out', tmp_path / 'out', *arguments)
    assert ended.returncode == 2 and sentence in ended.stderr and not (tmp_path / 'out').exists()

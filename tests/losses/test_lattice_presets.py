# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The presets of the lattice objectives: complete files of their own that agree line by line, and lead to their formula."""

import re
from pathlib import Path

import pytest

from nemo_oracle_kd.losses.lattice import LATTICE_OBJECTIVES

ROOT = Path(__file__).parents[2]
PRESETS = ['lattice', 'lattice_topk', 'lattice_collapsed', 'one_best_path']


def lines(preset):
    text = (ROOT / f'conf/oracle_kd/{preset}.yaml').read_text(encoding='utf-8')
    return [line.replace(f'  {preset}:', '  NAME:') for line in text.splitlines() if not line.startswith('#')]


@pytest.mark.parametrize(
    'preset, own',
    [
        ('lattice_topk', {'top_k'}),
        ('lattice_collapsed', {'weight'}),
        ('one_best_path', {'weight', 'mode'}),
    ],
)
def test_presets_differ_in_the_options_of_their_own_alone(preset, own):
    """Each can be shown, copied and edited as a whole; so what they share is written four times, and compared here."""
    different = set(lines('lattice')) ^ set(lines(preset))
    assert {line.split(':')[0].strip() for line in different} == own


@pytest.mark.parametrize('preset', PRESETS)
def test_a_preset_names_the_files_and_the_class_of_its_formula(preset):
    text = (ROOT / f'conf/oracle_kd/{preset}.yaml').read_text(encoding='utf-8')
    (where,) = re.findall(r'# In the code: (.*)', text)
    files = re.findall(r'[\w/]+\.py', where)
    assert 2 <= len(files) <= 3 and all((ROOT / 'nemo_oracle_kd' / file).is_file() for file in files)
    _, loss = LATTICE_OBJECTIVES[preset]
    assert (
        f'({loss.__name__})' in where and f'class {loss.__name__}' in (ROOT / 'nemo_oracle_kd' / files[0]).read_text()
    )

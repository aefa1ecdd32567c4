# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the documentation names exists: files, modules, links and presets."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in [*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')] if path.name != 'CHANGELOG.md')
FOLDERS = ('', 'nemo_oracle_kd/', 'docs/')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_file_and_link_of_a_page_exists(page):
    text = page.read_text(encoding='utf-8')
    links = [link.split('#')[0] for link in re.findall(r'\]\(([^)\s]+)\)', text) if '://' not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []
    start = r'(?:nemo_oracle_kd|functional|losses|modules|corpus|bridge|distillation|labelling|callbacks|models|evaluation|'
    start += r'experiments|cli|conf|tests|examples|benchmarks)'
    named = re.findall(rf'`({start}/[\w/]+(?:\.\w+|/))`', text)
    missing = [
        name for name in named if "NAME" not in name and not any((ROOT / folder / name).exists() for folder in FOLDERS)
    ]
    assert missing == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_module_and_attribute_that_a_page_names_can_be_imported(page):
    for dotted in sorted(set(re.findall(r'\bnemo_oracle_kd(?:\.\w+)+', page.read_text(encoding='utf-8')))):
        names = dotted.split('.')
        if names[-1] in ('yaml', 'objectives', 'teachers', 'conf') and len(names) == 2:
            continue  # entry point groups, files
        try:
            importlib.import_module(dotted)
        except ModuleNotFoundError:
            module = importlib.import_module('.'.join(names[:-1]))
            assert hasattr(module, names[-1]), f'{page.name} names {dotted}'

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the documentation, the presets and the docstrings name exists: files, links, modules, functions, configs."""

import builtins
import functools
import importlib
import re

import pytest
from doc_commands import COMMENTED, PAGES
from load_script import ROOT

FOLDERS = ('', 'nemo_oracle_kd/', 'docs/')
SOURCES = sorted((ROOT / 'nemo_oracle_kd').rglob('*.py'))
#: names of the reader's, of NeMo, of C, of mathematics
OUTSIDE = (
    'MyLoss',
    'tokens_to_text',
    'rand',
    'sign',
    'softmax_rest',
    *dir(builtins),
)


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


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_anchor_of_a_link_is_a_heading(page):
    for file, anchor in re.findall(r'\]\((?!\w+://)([^)\s#]*)#([^)\s]+)\)', page.read_text(encoding='utf-8')):
        target = (page.parent / file if file else page).read_text(encoding='utf-8')
        headings = re.findall(r'^#+ (.*)$', target, re.M)
        assert anchor in [re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings]


@functools.cache
def _defined():
    """Names of all functions and classes of the package."""
    return {name for path in SOURCES for name in re.findall(r'(?:def|class) (\w+)', path.read_text(encoding='utf-8'))}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_function_and_config_that_a_sentence_names_exists(page):
    prose = re.sub(r'^```.*?^```', '', page.read_text(encoding='utf-8'), flags=re.S | re.M)
    spans = re.findall(r'`([^`]+)`', prose)
    called = {name for span in spans for name in re.findall(r'(?<![\w.~])([A-Za-z_]\w{3,})\(', span)}
    assert [name for name in called if name not in OUTSIDE and name not in _defined()] == []
    configs = {path.stem for path in (ROOT / 'conf').rglob('*.yaml')}
    named = re.findall(r'`(?:conf/)?(?:\w+/)?(\w+_(?:char|char_teacher|ctc_bpe))`', prose)
    assert [name for name in named if name not in configs] == []


@pytest.mark.parametrize('path', [*SOURCES, *COMMENTED], ids=lambda path: '/'.join(path.parts[-2:]))
def test_every_file_of_ours_that_a_docstring_or_a_comment_names_exists(path):
    folders = 'functional|losses|bridge|distillation|labelling|callbacks|models|evaluation|experiments|cli|corpus|docs|conf|examples'
    named = re.findall(rf'(?<![\w/.])((?:{folders})(?:/\w+)+\.(?:py|md|yaml))\b', path.read_text(encoding='utf-8'))
    missing = [name for name in named if not any((ROOT / folder / name).exists() for folder in FOLDERS)]
    assert [name for name in missing if 'NAME' not in name] == []

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The documentation site: every objective has a page, every message of the page of messages is one of ours, the tutorial runs."""

import ast
import re

import pytest
import yaml
from load_script import ROOT, load_script

from nemo_oracle_kd.losses.frame import FRAME_OBJECTIVES
from nemo_oracle_kd.losses.objectives import LATTICE_OBJECTIVES, OBJECTIVES
from nemo_oracle_kd.losses.sequence import SEQUENCE_OBJECTIVES

OWN = {**FRAME_OBJECTIVES, **SEQUENCE_OBJECTIVES, **LATTICE_OBJECTIVES}
DOCS = ROOT / 'docs'
NAVIGATION = (ROOT / 'mkdocs.yml').read_text(encoding='utf-8').partition('\nnav:\n')[2]


def test_the_navigation_names_pages_that_exist():
    named = re.findall(r'[\w/]+\.md', NAVIGATION)
    assert len(named) > 40 and len(named) == len(set(named))
    assert [page for page in named if page != 'tutorial.md' and not (DOCS / page).is_file()] == []


@pytest.mark.parametrize('name', OWN)
def test_every_objective_has_a_page_with_equation_picture_cost_and_preset(name):
    text = (DOCS / 'objectives' / f'{name}.md').read_text(encoding='utf-8')
    headings = re.findall(r'^## (.*)$', text, re.M)
    assert headings == ['Equation', 'When to use it', 'Cost', 'In YAML']
    assert re.search(r'^\$\$.*?\$\$$', text, re.S | re.M) and f'<!-- preset: {name} -->' in text
    assert (DOCS / 'objectives' / 'pictures' / f'{name}.png').stat().st_size > 5000
    assert f'objectives/{name}.md' in NAVIGATION
    assert re.search(
        rf'^\| \[`{name}`\].*\| {_weight(name)} \|$', (DOCS / 'objectives' / 'index.md').read_text(), re.M
    )
    (body,) = re.findall(r'```yaml\n(.*?)```', text, re.S)
    assert name in yaml.safe_load(body)['trainer']['callbacks'][0]['objectives']


def _weight(name):
    return repr(OBJECTIVES[name].config().weight.value)


def test_every_picture_is_drawn_by_the_functions_of_the_package():
    pictures = load_script('docs/tools/pictures.py').PICTURES
    assert {draw.__name__ for draw in pictures} == set(OWN)
    for draw in pictures:
        assert all(axes.get_title(loc='left') for axes in draw().axes if axes.get_label() != '<colorbar>')


def _sentences_of_the_source():
    """Every string of the package, with a mark in the place of what is filled in."""
    found = []
    for path in (ROOT / 'nemo_oracle_kd').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.JoinedStr):
                found.append(''.join(part.value if isinstance(part, ast.Constant) else '\0' for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r'{\w+}', '\0', node.value))
    return '\n'.join(found).replace('`', '')


def test_every_message_of_the_page_is_in_the_source():
    page = (DOCS / 'troubleshooting.md').read_text(encoding='utf-8')
    messages = re.findall(r'^\| `([^`]+)` \|', page, re.M)
    source = _sentences_of_the_source()
    assert len(messages) > 60
    unknown = []
    for message in messages:
        pieces = [re.escape(piece) for piece in message.split('...')]
        if not re.search(r'[^\n]*?\0[^\n]*?'.join(pieces), source):
            unknown.append(message)
    assert unknown == []

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""MkDocs hooks of the documentation site: formulas, presets, the notebook, pages without a place, and what is fetched.

MkDocs calls the functions by their names (`hooks` in mkdocs.yml). A warning logged here fails `make docs`.
"""

import logging
import re
import sys
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
import notebook  # noqa: E402

ROOT = Path(__file__).parents[2]
PRESETS = ROOT / 'conf' / 'oracle_kd'
NOTEBOOK = ROOT / 'docs' / 'tutorial.ipynb'
#: the section of the navigation that takes pages which mkdocs.yml does not name
SECTION = 'Guides'

LOG = logging.getLogger('mkdocs.plugins.nemo_oracle_kd')
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)
_PRESET = re.compile(r'^<!-- preset: (\w+) -->$', re.M)
_ROLE = re.compile(r':(?:class|func|meth|mod|attr):<code>~?([^<]*)</code>')
_FETCHED = re.compile(
    r'<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//|<link(?![^>]*rel="canonical")[^>]*\shref="(?:https?:)?//'
)


def on_config(config):
    """Gives pages that the navigation does not name a place at the end of one section."""
    named = set(re.findall(r"'([^']+\.md)'", repr(config.nav)))
    pages = {path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob('*.md')}
    section = next(entry[SECTION] for entry in config.nav if SECTION in entry)
    section.extend(sorted(pages - named))
    return config


def on_files(files, config):
    """Adds the tutorial, whose source is a notebook."""
    files.append(File.generated(config, 'tutorial.md', content=notebook.to_markdown(NOTEBOOK)))
    for name, image in notebook.images(NOTEBOOK).items():
        files.append(File.generated(config, name, content=image))
    return files


def on_page_markdown(markdown, page, config, files):
    """Puts the text of a preset in the place of `<!-- preset: NAME -->`, and links to the notebook's page."""

    def preset(match):
        path = PRESETS / f'{match[1]}.yaml'
        if not path.is_file():
            LOG.warning(f"{page.file.src_path} shows the preset '{match[1]}', which does not exist")
            return ''
        return f'```yaml\n{path.read_text(encoding="utf-8").rstrip()}\n```'

    # the repository shows the notebook itself, the site its page
    return _PRESET.sub(preset, markdown).replace('tutorial.ipynb)', 'tutorial.md)')


def on_page_content(html, page, config, files):
    """Turns formulas into MathML, which browsers draw without a script, and the roles of docstrings into plain code."""

    def formula(match):
        latex = match[3].replace('&amp;', '&').replace('&lt;', '<').replace('&gt;', '>')
        return convert(latex.strip(), display='block' if match[2] == '[' else 'inline')

    return _ROLE.sub(r'<code>\1</code>', _FORMULA.sub(formula, html))


def on_post_page(output, page, config):
    """Refuses a page that would load something from another machine."""
    for match in _FETCHED.finditer(output):
        LOG.warning(f'{page.file.src_path} fetches {output[match.start() : match.end() + 60]!r} when it is read')
    return output

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What a reader of the documentation can type: command lines, overrides of presets, and blocks of YAML and Python."""

import re
from dataclasses import dataclass
from pathlib import Path

from load_script import ROOT

PAGES = sorted(path for path in [*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')] if path.name != 'CHANGELOG.md')
COMMENTED = [*sorted((ROOT / 'conf').rglob('*.yaml')), *sorted((ROOT / 'examples').rglob('*.py'))]

STARTERS = ('nemo-oracle-kd', 'python ', 'make ', 'pip ')
#: a comment that takes the block after it out of the checks, with the reason; the documentation site does not show it
NOT_RUN = re.compile(r'^<!-- not run: (.+) -->\n```\w*\n.*?^```', re.S | re.M)
_FENCE = re.compile(r'^```(\w*)\n(.*?)^```', re.S | re.M)
_SPAN = re.compile(r'`([^`]+)`')
_OVERRIDE = re.compile(r"""(?:^|(?<=[\s'"]))\+{0,2}oracle_kd(?:\.[\w.]+)?=[^\s'"`]+""")


@dataclass(frozen=True)
class Typed:
    """One command line, or a part of one.

    Attributes:
        text: without continuations and without comments.
        complete: whether it can be typed literally. Parts in running text and lines with `...` cannot.
    """

    text: str
    complete: bool

    @property
    def words(self) -> list[str]:
        """The words as a shell splits them, without `...`."""
        import shlex

        return [word for word in shlex.split(self.text) if not word.endswith('...')]

    @property
    def overrides(self) -> list[str]:
        """Those words that choose a preset or change it; `NAME` and `<name>` stand for any preset."""
        found = _OVERRIDE.findall(self.text)
        return [word for word in found if not re.search(r'=(<.*>|NAME)$', word)]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language, except those that are marked as not run; '' are the blocks without a language."""
    text = NOT_RUN.sub('', page.read_text(encoding='utf-8'))
    return [body for found, body in _FENCE.findall(text) if found == language]


def lines_of(block: str) -> list[str]:
    """The commands of a block of `bash`: continuations joined, comments and empty lines left out."""
    lines = [re.sub(r'(^|\s+)#.*', '', line).strip() for line in re.sub(r'\\\n\s*', '', block).splitlines()]
    return [line for line in lines if line]


def typed(path: Path) -> list[Typed]:
    """Every command line and every override that a page, a config's comments or a recipe's docstring shows."""
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.yaml':
        text = '\n'.join(line.lstrip()[1:].strip() for line in text.splitlines() if line.lstrip().startswith('#'))
    elif path.suffix == '.py':
        text = text.split('"""')[1].replace('\\\\\n', '\\\n')
    else:
        text = NOT_RUN.sub('', text)
        text = _FENCE.sub(lambda match: '' if match[1] in ('yaml', 'python', 'json', 'text') else match[2], text)
    text = re.sub(r'\\\n\s*', '', text)
    lines = [line.strip() for line in text.splitlines()]
    whole = [line for line in lines if line.startswith(STARTERS) and '`' not in line]
    parts = [' '.join(span.split()) for span in _SPAN.findall('\n'.join(line for line in lines if line not in whole))]
    loose = [line for line in lines if path.suffix != '.md' and line not in whole and _OVERRIDE.search(line)]
    return [Typed(re.sub(r'\s+#.*', '', line), '...' not in line) for line in whole] + [
        Typed(part, False) for part in [*parts, *loose] if part.startswith(STARTERS) or _OVERRIDE.search(part)
    ]

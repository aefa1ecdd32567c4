# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs a notebook in this process and stores its outputs, and turns a notebook into Markdown; needs no Jupyter.

    python docs/tools/notebook.py docs/tutorial.ipynb

The cells hold plain Python (no magics), so a test runs them in the same way.
"""

import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def code_cells(notebook: Path) -> list[str]:
    """The source of each code cell."""
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']


def run_cell(source: str, names: dict[str, Any], title: str = 'cell') -> tuple[str, list[bytes]]:
    """Runs one cell in a namespace.

    Args:
        source: Python statements.
        names: the namespace, which the cell changes.
        title: what a traceback calls the cell.

    Returns:
        What the cell printed, and the PNG of every figure that it passed to `show`.
    """
    printed, figures = io.StringIO(), []

    def show(figure: Any) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format='png', dpi=110, facecolor='white', metadata={'Software': None})
        figures.append(buffer.getvalue())

    names['show'] = show
    with contextlib.redirect_stdout(printed):
        exec(compile(source, title, 'exec'), names)
    return printed.getvalue(), figures


def to_markdown(notebook: Path) -> str:
    """The notebook as a page: text, code, and outputs. Its pictures are those of `images`."""
    parts, number = [], 0
    for cell in json.loads(notebook.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source']).rstrip()
        if cell['cell_type'] == 'markdown':
            parts.append(source)
            continue
        parts.append(f'```python\n{source}\n```')
        for output in cell.get('outputs', ()):
            if output['output_type'] == 'stream':
                text = ''.join(output['text']).rstrip()
                parts.append(f'<div class="cell-output" markdown>\n\n```text\n{text}\n```\n\n</div>')
            else:
                number += 1
                parts.append(
                    f'<div class="cell-output" markdown>\n\n![output](assets/tutorial-{number}.png)\n\n</div>'
                )
    return '\n\n'.join(parts) + '\n'


def images(notebook: Path) -> dict[str, bytes]:
    """Name -> PNG of every picture among the outputs."""
    cells = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    found = [output['data']['image/png'] for cell in cells for output in cell.get('outputs', ()) if 'data' in output]
    return {f'assets/tutorial-{number}.png': base64.b64decode(png) for number, png in enumerate(found, 1)}


def main() -> None:
    """Runs all cells of the notebook in an empty folder and stores their outputs in it."""
    path = Path(sys.argv[1]).resolve()
    content = json.loads(path.read_text(encoding='utf-8'))
    names: dict[str, Any] = {'__name__': '__main__'}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number, cell in enumerate(cell for cell in content['cells'] if cell['cell_type'] == 'code'):
            printed, figures = run_cell(''.join(cell['source']), names, f'cell {number + 1}')
            print(printed, end='')
            cell['execution_count'] = number + 1
            cell['outputs'] = [{'output_type': 'stream', 'name': 'stdout', 'text': printed.splitlines(True)}] * bool(
                printed
            )
            cell['outputs'] += [
                {
                    'output_type': 'display_data',
                    'metadata': {},
                    'data': {'image/png': base64.b64encode(figure).decode()},
                }
                for figure in figures
            ]
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()

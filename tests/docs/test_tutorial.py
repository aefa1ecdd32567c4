# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The notebook of the documentation runs as it stands, and what its text says of the students is true."""

import json
import re

from load_script import ROOT, load_script

NOTEBOOK = ROOT / 'docs' / 'tutorial.ipynb'


def test_the_cells_run_and_the_cut_student_learns_from_its_parent(tmp_path, monkeypatch):
    notebook = load_script('docs/tools/notebook.py')
    monkeypatch.chdir(tmp_path)
    names, figures = {}, []
    for number, source in enumerate(notebook.code_cells(NOTEBOOK)):
        figures += notebook.run_cell(source, names, f'cell {number}')[1]
    wer = names['wer']
    # wide margins: another processor rounds otherwise, and a WER on 48 utterances moves by points
    assert (
        wer['teacher'] < 40
        and max(wer['cut_distilled'], wer['cut_alone']) < min(wer['cut'], wer['random_distilled']) - 20
    )
    assert len(figures) == 1 and figures[0].startswith(b'\x89PNG')


def test_the_page_shows_the_outputs_of_a_run():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells'] if cell['cell_type'] == 'code']
    page = load_script('docs/tools/notebook.py').to_markdown(NOTEBOOK)
    printing = [cell for cell in cells if re.search(r'^ *(print|command|show)\(', ''.join(cell['source']), re.M)]
    assert len(printing) >= 6 and all(cell['outputs'] for cell in printing)
    assert 'cut_distilled' in page and 'real-time factor' in page and '(assets/tutorial-1.png)' in page

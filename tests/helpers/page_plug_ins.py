# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The code of `docs/adding_an_objective.md` as installed packages, and a training that uses them beside two that fail."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'adding_an_objective.md').read_text(encoding='utf-8')
#: reads manifest and teacher from `sys.argv`; prints what the training logged
TRAINING = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import tiny
from nemo_oracle_kd.callbacks import KnowledgeDistillation
corpus, teacher = sys.argv[1:]
callback = KnowledgeDistillation({{'ensemble': [teacher, teacher]}}, {{'reverse_kl': {{'weight': 0.2}}, 'frame_kl': {{}}}})
trainer = tiny.trainer(3, callbacks=[callback])
trainer.fit(tiny.ctc_model(tiny.ctc_config(corpus, hidden=16), trainer))
for name in ('train/kd/reverse_kl', 'train/kd/reverse_kl_weighted', 'train/kd/frame_kl'):
    print(name, float(trainer.callback_metrics[name]))
"""


def block(first_line: str) -> str:
    """The Python block of the page that starts with this comment."""
    blocks = re.findall(r'```python\n(.*?)```', PAGE, re.S)
    return next(code for code in blocks if code.startswith(f'# {first_line}\n'))


def install_the_page(folder: Path) -> None:
    """Installs the objective and the teacher of the page, and one of each that cannot be loaded."""
    entry_point = re.search(r"'(nemo_oracle_kd\.objectives)': \['reverse_kl = (\S+)'\]", block('setup.py'))
    _install(folder, 'reverse_kl', entry_point.group(1), entry_point.group(2), block('reverse_kl.py'))
    group, value = re.search(r'group `(nemo_oracle_kd\.teachers)`.*?`ensemble = (\S+)`', PAGE, re.S).groups()
    _install(folder, 'ensemble', group, value, block('ensemble.py'))
    _install(folder, 'no_loss', entry_point.group(1), 'no_loss:NoSuchLoss', '')
    _install(folder, 'no_teacher', group, 'no_teacher', "raise RuntimeError('broken')")


def _install(folder: Path, name: str, group: str, value: str, code: str) -> None:
    """What `pip install` leaves behind: the module and the metadata with the entry point."""
    (folder / f'{name}.py').write_text(code)
    metadata = folder / f'{name}-0.1.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n')
    (metadata / 'entry_points.txt').write_text(f'[{group}]\n{name} = {value}\n')

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The page `docs/adding_an_objective.md` is true: its code, installed as packages, trains a student."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'adding_an_objective.md').read_text(encoding='utf-8')
TRAINING = """
import gc, sys
gc.disable()  # or a third of the start would go into a search for garbage
import tiny
from nemo_oracle_kd.callbacks import KnowledgeDistillation
corpus, teacher = sys.argv[1:]
callback = KnowledgeDistillation({'ensemble': [teacher, teacher]}, {'reverse_kl': {'weight': 0.2}, 'frame_kl': {}})
trainer = tiny.trainer(3, callbacks=[callback])
trainer.fit(tiny.ctc_model(tiny.ctc_config(corpus, hidden=16), trainer))
for name in ('train/kd/reverse_kl', 'train/kd/reverse_kl_weighted', 'train/kd/frame_kl'):
    print(name, float(trainer.callback_metrics[name]))
"""


def _block(first_line):
    return next(
        code for code in re.findall(r'```python\n(.*?)```', PAGE, re.S) if code.startswith(f'# {first_line}\n')
    )


def _install(folder, name, group, value, code):
    """What `pip install` leaves behind: the module and the metadata with the entry point."""
    (folder / f'{name}.py').write_text(code)
    metadata = folder / f'{name}-0.1.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n')
    (metadata / 'entry_points.txt').write_text(f'[{group}]\n{name} = {value}\n')


def _run(folder, *arguments):
    paths = f'{folder}:{ROOT}:{Path(tiny.__file__).parent}'
    environment = {'PYTHONPATH': paths, 'OMP_NUM_THREADS': '1', 'PATH': '/usr/bin:/bin', 'HOME': str(folder)}
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True)


@pytest.mark.integration
def test_the_thirty_lines_and_the_teacher_of_the_page_train_a_student_beside_plug_ins_that_fail(
    tone_corpus, tone_teacher, tmp_path
):
    entry_point = re.search(r"'(nemo_oracle_kd\.objectives)': \['reverse_kl = (\S+)'\]", _block('setup.py'))
    _install(tmp_path, 'reverse_kl', entry_point.group(1), entry_point.group(2), _block('reverse_kl.py'))
    group, value = re.search(r'group `(nemo_oracle_kd\.teachers)`.*?`ensemble = (\S+)`', PAGE, re.S).groups()
    _install(tmp_path, 'ensemble', group, value, _block('ensemble.py'))
    _install(tmp_path, 'no_loss', entry_point.group(1), 'no_loss:NoSuchLoss', '')
    _install(tmp_path, 'no_teacher', group, 'no_teacher', "raise RuntimeError('broken')")
    assert len(_block('reverse_kl.py').splitlines()) <= 40
    result = _run(tmp_path, '-c', TRAINING, str(tone_corpus), str(tone_teacher))
    assert result.returncode == 0, result.stderr[-3000:]
    logged = dict(line.split() for line in result.stdout.splitlines() if line.startswith('train/kd/'))
    assert float(logged['train/kd/reverse_kl']) > 0
    weighted = float(logged['train/kd/reverse_kl_weighted'])
    assert weighted == pytest.approx(0.2 * float(logged['train/kd/reverse_kl']), rel=1e-5)
    told = result.stderr + result.stdout
    assert "The objective 'no_loss' of the package no_loss cannot be used: " in told and "'NoSuchLoss'" in told
    assert "The teacher 'no_teacher' of the package no_teacher cannot be used: broken" in told


def test_what_is_no_objective_or_teacher_is_refused():
    from nemo_oracle_kd.distillation.teacher_kinds import register_teacher
    from nemo_oracle_kd.distillation.teachers import OnlineTeacher
    from nemo_oracle_kd.losses.frame import FrameKLLoss
    from nemo_oracle_kd.losses.objectives import OBJECTIVES, register_objective

    with pytest.raises(ValueError, match='derive its class'):
        register_objective('print', print)
    with pytest.raises(ValueError, match='set it to a dataclass with a field `weight`'):
        register_objective('other', type('Other', (FrameKLLoss,), {'config_class': dict}))
    config = OBJECTIVES['hard'].config
    with pytest.raises(ValueError, match="an objective 'frame_kl' exists already"):
        register_objective('frame_kl', type('Other', (FrameKLLoss,), {'config_class': config}))
    with pytest.raises(ValueError, match='derive its class'):
        register_teacher('print', print)
    with pytest.raises(ValueError, match="must derive from TeacherOptions and have a field 'mine'"):
        register_teacher('mine', OnlineTeacher)
    with pytest.raises(ValueError, match="a teacher 'scores' already"):
        register_teacher('scores', OnlineTeacher)

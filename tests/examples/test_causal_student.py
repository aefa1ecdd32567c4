# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The recipe of the causal student: what its command lines say, and that a causal encoder does not look ahead."""

import argparse
from pathlib import Path

import pytest
import tiny
from load_script import load_script
from recipes import composed

from nemo_oracle_kd.experiments.pseudo_labels import Split, write_split

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def recipe():
    """`run.py` under a name of its own, for other recipes are called so too."""
    return load_script('examples/causal_student/run.py')


def test_every_student_starts_from_the_warm_start_of_its_kind_and_reads_what_its_method_needs(recipe, tmp_path):
    manifest = Path(tiny.write_tone_corpus(tmp_path, 'train', 10))
    parts = write_split(Split(), manifest, tmp_path / 'data')
    args = argparse.Namespace(seeds=[3], students=list(recipe.STUDENTS), updates=40, warm_updates=24)
    teaching = recipe.teacher_jobs(parts, manifest, tmp_path)
    runs = {run.name: run for run in recipe.student_runs(args, parts, manifest, tmp_path)}
    assert [job.name for job in teaching] == ['teachers/late_teacher', 'teachers/teacher', 'labels']
    for name, run in runs.items():
        cfg, full = composed(run), name.startswith('full_context')
        future = {block.get('future_context') for block in cfg.model.encoder.jasper}
        assert future == ({None} if full else {0})
        if name.endswith('warm_start'):
            continue
        assert Path(cfg.init_from_nemo_model).parent.name == ('full_context_' if full else '') + 'warm_start'
        student = recipe.STUDENTS[name]
        assert ('labels' in run.job.depends) == bool(student.preset) == ('oracle_kd' in cfg)
        if student.preset == 'lattice':
            kd = cfg.oracle_kd
            assert kd.teacher.restore_from == str(tmp_path / f'{student.teacher}.nemo') and kd.supervised_share == 0.25
            assert kd.label_loss.on == ('all' if 'hard' in name else 'supervised')
            assert kd.objectives.lattice.weight == recipe.WEIGHT
            assert (kd.objectives.lattice.delay.mode == 'estimate') == ('estimated' in name)


def test_a_causal_encoder_does_not_look_ahead_and_one_with_full_context_does():
    from nemo.collections.asr.models import EncDecRNNTModel
    from omegaconf import OmegaConf, open_dict

    look_ahead, found = load_script('examples/causal_student/delays.py').look_ahead, []
    for causal in (True, False):
        cfg = OmegaConf.load(ROOT / 'conf' / 'rnnt' / 'separable_rnnt_char.yaml').model
        with open_dict(cfg):
            cfg.width, cfg.train_ds, cfg.validation_ds = 8, None, None
            for block in cfg.encoder.jasper if causal else ():
                block.future_context = 0
        found.append(look_ahead(EncDecRNNTModel(cfg=cfg).eval()))
    assert found[0] <= 0 < 60 < found[1]

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd profile`: every second of a step is counted once, in the part where it was spent."""

import json
import time

import pytest
import tiny
from omegaconf import OmegaConf

from nemo_oracle_kd.callbacks.step_profile import PARTS
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.distillation.teachers import OnlineTeacher
from nemo_oracle_kd.losses.frame import FrameKLLoss

SHORT = ['--steps', '3', '--warm-up', '1', '--batch-size', '4', '--device', 'cpu']


def _slower(monkeypatch, owner, name, seconds):
    """Makes a method take so much longer."""
    original = getattr(owner, name)

    def slow(*arguments, **options):
        time.sleep(seconds)
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, slow)


@pytest.mark.integration
def test_time_is_counted_where_it_is_spent(tone_teacher, tone_corpus, tmp_path, monkeypatch, capsys):
    figures = tmp_path / 'profile.json'
    _slower(monkeypatch, OnlineTeacher, 'hear', 0.2)
    _slower(monkeypatch, FrameKLLoss, 'per_utterance', 0.1)
    command = ['profile', str(tone_teacher), str(tone_teacher), '--manifest', str(tone_corpus), *SHORT]
    assert main([*command, '--preset', 'frame_kl', 'guided_ctc', '--json', str(figures)]) == 0
    found = json.loads(figures.read_text())
    parts = found['parts']
    assert list(parts) == list(PARTS) and found['steps'] == 3
    assert sum(part['share'] for part in parts.values()) == pytest.approx(1.0)
    assert sum(part['seconds'] for part in parts.values()) == pytest.approx(found['seconds'])
    assert 0.2 <= parts['teacher']['seconds'] and 0.1 <= parts['objectives']['seconds'] < parts['teacher']['seconds']
    assert found['seconds'] > found['plain_seconds'] + 0.25
    assert all(parts[name]['seconds'] > 0 for name in PARTS)
    printed = capsys.readouterr().out
    assert 'teacher' in printed and 'the same without distillation' in printed
    assert main([*command, '--json', str(figures)]) == 2 and 'exists already' in capsys.readouterr().err


@pytest.mark.integration
def test_a_recipe_is_measured_with_its_own_data(tone_teacher, tone_corpus, tmp_path, capsys):
    model = tiny.rnnt_config(tone_corpus, hidden=16, stride=4)
    OmegaConf.save(OmegaConf.create({'model': model}), tmp_path / 'recipe.yaml')
    assert main(['profile', str(tmp_path / 'recipe.yaml'), str(tone_teacher), '--objectives', 'full_sum', *SHORT]) == 0
    assert 'objectives' in capsys.readouterr().out
    command = ['profile', str(tone_teacher), str(tone_teacher)]
    assert main([*command, '--manifest', str(tone_corpus), '--steps', '0']) == 2
    assert main(command) == 2
    told = capsys.readouterr().err
    assert '--steps must be at least 1' in told and 'there are no training data' in told

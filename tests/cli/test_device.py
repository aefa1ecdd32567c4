# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A device that is not there is refused in one sentence, by every command that has the option."""

import pytest
import torch

from nemo_oracle_kd.cli._device import check_device
from nemo_oracle_kd.cli.main import main

pytestmark = pytest.mark.unit

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
with_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='this machine has no GPU')

COMMANDS = {
    'diagnose': ['teacher.nemo', '--manifest', 'm.jsonl'],
    'evaluate': ['kept.jsonl'],
    'score': ['--teacher', 'teacher.nemo', '--manifest', 'm.jsonl', '--output', 'out.jsonl'],
}


def error_of(command, device, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'kept.jsonl').write_text('')
    assert main([command, *COMMANDS[command], '--device', device]) == 2
    return capsys.readouterr().err


@without_gpu
@pytest.mark.parametrize('command', sorted(COMMANDS))
@pytest.mark.parametrize('device', ['cuda', 'cuda:1'])
def test_a_gpu_is_refused_where_there_is_none(command, device, tmp_path, monkeypatch, capsys):
    error = error_of(command, device, tmp_path, monkeypatch, capsys)
    assert f'--device {device} cannot be used: PyTorch {torch.__version__}' in error and 'give --device cpu' in error
    assert error.count('\n') == 1


@with_gpu
def test_a_gpu_beyond_the_last_is_refused_and_the_first_is_not():
    check_device('cuda')
    check_device('cuda:0')
    with pytest.raises(
        ValueError, match=f'the GPUs of this machine are cuda:0 to cuda:{torch.cuda.device_count() - 1}'
    ):
        check_device(f'cuda:{torch.cuda.device_count()}')


@pytest.mark.parametrize('command', sorted(COMMANDS))
def test_a_word_that_is_no_device_is_refused(command, tmp_path, monkeypatch, capsys):
    error = error_of(command, 'gpu', tmp_path, monkeypatch, capsys)
    assert '--device gpu is not a device that PyTorch knows: give cpu, cuda or cuda:1' in error
    assert error.count('\n') == 1


def test_a_device_that_holds_no_numbers_is_refused():
    with pytest.raises(ValueError, match='--device meta cannot be used'):
        check_device('meta')


def test_the_processor_and_the_choice_of_the_program_are_accepted():
    for device in ('cpu', 'cpu:0', 'auto'):
        check_device(device)

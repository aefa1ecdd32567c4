# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The benchmark of the transducer losses runs, and says what it has measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from load_script import load_script

FILE = Path(__file__).parents[2] / 'benchmarks' / 'transducer_loss.py'


@pytest.fixture
def benchmark():
    return load_script('benchmarks/transducer_loss.py')


def test_the_benchmark_compares_with_nemo_and_names_what_is_missing(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, 'SHAPES', {'small': (2, 4, 2, 5), 'long': (1, 6, 2, 5)})
    monkeypatch.setitem(benchmark.sys.modules, 'fast_rnnt', None)  # as if it were not installed
    path = tmp_path / 'result.json'
    arguments = ['--json', str(path), '--rounds', '2', '--slow-rounds', '1', '--threads', '1', '--no-memory']
    assert benchmark.main([*arguments, '--peers', 'warprnnt_numba', 'pytorch', 'fast_rnnt']) == 0
    result = json.loads(path.read_text())
    assert result['machine']['processor'] and result['machine']['threads'] == 1
    assert list(result['not_installed']) == ['fast_rnnt']
    assert list(result['shapes']['small']['candidates']) == ['ours', 'warprnnt_numba', 'pytorch']
    assert list(result['shapes']['long']['candidates']) == ['ours', 'warprnnt_numba']
    for entry in result['shapes'].values():
        ours = entry['candidates']['ours']
        for found in entry['candidates'].values():
            assert found['loss'] == pytest.approx(ours['loss'], rel=1e-5) and found['gradient_difference'] < 1e-5
            ratio = found['milliseconds_min'] / ours['milliseconds_min']
            assert found['time_over_ours'] == pytest.approx(ratio)
    target = result['targets']['warprnnt_numba at long']
    assert target['reached'] == (target['time_over_ours'] >= target['at_least'] == 20.0)
    assert 'warprnnt_numba at long' in capsys.readouterr().out


def test_memory_is_measured_in_units_of_the_logits():
    command = [sys.executable, str(FILE), '--threads', '1', '--peak-memory-of', 'ours', 'wide']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout.splitlines()[-1]) < 2.0


def test_help_explains_the_measurement(benchmark, capsys):
    with pytest.raises(SystemExit) as stopped:
        benchmark.parse_arguments(['--help'])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and 'python benchmarks/transducer_loss.py --json' in text and '--rounds' in text

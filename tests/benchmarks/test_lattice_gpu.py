# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The benchmark for a GPU runs, as far as a CPU can tell."""

import json
from pathlib import Path

import pytest
import torch
from load_script import load_script

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return load_script('benchmarks/lattice_gpu.py')


@pytest.mark.unit
def test_the_methods_give_the_same_loss_in_both_types(benchmark, tmp_path):
    out = tmp_path / 'out.json'
    arguments = ['--json', str(out), '--device', 'cpu', '--cases', '2x5x2x7', '--hidden', '4', '--rounds', '1']
    assert benchmark.main(arguments) == 0
    rows = json.loads(out.read_text())
    assert {(row['method'], row['type']) for row in rows} == {
        (method, dtype)
        for method in ('materialised', 'checkpointed', 'tiled_torch')
        for dtype in ('float32', 'bfloat16')
    }
    for row in rows:
        assert [row[key] for key in 'BTUV'] == [2, 5, 2, 7]
        assert row['seconds'] > 0 and row['matmul_seconds'] > 0 and row['peak_mb'] is None
        assert row['deviation'] < (1e-5 if row['type'] == 'float32' else 0.1)


@pytest.mark.unit
@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_nothing_is_measured(benchmark, tmp_path, capsys):
    assert benchmark.main(['--json', str(tmp_path / 'out.json')]) == 0
    assert 'No CUDA GPU' in capsys.readouterr().out and not (tmp_path / 'out.json').exists()


@pytest.mark.gpu
def test_all_methods_run_on_a_gpu(benchmark, tmp_path):
    out = tmp_path / 'out.json'
    assert benchmark.main(['--json', str(out), '--cases', '2x5x2x7', '--hidden', '16', '--rounds', '1']) == 0
    rows = json.loads(out.read_text())
    assert {'materialised', 'checkpointed', 'tiled_torch'} <= {row['method'] for row in rows}
    assert all(row['peak_mb'] > 0 and row['deviation'] < 0.1 for row in rows)

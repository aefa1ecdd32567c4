# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The benchmark of lattice distillation measures what it says."""

import argparse
import json
import subprocess
import types
from pathlib import Path

import forks
import pytest
import torch
from load_script import load_script

SCRIPT = Path(__file__).parents[2] / 'benchmarks' / 'lattice.py'
SHAPE = (2, 9, 3, 11)


@pytest.fixture(scope='module')
def benchmark():
    return load_script('benchmarks/lattice.py')


@pytest.mark.unit
def test_all_methods_compute_the_same_loss_and_gradient(benchmark):
    case = benchmark.Case(SHAPE, hidden=5)
    results = {}
    for method in benchmark.METHODS:
        loss = case.run(method)
        results[method] = [loss, *(getattr(case.student, name).grad.clone() for name in ('encoder', 'weight', 'bias'))]
    for method, peer in (
        ('checkpointed', 'materialised'),
        ('tiled', 'materialised'),
        ('tiled_collapsed', 'collapsed_after_materialising'),
    ):
        for own, other in zip(results[method], results[peer]):
            assert torch.allclose(own, other, rtol=1e-4, atol=1e-5)
    assert (results['tiled_collapsed'][0] < results['tiled'][0]).all()


@pytest.mark.unit
def test_times_are_taken_of_every_method_and_of_the_products_alone(benchmark):
    times = benchmark.measure_times(SHAPE, ['tiled', 'materialised'], hidden=5, rounds=1)
    assert set(times) == {'tiled', 'materialised', 'products'}
    assert all(0 < seconds < 60 for seconds in times.values())


@pytest.mark.unit
def test_rows_name_the_machine_and_are_kept_on_resume(benchmark, tmp_path, monkeypatch):
    def run(command, env, **options):  # times can be taken in a fork; memory needs the environment of a fresh process
        return forks.run(command, env=env) if 'time' in command else subprocess.run(command, env=env, **options)

    monkeypatch.setattr(benchmark, 'subprocess', types.SimpleNamespace(run=run))
    out = tmp_path / 'out.json'
    arguments = ['--json', str(out), '--methods', 'tiled', '--rounds', '1', '--threads', str(torch.get_num_threads())]
    assert benchmark.main([*arguments, '--cases', '1x4x2x5']) == 0
    rows = json.loads(out.read_text())
    assert [[row[key] for key in ('B', 'T', 'U', 'V', 'method')] for row in rows] == [[1, 4, 2, 5, 'tiled']]
    assert rows[0]['seconds'] > 0 and rows[0]['matmul_seconds'] > 0 and rows[0]['peak_mb'] >= 0
    assert 'threads' in rows[0]['machine']
    assert out.with_suffix('.png').stat().st_size > 1000
    assert benchmark.main([*arguments, '--cases', '1x4x2x5', '--resume']) == 0
    assert json.loads(out.read_text()) == rows


@pytest.mark.unit
def test_methods_that_would_not_fit_are_left_out(benchmark):
    big = (4, 200, 40, 8193)
    assert benchmark.expected_gigabytes(big, 'materialised') > 5
    assert benchmark.expected_gigabytes(big, 'tiled') == 0
    with pytest.raises(argparse.ArgumentTypeError, match='BxTxUxV'):
        benchmark.parse_case('4x200x40')

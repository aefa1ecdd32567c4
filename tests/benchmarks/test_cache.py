# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The benchmark of the cache of a teacher runs: rounds of three kinds of steps, sizes of files, gradients within the bound."""

import argparse

import pytest
from load_script import load_script


@pytest.fixture(scope='module')
def benchmark():
    return load_script('benchmarks/cache.py')


def test_every_part_measures_what_it_says(benchmark, tmp_path):
    options = argparse.Namespace(
        outputs=40,
        width=16,
        layers=1,
        teacher_width=32,
        teacher_layers=1,
        batch_size=2,
        rounds=2,
        teacher=None,
        bound_rows=4,
    )
    manifest = benchmark.write_corpus(tmp_path, rows=4, seconds=0.4, characters=4)
    step = benchmark.measure_step(manifest, tmp_path, options)
    assert set(step['seconds']) == set(benchmark.ARMS) and step['cached_ratio'] > 0 and step['teacher_weights'] > 3000
    size = benchmark.measure_size(manifest, tmp_path, options)
    for of_one in size.values():
        assert of_one['lattice'] == 2 * 40 * of_one['cells'] and of_one['ratio'] == of_one['lattice'] / of_one['files']
    bound = benchmark.measure_bound(manifest, tmp_path, options)
    assert bound['utterances'] == 4 and 0 < bound['gradient']['mean'] <= bound['bound']['mean']
    assert bound['gradient']['largest'] <= bound['bound']['largest'] + 0.01


def test_a_ratio_is_the_median_over_the_rounds(benchmark):
    times = {'plain': [1.0, 2.0, 4.0], 'cached': [1.1, 2.1, 8.0], 'online': [2.0, 2.0, 12.0]}
    assert benchmark.ratios(times) == {'cached_ratio': 1.1, 'online_ratio': 2.0}

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The benchmark of self-teachers takes real steps of real models and counts what they keep."""

import json

from load_script import load_script


def test_every_teacher_is_measured_beside_the_plain_student(tmp_path):
    benchmark = load_script('benchmarks/self_teachers.py')
    out = tmp_path / 'figures.json'
    arguments = ['--turns', '2', '--batch', '2', '--seconds', '1', '--sizes', '16x1', '--json', str(out)]
    benchmark.main(arguments)
    found = json.loads(out.read_text())['sizes']['16x1']
    for name in benchmark.TEACHERS:
        assert found[name]['time_ratio'] > 1 and found[name]['memory_ratio'] >= 1
    assert found['oracle']['branch_share'] > 0 and found['ema']['branch_share'] == found['view']['branch_share'] == 0
    benchmark.main([*arguments, '--head', 'rnnt'])
    of_transducers = json.loads(out.read_text())['sizes']['16x1']
    for name in benchmark.TRANSDUCER_TEACHERS:
        assert of_transducers[name]['time_ratio'] > 1 and of_transducers[name]['memory_ratio'] > 1
    # twice the student, and what the divergence keeps, which weighs more in so small a model
    assert 1.8 < found['view']['memory_ratio'] < 2.6

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The benchmark of the set-up runs real trainings on a manifest that passes every check; its ratios are as it says."""

import json

import pytest
from load_script import load_script

from nemo_oracle_kd.labelling.format import row_hash


@pytest.fixture(scope='module')
def benchmark():
    return load_script('benchmarks/setup.py')


@pytest.mark.parametrize('arm', ['plain', 'full_sum_norm'])
def test_a_side_trains_one_step_on_the_manifest_and_tells_what_it_took(benchmark, arm, tmp_path, capsys):
    manifest = benchmark.write_corpus(tmp_path, rows=40, labels=12, nbest=3)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert sum('supervised' in row for row in rows) == 4 and len({row['audio_filepath'] for row in rows}) == 4
    assert all(row['teacher_row'] == row_hash(row) for row in rows if 'supervised' not in row)
    benchmark.work(arm, manifest)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(benchmark.MARK))
    told = json.loads(line.removeprefix(benchmark.MARK))
    assert told['seconds'] > 0 and told['processor_seconds'] > 0 and told['loss'] > 0
    assert told.get('bytes') == (None if arm == 'plain' else 40 * 13)


def test_the_ratios_are_those_of_the_rounds(benchmark):
    def run(seconds, resident, **more):
        return {'seconds': seconds, 'processor_seconds': 2 * seconds, 'resident': resident, **more}

    plain = [run(2.0, 1000), run(1.0, 1000), run(1.0, 1000)]
    ours = [run(2.2, 1500, bytes=130), run(1.3, 1400, bytes=130), run(2.0, 1500, bytes=130)]
    found = benchmark.compare({'plain': plain, 'full_sum': ours}, rows=10)
    assert found['full_sum']['time_ratio'] == found['full_sum']['wall_ratio'] == pytest.approx(1.3)
    assert found['full_sum']['bytes_per_row'] == 13 and found['full_sum']['memory_per_row'] == 50
    assert found['plain'] == {'seconds': 1.0, 'processor_seconds': 2.0}

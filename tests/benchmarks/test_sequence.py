# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The benchmarks of sequence distillation run real trainings and real lattices, and say what they have measured."""

import io
import json
from pathlib import Path

import forks
import pytest
from load_script import load_script

FOLDER = Path(__file__).parents[2] / 'benchmarks'


def load(name):
    return load_script(f'benchmarks/{name}.py')


@pytest.mark.parametrize('case', ['rnnt_fused', 'ctc'])
def test_both_sides_of_the_training_step_do_the_same_work_but_for_the_distillation(
    case, tmp_path, monkeypatch, capsys
):
    benchmark = load('full_sum_step')
    arguments = '--batch-size 2 --seconds 1 --labels 8 --width 8 --joint-hidden 8 --turns 2 --steps 1 --warm-up 1'
    options = benchmark.parse_arguments([*arguments.split(), '--threads', '1'])
    manifest = benchmark.write_corpus(tmp_path, rows=12, seconds=1, labels=8)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [index for index, row in enumerate(rows) if row.get('supervised')] == [0, 10]
    told = {}
    for arm in benchmark.ARMS:
        monkeypatch.setattr(benchmark.sys, 'stdin', io.StringIO('\n' * 2))
        benchmark.work(case, arm, manifest, options)
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(benchmark.MARK)]
        told[arm] = [json.loads(line.removeprefix(benchmark.MARK)) for line in lines]
        assert told[arm][0] == {'warm': True} and len(told[arm]) == 4
        assert all(turn['seconds'] > 0 and turn['processor_seconds'] > 0 for turn in told[arm][1:3])
    # the distilled side trains on something else than the labels
    assert told['plain'][3]['loss'] != told['full_sum'][3]['loss']


def test_the_ratios_are_those_of_neighbouring_turns():
    benchmark = load('full_sum_step')
    times = {'plain': [1.0, 2.0, 4.0], 'full_sum': [1.1, 2.0, 4.8]}
    turns = {arm: [{'seconds': x, 'processor_seconds': 2 * x} for x in values] for arm, values in times.items()}
    ends = {arm: {'loss': 3.0} for arm in times}
    found = benchmark.compare(turns, ends)
    assert found['time_ratio'] == pytest.approx(1.1) == found['wall_ratio']
    assert found['seconds_per_step'] == {'plain': 1.0, 'full_sum': 1.1}


def test_the_ratio_of_memory_is_that_of_the_medians():
    growths = {'plain': [49.0, 50.0, 70.0], 'full_sum': [51.0, 90.0, 50.0]}
    fits = {arm: [{'growth': x, 'peak': 1000.0} for x in values] for arm, values in growths.items()}
    found = load('full_sum_step').compare_memory(fits)
    assert found['growth_mb'] == {'plain': 50.0, 'full_sum': 51.0}
    assert found['memory_ratio'] == pytest.approx(1.02) and found['peak_ratio'] == 1.0


def test_a_fit_for_the_memory_ends_by_itself(tmp_path, monkeypatch):
    benchmark = load('full_sum_step')
    monkeypatch.setattr(benchmark.subprocess, 'Popen', forks.popen)
    small = (
        '--batch-size 2 --seconds 1 --labels 8 --width 8 --joint-hidden 8 --threads 1 --memory-fits 1 --memory-steps 2'
    )
    manifest = benchmark.write_corpus(tmp_path, rows=4, seconds=1, labels=8)
    with open(tmp_path / 'log', 'w+', encoding='utf-8') as log:
        found = benchmark.measure_memory('ctc', manifest, benchmark.parse_arguments(small.split()), small.split(), log)
    assert all(peak > growth > 0 for peak, growth in zip(found['peak_mb'].values(), found['growth_mb'].values()))


def test_the_benchmark_of_lists_counts_cells_and_compares_with_separate_lattices(tmp_path, capsys):
    benchmark = load('nbest_scores')
    rows = [
        {'duration': 0.5, 'teacher_nbest': [{'text': text} for text in ('one two', 'one too', 'on two')]},
        {'duration': 0.3, 'teacher_nbest': [{'text': 'four'}]},
    ]
    scores = tmp_path / 'scored.jsonl'
    scores.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    out = tmp_path / 'out.json'
    common = [
        '--json',
        str(out),
        '--rounds',
        '1',
        '--threads',
        '1',
        '--hidden',
        '8',
        '--no-memory',
        '--max-cells',
        '100',
    ]
    assert benchmark.main([*common, '--scores', str(scores)]) == 0
    found = {(row['network'], row['way']): row for row in json.loads(out.read_text())['rows']}
    # 13 and 8 frames; the prefix tree has 8 + 2 + 4 nodes, all labels 8 + 8 + 7 positions; "four" has 5 of either
    separate = (8 + 8 + 7) * 13 + 5 * 8
    assert found['lstm', 'shared']['cells'] == (8 + 2 + 4) * 13 + 5 * 8
    assert found['stateless', 'shared']['cells'] < found['lstm', 'shared']['cells']
    for row in found.values():
        assert row['cells_of_separate_lattices'] == separate and row['texts_per_utterance'] == 2
        assert row['ratio'] == row['cells'] / separate and row['seconds'] > 0
        assert row['way'] == 'separate' or (row['loss_difference'] < 1e-6 and row['gradient_difference'] < 2e-6)
    assert 'cells x' in capsys.readouterr().out
    lists = benchmark.made_up_lists(5, 8)
    assert all(len(set(texts)) == 8 for _, texts in lists)

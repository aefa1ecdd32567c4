# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the comparison: the files it leaves, its results, and that a second start does nothing twice."""

import json
import shutil
import sys
from pathlib import Path

import forks
import pytest
import tiny

from nemo_oracle_kd.evaluation.error_rates import read_transcriptions, score
from nemo_oracle_kd.experiments.comparison import Comparison, SystemRun
from nemo_oracle_kd.experiments.jobs import Job
from nemo_oracle_kd.experiments.runner import JobsFailed
from nemo_oracle_kd.folder_lock import FolderBusy, locked

COPY = """
import json, pathlib, shutil, sys
model, folder, seconds = sys.argv[1], pathlib.Path(sys.argv[2]), float(sys.argv[3])
folder.mkdir(parents=True, exist_ok=True)
shutil.copy(model, folder / "model.nemo")
(folder / "run.json").write_text(json.dumps({"train_seconds": seconds, "updates": 7}))
(folder / "curve.jsonl").write_text(json.dumps({"update": 7, "seconds": seconds, "val_wer": 0.5}) + "\\n")
"""


@pytest.fixture(scope='module')
def material(tmp_path_factory):
    """Two models of different size and a test manifest; training is not what is tested here, so the jobs copy models."""
    folder = tmp_path_factory.mktemp('material')
    manifest = tiny.write_tone_corpus(folder, 'test', count=4)
    models = {}
    for name, hidden in (('alone', 8), ('distilled', 12)):
        models[name] = folder / f'{name}.nemo'
        tiny.ctc_model(tiny.ctc_config(hidden=hidden), seed=hidden).save_to(str(models[name]))
    return manifest, models


def make_runs(models, folder, seeds, fail_in=()):
    runs = []
    for seed in seeds:
        for number, (name, model) in enumerate(models.items()):
            record = folder / 'training' / f'{name}_{seed}'
            command = [sys.executable, '-c', COPY, str(model), str(record), str(10 * number + seed)]
            if seed in fail_in:
                command = [sys.executable, '-c', "raise SystemExit('out of memory')"]
            job = Job(f'seed_{seed}/{name}', command, outputs=[record / 'model.nemo'])
            runs.append(SystemRun(name, seed, job, record / 'model.nemo', record))
    return runs


@pytest.mark.integration
def test_results_hold_every_system_and_seed_and_survive_the_failure_of_a_seed(tmp_path, material, monkeypatch):
    forks.fork_jobs(monkeypatch)
    manifest, models = material
    comparison = Comparison(
        make_runs(models, tmp_path, [0, 1], fail_in=[1]),
        manifest,
        tmp_path / 'out',
        baseline='alone',
        settings={'updates': 7},
    )
    with pytest.raises(JobsFailed, match='out of memory'):
        comparison.run(progress=False)
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert results['seeds'] == [0]

    (tmp_path / 'out' / 'report.html').write_text('of seed 0')
    comparison = Comparison(make_runs(models, tmp_path, [0, 1]), manifest, tmp_path / 'out', 'alone')
    before = (tmp_path / 'out' / 'seed_0' / 'scores.json').stat().st_mtime_ns
    results = comparison.run(progress=False)
    assert (tmp_path / 'out' / 'report.html').read_text() == 'of seed 0'  # the same settings: nothing is set aside
    assert (tmp_path / 'out' / 'seed_0' / 'scores.json').stat().st_mtime_ns == before  # not evaluated again
    assert results == json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert results['seeds'] == [0, 1] and set(results['systems']) == {'alone', 'distilled'}
    for number, (name, model) in enumerate(models.items()):
        system = results['systems'][name]
        assert system['train_seconds'] == [10.0 * number, 10.0 * number + 1] and system['updates'] == [7, 7]
        for seed in (0, 1):
            kept = tmp_path / 'out' / f'seed_{seed}' / f'{name}.nemo'
            assert kept.read_bytes() == Path(model).read_bytes()
            _, references, hypotheses = read_transcriptions(comparison.transcripts_path(name, seed))
            assert len(references) == 4
            assert system['wer'][seed] == pytest.approx(score(references, hypotheses).wer)
            assert system['cer'][seed] == pytest.approx(score(references, hypotheses).cer)
        assert results['intervals'][name]['wer'][0] <= sum(system['wer']) / 2 <= results['intervals'][name]['wer'][1]
        assert results['curves'][name]['1'][0]['val_wer'] == 50.0  # percent
    assert results['systems']['alone']['parameters'] < results['systems']['distilled']['parameters']
    (pair,) = results['paired']
    assert (pair['baseline'], pair['system']) == ('alone', 'distilled')
    assert pair['difference'] == pytest.approx(
        sum(results['systems']['distilled']['wer']) / 2 - sum(results['systems']['alone']['wer']) / 2
    )

    # Other settings, and it is interrupted before a seed is finished: nothing of the old ones stands beside the new models.
    other = Comparison(make_runs(models, tmp_path, [0, 1], fail_in=[0, 1]), manifest, tmp_path / 'out', 'alone')
    with pytest.raises(JobsFailed):
        other.run(progress=False)
    assert not (tmp_path / 'out' / 'results.json').exists() and not (tmp_path / 'out' / 'report.html').exists()
    assert json.loads((tmp_path / 'out' / 'results.previous.json').read_text()) == results
    assert (tmp_path / 'out' / 'report.previous.html').read_text() == 'of seed 0'


@pytest.mark.unit
def test_a_second_comparison_in_one_folder_is_refused(tmp_path):
    (tmp_path / 'test.jsonl').write_text('')
    run = SystemRun('a', 0, Job('a0', ['true']), tmp_path / 'x.nemo', tmp_path)
    with locked(tmp_path / 'out', 'not used'):
        with pytest.raises(FolderBusy, match="another comparison is active in '.*out'"):
            Comparison([run], tmp_path / 'test.jsonl', tmp_path / 'out', 'a').run(progress=False)


@pytest.mark.unit
def test_incomplete_comparisons_are_refused_in_a_sentence(tmp_path):
    def make(name, seed):
        return SystemRun(name, seed, Job(f'{name}{seed}', ['true']), tmp_path / 'x.nemo', tmp_path)

    manifest = tmp_path / 'test.jsonl'
    manifest.write_text('')
    with pytest.raises(ValueError, match='seed 1 has no run of b'):
        Comparison([make('a', 0), make('b', 0), make('a', 1)], manifest, tmp_path, 'a')
    with pytest.raises(ValueError, match='one of them twice'):
        Comparison([make('a', 0), make('a', 0)], manifest, tmp_path, 'a')
    with pytest.raises(ValueError, match="'c' is to be compared, but is no system"):
        Comparison([make('a', 0)], manifest, tmp_path, 'c')
    with pytest.raises(ValueError, match='nothing to compare'):
        Comparison([], manifest, tmp_path, 'a')
    with pytest.raises(FileNotFoundError, match='no test manifest'):
        Comparison([make('a', 0)], tmp_path / 'absent.jsonl', tmp_path, 'a')
    shutil.rmtree(tmp_path)

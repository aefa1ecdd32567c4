# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Trains several systems over several seeds, scores them on one test set and writes ``results.json``.

```python
runs = [
    SystemRun('student_alone', seed, Job(f'seed_{seed}/student_alone', [...], outputs=[nemo]), model=nemo,
    record=folder) for seed in (0, 1, 2)
]
results = Comparison(runs, 'test.jsonl', 'out').run()
```

The jobs train the systems, with :class:`nemo_oracle_kd.callbacks.RunRecord` among their callbacks. When all systems of a seed
are trained, a further job transcribes the test set with ``nemo-oracle-kd evaluate``. ``results.json`` is written atomically
after each seed. A run can be interrupted and started again at any time.

``results.json`` (**error rates in percent**)::

    {"systems": {NAME: {"wer": [per seed], "cer": [per seed], "parameters": n, "train_seconds": [per seed],
                        "updates": [per seed]}},
     "seeds": [...],                     the seeds of the lists, in their order
     "units": {"wer": "percent", ...},
     "settings": {...},                  as given to Comparison
     "fingerprints": {SEED: ...},        hash of everything that determines the figures of a seed
     "test": {"manifest": NAME, "utterances": n},
     "intervals": {NAME: {"wer": [low, high], "cer": [low, high]}},
     "paired": [{"baseline": NAME, "system": NAME, "difference": ..., "p_permutation": ..., ...}],  of the WER
     "paired_cer": [...],                the same of the CER
     "curves": {NAME: {SEED: [{"update": ..., "seconds": ..., "train_loss": ..., "val_wer": percent}, ...]}}}

Intervals and p-values pool the seeds per utterance (:func:`nemo_oracle_kd.evaluation.error_rates.pool_seeds`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_oracle_kd.corpus.outputs import write_text_atomically
from nemo_oracle_kd.evaluation.error_rates import ErrorCounts, Score, pool_seeds, read_transcriptions, score
from nemo_oracle_kd.evaluation.significance import bootstrap_interval, compare
from nemo_oracle_kd.experiments.jobs import CLI, Job, PathLike, fingerprints, order_jobs
from nemo_oracle_kd.experiments.runner import JobResult, JobRunner
from nemo_oracle_kd.folder_lock import locked

#: files that recipes make from the results, in the same folder
PAGES = ('report.html', 'figure.png', 'figure.svg')


@dataclass(frozen=True)
class SystemRun:
    """One system trained with one seed.

    Attributes:
        name: name of the system in the results.
        seed: seed of the training, and number of its folder ``seed_N``.
        job: the job that trains it; ``model`` should be among its outputs.
        model: the ``.nemo`` that the job writes; it is copied to ``OUT/seed_N/NAME.nemo``.
        record: folder of its :class:`nemo_oracle_kd.callbacks.RunRecord`.
    """

    name: str
    seed: int
    job: Job
    model: PathLike
    record: PathLike


class Comparison:
    """Runs and scores systems.

    Args:
        runs: the trainings, which must cover the same systems for every seed.
        test_manifest: manifest on which the systems are scored.
        directory: folder of models, logs, transcriptions and ``results.json``.
        baseline: the system with which all others are compared.
        pairs: further paired comparisons as ``(baseline, system)``.
        settings: plain JSON values that are copied into the results.
        extra_jobs: jobs that train no system, such as making the corpus.

    Raises:
        FileNotFoundError: there is no test manifest, and no extra job that could make it.
        ValueError: a seed lacks a system, a system occurs twice, or a name in ``pairs`` or ``baseline`` is unknown.
    """

    def __init__(
        self,
        runs: Sequence[SystemRun],
        test_manifest: PathLike,
        directory: PathLike,
        baseline: str = 'student_alone',
        pairs: Sequence[tuple[str, str]] = (),
        settings: Mapping[str, Any] | None = None,
        extra_jobs: Sequence[Job] = (),
    ) -> None:
        self.directory = Path(directory)
        self.test_manifest = Path(test_manifest)
        self.settings = dict(settings or {})
        self.extra_jobs = list(extra_jobs)
        self.seeds: dict[int, list[SystemRun]] = {}
        for run in runs:
            self.seeds.setdefault(run.seed, []).append(run)
        self.names = list(dict.fromkeys(run.name for run in runs))
        self._check(baseline, pairs)
        self.pairs = [(baseline, name) for name in self.names if name != baseline]
        self.pairs += [pair for pair in pairs if pair not in self.pairs]

    def _check(self, baseline: str, pairs: Sequence[tuple[str, str]]) -> None:
        if not self.seeds:
            raise ValueError("there is nothing to compare: give at least one run")
        for seed, runs in self.seeds.items():
            names = [run.name for run in runs]
            if len(set(names)) < len(names):
                raise ValueError(
                    f"seed {seed} has the systems {sorted(names)}, one of them twice: give every system once"
                )
            missing = sorted(set(self.names) - set(names))
            if missing:
                raise ValueError(f"seed {seed} has no run of {', '.join(missing)}: give every system for every seed")
        for name in [baseline, *(name for pair in pairs for name in pair)]:
            if name not in self.names:
                raise ValueError(f"'{name}' is to be compared, but is no system: choose from {', '.join(self.names)}")
        if not self.extra_jobs and not self.test_manifest.is_file():
            raise FileNotFoundError(f"there is no test manifest at '{self.test_manifest}': correct the path")

    @property
    def results_path(self) -> Path:
        """Path of ``results.json``."""
        return self.directory / 'results.json'

    def model_path(self, name: str, seed: int) -> Path:
        """Path of a system's model, ``OUT/seed_N/NAME.nemo``."""
        return self.directory / f'seed_{seed}' / f'{name}.nemo'

    def transcripts_path(self, name: str, seed: int) -> Path:
        """Path of a system's transcriptions of the test set, as JSON lines."""
        return self.directory / f'seed_{seed}' / 'transcripts' / f'{name}.jsonl'

    def jobs(self) -> list[Job]:
        """Returns all jobs: the extra jobs, the trainings, and one evaluation per seed."""
        jobs = list(self.extra_jobs)
        for seed, runs in self.seeds.items():
            jobs += [run.job for run in runs]
            jobs.append(self._evaluation(seed))
        return jobs

    def _evaluation_name(self, seed: int) -> str:
        return f'seed_{seed}/evaluate'

    def _evaluation(self, seed: int) -> Job:
        scores = self.directory / f'seed_{seed}' / 'scores.json'
        command = [*CLI, 'evaluate']
        command += [str(self.model_path(name, seed)) for name in self.names]
        command += ['--manifest', str(self.test_manifest), '--json', str(scores)]
        command += ['--output-dir', str(self.transcripts_path('x', seed).parent), '--overwrite']
        return Job(
            self._evaluation_name(seed),
            command,
            outputs=[scores, *(self.transcripts_path(name, seed) for name in self.names)],
            depends=[job.name for job in self.extra_jobs] + [run.job.name for run in self.seeds[seed]],
            inputs=[self.test_manifest],
        )

    def run(self, max_parallel: int = 2, progress: bool = True) -> dict:
        """Runs the jobs that are not done yet.

        Results and pages of other settings or data must not lie beside the new models, so they are renamed before the first
        job starts.

        Args:
            max_parallel: largest number of jobs at a time, each on one thread.
            progress: whether to show progress.

        Returns:
            The content of ``results.json``.

        Raises:
            nemo_oracle_kd.experiments.runner.JobsFailed: a job failed; ``results.json`` holds the finished seeds.
            nemo_oracle_kd.experiments.runner.JobsInterrupted: the run got Ctrl-C or SIGTERM.
            nemo_oracle_kd.folder_lock.FolderBusy: another comparison is active in the folder.
        """
        run_of = {run.job.name: run for runs in self.seeds.values() for run in runs}
        evaluations = {self._evaluation_name(seed): seed for seed in self.seeds}
        finished: list[int] = []

        def on_finished(job: Job, result: JobResult) -> None:
            if job.name in run_of:
                self._take_model(run_of[job.name], replace=result.state == 'done')
            elif job.name in evaluations:
                finished.append(evaluations[job.name])
                content = self.collect([seed for seed in self.seeds if seed in finished])
                write_text_atomically(self.results_path, json.dumps(content, indent=2) + '\n')

        busy = (
            f"another comparison is active in '{self.directory}': wait for it to end, stop it, or give another folder"
        )
        with locked(self.directory, busy):
            self._set_aside_results_of_other_settings()
            JobRunner(
                self.jobs(), self.directory / 'jobs', max_parallel, on_finished=on_finished, progress=progress
            ).run()
        return json.loads(self.results_path.read_text(encoding='utf-8'))

    def _evaluation_fingerprints(self) -> dict[str, str]:
        """Seed -> hash of everything that determines its figures: every training, its data, and the test set."""
        prints = fingerprints(order_jobs(self.jobs()))
        return {str(seed): prints[self._evaluation_name(seed)] for seed in self.seeds}

    def _set_aside_results_of_other_settings(self) -> None:
        if not self.results_path.is_file():
            return
        now = self._evaluation_fingerprints()
        earlier = json.loads(self.results_path.read_text(encoding='utf-8')).get('fingerprints', {})
        if earlier and all(now.get(seed, value) == value for seed, value in earlier.items()):
            return
        for path in (self.directory / name for name in ('results.json', *PAGES)):
            if path.is_file():
                path.replace(path.with_name(f'{path.stem}.previous{path.suffix}'))

    def _take_model(self, run: SystemRun, replace: bool) -> None:
        source, target = Path(run.model), self.model_path(run.name, run.seed)
        if not source.is_file():
            raise FileNotFoundError(
                f"job '{run.job.name}' has ended, but there is no model at '{source}': correct SystemRun.model"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.resolve() != target.resolve() and (replace or not target.is_file()):
            temporary = target.with_suffix('.part')
            shutil.copyfile(source, temporary)
            temporary.replace(target)

    def collect(self, seeds: Sequence[int]) -> dict:
        """Computes the results of finished seeds from their files.

        Args:
            seeds: seeds whose evaluation is done.

        Returns:
            The content of ``results.json``.
        """
        prints = self._evaluation_fingerprints()
        scores = {name: [self._score(name, seed) for seed in seeds] for name in self.names}
        words = {name: pool_seeds([one.words for one in runs]) for name, runs in scores.items()}
        characters = {name: pool_seeds([one.characters for one in runs]) for name, runs in scores.items()}
        systems, intervals, curves = {}, {}, {}
        for name in self.names:
            runs = [next(run for run in self.seeds[seed] if run.name == name) for seed in seeds]
            summaries = [json.loads((Path(run.record) / 'run.json').read_text(encoding='utf-8')) for run in runs]
            systems[name] = {
                'wer': [one.wer for one in scores[name]],
                'cer': [one.cer for one in scores[name]],
                'parameters': self._parameters(name, seeds[0]),
                'train_seconds': [summary['train_seconds'] for summary in summaries],
                'updates': [summary['updates'] for summary in summaries],
            }
            word_interval, character_interval = bootstrap_interval(words[name]), bootstrap_interval(characters[name])
            intervals[name] = {
                'wer': [word_interval.low, word_interval.high],
                'cer': [character_interval.low, character_interval.high],
            }
            curves[name] = {str(run.seed): read_curve(Path(run.record) / 'curve.jsonl') for run in runs}
        return {
            'systems': systems,
            'seeds': list(seeds),
            'units': {'wer': 'percent', 'cer': 'percent', 'train_seconds': 'seconds'},
            'settings': self.settings,
            'fingerprints': {str(seed): prints[str(seed)] for seed in seeds},
            'test': {'manifest': self.test_manifest.name, 'utterances': len(words[self.names[0]])},
            'intervals': intervals,
            'paired': self._compared(words),
            'paired_cer': self._compared(characters),
            'curves': curves,
        }

    def _compared(self, counts: Mapping[str, ErrorCounts]) -> list[dict]:
        return [
            {'baseline': first, 'system': second, **compare(counts[first], counts[second]).as_dict()}
            for first, second in self.pairs
        ]

    def _score(self, name: str, seed: int) -> Score:
        _, references, hypotheses = read_transcriptions(self.transcripts_path(name, seed))
        return score(references, hypotheses)

    def _parameters(self, name: str, seed: int) -> int:
        content = json.loads((self.directory / f'seed_{seed}' / 'scores.json').read_text(encoding='utf-8'))
        return content['systems'][name]['parameters']


def read_curve(path: PathLike) -> list[dict]:
    """Reads a ``curve.jsonl`` and converts the validation WER to percent; returns ``[]`` if there is no such file."""
    path = Path(path)
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding='utf-8').splitlines():
        row = json.loads(line)
        if row.get('val_wer') is not None:
            row['val_wer'] = 100.0 * row['val_wer']
        rows.append(row)
    return rows


def print_table(results: dict) -> None:
    """Prints the mean and the standard deviation over the seeds for every system."""
    print(f'{"system":38}{"WER %":>8}{"spread":>8}{"CER %":>8}{"weights":>10}{"seconds":>9}')
    for name, system in results['systems'].items():
        wer, cer, seconds = system['wer'], system['cer'], system['train_seconds']
        mean = sum(wer) / len(wer)
        spread = (sum((value - mean) ** 2 for value in wer) / max(len(wer) - 1, 1)) ** 0.5
        print(
            f'{name:38}{mean:8.1f}{spread:8.1f}{sum(cer) / len(cer):8.1f}{system["parameters"]:10d}'
            f'{sum(seconds) / len(seconds):9.0f}'
        )

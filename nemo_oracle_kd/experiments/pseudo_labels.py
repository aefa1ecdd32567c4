# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the recipes with pseudo-labels share: the split of the training manifest, the small RNN-T, the job that labels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_oracle_kd.corpus.manifest import read_manifest, write_manifest
from nemo_oracle_kd.experiments.jobs import CLI, Job

__all__ = ['PLAIN', 'SMALL', 'SMALL_RNNT', 'Split', 'labelling_job', 'write_split']

#: the config of every model
SMALL_RNNT = 'rnnt/separable_rnnt_char'
#: of every model: 80 ms frames and a small joint, for the sake of a CPU
SMALL = [
    'model.encoder.jasper.1.stride=[4]',
    'model.model_defaults.joint_hidden=32',
    'model.train_ds.max_duration=5.0',
    'model.train_ds.batch_size=32',
    'exp_manager.create_tensorboard_logger=false',
]
#: of every student after the warm start: masked audio would hide that it has become surer than its teacher
PLAIN = ['model.spec_augment.freq_masks=0', 'model.spec_augment.time_masks=0']


@dataclass(frozen=True)
class Split:
    """Which utterances keep their labels.

    Attributes:
        supervised: share of the training manifest that keeps its labels.
        unsupervised: share that students see without its labels.
        seed: of the choice.
    """

    supervised: float = 0.5
    unsupervised: float = 0.5
    seed: int = 0


def write_split(split: Split, train: Path, folder: Path) -> dict[str, Path]:
    """Writes the parts of the training manifest: `all`, `supervised`, `few` (half of the supervised part) and `unsupervised`.

    Supervised rows say so. The unsupervised part keeps its texts for the measurement of pseudo-labels; students are given
    what `score` makes of it, where the truth is called `reference_text`, which NeMo does not read.
    """
    rows = read_manifest(train)
    random.Random(split.seed).shuffle(rows)
    count = round(split.supervised * len(rows))
    supervised = [{**row, 'supervised': True} for row in rows[:count]]
    parts = {
        'all': rows,
        'supervised': supervised,
        'few': supervised[: max(count // 2, 1)],
        'unsupervised': rows[count : count + round(split.unsupervised * len(rows))],
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f'{name}.jsonl' for name in parts}
    for name, part in parts.items():
        write_manifest(paths[name], part)
    return paths


def labelling_job(name: str, teacher: Path, manifest: Path, folder: Path, nbest: int, depends: Sequence[str]) -> Job:
    """The job by which a teacher labels a manifest; it writes `FOLDER/scored.jsonl`.

    Args:
        name: of the job.
        teacher: `.nemo` file.
        manifest: what it labels.
        folder: where the labels go.
        nbest: texts for each utterance.
        depends: jobs to wait for.
    """
    scored = folder / 'scored.jsonl'
    command = [*CLI, 'score', '--teacher', str(teacher), '--manifest', str(manifest), '--output', str(scored)]
    return Job(
        name,
        [*command, '--nbest', str(nbest), '--batch-size', '16'],
        outputs=[scored],
        depends=depends,
        inputs=[manifest],
        scratch=[folder],
    )

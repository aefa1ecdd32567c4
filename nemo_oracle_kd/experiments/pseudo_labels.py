# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Code that the recipes with pseudo-labels share: the split of the training manifest, a small RNN-T, the labelling job."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_oracle_kd.corpus.manifest import read_manifest, write_manifest
from nemo_oracle_kd.experiments.jobs import CLI, Job

__all__ = ['PLAIN', 'SMALL', 'SMALL_RNNT', 'Split', 'labelling_job', 'write_split']

#: config of every model
SMALL_RNNT = 'rnnt/separable_rnnt_char'
#: overrides of every model: 80 ms frames and a small joint, so that a CPU can train it
SMALL = [
    'model.encoder.jasper.1.stride=[4]',
    'model.model_defaults.joint_hidden=32',
    'model.train_ds.max_duration=5.0',
    'model.train_ds.batch_size=32',
    'exp_manager.create_tensorboard_logger=false',
]
#: overrides of every student after the warm start: with masked audio it would never get more certain than its teacher
PLAIN = ['model.spec_augment.freq_masks=0', 'model.spec_augment.time_masks=0']


@dataclass(frozen=True)
class Split:
    """Which utterances of a training manifest keep their labels.

    Attributes:
        supervised: share of the manifest that keeps its labels.
        unsupervised: share of the manifest that students see without its labels.
        seed: seed of the random choice.
    """

    supervised: float = 0.5
    unsupervised: float = 0.5
    seed: int = 0


def write_split(split: Split, train: Path, folder: Path) -> dict[str, Path]:
    """Writes the parts of the training manifest: `all`, `supervised`, `few` (half of the supervised part) and `unsupervised`.

    Supervised rows are marked `"supervised": true`. The unsupervised part keeps its texts, so that the pseudo-labels can be
    scored. Students are trained on the output of `nemo-oracle-kd score`, where the true text is in `reference_text`, which
    NeMo does not read.

    Args:
        split: shares and seed.
        train: the training manifest.
        folder: folder of the parts, which is made if it does not exist.

    Returns:
        Name of a part -> its manifest.
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
    """Returns the job in which a teacher labels a manifest; it writes `FOLDER/scored.jsonl`.

    Args:
        name: name of the job.
        teacher: the teacher's `.nemo` file.
        manifest: manifest to label.
        folder: folder of the labels.
        nbest: number of hypotheses per utterance.
        depends: names of the jobs to wait for.
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

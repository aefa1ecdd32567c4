# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Code that the recipes with pseudo-labels share: the split of the training manifest, a small RNN-T, the jobs that label and filter."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nemo_oracle_kd.corpus.manifest import read_manifest, write_manifest
from nemo_oracle_kd.experiments.jobs import CLI, Job

__all__ = ['COARSE', 'PLAIN', 'SMALL', 'SMALL_RNNT', 'Split', 'filter_job', 'labelling_job', 'write_split']

#: config of every model
SMALL_RNNT = 'rnnt/separable_rnnt_char'
#: overrides for frames of 80 ms and a small joint, so that a CPU can train an RNN-T
COARSE = ['model.encoder.jasper.1.stride=[4]', 'model.model_defaults.joint_hidden=32']
#: overrides of every model on short utterances
SMALL = [
    *COARSE,
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
        by: key of the rows that stay together, such as `speaker`; the shares are then those of its values. `None`: single rows.
    """

    supervised: float = 0.5
    unsupervised: float = 0.5
    seed: int = 0
    by: str | None = None


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

    Raises:
        ValueError: a row lacks the key of the split, or a share of the rows or values is none of them.
    """
    groups = _groups(read_manifest(train), split.by)
    random.Random(split.seed).shuffle(groups)
    count, others = (round(share * len(groups)) for share in (split.supervised, split.unsupervised))
    if not count or not others:
        raise ValueError(
            f"{split.supervised:g} and {split.unsupervised:g} of {len(groups)} {split.by or 'row'}s make a part without any: "
            "give larger shares"
        )
    supervised = [[{**row, 'supervised': True} for row in group] for group in groups[:count]]
    parts = {
        'all': groups,
        'supervised': supervised,
        'few': supervised[: max(count // 2, 1)],
        'unsupervised': groups[count : count + others],
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f'{name}.jsonl' for name in parts}
    for name, part in parts.items():
        write_manifest(paths[name], [row for group in part for row in group])
    return paths


def _groups(rows: list[dict], by: str | None) -> list[list[dict]]:
    """Rows with the same value of a key, in the order of the manifest; single rows if there is no key."""
    if by is None:
        return [[row] for row in rows]
    groups: dict[str, list[dict]] = {}
    for number, row in enumerate(rows, start=1):
        if by not in row:
            raise ValueError(f"row {number} of the training manifest has no `{by}`, by which it is split: add it")
        groups.setdefault(str(row[by]), []).append(row)
    return list(groups.values())


def labelling_job(
    name: str,
    teacher: Path | str,
    manifest: Path,
    folder: Path,
    nbest: int,
    depends: Sequence[str],
    options: Sequence[str] = (),
) -> Job:
    """Returns the job in which a teacher labels a manifest; it writes `FOLDER/scored.jsonl`.

    Args:
        name: name of the job.
        teacher: the teacher's `.nemo` file, or `whisper:FOLDER`.
        manifest: manifest to label.
        folder: folder of the labels.
        nbest: number of hypotheses per utterance.
        depends: names of the jobs to wait for.
        options: further options of `score`.
    """
    scored = folder / 'scored.jsonl'
    command = [*CLI, 'score', '--teacher', str(teacher), '--manifest', str(manifest), '--output', str(scored)]
    return Job(
        name,
        [*command, '--nbest', str(nbest), '--batch-size', '16', *options],
        outputs=[scored],
        depends=depends,
        inputs=[manifest],
        scratch=[folder],
    )


def filter_job(
    name: str, scored: Path, kept: Path, keep: str, others: Mapping[str, Path], depends: Sequence[str] = ()
) -> Job:
    """Returns the job that keeps the labels which an expression accepts; it writes `KEPT.jsonl` and a page of pictures beside it.

    Args:
        name: name of the job.
        scored: scored manifest.
        kept: manifest to write.
        keep: the expression (`nemo-oracle-kd filter --keep`).
        others: labels of other teachers, by the names that the expression may use.
        depends: names of the jobs to wait for.
    """
    page = kept.with_suffix('.html')
    command = [*CLI, 'filter', str(scored), '--output', str(kept), '--keep', keep, '--report', str(page)]
    command += [word for other, path in others.items() for word in ('--other', f'{other}={path}')]
    return Job(
        name,
        [*command, '--overwrite'],
        outputs=[kept, page],
        depends=depends,
        inputs=[scored, *others.values()],
    )

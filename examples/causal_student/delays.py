# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures how long after their teacher trained students emit, and how far their encoders look ahead."""

from collections.abc import Mapping
from pathlib import Path

import torch
from tqdm import tqdm

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.evaluation.emission_times import label_frames
from nemo_oracle_kd.evaluation.transcription import load_model
from nemo_oracle_kd.functional import estimate_delay


@torch.no_grad()
def look_ahead(model, frames: int = 400, changes: int = 16) -> int:
    """Number of feature frames after its own first one on which an output frame depends; not above 0 if causal.

    The function changes all features from some frame on, and looks for the first output frame that differs. It measures the
    encoder alone: the features themselves reach 16 ms ahead, and `normalize: per_feature` of the preprocessor uses the whole
    utterance.
    """
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, model.cfg.preprocessor.features, frames, generator=generator)
    lengths, farthest = torch.tensor([frames]), -frames
    plain, _ = model.encoder(audio_signal=features, length=lengths)
    stride = round(frames / plain.shape[2])
    for first in range(frames // 2, frames // 2 + changes):
        changed = features.clone()
        changed[:, :, first:] += 1.0
        other, _ = model.encoder(audio_signal=changed, length=lengths)
        differs = ((other - plain).abs().amax((0, 1)) > 0).nonzero()
        farthest = max(farthest, first - stride * int(differs[0]))
    return farthest


def measure(teacher: Path, students: Mapping[str, Mapping[int, Path]], manifest: Path, limit: int) -> dict[str, dict]:
    """Delay of every student behind the teacher in frames, over at most `limit` utterances, and its encoder's look-ahead.

    Args:
        teacher: a `.nemo` file.
        students: name -> seed -> `.nemo` file.
        manifest: utterances with true texts.
        limit: largest number of rows to use, spread evenly over the manifest.
    """
    rows = read_manifest(manifest)
    rows = rows[:: max(len(rows) // limit, 1)][:limit]
    model = load_model(teacher)
    reference = label_frames(model, rows, 'rnnt')
    found = {'teacher': {'look_ahead': look_ahead(model)}}
    for name, of_seed in tqdm(students.items(), desc='emission delays'):
        facts = {'median': [], 'mean': [], 'quartiles': []}
        for path in of_seed.values():
            model = load_model(path)
            delay = estimate_delay(label_frames(model, rows, 'rnnt'), reference)
            facts['median'].append(delay.median)
            facts['mean'].append(delay.mean)
            facts['quartiles'].append(list(delay.quartiles))
        found[name] = {**facts, 'look_ahead': look_ahead(model)}
    return found

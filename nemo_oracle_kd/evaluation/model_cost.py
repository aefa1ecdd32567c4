# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What a model costs: weights, bytes on disk, multiply-adds and time per second of audio."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from nemo_oracle_kd.bridge.audio import audio_batch
from nemo_oracle_kd.bridge.encode import encode_audio

__all__ = ['ModelCost', 'cost_table', 'measure_cost']

#: length of the utterance that is measured, in seconds, and how often it is timed
SECONDS, RUNS = 10.0, 3


@dataclass(frozen=True)
class ModelCost:
    """Costs of a model.

    Attributes:
        weights: number of its parameters.
        disk_bytes: size of its `.nemo` file.
        multiply_adds: per second of audio, of features, encoder and CTC head (matrix products and convolutions). What a
            transducer computes per label besides does not depend on its encoder.
        real_time_factor: seconds that the same takes per second of audio, the shortest of three runs.
    """

    weights: int
    disk_bytes: int
    multiply_adds: float
    real_time_factor: float


@torch.no_grad()
def measure_cost(model: Any, path: str | Path) -> ModelCost:
    """Measures a restored model on ten seconds of noise, one utterance at a time, on the model's device.

    Args:
        model: a NeMo model in eval mode.
        path: its `.nemo` file.
    """
    rate = int(model.cfg.get('sample_rate', model.cfg.preprocessor.get('sample_rate', 16000)))
    noise = 0.1 * torch.randn(int(SECONDS * rate), generator=torch.Generator().manual_seed(0))
    batch = audio_batch([noise], next(model.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        encode_audio(model, batch)
    return ModelCost(
        weights=sum(parameter.numel() for parameter in model.parameters()),
        disk_bytes=Path(path).stat().st_size,
        multiply_adds=counter.get_total_flops() / 2 / SECONDS,
        real_time_factor=min(_seconds(model, batch) for _ in range(RUNS)) / SECONDS,
    )


def _seconds(model: Any, batch: Any) -> float:
    started = time.perf_counter()
    encoded = encode_audio(model, batch)
    float(encoded.lengths.sum())  # waits for a GPU
    return time.perf_counter() - started


def cost_table(before: ModelCost, after: ModelCost) -> str:
    """Formats two costs, with what is left of the first."""
    rows = {
        'weights': (before.weights / 1e6, after.weights / 1e6, 'M'),
        'size on disk': (before.disk_bytes / 1e6, after.disk_bytes / 1e6, 'MB'),
        'multiply-adds per second of audio': (before.multiply_adds / 1e9, after.multiply_adds / 1e9, 'G'),
        'real-time factor': (before.real_time_factor, after.real_time_factor, ''),
    }
    lines = [f"{'':<34}{'before':>12}{'after':>12}{'left':>8}"]
    for name, (old, new, unit) in rows.items():
        texts = [f'{value:.4g} {unit}'.strip() for value in (old, new)]
        lines.append(f'{name:<34}{texts[0]:>12}{texts[1]:>12}{100 * new / old:>6.0f} %')
    return '\n'.join(lines)

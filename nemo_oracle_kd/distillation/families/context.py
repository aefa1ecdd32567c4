# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the families of objectives need to know about a training step besides what the student shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from nemo_oracle_kd.bridge.signals import AudioBatch

__all__ = ['StepContext']


@dataclass
class StepContext:
    """One training step.

    Attributes:
        step: optimizer steps done so far.
        with_statistics: whether this step is written to the log.
        batch: the audio as a teacher beside the student hears it; `None` with stored scores.
        rows: manifest rows of the batch, in its order; `None` when nothing needs them.
        supervised: `[B]` bool, rows marked `"supervised": true`; `None` when none is.
        answers: what a family has asked of the teacher in this step, for the second head of a hybrid student.
        metrics: what is logged.
    """

    step: int
    with_statistics: bool = False
    batch: AudioBatch | None = None
    rows: list[Mapping[str, Any]] | None = None
    supervised: torch.Tensor | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, torch.Tensor | float] = field(default_factory=dict)

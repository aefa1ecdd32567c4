# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the families of objectives need to know about a training step besides what the student shows."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

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
    batch: Optional[AudioBatch] = None
    rows: Optional[List[Mapping[str, Any]]] = None
    supervised: Optional[torch.Tensor] = None
    answers: Dict[str, Any] = field(default_factory=dict)
    metrics: Dict[str, torch.Tensor | float] = field(default_factory=dict)

# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
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

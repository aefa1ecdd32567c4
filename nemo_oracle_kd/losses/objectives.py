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
"""All objectives of this package under the names that a config uses."""

from typing import Dict

from nemo_oracle_kd.losses.frame_losses import FRAME_OBJECTIVES
from nemo_oracle_kd.losses.lattice_losses import LATTICE_OBJECTIVES
from nemo_oracle_kd.losses.sequence_losses import SEQUENCE_OBJECTIVES

__all__ = ['OBJECTIVES', 'objectives_of']

#: name in a config -> (config dataclass, loss class); the class attribute `family` tells what the loss compares
OBJECTIVES: Dict[str, tuple] = {**FRAME_OBJECTIVES, **SEQUENCE_OBJECTIVES, **LATTICE_OBJECTIVES}


def objectives_of(family: str, names) -> list:
    """Those of some objectives that belong to a family, in their order.

    Args:
        family: `frame`, `sequence` or `lattice`.
        names: names of objectives.
    """
    return [name for name in names if OBJECTIVES[name][1].family == family]

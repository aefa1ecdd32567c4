# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""All objectives of this package under the names that a config uses."""

from nemo_oracle_kd.losses.frame import FRAME_OBJECTIVES
from nemo_oracle_kd.losses.lattice import LATTICE_OBJECTIVES
from nemo_oracle_kd.losses.sequence import SEQUENCE_OBJECTIVES

__all__ = ['OBJECTIVES', 'objectives_of']

#: name in a config -> (config dataclass, loss class); the class attribute `family` tells what the loss compares
OBJECTIVES: dict[str, tuple] = {**FRAME_OBJECTIVES, **SEQUENCE_OBJECTIVES, **LATTICE_OBJECTIVES}


def objectives_of(family: str, names) -> list:
    """Those of some objectives that belong to a family, in their order.

    Args:
        family: `frame`, `sequence` or `lattice`.
        names: names of objectives.
    """
    return [name for name in names if OBJECTIVES[name][1].family == family]

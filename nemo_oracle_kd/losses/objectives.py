# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""All objectives under the names that a config uses: those of this package and those of installed plug-ins.

An objective is a config dataclass and a loss class. Another package adds one by an entry point of the group
`nemo_oracle_kd.objectives`, whose name is the objective's and whose value is the loss class, with the config dataclass as its
attribute `config_class` (docs/adding_an_objective.md). Nothing but an installed package can do this: no file names a class.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, NamedTuple

from nemo.utils import logging

from nemo_oracle_kd.losses.frame import FRAME_OBJECTIVES
from nemo_oracle_kd.losses.lattice import LATTICE_OBJECTIVES
from nemo_oracle_kd.losses.sequence import SEQUENCE_OBJECTIVES
from nemo_oracle_kd.losses.traits import FAMILIES, ObjectiveTraits

__all__ = ['ENTRY_POINTS', 'OBJECTIVES', 'Needs', 'Objective', 'needs_of', 'objectives_of', 'register_objective']

ENTRY_POINTS = 'nemo_oracle_kd.objectives'


class Objective(NamedTuple):
    """One objective.

    Attributes:
        config: its config dataclass, with a field `weight`.
        loss: its loss class, which describes itself (:class:`ObjectiveTraits`).
    """

    config: type
    loss: type[ObjectiveTraits]


OBJECTIVES: dict[str, Objective] = {
    name: Objective(*parts)
    for name, parts in {**FRAME_OBJECTIVES, **SEQUENCE_OBJECTIVES, **LATTICE_OBJECTIVES}.items()
}


def register_objective(name: str, loss: type[ObjectiveTraits]) -> None:
    """Adds an objective.

    Args:
        name: in a config.
        loss: its loss class; `loss.config_class` is its config dataclass.

    Raises:
        ValueError: the name is taken, or the class is not an objective.
    """
    config = getattr(loss, 'config_class', None)
    if not (isinstance(loss, type) and issubclass(loss, ObjectiveTraits)):
        raise ValueError(
            f"the objective {name!r} is {loss!r}: derive its class from one of the bases in nemo_oracle_kd.losses"
        )
    if getattr(loss, 'family', None) not in FAMILIES:
        raise ValueError(f"{loss.__name__}.family must be one of {', '.join(FAMILIES)}")
    if not dataclasses.is_dataclass(config) or 'weight' not in {field.name for field in dataclasses.fields(config)}:
        raise ValueError(f"{loss.__name__}.config_class must be a dataclass with a field `weight`")
    if OBJECTIVES.get(name, Objective(config, loss)) != Objective(config, loss):
        raise ValueError(f"there is an objective {name!r} already: choose another name")
    OBJECTIVES[name] = Objective(config, loss)


def objectives_of(family: str, names: Iterable[str]) -> list[str]:
    """Those of some objectives that belong to a family, in their order.

    Args:
        family: `frame`, `sequence` or `lattice`.
        names: names of objectives.
    """
    return [name for name in names if OBJECTIVES[name].loss.family == family]


@dataclasses.dataclass(frozen=True)
class Needs:
    """What the objectives of one distillation need between them: for each flag, the names of those that have it set.

    Attributes:
        scores: objectives that read the teacher's score of the row's text, because they compare it or weigh by it.
        nbest: name -> how many texts it compares.
        true_likelihood: see `ObjectiveTraits`.
        sequence: objectives over whole texts.
    """

    scores: tuple[str, ...]
    nbest: Mapping[str, int]
    true_likelihood: tuple[str, ...]
    sequence: tuple[str, ...]

    @property
    def most_texts(self) -> int:
        """The longest N-best list that is compared, 0 if none is."""
        return max(self.nbest.values(), default=0)


def needs_of(objectives: Mapping[str, Any]) -> Needs:
    """What some objectives need.

    Args:
        objectives: name -> config.
    """
    sequence = objectives_of('sequence', objectives)
    classes = {name: OBJECTIVES[name].loss for name in sequence}
    weighed = [name for name in sequence if _confidence_mode(objectives[name]) != 'constant']
    return Needs(
        scores=tuple(name for name in sequence if classes[name].reads_score or name in weighed),
        nbest={name: objectives[name].nbest for name in sequence if classes[name].needs_nbest},
        true_likelihood=tuple(name for name in sequence if classes[name].needs_true_likelihood),
        sequence=tuple(sequence),
    )


def _confidence_mode(config: Any) -> str:
    return getattr(getattr(config, 'confidence', None), 'mode', 'constant')


def _add_plug_ins() -> None:
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            register_objective(entry.name, entry.load())
        except Exception as error:  # another package's mistake must not take ours down
            logging.warning(f"The objective '{entry.name}' of the package {entry.dist.name} cannot be used: {error}")


_add_plug_ins()

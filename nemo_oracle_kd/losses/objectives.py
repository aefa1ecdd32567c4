# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The registry of objectives by their names in a config: those of this package and those of installed plug-ins.

An objective is a config dataclass and a loss class. Another package adds one by an entry point of the group
`nemo_oracle_kd.objectives`. The name of the entry point is that of the objective, and its value is the loss class, whose
attribute `config_class` is the config dataclass (docs/adding_an_objective.md). Only an installed package can do this; no
config, manifest or `.nemo` can name a class.
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
"""Group of entry points by which other packages add objectives."""


class Objective(NamedTuple):
    """An entry of the registry.

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
"""Name in a config -> objective."""


def register_objective(name: str, loss: type[ObjectiveTraits]) -> None:
    """Adds an objective to the registry.

    Args:
        name: its name in a config.
        loss: its loss class; `loss.config_class` is its config dataclass.

    Raises:
        ValueError: if the name is taken, or if the class is not an objective.
    """
    config = getattr(loss, 'config_class', None)
    if not (isinstance(loss, type) and issubclass(loss, ObjectiveTraits)):
        raise ValueError(
            f"the objective {name!r} is {loss!r}: derive its class from one of the bases in nemo_oracle_kd.losses"
        )
    if getattr(loss, 'family', None) not in FAMILIES:
        raise ValueError(
            f"`{loss.__name__}.family` is {getattr(loss, 'family', None)!r}: choose one of {', '.join(FAMILIES)}"
        )
    if not dataclasses.is_dataclass(config) or 'weight' not in {field.name for field in dataclasses.fields(config)}:
        raise ValueError(f"`{loss.__name__}.config_class` is {config!r}: set it to a dataclass with a field `weight`")
    if OBJECTIVES.get(name, Objective(config, loss)) != Objective(config, loss):
        raise ValueError(f"an objective {name!r} exists already: choose another name")
    OBJECTIVES[name] = Objective(config, loss)


def objectives_of(family: str, names: Iterable[str]) -> list[str]:
    """The objectives of one family among `names`, in the same order.

    Args:
        family: `frame`, `sequence` or `lattice`.
        names: names of objectives.
    """
    return [name for name in names if OBJECTIVES[name].loss.family == family]


@dataclasses.dataclass(frozen=True)
class Needs:
    """What the objectives of one distillation need: for each need, the names of the objectives that have it.

    Attributes:
        scores: objectives that read the teacher's score of the row's text, because they compare it or weight by it.
        nbest: name -> number of texts that the objective compares.
        true_likelihood: objectives with `needs_true_likelihood`, see `ObjectiveTraits`.
        sequence: objectives over whole texts.
        fields: entries of `teacher_fields` by which objectives weight rows -> whether they are weights themselves, 0 to 1.
    """

    scores: tuple[str, ...]
    nbest: Mapping[str, int]
    true_likelihood: tuple[str, ...]
    sequence: tuple[str, ...]
    fields: Mapping[str, bool]

    @property
    def most_texts(self) -> int:
        """The length of the longest N-best list that is compared; 0 if none is."""
        return max(self.nbest.values(), default=0)


def needs_of(objectives: Mapping[str, Any]) -> Needs:
    """Collects what a distillation needs from the flags of its objectives.

    Args:
        objectives: name -> config.
    """
    sequence = objectives_of('sequence', objectives)
    classes = {name: OBJECTIVES[name].loss for name in sequence}
    confidences = {name: getattr(objectives[name], 'confidence', None) for name in sequence}
    confidences = {name: found for name, found in confidences.items() if found and found.mode != 'constant'}
    weighed = [name for name, found in confidences.items() if found.field is None]
    fields: dict[str, bool] = {}
    for found in confidences.values():
        if found.field is not None:
            fields[found.field] = fields.get(found.field, False) or found.mode == 'value'
    return Needs(
        scores=tuple(name for name in sequence if classes[name].reads_score or name in weighed),
        nbest={name: objectives[name].nbest for name in sequence if classes[name].needs_nbest},
        true_likelihood=tuple(name for name in sequence if classes[name].needs_true_likelihood),
        sequence=tuple(sequence),
        fields=fields,
    )


def _add_plug_ins() -> None:
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            register_objective(entry.name, entry.load())
        except Exception as error:  # a fault in another package must not stop this one
            logging.warning(f"The objective '{entry.name}' of the package {entry.dist.name} cannot be used: {error}")


_add_plug_ins()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The config of a distillation: one mapping, the same for the callback and for `model.distillation`."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo_oracle_kd.distillation.teacher_kinds import config_class_of
from nemo_oracle_kd.distillation.teacher_settings import TeacherOptions
from nemo_oracle_kd.errors import ConfigError, unknown_name
from nemo_oracle_kd.losses.lattice_settings import DelayConfig
from nemo_oracle_kd.losses.objectives import OBJECTIVES, needs_of, objectives_of
from nemo_oracle_kd.losses.schedule import WeightSchedule
from nemo_oracle_kd.strict_config import build

__all__ = ['DistillationConfig', 'LabelLossConfig']

LABEL_LOSS_ON = ('all', 'supervised')


@dataclass
class LabelLossConfig:
    """NeMo's own loss on the transcript."""

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(1.0), metadata={'help': 'factor in the training loss'}
    )
    on: str = field(default='all', metadata={'help': 'all rows, or those that say "supervised": true in the manifest'})

    def problems(self, path: str) -> Iterator[str]:
        if self.on not in LABEL_LOSS_ON:
            yield f"`{path}.on` is {self.on!r}: choose one of {', '.join(LABEL_LOSS_ON)}"


@dataclass
class DistillationConfig:
    """Teacher, label loss and objectives of one distillation.

    Attributes:
        teacher: where signals come from.
        objectives: name -> config of the objective.
        label_loss: NeMo's own loss.
        supervised_share: share of rows marked supervised in every batch; `None`: as the loader yields them.
    """

    teacher: TeacherOptions
    objectives: dict[str, Any]
    label_loss: LabelLossConfig
    supervised_share: float | None = None

    @property
    def stored(self) -> bool:
        """Whether objectives over texts read the teacher's scores from the training manifest."""
        return self.teacher.stored

    @property
    def beside(self) -> bool:
        """Whether a teacher, or its cache, is asked in every step."""
        return self.teacher.runs_beside({OBJECTIVES[name].loss.family for name in self.objectives})

    @classmethod
    def from_mapping(cls, values: Mapping, path: str = 'distillation') -> 'DistillationConfig':
        """Reads and checks a config.

        Args:
            values: `teacher`, `objectives` and, optionally, `label_loss` and `supervised_share`.
            path: where the mapping is in the user's config, for messages.

        Raises:
            ConfigError: lists every unknown key (with the nearest valid name), missing value and contradiction.
        """
        problems: list[str] = []
        sections = ('teacher', 'objectives', 'label_loss', 'supervised_share')
        problems += [f"`{path}`: {unknown_name('key', str(key), sections)}" for key in values if key not in sections]
        if values.get('teacher') is None:
            problems.append(f"`{path}.teacher` is missing: give {path}.teacher.restore_from, the path of a .nemo file")
            teacher = None
        else:
            teacher = _build_teacher(values['teacher'], f'{path}.teacher', problems)
        label_loss = build(LabelLossConfig, _with_key_on(values.get('label_loss')), f'{path}.label_loss', problems)
        share = values.get('supervised_share')
        problems += _share_problems(share, f'{path}.supervised_share')
        objectives = _build_objectives(values.get('objectives') or {}, f'{path}.objectives', problems)
        if teacher is not None:
            problems += _needs_problems(teacher, objectives, path)
        weights = [part.weight for part in (label_loss, *objectives.values()) if part is not None]
        if objectives and None not in (label_loss, *objectives.values()):
            if all(weight.always_zero for weight in weights):
                problems.append(
                    f"`{path}`: the weights of the label loss and of every objective are 0, so nothing would be trained: "
                    "give one of them a weight above 0"
                )
        if problems:
            raise ConfigError(problems)
        return cls(teacher, objectives, label_loss, None if share is None else float(share))


def _build_teacher(values: Any, path: str, problems: list[str]) -> TeacherOptions | None:
    try:
        kind = config_class_of(values)
    except ConfigError as error:
        problems.extend(f'`{path}`: {message}' for message in error.messages)
        return None
    return build(kind, kind.own(values) if isinstance(values, Mapping) else values, path, problems)


def _with_key_on(label_loss: Any) -> Any:
    """YAML reads a bare `on` as true, also where it is a key; an override on the command line (`...on=all`) wins."""
    if not isinstance(label_loss, Mapping) or True not in label_loss:
        return label_loss
    others = {key: value for key, value in label_loss.items() if key is not True}
    return {'on': label_loss[True], **others}


def _build_objectives(named: Any, path: str, problems: list[str]) -> dict[str, Any]:
    if not isinstance(named, Mapping):
        problems.append(f"`{path}` must be a mapping, as in objectives: {{frame_kl: {{weight: 0.05}}}}, not {named!r}")
        return {}
    if not named:
        problems.append(f"`{path}` is empty: name at least one of {', '.join(OBJECTIVES)}")
    objectives = {}
    for name, options in named.items():
        if name not in OBJECTIVES:
            problems.append(f"`{path}`: {unknown_name('objective', str(name), OBJECTIVES)}")
            continue
        objectives[name] = build(OBJECTIVES[name].config, options, f'{path}.{name}', problems)
    return objectives


def _share_problems(share: Any, path: str) -> Iterator[str]:
    if share is None:
        return
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    if not (number and math.isfinite(share) and 0 < share < 1):
        yield (
            f"`{path}` must be a number between 0 and 1, such as 0.1, not {share!r}: leave it out to take the batches as the "
            "loader yields them"
        )


def _needs_problems(teacher: TeacherOptions, objectives: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yields the objectives that the chosen kind of teacher cannot serve."""
    classes = {name: OBJECTIVES[name].loss for name in objectives}
    beside = [name for name, loss in classes.items() if loss.family != 'sequence']
    stored = [name for name, loss in classes.items() if loss.needs_stored_scores]
    runs = teacher.runs_beside({loss.family for loss in classes.values()})
    if not runs and beside:
        yield (
            f"`{path}`: {', '.join(beside)} compares what both models emit, for which stored scores are not enough: give "
            f"{path}.teacher.restore_from or {path}.teacher.cache as well"
        )
    if not runs and getattr(teacher, 'memory_mb', 0.0) > 0:
        yield f"`{path}.teacher.memory_mb` needs a teacher beside the student: remove it, or set {path}.teacher.scores to null"
    if runs and teacher.stored and classes and not objectives_of('sequence', classes):
        yield (
            f"`{path}.teacher.scores` is read by objectives over texts, such as full_sum, and there is none: set "
            f"{path}.teacher.scores to null, or add one"
        )
    if not teacher.stored and (
        fields := needs_of({name: found for name, found in objectives.items() if found}).fields
    ):
        yield (
            f"`{path}`: `confidence.field` ({', '.join(fields)}) is read from rows with stored scores: set {path}.teacher.scores "
            "to manifest, or leave the field out"
        )
    shifted = getattr(teacher, 'shift', 0) or getattr(teacher, 'delay', DelayConfig()).mode == 'estimate'
    if shifted and not any(loss.family == 'frame' for loss in classes.values()):
        yield (
            f"`{path}.teacher.shift` and `{path}.teacher.delay` move the frames of frame objectives, and there is none: use "
            "those of the objective, or remove them"
        )
    if not teacher.stored and stored:
        yield (
            f"`{path}`: {', '.join(stored)} learns from the teacher's own texts: label the training data once with "
            f"`nemo-oracle-kd score`, train on the manifest it writes, and set {path}.teacher.scores to manifest"
        )

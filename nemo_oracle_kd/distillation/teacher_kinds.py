# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The kinds of teachers, by the key of a config that only one kind has.

A kind of teacher is a class with a config dataclass, `config_class`: `teacher: {restore_from: ...}` is an
:class:`OnlineTeacher`, `teacher: {cache: ...}` a :class:`CachedTeacher`, `teacher: {self: ...}` one of the :class:`SelfTeacher`
classes. Another package adds a kind by an entry
point of the group `nemo_oracle_kd.teachers`, whose name is that key and whose value is the class (docs/adding_an_objective.md).
"""

import dataclasses
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from nemo.utils import logging

from nemo_oracle_kd.distillation.cached_teacher import CachedTeacher
from nemo_oracle_kd.distillation.self_teachers.kinds import SelfTeacher
from nemo_oracle_kd.distillation.teacher_settings import TeacherConfig, TeacherOptions
from nemo_oracle_kd.distillation.teachers import OnlineTeacher, Teacher
from nemo_oracle_kd.errors import ConfigError

__all__ = ['ENTRY_POINTS', 'TEACHERS', 'config_class_of', 'make_teacher', 'register_teacher']

ENTRY_POINTS = 'nemo_oracle_kd.teachers'


def make_teacher(config: TeacherOptions) -> Teacher:
    """The teacher that a config asks for, beside the student; call it only if `DistillationConfig.beside`.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: the file is not a model.
    """
    kinds = (kind for entry in TEACHERS.values() for kind in entry.kinds())
    kind = next(kind for kind in kinds if kind.config_class is type(config))
    return kind(config)


TEACHERS: dict[str, type[Teacher]] = {'cache': CachedTeacher, 'restore_from': OnlineTeacher, 'self': SelfTeacher}
"""Key of a teacher's config that only this kind has -> the class."""


def config_class_of(values: Any) -> type[TeacherOptions]:
    """The config of the kind of teacher that a `teacher` section means, by the key that only this kind has.

    Raises:
        ConfigError: the key is there, but its value names nothing; or several kinds are named.
    """
    if isinstance(values, TeacherOptions):
        return type(values)
    named = [key for key in TEACHERS if isinstance(values, Mapping) and values.get(key) not in (None, '???')]
    if not named:
        return TeacherConfig
    config = TEACHERS[named[0]].choose(values).config_class
    if values.get('scores') is not None and 'scores' not in _names(config):
        named.append('scores')
    if len(named) > 1:
        raise ConfigError(
            f"{' and '.join(named)} name different teachers, but a distillation has one: remove {named[1]}, or combine presets "
            "that have the same kind of teacher"
        )
    return config


def register_teacher(key: str, teacher: type[Teacher]) -> None:
    """Adds a kind of teacher.

    Args:
        key: the key of its config that no other kind has.
        teacher: the class; `teacher.config_class` derives from `TeacherOptions` and has a field of that name.

    Raises:
        ValueError: the key is taken, or the class is no teacher.
    """
    config = getattr(teacher, 'config_class', None)
    if not (isinstance(teacher, type) and issubclass(teacher, Teacher)):
        raise ValueError(
            f"the teacher {key!r} is {teacher!r}: derive its class from nemo_oracle_kd.distillation.teachers.Teacher"
        )
    if not (isinstance(config, type) and issubclass(config, TeacherOptions) and key in _names(config)):
        raise ValueError(
            f"{teacher.__name__}.config_class must derive from TeacherOptions and have a field {key!r} with a default"
        )
    if TEACHERS.get(key, teacher) is not teacher or key in _names(TeacherConfig):
        raise ValueError(f"there is a teacher {key!r} already: choose another name")
    TEACHERS[key] = teacher


def _names(config: type) -> set[str]:
    return {field.name for field in dataclasses.fields(config)}


def _add_plug_ins() -> None:
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            register_teacher(entry.name, entry.load())
        except Exception as error:  # another package's mistake must not take ours down
            logging.warning(f"The teacher '{entry.name}' of the package {entry.dist.name} cannot be used: {error}")


_add_plug_ins()

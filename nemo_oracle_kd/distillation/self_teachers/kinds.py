# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The kinds of self-teachers, by the value of `teacher.self`."""

from collections.abc import Mapping
from typing import Any

from nemo_oracle_kd.distillation.self_teachers.base import StudentAsTeacher
from nemo_oracle_kd.distillation.self_teachers.context import ContextTeacher
from nemo_oracle_kd.distillation.self_teachers.ema import EMATeacher
from nemo_oracle_kd.distillation.self_teachers.oracle import OracleSelfTeacher
from nemo_oracle_kd.distillation.self_teachers.view import ViewTeacher
from nemo_oracle_kd.distillation.teachers import Teacher
from nemo_oracle_kd.errors import ConfigError, unknown_name

__all__ = ['SELF_TEACHERS', 'SelfTeacher']

SELF_TEACHERS: dict[str, type[StudentAsTeacher]] = {
    'oracle': OracleSelfTeacher,
    'ema': EMATeacher,
    'view': ViewTeacher,
    'context': ContextTeacher,
}


class SelfTeacher(StudentAsTeacher):
    """The entry of the registry under the key `self`; its value chooses one of :data:`SELF_TEACHERS`."""

    @classmethod
    def kinds(cls) -> tuple[type[Teacher], ...]:
        """All of :data:`SELF_TEACHERS`."""
        return tuple(SELF_TEACHERS.values())

    @classmethod
    def choose(cls, values: Mapping[str, Any]) -> type[Teacher]:
        """Chooses by the value of `self`.

        Raises:
            ConfigError: there is no such kind.
        """
        name = values['self']
        if name not in SELF_TEACHERS:
            raise ConfigError([unknown_name('value of self', str(name), SELF_TEACHERS)])
        return SELF_TEACHERS[name]

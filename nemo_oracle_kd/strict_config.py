# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Config dataclasses that refuse what they do not know.

Every configurable thing of this package is one dataclass. :func:`build` fills it from a plain mapping (YAML), checks names and
types, suggests the nearest valid name for a typo, and *collects* every problem, so that a user mends a config once and not
once per error.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from nemo_oracle_kd.errors import ConfigError, unknown_name

__all__ = ['build', 'build_or_raise']

T = TypeVar('T')


def _is_optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def _plain_type(annotation: Any) -> Any:
    """`Optional[X]` -> `X`; anything else unchanged."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        return members[0] if len(members) == 1 else annotation
    return annotation


def _convert(annotation: Any, value: Any, path: str, problems: list[str]) -> Any:
    """The value in the field's type, or a recorded problem."""
    if value is None:
        if not _is_optional(annotation):
            problems.append(f"`{path}` is empty: give it a value")
        return None
    wanted = _plain_type(annotation)
    if dataclasses.is_dataclass(wanted):
        return build(wanted, value, path, problems)
    if wanted is Any or typing.get_origin(wanted) is not None:
        return value
    if wanted is bool or isinstance(value, bool):
        if wanted is bool and isinstance(value, bool):
            return value
    elif wanted is float and isinstance(value, (int, float)):
        return float(value)
    elif wanted is float and isinstance(value, str):
        try:  # YAML 1.1 reads 1e-3 (without a dot) as a string
            return float(value)
        except ValueError:
            pass
    elif wanted in (int, str, list) and isinstance(value, wanted):
        return value
    problems.append(f"`{path}` must be {_article(wanted)}, not {value!r}")
    return None


def _article(wanted: type) -> str:
    return {int: 'a whole number', float: 'a number', str: 'a string', bool: 'true or false', list: 'a list'}.get(
        wanted, str(wanted)
    )


def build(cls: type[T], values: Any, path: str, problems: list[str]) -> T | None:
    """Fills a config dataclass from a mapping and records everything that is wrong with it.

    A dataclass may define `from_scalar(value)` (a class method: the short form, e.g. `weight: 0.1`) and
    `problems(path) -> Iterable[str]` (cross-field checks, called only when all fields are sound).

    Args:
        cls: the dataclass.
        values: mapping of field names to values, an instance of `cls`, or the scalar short form.
        path: where in the config this is, for the messages.
        problems: list to which one sentence per problem is appended.

    Returns:
        The instance, or `None` if it could not be built.
    """
    if isinstance(values, cls):
        problems.extend(values.problems(path) if hasattr(values, 'problems') else ())
        return values
    if values is not None and not isinstance(values, Mapping) and hasattr(cls, 'from_scalar'):
        if isinstance(values, (int, float, str)) and not isinstance(values, bool):
            try:
                values = cls.from_scalar(values)
            except ValueError as error:
                problems.append(f"`{path}`: {error}")
                return None
            return build(cls, values, path, problems)
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        problems.append(f"`{path}` must be a mapping of options, not {values!r}")
        return None

    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    annotations = typing.get_type_hints(cls)
    before = len(problems)
    for key in values:
        if key not in fields:
            problems.append(f"`{path}`: {unknown_name('key', str(key), fields)}")
    arguments = {}
    for name, field in fields.items():
        if name in values:
            arguments[name] = _convert(annotations[name], values[name], f'{path}.{name}', problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"`{path}.{name}` is missing: {field.metadata.get('help', 'it has no default')}")
    if len(problems) > before:
        return None
    instance = cls(**arguments)
    if hasattr(instance, 'problems'):
        problems.extend(instance.problems(path))
    return instance


def build_or_raise(cls: type[T], values: Any, path: str) -> T:
    """As :func:`build`, raising one :class:`ConfigError` that lists every problem."""
    problems: list[str] = []
    instance = build(cls, values, path, problems)
    if problems:
        raise ConfigError(problems)
    return instance

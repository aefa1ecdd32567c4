# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs a hook on a module as soon as it is imported, even if it is in the middle of its own import."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import wrapt

MARK = '_nemo_oracle_kd_wraps'
"""Attribute of a function that wraps one of NeMo's; it holds the wrapped function."""

_waiting_for_import: set[tuple[str, Callable[[ModuleType], None]]] = set()


def is_half_imported(module: ModuleType) -> bool:
    """Whether the module is in the middle of its own import."""
    return bool(getattr(getattr(module, '__spec__', None), '_initializing', False))


def when_imported(module_name: str, hook: Callable[[ModuleType], None]) -> None:
    """Runs ``hook(module)`` now if the module is completely imported, otherwise as soon as it is.

    Several hooks may wait for one module; they run in the order in which they were given.
    """
    module = sys.modules.get(module_name)
    if module is None:
        if (module_name, hook) not in _waiting_for_import:
            _waiting_for_import.add((module_name, hook))
            wrapt.register_post_import_hook(functools.partial(_after_import, hook), module_name)
    elif is_half_imported(module):
        _PendingHooks.add(module_name, hook)
    else:
        hook(module)


def _after_import(hook: Callable[[ModuleType], None], module: ModuleType) -> None:
    _waiting_for_import.discard((module.__name__, hook))
    hook(module)


class _PendingHooks:
    """Import finder that finds nothing. Every import notifies it, and it then checks which hooks can run.

    Python has no hook for the end of an import that is already under way. The next import of any other module is the first
    occasion to act, and NeMo's packages import dozens of modules after the ones for which hooks wait.
    """

    _hooks: dict[str, list[Callable[[ModuleType], None]]] = {}

    @classmethod
    def add(cls, module_name: str, hook: Callable[[ModuleType], None]) -> None:
        hooks = cls._hooks.setdefault(module_name, [])
        if hook not in hooks:
            hooks.append(hook)
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> None:
        for module_name, hooks in list(cls._hooks.items()):
            module = sys.modules.get(module_name)
            if module is not None and is_half_imported(module):
                continue
            cls._hooks.pop(module_name, None)
            for hook in hooks:
                if module is None:  # its import failed, so wait for the next attempt
                    when_imported(module_name, hook)
                else:
                    hook(module)
        if not cls._hooks and cls in sys.meta_path:
            sys.meta_path.remove(cls)
        return None

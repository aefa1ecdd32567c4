# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Recipes and benchmarks are scripts, not a package: how a test gets at their functions."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def load_script(path: str) -> ModuleType:
    """The module of a script, such as 'benchmarks/lattice.py', under a name of its own: several are called `run.py`."""
    name = path.removesuffix('.py').replace('/', '_')
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, ROOT / path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # where dataclasses look for their module
    folder = str((ROOT / path).parent)
    sys.path.insert(0, folder)  # as Python does for a script: it may import its neighbours
    try:
        specification.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module

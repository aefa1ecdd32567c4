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
    specification = importlib.util.spec_from_file_location(name, ROOT / path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # where dataclasses look for their module
    specification.loader.exec_module(module)
    return module

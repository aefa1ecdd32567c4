# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Registers this package with NeMo, and admits no more than it needs.

Four things are registered, each as soon as its NeMo module has been imported:

1. The classes that a configuration may name (:mod:`nemo_oracle_kd.bridge.register.targets`).
2. ``resolve_trainer_cfg``, through which NeMo's recipes build the arguments of their trainer, reads a preset
   (``+oracle_kd=<name>``) and appends its callback (see :mod:`nemo_oracle_kd.bridge.register.presets`).
3. ``exp_manager`` refuses a preset that reached no trainer, so that a preset is never silently ignored.
4. Transducer losses given to ``register_rnnt_loss`` become values of ``model.loss.loss_name``
   (:mod:`nemo_oracle_kd.bridge.register.rnnt_losses`).

:func:`register` may be called at any time and any number of times. NeMo may be imported later, already imported, or in the
middle of its own import. The last is the usual case, because NeMo scans for Hydra plug-ins while it is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from nemo_oracle_kd.bridge.register.import_hooks import when_imported
from nemo_oracle_kd.bridge.register.recipe_hooks import wrap_exp_manager, wrap_resolve_trainer_cfg
from nemo_oracle_kd.bridge.register.rnnt_losses import RNNT_MODULE, install_rnnt_losses
from nemo_oracle_kd.bridge.register.targets import extend_allow_list

_HOOKS: dict[str, Callable[[ModuleType], None]] = {
    'nemo.core.classes.common': extend_allow_list,
    'nemo.utils.trainer_utils': wrap_resolve_trainer_cfg,
    'nemo.utils.exp_manager': wrap_exp_manager,
    RNNT_MODULE: install_rnnt_losses,
}


def register() -> None:
    """Registers this package with NeMo, now or as soon as NeMo is imported.  Further calls have no effect."""
    for module_name, hook in _HOOKS.items():
        when_imported(module_name, hook)

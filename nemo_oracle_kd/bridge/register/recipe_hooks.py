# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Wraps the two functions of NeMo by which a recipe builds its trainer: a preset reaches the trainer or is refused."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from nemo_oracle_kd.bridge.register import presets
from nemo_oracle_kd.bridge.register.import_hooks import MARK


def wrap_resolve_trainer_cfg(trainer_utils: ModuleType) -> None:
    """Makes ``resolve_trainer_cfg`` append the callback of a preset to the arguments of the trainer."""
    original = getattr(trainer_utils, 'resolve_trainer_cfg', None)
    # Without this function a preset reaches no trainer, and exp_manager refuses it.
    if original is None or hasattr(original, MARK):
        return

    @functools.wraps(original)
    def resolve_trainer_cfg(trainer_cfg: Any) -> Any:
        distillation = presets.find_preset(trainer_cfg)
        resolved = original(trainer_cfg)
        if distillation is not None:
            presets.append_callback(resolved, distillation)
        return resolved

    setattr(resolve_trainer_cfg, MARK, original)
    trainer_utils.resolve_trainer_cfg = resolve_trainer_cfg


def wrap_exp_manager(module: ModuleType) -> None:
    """Makes ``exp_manager`` refuse a preset that has not reached the trainer."""
    original = module.exp_manager
    if hasattr(original, MARK):
        return

    @functools.wraps(original)
    def exp_manager(trainer: Any, cfg: Any = None, *args: Any, **kwargs: Any) -> Any:
        presets.refuse_unused_preset(trainer, cfg)
        return original(trainer, cfg, *args, **kwargs)

    setattr(exp_manager, MARK, original)
    module.exp_manager = exp_manager

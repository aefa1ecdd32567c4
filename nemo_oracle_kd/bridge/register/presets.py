# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Turns the ``oracle_kd`` node of a recipe's configuration into a callback of its trainer.

A preset (``+oracle_kd=<name>``) fills the top-level node ``oracle_kd``.  It does not touch ``trainer.callbacks``, because
Hydra replaces lists: a preset with a list of its own would delete the callbacks of the recipe.  NeMo's recipes call
``resolve_trainer_cfg(cfg.trainer)``, and the parent of ``cfg.trainer`` has the node.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from nemo_oracle_kd.errors import ConfigError

NODE = 'oracle_kd'
"""Name of the top-level node and of the Hydra configuration group."""

SOURCE = 'restore_from'
"""Key of `teacher` that names a model."""

CALLBACK_TARGET = 'nemo_oracle_kd.callbacks.KnowledgeDistillation'


def find_preset(trainer_cfg: Any) -> dict[str, Any] | None:
    """Returns the resolved ``oracle_kd`` node of the configuration to which ``trainer_cfg`` belongs, or None.

    Args:
        trainer_cfg: the node ``cfg.trainer`` of a recipe.

    Raises:
        ConfigError: if the node is not a mapping, has values that are still missing ('???'), or if
            ``trainer.callbacks`` names the distillation callback as well or is not a list.
    """
    node = _node_beside(trainer_cfg)
    if node is None:
        return None
    errors = _errors_of_node(node) + _errors_of_callbacks(trainer_cfg)
    ConfigError.raise_if_any(errors)

    from omegaconf import OmegaConf

    distillation = OmegaConf.to_container(node, resolve=True)
    teacher = distillation.get('teacher')
    if isinstance(teacher, dict) and isinstance(teacher.get('restore_from'), str):
        teacher['restore_from'] = _from_the_launch(teacher['restore_from'])
    return distillation


def _from_the_launch(source: str) -> str:
    """The teacher's path relative to the directory of the command, which each job of a sweep has left."""
    from hydra.core.hydra_config import HydraConfig

    path = os.path.expanduser(source)
    if os.path.isabs(path) or os.path.exists(path) or not HydraConfig.initialized():
        return source
    there = os.path.join(HydraConfig.get().runtime.cwd, path)
    return there if os.path.isfile(there) else source


def append_callback(trainer_arguments: dict[str, Any], distillation: Mapping[str, Any]) -> None:
    """Appends the distillation callback to ``trainer_arguments['callbacks']``, after those of the recipe."""
    from hydra.utils import get_class

    callback_class = get_class(CALLBACK_TARGET)
    try:
        # Called directly, because Hydra's instantiate would wrap the errors of the callback into one of its own.
        callback = callback_class(**distillation)
    except ConfigError as error:  # the callback does not know that a preset wrote its options, under another key
        raise ConfigError(message.replace(callback_class.__name__, NODE) for message in error.messages) from None
    callbacks = trainer_arguments.get('callbacks')
    trainer_arguments['callbacks'] = [*(callbacks or []), callback]


def refuse_unused_preset(trainer: Any, exp_manager_cfg: Any) -> None:
    """Refuses a preset whose callback is not among those of ``trainer``.

    Raises:
        ConfigError: if the recipe has an ``oracle_kd`` node but built its trainer without ``resolve_trainer_cfg``.
    """
    if _node_beside(exp_manager_cfg) is None:
        return
    callbacks = getattr(trainer, 'callbacks', None) or []
    if not any(_is_ours(type(callback)) for callback in callbacks):
        raise ConfigError(
            f"the preset `{NODE}` has no effect, because this recipe does not build its trainer with NeMo's "
            "resolve_trainer_cfg(cfg.trainer): remove the preset and put the output of "
            "'nemo-oracle-kd presets show NAME --as-callback' into `trainer.callbacks`"
        )


def _is_ours(callback_class: type) -> bool:
    # Compared by name, because importing the class would import NeMo and torch at start-up.
    name = CALLBACK_TARGET.rpartition('.')[2]
    return any(
        base.__name__ == name and base.__module__.startswith('nemo_oracle_kd.') for base in callback_class.__mro__
    )


def _node_beside(cfg: Any) -> Any:
    """Returns the node ``oracle_kd`` next to ``cfg`` in its parent configuration, or None."""
    from omegaconf import DictConfig, OmegaConf

    parent = cfg._get_parent() if isinstance(cfg, DictConfig) else None
    if not isinstance(parent, DictConfig) or parent._is_none() or parent._is_missing():
        return None
    # A string means that Hydra did not find the preset, so strings must not be dropped here.
    return OmegaConf.select(parent, NODE) if NODE in parent else None


def _errors_of_node(node: Any) -> list[str]:
    from omegaconf import DictConfig, OmegaConf

    if not isinstance(node, DictConfig):
        return [
            f"`{NODE}` is {node!r} and not a mapping with teacher and objectives, because the Hydra plug-in of nemo_oracle_kd was "
            "not active when the configuration was composed: check that the package is installed in this environment "
            "('nemo-oracle-kd presets' lists the presets)"
        ]
    missing, teacher = OmegaConf.missing_keys(node), OmegaConf.select(node, 'teacher')
    if isinstance(teacher, DictConfig) and teacher.get('self') is not None and OmegaConf.is_missing(teacher, SOURCE):
        # a value, which the other sentence asks for, would only be refused in its turn
        return [
            f"of the presets in `{NODE}`, one has the student for its own teacher (self: {teacher['self']}) and another a model in "
            f"{SOURCE}: combine presets that have the same kind of teacher"
        ]
    return [
        f"`{key}` is not set: add '{key}=VALUE' to the command, or set it in the configuration file"
        for key in sorted(missing)
    ]


def _errors_of_callbacks(trainer_cfg: Any) -> list[str]:
    callbacks = trainer_cfg.get('callbacks')
    if callbacks is None:
        return []
    if isinstance(callbacks, str) or not isinstance(callbacks, Sequence):
        return [f"`trainer.callbacks` is {callbacks!r} and not a list: write it with a dash before every '_target_'"]
    if any(isinstance(entry, Mapping) and entry.get('_target_') == CALLBACK_TARGET for entry in callbacks):
        return [
            f"distillation is configured twice, by `{NODE}` and by an entry of `trainer.callbacks`: remove the entry, or drop "
            f"'+{NODE}=...' from the command"
        ]
    return []

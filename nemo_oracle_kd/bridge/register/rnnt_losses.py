# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Registers transducer losses with NeMo under names for ``model.loss.loss_name``."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from nemo_oracle_kd.bridge.register.import_hooks import MARK, is_half_imported, when_imported
from nemo_oracle_kd.errors import ConfigError, unknown_name

_RNNT_LOSSES: dict[str, dict[str, Any]] = {}
RNNT_MODULE = 'nemo.collections.asr.losses.rnnt'


def register_rnnt_loss(
    name: str,
    factory: Callable[..., Any] | str,
    *,
    force_float32: bool = True,
    installation_msg: str = "It is part of nemo_oracle_kd.",
) -> None:
    """Makes ``model.loss.loss_name: <name>`` work in NeMo's transducer recipes.

    NeMo keeps a dictionary of loss names but chooses the loss by a chain of ``if``. The name must therefore be entered in
    the dictionary, and the function that chooses must be wrapped.

    Args:
        name: value of ``model.loss.loss_name``; its options are ``model.loss.<name>_kwargs``.
        factory: called as ``factory(blank_idx, **options)``.  It returns a module with an attribute ``reduction`` and
            ``forward(acts, labels, act_lens, label_lens) -> nll [B]`` for ``acts [B, T, U+1, V]``.  It is a callable
            or ``'package.module:attribute'``, which is imported when the loss is first used.
        force_float32: whether NeMo converts the joint's output to float32 first.
        installation_msg: what NeMo shows when the loss is not available.

    Raises:
        ValueError: if ``name`` is one of NeMo's own losses, or ``factory`` is a string without ':'.
    """
    if isinstance(factory, str) and factory.count(':') != 1:
        raise ValueError(f"the factory of loss {name!r} is {factory!r}: write it as 'package.module:attribute'")
    module = sys.modules.get(RNNT_MODULE)
    if module is not None and not is_half_imported(module):
        _refuse_names_of_nemo(module, [name])
    _RNNT_LOSSES[name] = {
        'factory': factory,
        'force_float32': force_float32,
        'installation_msg': installation_msg,
    }
    when_imported(RNNT_MODULE, install_rnnt_losses)


def _refuse_names_of_nemo(module: ModuleType, names: list[str]) -> None:
    for name in names:
        if name in module.RNNT_LOSS_RESOLVER and name not in _RNNT_LOSSES:
            raise ValueError(f"{name!r} is one of NeMo's own transducer losses: choose another name")


def install_rnnt_losses(module: ModuleType) -> None:
    """Enters the registered losses in NeMo's module of transducer losses."""
    for name, entry in _RNNT_LOSSES.items():
        module.RNNT_LOSS_RESOLVER[name] = module.RNNTLossConfig(
            loss_name=name,
            lib_name='torch',
            is_available=True,
            installation_msg=entry['installation_msg'],
            min_version='0.0',
            force_float32=entry['force_float32'],
        )
    original = module.resolve_rnnt_loss
    if hasattr(original, MARK):
        return

    @functools.wraps(original)
    def resolve_rnnt_loss(loss_name: str, blank_idx: int, loss_kwargs: Mapping[str, Any] | None = None) -> Any:
        if loss_name not in _RNNT_LOSSES:
            return original(loss_name, blank_idx, loss_kwargs)
        return _make_rnnt_loss(loss_name, blank_idx, loss_kwargs)

    setattr(resolve_rnnt_loss, MARK, original)
    # RNNTLoss looks up the function in its module whenever it is constructed, so rebinding the name is enough.
    module.resolve_rnnt_loss = resolve_rnnt_loss


def _make_rnnt_loss(name: str, blank_idx: int, options: Mapping[str, Any] | None) -> Any:
    from omegaconf import DictConfig, OmegaConf

    if isinstance(options, DictConfig):
        options = OmegaConf.to_container(options, resolve=True)
    options = dict(options or {})
    factory = _RNNT_LOSSES[name]['factory']
    if isinstance(factory, str):
        module_name, attribute = factory.split(':')
        factory = getattr(importlib.import_module(module_name), attribute)
    parameters = inspect.signature(factory).parameters.values()
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        valid = [parameter.name for parameter in parameters][1:]
        ConfigError.raise_if_any(
            unknown_name(f"option of model.loss.{name}_kwargs", option, valid)
            for option in options
            if option not in valid
        )
    return factory(blank_idx, **options)

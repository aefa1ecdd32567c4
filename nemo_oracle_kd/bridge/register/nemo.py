# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Registration with NeMo: the one place that opens NeMo's doors for this package, and opens them narrowly.

Four things are registered, each as soon as the NeMo module that it concerns has been imported:

1. The classes of :data:`PUBLIC_TARGETS` are appended, each by its full path, to NeMo's allow-list of configuration
   targets.  NeMo refuses every ``_target_`` outside of this list, because a ``.nemo`` file from elsewhere could
   otherwise run any code.  Nothing else of this package may be named by a configuration: no function at all, and no
   class that a saved oracle teacher or a trainer's callback list does not need.
2. ``resolve_trainer_cfg``, through which NeMo's recipes build the arguments of their trainer, reads a preset
   (``+oracle_kd=<name>``) and appends its callback (see :mod:`nemo_oracle_kd.bridge.register.presets`).
3. ``exp_manager`` refuses a preset that reached no trainer, so that a preset is never ignored in silence.
4. Transducer losses given to :func:`register_rnnt_loss` become values of ``model.loss.loss_name``.

:func:`register` may be called at any time and any number of times: NeMo may be imported later, already imported, or
in the middle of its own import, which is the usual case because NeMo scans for Hydra plug-ins while it is imported.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import wrapt

from nemo_oracle_kd.bridge.register import presets
from nemo_oracle_kd.errors import ConfigError, unknown_name

ALLOW_LIST = 'ALLOWED_TARGET_PREFIXES'
"""Name of NeMo's list in ``nemo.core.classes.common``.

Its neighbour ``ALLOWED_CALLABLE_PREFIXES`` must never name this package: it admits functions, and a function that
takes a path or a callable is arbitrary code in the hands of a configuration file.
"""

PUBLIC_TARGETS = (
    # the encoder of a saved oracle teacher
    'nemo_oracle_kd.modules.OracleEncoder',
    # the class of a saved oracle teacher, by the path that NeMo writes into its file and by the public one
    *(
        f'nemo_oracle_kd.models.{home}{name}'
        for name, module in (
            ('EncDecOracleCTCModel', 'oracle_ctc_models.'),
            ('EncDecOracleCTCModelBPE', 'oracle_ctc_models.'),
            ('EncDecOracleRNNTModel', 'oracle_rnnt_models.'),
            ('EncDecOracleRNNTModelBPE', 'oracle_rnnt_models.'),
        )
        for home in ('', module)
    ),
    # entries of trainer.callbacks
    'nemo_oracle_kd.callbacks.AlignmentPictures',
    'nemo_oracle_kd.callbacks.KnowledgeDistillation',
    'nemo_oracle_kd.callbacks.RunRecord',
    'nemo_oracle_kd.callbacks.TimeBudget',
)
"""All that a configuration may name: classes whose constructors neither write nor load anything."""

_MARK = '_nemo_oracle_kd_wraps'


def register() -> None:
    """Registers this package with NeMo, now or as soon as NeMo is imported.  Calling it again does no harm."""
    for module_name, hook in _HOOKS.items():
        _when_imported(module_name, hook)


def is_registered() -> bool:
    """Returns whether NeMo is imported and accepts our targets."""
    common = sys.modules.get('nemo.core.classes.common')
    return common is not None and set(PUBLIC_TARGETS) <= set(getattr(common, ALLOW_LIST, []))


def _extend_allow_list(common: ModuleType) -> None:
    targets = getattr(common, ALLOW_LIST, None)
    if isinstance(targets, list):
        targets.extend(target for target in PUBLIC_TARGETS if target not in targets)
    original = getattr(common, '_is_target_allowed', None)
    if original is None or hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def is_target_allowed(target: str) -> bool:
        # NeMo compares prefixes, so that a class would admit the methods that it inherits from NeMo's mixins.
        if target.startswith('nemo_oracle_kd') and target not in PUBLIC_TARGETS:
            return False
        return original(target)

    setattr(is_target_allowed, _MARK, original)
    common._is_target_allowed = is_target_allowed


def _wrap_resolve_trainer_cfg(trainer_utils: ModuleType) -> None:
    original = getattr(trainer_utils, 'resolve_trainer_cfg', None)
    # Without this function a preset reaches no trainer, and exp_manager will say so.
    if original is None or hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def resolve_trainer_cfg(trainer_cfg: Any) -> Any:
        distillation = presets.find_preset(trainer_cfg)
        resolved = original(trainer_cfg)
        if distillation is not None:
            presets.append_callback(resolved, distillation)
        return resolved

    setattr(resolve_trainer_cfg, _MARK, original)
    trainer_utils.resolve_trainer_cfg = resolve_trainer_cfg


def _wrap_exp_manager(module: ModuleType) -> None:
    original = module.exp_manager
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def exp_manager(trainer: Any, cfg: Any = None, *args: Any, **kwargs: Any) -> Any:
        presets.refuse_unused_preset(trainer, cfg)
        return original(trainer, cfg, *args, **kwargs)

    setattr(exp_manager, _MARK, original)
    module.exp_manager = exp_manager


# --- transducer losses ---

_RNNT_LOSSES: dict[str, dict[str, Any]] = {}
_RNNT_MODULE = 'nemo.collections.asr.losses.rnnt'


def register_rnnt_loss(
    name: str,
    factory: Callable[..., Any] | str,
    *,
    force_float32: bool = True,
    installation_msg: str = "It is part of nemo_oracle_kd.",
) -> None:
    """Makes ``model.loss.loss_name: <name>`` work in NeMo's transducer recipes.

    NeMo keeps a dictionary of loss names, but chooses the loss by a chain of ``if``; the name therefore has to be
    entered in the dictionary and the choosing function has to be wrapped.

    Args:
        name: value of ``model.loss.loss_name``; its options are ``model.loss.<name>_kwargs``.
        factory: called as ``factory(blank_idx, **options)``.  It returns a module with an attribute ``reduction`` and
            ``forward(acts, labels, act_lens, label_lens) -> nll [B]`` for ``acts [B, T, U+1, V]``.  Either a callable
            or ``'package.module:attribute'``, which is imported when the loss is first used.
        force_float32: whether NeMo converts the joint's output to float32 first.
        installation_msg: what NeMo shows when the loss is not available.

    Raises:
        ValueError: if ``name`` is one of NeMo's own losses, or ``factory`` is a string without ':'.
    """
    if isinstance(factory, str) and factory.count(':') != 1:
        raise ValueError(f"Write the factory of loss '{name}' as 'package.module:attribute', not as '{factory}'.")
    module = sys.modules.get(_RNNT_MODULE)
    if module is not None and not _is_half_imported(module):
        _refuse_names_of_nemo(module, [name])
    _RNNT_LOSSES[name] = {
        'factory': factory,
        'force_float32': force_float32,
        'installation_msg': installation_msg,
    }
    _when_imported(_RNNT_MODULE, _install_rnnt_losses)


def _refuse_names_of_nemo(module: ModuleType, names: list[str]) -> None:
    for name in names:
        if name in module.RNNT_LOSS_RESOLVER and name not in _RNNT_LOSSES:
            raise ValueError(f"'{name}' is one of NeMo's own transducer losses; choose another name.")


def _install_rnnt_losses(module: ModuleType) -> None:
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
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def resolve_rnnt_loss(loss_name: str, blank_idx: int, loss_kwargs: Mapping[str, Any] | None = None) -> Any:
        if loss_name not in _RNNT_LOSSES:
            return original(loss_name, blank_idx, loss_kwargs)
        return _make_rnnt_loss(loss_name, blank_idx, loss_kwargs)

    setattr(resolve_rnnt_loss, _MARK, original)
    # RNNTLoss looks the function up in its module at every construction, so that rebinding the name is enough.
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


# --- when to run the hooks ---

_HOOKS: dict[str, Callable[[ModuleType], None]] = {
    'nemo.core.classes.common': _extend_allow_list,
    'nemo.utils.trainer_utils': _wrap_resolve_trainer_cfg,
    'nemo.utils.exp_manager': _wrap_exp_manager,
    _RNNT_MODULE: _install_rnnt_losses,
}

_waiting_for_import: set[tuple[str, Callable[[ModuleType], None]]] = set()


def _is_half_imported(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, '__spec__', None), '_initializing', False))


def _when_imported(module_name: str, hook: Callable[[ModuleType], None]) -> None:
    """Runs ``hook(module)`` now if the module is completely imported, otherwise as soon as it is.

    Several hooks may wait for one module; they run in the order in which they were given.
    """
    module = sys.modules.get(module_name)
    if module is None:
        if (module_name, hook) not in _waiting_for_import:
            _waiting_for_import.add((module_name, hook))
            wrapt.register_post_import_hook(functools.partial(_after_import, hook), module_name)
    elif _is_half_imported(module):
        _PendingHooks.add(module_name, hook)
    else:
        hook(module)


def _after_import(hook: Callable[[ModuleType], None], module: ModuleType) -> None:
    _waiting_for_import.discard((module.__name__, hook))
    hook(module)


class _PendingHooks:
    """Import finder that finds nothing: it is only told about imports, and uses them to look again.

    For a module that is in the middle of its own import there is no hook "when finished".  The next import of anything
    after it is the first occasion to act; NeMo's packages import dozens of modules after the ones that we wait for.
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
            if module is not None and _is_half_imported(module):
                continue
            cls._hooks.pop(module_name, None)
            for hook in hooks:
                if module is None:  # its import failed; wait for the next attempt
                    _when_imported(module_name, hook)
                else:
                    hook(module)
        if not cls._hooks and cls in sys.meta_path:
            sys.meta_path.remove(cls)
        return None

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Registers the transducer losses of this package with NeMo, and restores the configured loss after vocabulary changes.

1. `model.loss.loss_name: oracle_kd_rnnt` is the RNN-T full sum on every device. Its options `fastemit_lambda` and `clamp`
   are in `model.loss.oracle_kd_rnnt_kwargs`.
2. `tdt` and `multiblank_rnnt` also work without CUDA. With CUDA they remain NeMo's kernels. The names are NeMo's own,
   because NeMo compares them as strings when it sets up the joint's duration outputs and the decoding.
3. NeMo's `change_vocabulary` builds a new loss. In BPE models it ignores `model.loss`; in all models it ignores the
   reduction, and counts the durations of a TDT as labels. Afterwards the configured loss is rebuilt, for the names above.
4. A saved model names NeMo's default loss instead of `oracle_kd_rnnt`. Both are the same function with the same options, so
   the file restores where this package is not installed.

Nothing here imports torch or NeMo, because the hooks run when NeMo is imported.
"""

import functools
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from nemo_oracle_kd.bridge.register.import_hooks import when_imported
from nemo_oracle_kd.bridge.register.rnnt_losses import register_rnnt_loss

__all__ = ['LOSS_NAME', 'register_transducer_losses', 'restore_configured_loss']

LOSS_NAME = 'oracle_kd_rnnt'
"""Value of `model.loss.loss_name`."""

CUDA_ONLY = ('tdt', 'multiblank_rnnt')
"""NeMo's losses without a CPU implementation."""

_LOSSES = 'nemo_oracle_kd.losses.rnnt_modules'
_MODELS = {
    'nemo.collections.asr.models.rnnt_models': 'EncDecRNNTModel',
    'nemo.collections.asr.models.rnnt_bpe_models': 'EncDecRNNTBPEModel',
    'nemo.collections.asr.models.hybrid_rnnt_ctc_models': 'EncDecHybridRNNTCTCModel',
    'nemo.collections.asr.models.hybrid_rnnt_ctc_bpe_models': 'EncDecHybridRNNTCTCBPEModel',
}
_MARK = '_nemo_oracle_kd_transducer_losses'


def register_transducer_losses() -> None:
    """Registers the losses and the hooks, now or as soon as NeMo is imported. Further calls have no effect."""
    # NeMo's conversion to float32 would copy the largest tensor of the step. Our loss converts tile by tile.
    register_rnnt_loss(LOSS_NAME, f'{_LOSSES}:make_oracle_kd_rnnt', force_float32=False)
    when_imported('nemo.collections.asr.losses.rnnt', _wrap_resolver)
    for module_name in _MODELS:
        when_imported(module_name, _wrap_change_vocabulary)
    when_imported('nemo.collections.asr.models.rnnt_models', _wrap_to_config_file)


def restore_configured_loss(model: Any) -> bool:
    """Rebuilds `model.loss` from `model.cfg.loss` and `model.cfg.rnnt_reduction` if it is one of these losses.

    Args:
        model: a NeMo RNN-T, TDT, multi-blank or hybrid model.

    Returns:
        whether the loss was rebuilt; the fused joint then uses it too.
    """
    from nemo.collections.asr.losses.rnnt import RNNTLoss

    name, options = model.extract_rnnt_loss_cfg(model.cfg.get('loss', None))
    if name not in (LOSS_NAME, *CUDA_ONLY):
        return False
    classes = model.joint.num_classes_with_blank - 1
    if name == 'tdt':
        classes -= model.joint.num_extra_outputs
    model.loss = RNNTLoss(
        num_classes=classes,
        loss_name=name,
        loss_kwargs=options,
        reduction=model.cfg.get('rnnt_reduction', 'mean_batch'),
    )
    if model.joint.fuse_loss_wer:
        model.joint.set_loss(model.loss)
    return True


def _wrap_resolver(module: ModuleType) -> None:
    original = module.resolve_rnnt_loss
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def resolve_rnnt_loss(loss_name: str, blank_idx: int, loss_kwargs: Mapping[str, Any] | None = None) -> Any:
        loss = original(loss_name, blank_idx, loss_kwargs)
        if loss_name not in CUDA_ONLY:
            return loss
        return importlib.import_module(_LOSSES).NumbaOrFullSumLoss(loss)

    setattr(resolve_rnnt_loss, _MARK, True)
    module.resolve_rnnt_loss = resolve_rnnt_loss


def _wrap_change_vocabulary(module: ModuleType) -> None:
    cls = getattr(module, _MODELS[module.__name__])
    original = cls.__dict__.get('change_vocabulary')
    if original is None or hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def change_vocabulary(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = self.loss
        result = original(self, *args, **kwargs)
        if self.loss is not before:
            restore_configured_loss(self)
        return result

    setattr(change_vocabulary, _MARK, True)
    cls.change_vocabulary = change_vocabulary


def _wrap_to_config_file(module: ModuleType) -> None:
    cls = module.EncDecRNNTModel  # the other transducer models are its subclasses
    original = cls.to_config_file
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def to_config_file(self: Any, path2yaml_file: str) -> None:
        original(self, path2yaml_file)
        _name_a_stock_loss(path2yaml_file)

    setattr(to_config_file, _MARK, True)
    cls.to_config_file = to_config_file


def _name_a_stock_loss(path: str) -> None:
    """Replaces our loss in the configuration of a saved model by NeMo's default with the same options."""
    from omegaconf import OmegaConf

    config = OmegaConf.load(path)
    loss = config.get('loss')
    if not loss or loss.get('loss_name') != LOSS_NAME:
        return
    options = loss.pop(f'{LOSS_NAME}_kwargs', None)
    loss.loss_name = 'default'
    if options:
        loss.warprnnt_numba_kwargs = options
    OmegaConf.save(config, path)

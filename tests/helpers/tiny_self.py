# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Students that teach themselves: tiny real models, fits without randomness, steps that can be looked into."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiny
from lightning.pytorch.callbacks import LambdaCallback
from omegaconf import DictConfig

from nemo_oracle_kd.callbacks import KnowledgeDistillation

#: the branch at once, without anything random
CALM_ORACLE = {
    'self': 'oracle',
    'start_below': None,
    'teach_below': None,
    'ramp': 0,
    'label_corruption': {'masking_ratio': 0.0, 'dropout': 0.0},
}


def calm_config(train: Path, hidden: int = 16, augment: bool = False, **options: Any) -> DictConfig:
    """A CTC student whose training depends on nothing random but its initial weights."""
    config = tiny.ctc_config(train, hidden=hidden, **options)
    config.optim.fused = True  # the same updates of the branch's many weights in half the time
    config.train_ds.shuffle = False
    config.preprocessor.dither = 0.0
    if augment:
        config.spec_augment = {
            '_target_': 'nemo.collections.asr.modules.SpectrogramAugmentation',
            'freq_masks': 1,
            'time_masks': 1,
            'freq_width': 4,
            'time_width': 6,
        }
    return config


def calm_transducer(train: Path, kind: str = 'rnnt', fused: bool = False, **options: Any) -> DictConfig:
    """A transducer student whose training depends on nothing random but its initial weights."""
    config = tiny.rnnt_config(train, kind=kind, **{'hidden': 16, **options})
    config.optim.fused = True
    config.train_ds.shuffle = False
    config.preprocessor.dither = 0.0
    config.joint.update(fuse_loss_wer=fused, fused_batch_size=3 if fused else None)
    return config


def streaming_config(train: Path, context: Any = (4, 1), style: str = 'chunked_limited') -> DictConfig:
    """A causal Conformer CTC student: chunks of two frames of 40 ms, features without normalisation over the utterance."""
    config = calm_config(train)
    config.preprocessor.normalize = 'NA'
    config.encoder = {
        '_target_': 'nemo.collections.asr.modules.ConformerEncoder',
        'feat_in': 16,
        'n_layers': 1,
        'd_model': 16,
        'n_heads': 2,
        'subsampling': 'dw_striding',
        'subsampling_factor': 4,
        'subsampling_conv_channels': 8,
        'causal_downsampling': style != 'regular',
        'ff_expansion_factor': 2,
        'self_attention_model': 'rel_pos',
        'conv_kernel_size': 5,
        'conv_norm_type': 'layer_norm',
        'conv_context_size': 'causal' if style != 'regular' else None,
        'att_context_size': list(context),
        'att_context_style': style,
        'dropout': 0.0,
        'dropout_pre_encoder': 0.0,
        'dropout_emb': 0.0,
        'dropout_att': 0.0,
    }
    config.decoder.feat_in = 16
    return config


def callback(teacher: dict[str, Any], objectives: dict[str, Any] | None = None, **options: Any):
    """The distillation callback."""
    return KnowledgeDistillation(teacher=teacher, objectives=objectives or {'softmax_l2': {'weight': 1.0}}, **options)


def fit(distillation: Any, config: DictConfig, max_steps: int = 2, look: Any = None, **options: Any):
    """Trains; `look(trainer, student)` is called after every step, options besides the trainer's: `ckpt_path`, `seed`, `student`.

    Returns:
        Trainer and student.
    """
    path, seed = options.pop('ckpt_path', None), options.pop('seed', 0)
    callbacks = [distillation] if distillation is not None else []
    if look is not None:
        callbacks.append(LambdaCallback(on_train_batch_end=lambda trainer, student, *_: look(trainer, student)))
    callbacks += options.pop('callbacks', [])
    student = options.pop('student', None)
    # Whoever looks reads the terms of every step, others those of the last: NeMo decodes at the steps that are logged.
    every = 1 if callbacks[distillation is not None :] else max_steps
    trainer = tiny.trainer(max_steps, callbacks=callbacks, **{'log_every_n_steps': every, **options})
    make = tiny.rnnt_model if 'joint' in config else tiny.ctc_model
    student = student or make(config, trainer, seed=seed)
    trainer.fit(student, ckpt_path=path)
    return trainer, student


def watch_step(distillation: Any) -> dict[str, Any]:
    """Keeps, of the last training step: `step`, what the student showed; `own`, the teacher's losses; `heard`, its posteriors."""
    seen: dict[str, Any] = {}
    distiller = distillation.distiller
    original = distiller._own_losses

    def watch(step: Any) -> Any:
        own = original(step)
        seen.update(step=step, own=own, heard=distiller.teacher._heard)
        return own

    distiller._own_losses = watch
    return seen


def logged(trainer: Any) -> dict[str, float]:
    """The terms of the last step."""
    terms = trainer.callback_metrics.items()
    return {name.removeprefix('train/kd/'): float(value) for name, value in terms if name.startswith('train/kd/')}


def gradients_of(distillation: Any, config: DictConfig, callbacks: Sequence[Any] = ()) -> dict[str, Any]:
    """Gradient of every parameter in the first step, those of the branch included; `None` where there is none."""
    found: dict[str, Any] = {}

    def keep(trainer, student, optimizer):
        for name, parameter in student.named_parameters():
            found[name] = None if parameter.grad is None else parameter.grad.clone()

    fit(distillation, config, 1, callbacks=[*callbacks, LambdaCallback(on_before_optimizer_step=keep)])
    return found

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tiny oracle teachers on the tone corpus."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import tiny
import torch
from omegaconf import DictConfig, OmegaConf

NO_CORRUPTION = {'masking_ratio': 0.0, 'substitution_ratio': 0.0, 'dropout': 0.0}
AUDIO_ENCODERS = ('conformer', 'fastconformer', 'convolutional')


def audio_encoder(kind: str = 'convolutional', width: int = 32, features: int = 16) -> dict[str, Any]:
    """Config of a NeMo audio encoder."""
    if kind == 'convolutional':
        return OmegaConf.to_container(tiny.ctc_config(hidden=width).encoder)
    subsampling = {
        'conformer': {'subsampling': 'striding', 'subsampling_factor': 2, 'conv_kernel_size': 7},
        'fastconformer': {'subsampling': 'dw_striding', 'subsampling_factor': 8, 'conv_kernel_size': 9},
    }[kind]
    return {
        '_target_': 'nemo.collections.asr.modules.ConformerEncoder',
        'feat_in': features,
        'feat_out': -1,
        'n_layers': 1,
        'd_model': width,
        'subsampling_conv_channels': 16,
        'ff_expansion_factor': 2,
        'n_heads': 2,
        **subsampling,
    }


def encoder(kind: str = 'convolutional', width: int = 32, d_model: int = 32, **options: Any) -> dict[str, Any]:
    """Config of an oracle encoder."""
    return {
        '_target_': 'nemo_oracle_kd.modules.OracleEncoder',
        'd_model': d_model,
        'audio_encoder': audio_encoder(kind, width),
        'label_encoder': {'n_layers': 1, 'n_heads': 2, 'ff_expansion': 2.0, 'dropout': 0.0},
        'fusion': {'n_layers': 1, 'n_heads': 2, 'ff_expansion': 2.0, 'dropout': 0.0},
        **options,
    }


def oracle_config(
    train: Path | None = None, validation: Path | None = None, kind: str = 'convolutional', **oracle: Any
) -> DictConfig:
    """Config of an oracle teacher over characters; `oracle` overrides the defaults of that section."""
    config = tiny.ctc_config(train, validation, learning_rate=5e-3, batch_size=8)
    config.optim.fused = True  # the same updates of the many weights in half the time
    config.encoder = encoder(kind)
    config.encoder.self_conditioning = oracle.get('audio_ctc_weight', 1.0) > 0
    config.decoder.feat_in = None
    config.oracle = oracle
    return config


def oracle_rnnt_config(
    train: Path | None = None, validation: Path | None = None, kind: str = 'rnnt', fused: bool = False, **oracle: Any
) -> DictConfig:
    """Config of an oracle teacher with a transducer head, `kind` as in `tiny.rnnt_config`; `oracle` as above."""
    config = tiny.rnnt_config(train, validation, kind, learning_rate=5e-3, batch_size=8)
    config.optim.fused = True
    config.encoder = encoder()
    config.encoder.self_conditioning = oracle.get('audio_ctc_weight', 1.0) > 0
    config.model_defaults.enc_hidden = config.encoder.d_model
    config.joint.update(fuse_loss_wer=fused, fused_batch_size=3)
    config.oracle = oracle
    return config


def batch() -> dict[str, torch.Tensor]:
    """What `forward` of an oracle teacher takes: two utterances of noise with labels."""
    generator = torch.Generator().manual_seed(1)
    return {
        'input_signal': torch.randn(2, 8000, generator=generator),
        'input_signal_length': torch.tensor([8000, 5000]),
        'transcript': torch.tensor([[1, 2, 0, 3], [4, 1, 0, 0]]),
        'transcript_length': torch.tensor([4, 2]),
    }


def rows(manifest: Path) -> list[dict[str, Any]]:
    """The rows of a manifest."""
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def write_noise_corpus(folder: Path, count: int = 160) -> Path:
    """A corpus whose audio says nothing of its texts; returns the manifest."""
    manifest = tiny.write_tone_corpus(folder, 'train', count, seed=2)
    generator = np.random.default_rng(0)
    for row in rows(manifest):
        length = soundfile.info(row['audio_filepath']).frames
        noise = 0.01 * generator.standard_normal(length).astype(np.float32)
        soundfile.write(row['audio_filepath'], noise, tiny.SAMPLE_RATE)
    return manifest


def invite_copying(config: DictConfig) -> DictConfig:
    """The config of a teacher without `oracle` guards, with an audio encoder that tells the absolute frame number."""
    config.encoder.audio_encoder = audio_encoder('conformer')
    config.encoder.audio_encoder.update(self_attention_model='abs_pos', subsampling_factor=4)
    for name in ('dropout', 'dropout_pre_encoder', 'dropout_emb', 'dropout_att'):
        config.encoder.audio_encoder[name] = 0.0
    config.optim.lr = 3e-3
    return config


def fit(config: DictConfig, cls: type, max_steps: int = 2, **options: Any) -> tuple[Any, Any]:
    """Trains a new teacher of a class; returns the trainer and the teacher."""
    trainer = tiny.trainer(max_steps, **options)
    torch.manual_seed(0)
    teacher = cls(cfg=config, trainer=trainer)
    trainer.fit(teacher)
    return trainer, teacher

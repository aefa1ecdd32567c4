# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Tiny oracle teachers on the tone corpus."""

from pathlib import Path
from typing import Any

import tiny
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
    config.encoder = encoder()
    config.encoder.self_conditioning = oracle.get('audio_ctc_weight', 1.0) > 0
    config.model_defaults.enc_hidden = config.encoder.d_model
    config.joint.update(fuse_loss_wer=fused, fused_batch_size=3)
    if kind == 'rnnt':
        config.loss = {'loss_name': 'oracle_kd_rnnt'}
    config.oracle = oracle
    return config

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tiny models that are cut, and what they say of a fixed batch."""

from pathlib import Path
from typing import Any

import tiny
import tiny_oracle
import torch
from omegaconf import DictConfig, OmegaConf

from nemo_oracle_kd.bridge.audio import audio_batch
from nemo_oracle_kd.bridge.cut.request import CutRequest
from nemo_oracle_kd.bridge.cut.student import cut_model
from nemo_oracle_kd.bridge.encode import EncodedAudio, encode_audio
from nemo_oracle_kd.bridge.restore import restore_frozen


def with_conformer(config: DictConfig, kind: str = 'fastconformer', **options: Any) -> DictConfig:
    """The config of a tiny model with a Conformer of three layers in the place of its encoder."""
    config.encoder = OmegaConf.create({**tiny_oracle.audio_encoder(kind), 'n_layers': 3, **options})
    for section in (config.decoder, config.get('aux_ctc', {}).get('decoder', {})):
        if 'feat_in' in section:
            section.feat_in = None
    if 'model_defaults' in config:
        config.model_defaults.enc_hidden = config.encoder.d_model
    return config


def conformer(seed: int = 0, **options: Any) -> Any:
    """A CTC model with random weights, norms and biases included, so that no part of it is idle."""
    model = tiny.ctc_model(with_conformer(tiny.ctc_config(), **options), seed=seed)
    return randomised(model)


def randomised(model: Any) -> Any:
    """The model in eval mode, with noise on all its weights and statistics."""
    generator = torch.Generator().manual_seed(5)
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not name.startswith('preprocessor'):
            noise = torch.randn(weight.shape, generator=generator)
            weight += 0.2 * noise.abs() if 'running_var' in name else 0.1 * noise
    return model.eval()


def cut(model: Any, folder: Path, **request: Any) -> Any:
    """Saves the model, cuts it, and restores the result."""
    model.save_to(str(folder / 'teacher.nemo'))
    found = cut_model(str(folder / 'teacher.nemo'), model, CutRequest(**request))
    (folder / 'student.nemo').write_bytes(found.archive)
    return restore_frozen(str(folder / 'student.nemo'))


@torch.no_grad()
def outputs(model: Any) -> EncodedAudio:
    """Outputs of the encoder and of the CTC head for two utterances."""
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randn(samples, generator=generator) for samples in (9000, 6000)]
    return encode_audio(model.eval(), audio_batch(noise))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Initialises the audio branch of an oracle teacher with the weights of a trained NeMo model."""

import torch
from nemo.core.classes import ModelPT
from nemo.utils import logging
from omegaconf import DictConfig, OmegaConf

from nemo_oracle_kd.bridge.archive import read_nemo_archive
from nemo_oracle_kd.bridge.restore import model_file
from nemo_oracle_kd.errors import ConfigError

__all__ = ['load_audio_branch']

_COMPARED_FEATURE_KEYS = (
    'sample_rate',
    'features',
    'window_size',
    'window_stride',
    'n_fft',
    'window',
    'normalize',
    'preemph',
)


def _resolve(source: str) -> str:
    try:
        return model_file(source)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f"`oracle.init_audio_encoder_from`: {error}") from error


def _check_features(source: str, theirs: DictConfig, ours: DictConfig) -> None:
    differing = [
        f"{key} {theirs.get(key)} there, {ours.get(key)} here"
        for key in _COMPARED_FEATURE_KEYS
        if key in theirs and key in ours and theirs.get(key) != ours.get(key)
    ]
    if differing:
        raise ConfigError(
            f"the encoder of '{source}' was trained on other features ({'; '.join(differing)}): copy the "
            "`preprocessor` section of that model"
        )


def _load_strictly(source: str, module: torch.nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    own = module.state_dict()
    problems = [f"{key} missing there" for key in own if key not in weights]
    problems += [f"{key} missing here" for key in weights if key not in own]
    problems += [
        f"{key} is {list(weights[key].shape)} there, {list(own[key].shape)} here"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ConfigError(
            f"the weights of '{source}' do not fit `{name}` ({'; '.join(problems[:3])}{more}): "
            "use the same `encoder` section as that model"
        )
    module.load_state_dict(weights)


def load_audio_branch(model: ModelPT, source: str) -> None:
    """Copies a trained encoder into the audio branch, and its CTC decoder too if the vocabulary is the same.

    Args:
        model: an oracle teacher.
        source: path of a `.nemo` file or name of a pretrained model. Of an oracle teacher the audio encoder is taken.

    Raises:
        ConfigError: if there is no such model, or if its features or shapes differ.
    """
    archive = read_nemo_archive(_resolve(source))
    if 'preprocessor' in archive.config:
        _check_features(source, archive.config.preprocessor, model.cfg.preprocessor)
    prefix = (
        'encoder.audio_encoder.'
        if any(k.startswith('encoder.audio_encoder.') for k in archive.weights)
        else 'encoder.'
    )
    encoder_weights = {k[len(prefix) :]: v for k, v in archive.weights.items() if k.startswith(prefix)}
    _load_strictly(source, model.encoder.audio_encoder, encoder_weights, 'encoder.audio_encoder')
    logging.info(f"Audio encoder initialised from '{source}' ({len(encoder_weights)} tensors).")
    if model.audio_decoder is None:
        return
    prefix, section = next(
        (
            (prefix, section)
            for prefix, section in (
                ('audio_decoder.', 'audio_decoder'),
                ('ctc_decoder.', 'aux_ctc.decoder'),
                ('decoder.', 'decoder'),
            )
            if any(k.startswith(prefix) for k in archive.weights)
        ),
        ('', ''),
    )
    decoder_config = OmegaConf.select(archive.config, section) if section else None
    vocabulary = list(decoder_config.get('vocabulary') or []) if decoder_config is not None else []
    if vocabulary and vocabulary == model.head_vocabulary:
        decoder_weights = {k[len(prefix) :]: v for k, v in archive.weights.items() if k.startswith(prefix)}
        _load_strictly(source, model.audio_decoder, decoder_weights, 'audio_decoder')
        logging.info(f"Audio decoder initialised from '{source}': same vocabulary.")
    else:
        logging.info(
            f"Audio decoder starts from random weights: '{source}' has no CTC decoder with the same vocabulary."
        )

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Config and weights of a `.nemo` file without building the model.

Restoring it as a model inside another model's life would reset NeMo's global state (`AppState`) and build data loaders.
"""

import io
import os
import tarfile
from typing import NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from nemo_oracle_kd.errors import ConfigError

__all__ = ['NemoArchive', 'read_nemo_archive']


class NemoArchive(NamedTuple):
    """Config and weights of a `.nemo` file."""

    config: DictConfig
    weights: dict[str, torch.Tensor]


def read_nemo_archive(path: str) -> NemoArchive:
    """Reads config and weights of a `.nemo` file without building the model.

    Args:
        path: the file.

    Raises:
        ConfigError: not a readable `.nemo` file.
    """
    content = {}
    try:
        with tarfile.open(path, 'r:*') as archive:
            for member in archive:
                name = os.path.basename(member.name)
                if member.isfile() and name in ('model_config.yaml', 'model_weights.ckpt'):
                    content[name] = archive.extractfile(member).read()
        config = OmegaConf.create(content['model_config.yaml'].decode('utf-8'))
        weights = torch.load(io.BytesIO(content['model_weights.ckpt']), map_location='cpu', weights_only=True)
    except (tarfile.TarError, KeyError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"'{path}' cannot be read as a .nemo file ({error}): give a file saved by model.save_to()"
        ) from error
    return NemoArchive(config, weights)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Restores a model from a Lightning checkpoint (`.ckpt`), of which config and weights are read as data.

A checkpoint is a pickle, and an ordinary unpickler imports and calls whatever a pickle names. PyTorch's reader of weights admits
tensors and the containers of Python. The config of a NeMo model names more: OmegaConf's containers, and classes of NeMo as the types of
its sections. Each name that the reader does not admit stands for a class here that keeps what it is given and does nothing.
"""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_oracle_kd.bridge.archive import build_model, without_data
from nemo_oracle_kd.errors import ConfigError

__all__ = ['read_checkpoint', 'restore_checkpoint']

_AGAIN = "save the model with model.save_to() where it was trained, and give the .nemo file"


class _Inert:
    """Whatever a checkpoint names: an object that keeps its arguments and its state."""

    name: str = ''
    args: tuple = ()
    state: Any = None

    def __new__(cls, *args: Any, **options: Any) -> '_Inert':
        self = super().__new__(cls)
        self.args = args
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.state = {**(self.state or {}), key: value}


def restore_checkpoint(path: str, source: str, device: torch.device | str) -> Any:
    """Restores a NeMo ASR model without its data loaders.

    Args:
        path: the file.
        source: name that the user gave it, for messages.
        device: device of the weights.

    Raises:
        ConfigError: if the file cannot be restored; one sentence says why, and what to do.
    """
    config, weights = read_checkpoint(path, source)
    _check_tokenizer(config, source)
    model = build_model(without_data(config), source)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        raise ConfigError(
            f"the weights of {source!r} do not fit its configuration ({(lines or [str(error)])[0][:200]}): {_AGAIN}"
        ) from error
    return model.to(device)


def read_checkpoint(path: str, source: str) -> tuple[DictConfig, dict[str, torch.Tensor]]:
    """Reads the config of a NeMo model and its weights; no code that the file names is run.

    Args:
        path: the file.
        source: name that the user gave it, for messages.

    Raises:
        ConfigError: if the file is damaged, names functions of the system, or is not a checkpoint of a NeMo model.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        stand_ins = [(type(_Inert.__name__, (_Inert,), {'name': name}), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):
            # mapped: the states of the optimizer, twice the size of the weights, are never read
            content = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except Exception as error:  # errors of the archive and of the unpickler
        raise ConfigError(f"{source!r} cannot be read as a checkpoint ({_last_line(error)}): {_AGAIN}") from error
    try:
        values = _plain(content['hyper_parameters'])
        config = OmegaConf.create(values.get('cfg', values))
        weights = {name: tensor for name, tensor in content['state_dict'].items() if isinstance(tensor, torch.Tensor)}
        known = isinstance(config, DictConfig) and isinstance(config.get('target'), str)
    except (OmegaConfBaseException, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{source!r} is not a checkpoint of a NeMo model ({_last_line(error)}): {_AGAIN}") from error
    if not known:
        raise ConfigError(f"{source!r} is not a checkpoint of a NeMo model, whose config names its class: {_AGAIN}")
    return config, weights


def _plain(value: Any) -> Any:
    """The containers and values of Python that a pickled OmegaConf config holds.

    Raises:
        ValueError: a value of the config is an object of another kind.
    """
    if isinstance(value, _Inert):
        state = value.state
        if isinstance(state, dict) and '_content' in state:  # a container of OmegaConf
            return _plain(state['_content'])
        if isinstance(state, dict) and '_val' in state:  # a value of OmegaConf
            return _plain(state['_val'])
        if isinstance(state, dict):  # a dictionary of another class, such as Lightning's
            return _plain(state)
        if value.name.startswith('pathlib.'):
            return '/'.join(str(part) for part in value.args)
        raise ValueError(f'its config holds a {value.name}, which is no value of YAML')
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _check_tokenizer(config: DictConfig, source: str) -> None:
    """A checkpoint has the path of its tokenizer, and not the tokenizer."""
    parts = config.get('tokenizer') or {}
    parts = list((parts.get('langs') or {}).values()) if parts.get('langs') else [parts]
    for part in parts:
        folder = part.get('dir') if isinstance(part, DictConfig) else None
        if folder is not None and not Path(str(folder)).expanduser().is_dir():
            raise ConfigError(
                f"{source!r} needs its tokenizer, which a checkpoint does not hold, and there is none in {str(folder)!r}: copy it to "
                f"that place, or {_AGAIN}"
            )


def _last_line(error: BaseException) -> str:
    """The sentence of an error; PyTorch puts advice to trust the file before it."""
    lines = [line.strip() for line in str(error).splitlines() if 'Unpickler' in line or 'Trying' in line]
    lines = lines or (str(error).strip() or type(error).__name__).splitlines()
    return lines[0][:200].rstrip('.')

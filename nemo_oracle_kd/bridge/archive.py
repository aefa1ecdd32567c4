# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Restores a model from its archive, or builds one from a config. For a damaged archive, one sentence says what is wrong with it.

NeMo's own message depends on where it fails: at a missing key, in the YAML parser, in PyTorch's reader, or at an abstract
class to which it falls back.
"""

import contextlib
import io
import logging
import tarfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_oracle_kd.errors import ConfigError

__all__ = ['NemoArchive', 'build_model', 'read_nemo_archive', 'replaced_archive', 'restore_archive', 'without_data']

_CONFIG, _WEIGHTS = 'model_config.yaml', 'model_weights.ckpt'
_AGAIN = 'copy or download the file again, or save the model again with model.save_to()'


class NemoArchive(NamedTuple):
    """Config and weights of a `.nemo` file."""

    config: DictConfig
    weights: dict[str, torch.Tensor]


def read_nemo_archive(path: str) -> NemoArchive:
    """Reads config and weights of a `.nemo` file without building the model.

    To restore a model while another one is in use would reset NeMo's global state (`AppState`) and build data loaders.

    Raises:
        ConfigError: if the file cannot be read; one sentence says what is wrong with it.
    """
    config = _read_config(path, path)
    try:
        return NemoArchive(config, _read_weights(path))
    except ConfigError as error:
        raise ConfigError(f"{path!r} cannot be read as a .nemo file: {error}") from error


def replaced_archive(path: str, config: DictConfig, weights: dict[str, torch.Tensor]) -> bytes:
    """Content of a `.nemo` file that is a copy of another, tokenizer included, with a new config and new weights."""
    saved, content = io.BytesIO(), io.BytesIO()
    torch.save(weights, saved)
    replaced = {_CONFIG: io.BytesIO(OmegaConf.to_yaml(config).encode('utf-8')), _WEIGHTS: saved}
    with tarfile.open(path, 'r:*') as old, tarfile.open(fileobj=content, mode='w') as new:
        for member in old:
            data = replaced.get(_name(member))
            if data is not None:
                member.size = data.seek(0, io.SEEK_END)
                data.seek(0)
            new.addfile(member, data or old.extractfile(member))
    return content.getvalue()


def restore_archive(path: str, source: str, device: torch.device | str) -> Any:
    """Restores a `.nemo` file without its data loaders.

    Args:
        path: the file.
        source: name that the user gave it, for messages.
        device: device of the weights.

    Raises:
        ConfigError: if the file cannot be restored; one sentence says what is wrong with it.
    """
    from nemo.collections.asr.models import ASRModel

    config = without_data(_read_config(path, source))
    with _nemo_errors() as said:
        try:
            model = ASRModel.restore_from(path, override_config_path=config, map_location=device)
        except Exception as error:  # every kind of damage raises an error of its own
            if _is_refusal(error):
                raise _refusal(source, error) from error
            raise ConfigError(f"{source!r} cannot be restored: {_reason(path, error, said)}") from error
    return _speech_recogniser(model, source)


def build_model(config: DictConfig, source: str) -> Any:
    """Builds the model that a config describes, with random weights.

    Args:
        config: of a NeMo model, with its class in `target`.
        source: where it is from, for messages.

    Raises:
        ConfigError: if NeMo cannot build the model, or does not admit what the config names.
    """
    from nemo.collections.asr.models import ASRModel

    with _nemo_errors() as said:
        try:
            model = ASRModel.from_config_dict(config)
        except Exception as error:  # every module of NeMo raises its own
            if _is_refusal(error):
                raise _refusal(source, error) from error
            reason = _building_error(said) or _first_line(error)
            raise ConfigError(
                f"the model of {source!r} cannot be built ({reason}): correct its configuration"
            ) from error
    return _speech_recogniser(model, source)


def without_data(config: DictConfig) -> DictConfig:
    """Takes the data out of the config of a model, in place, and returns it."""
    with open_dict(config):
        for name in ('train_ds', 'test_ds'):
            config.pop(name, None)
        # NeMo's transcribe() reads options of this section for models with a tokenizer, so the section must exist
        config.validation_ds = {'defer_setup': True}
        # an archive of Canary may hold a second model, which only tells when a word is spoken
        if 'transf_decoder' in config:
            config.restore_timestamps_model = False
    return config


def _is_refusal(error: Exception) -> bool:
    """Whether NeMo's allow-list refused a target: NeMo 3 has a subclass of ValueError for it, NeMo 2 raises a plain one."""
    return isinstance(error, ValueError) and 'unsafe target' in str(error)


def _refusal(source: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{source!r} is refused, because it names code that NeMo does not admit or does not have: {error}"
    )


def _speech_recogniser(model: Any, source: str) -> Any:
    from nemo.collections.asr.models import ASRModel

    if not isinstance(model, ASRModel):
        raise ConfigError(f"{source!r} holds a {type(model).__name__}: give a speech recognition model")
    return model


def _read_config(path: str, source: str) -> DictConfig:
    """The configuration in the archive.

    Raises:
        ConfigError: if there is none, or if it is not the config of a model.
    """
    try:
        with tarfile.open(path, 'r:*') as archive:
            member = next((entry for entry in archive if _name(entry) == _CONFIG), None)
            content = None if member is None else archive.extractfile(member)
            if content is None:
                raise ConfigError(f"{source!r} is not a model, because it holds no {_CONFIG}: {_AGAIN}")
            config = OmegaConf.load(content)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ConfigError(f"{source!r} cannot be read as a .nemo file ({_first_line(error)}): {_AGAIN}") from error
    except ConfigError:
        raise
    except Exception as error:  # errors of the YAML parser and of OmegaConf
        raise ConfigError(f"the {_CONFIG} of {source!r} is not YAML ({_first_line(error)}): {_AGAIN}") from error
    if not isinstance(config, DictConfig):
        raise ConfigError(f"the {_CONFIG} of {source!r} is a list and not a mapping: {_AGAIN}")
    config = config.get('model', config)
    if not isinstance(config, DictConfig) or not isinstance(config.get('target'), str):
        raise ConfigError(f"the {_CONFIG} of {source!r} names no class in `target`: {_AGAIN}")
    return config


def _name(entry: tarfile.TarInfo) -> str:
    return entry.name.removeprefix('./')


@contextlib.contextmanager
def _nemo_errors() -> Iterator[list[str]]:
    """Collects the errors that NeMo logs, with tracebacks, before it raises a different one."""
    said: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            said.append(record.getMessage())
        return record.levelno < logging.ERROR

    logger = logging.getLogger('nemo_logger')
    logger.addFilter(collect)
    try:
        yield said
    finally:
        logger.removeFilter(collect)


def _reason(path: str, error: Exception, said: list[str]) -> str:
    if isinstance(error, (tarfile.TarError, EOFError)):
        return f"the archive is cut short or damaged ({_first_line(error)}); {_AGAIN}"
    if 'loading state_dict' in str(error):
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        return f"its weights do not fit its configuration ({lines[0][:200] if lines else error}); {_AGAIN}"
    built = _building_error(said)
    if built is not None:
        return f"its model cannot be built ({built}); it may need another version of NeMo"
    try:
        _read_weights(path)
    except ConfigError as problem:
        return str(problem)
    return f"{type(error).__name__}: {_first_line(error)}; {_AGAIN}"


def _building_error(said: list[str]) -> str | None:
    """Why the class that a config names could not be built; NeMo then falls back to an abstract class."""
    built = next((text.split('Error(s):\t', 1)[1] for text in said if 'Error(s):\t' in text), None)
    return None if built is None else built.splitlines()[0][:300]


def _read_weights(path: str) -> dict[str, torch.Tensor]:
    """The weights in the archive.

    Raises:
        ConfigError: if they cannot be loaded. The message continues a sentence that names the file.
    """
    try:
        with tarfile.open(path, 'r:*') as archive:
            member = next((entry for entry in archive if _name(entry) == _WEIGHTS), None)
            if member is None:
                raise ConfigError(f"it holds no {_WEIGHTS}; {_AGAIN}")
            weights = torch.load(archive.extractfile(member), map_location='cpu', weights_only=True)
    except ConfigError:
        raise
    except Exception as error:  # errors of the archive and of the unpickler
        raise ConfigError(f"its weights cannot be loaded ({_first_line(error)}); {_AGAIN}") from error
    if not isinstance(weights, dict):
        raise ConfigError(f"its weights are a {type(weights).__name__} and not a mapping; {_AGAIN}")
    return weights


def _first_line(error: BaseException) -> str:
    return ((str(error).strip() or type(error).__name__).splitlines()[0])[:200].rstrip('.')

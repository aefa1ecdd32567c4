# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Builds the model that the YAML of a NeMo recipe trains, without its data and without a training.

A recipe's script knows the class of its model, and its YAML does not say it. The sections of the YAML tell it: a `joint` means
a transducer, `aux_ctc` a hybrid model, `tokenizer` sub-words. A recipe that fine-tunes has no `encoder`, but the model to start from.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nemo_oracle_kd.bridge.archive import build_model, without_data
from nemo_oracle_kd.bridge.restore import neutral_state, restore_frozen
from nemo_oracle_kd.errors import ConfigError

__all__ = ['is_recipe', 'model_of_recipe', 'read_recipe']

#: sections of `model` that a training reads and the model itself does not
_OF_TRAINING = ('train_ds', 'validation_ds', 'test_ds', 'optim')
_MODELS = 'nemo.collections.asr.models.'
#: (transducer, hybrid, sub-words) -> class of NeMo's scripts
_CLASSES = {
    (False, False, False): 'ctc_models.EncDecCTCModel',
    (False, False, True): 'ctc_bpe_models.EncDecCTCModelBPE',
    (True, False, False): 'rnnt_models.EncDecRNNTModel',
    (True, False, True): 'rnnt_bpe_models.EncDecRNNTBPEModel',
    (True, True, False): 'hybrid_rnnt_ctc_models.EncDecHybridRNNTCTCModel',
    (True, True, True): 'hybrid_rnnt_ctc_bpe_models.EncDecHybridRNNTCTCBPEModel',
}


def is_recipe(source: str) -> bool:
    """Whether the name of a model is that of a recipe's YAML file."""
    return source.endswith(('.yaml', '.yml'))


def read_recipe(path: str, changes: Sequence[str] = ()) -> DictConfig:
    """Reads the YAML of a recipe.

    Args:
        path: the file.
        changes: what the command line of the recipe changes, such as `model.tokenizer.dir=DIR`.

    Raises:
        ConfigError: the file cannot be read, or a change cannot be made.
    """
    ConfigError.raise_if_any(
        f"{change!r} is not a change of a recipe: write KEY=VALUE, such as model.tokenizer.dir=DIR"
        for change in changes
        if '=' not in change
    )
    try:
        recipe = OmegaConf.load(path)
        if not isinstance(recipe, DictConfig):
            raise ValueError('it is not a mapping')
        for change in changes:
            key, value = change.lstrip('+').split('=', 1)
            OmegaConf.update(recipe, key, OmegaConf.from_dotlist([f'value={value}']).value, force_add=True)
        return recipe
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): give the YAML file of a recipe") from None
    except Exception as error:  # YAML and OmegaConf raise their own
        raise ConfigError(f"{path} is not YAML that can be resolved ({_first_line(error)}): correct it") from None


def model_of_recipe(recipe: DictConfig, path: str) -> Any:
    """Builds the model that a recipe trains, in eval mode and with random weights, or restores the one that it fine-tunes.

    Args:
        recipe: the content of its YAML.
        path: the file, for messages.

    Raises:
        ConfigError: the recipe has values that are not set, or describes no CTC, transducer or hybrid model.
        FileNotFoundError: the model that it fine-tunes does not exist.
    """
    model = OmegaConf.select(recipe, 'model')
    if not isinstance(model, DictConfig):
        raise ConfigError(f"{path} has no section `model`: give the YAML of a recipe, or a .nemo file")
    start = recipe.get('init_from_nemo_model') or recipe.get('init_from_pretrained_model')
    if 'encoder' not in model:
        if not isinstance(start, str):
            raise ConfigError(
                f"{path} has neither `model.encoder` nor a model to start from: set init_from_nemo_model to a .nemo file"
            )
        return _with_new_labels(restore_frozen(start), model)
    return _built(_resolved(model, path), path)


def _resolved(model: DictConfig, path: str) -> DictConfig:
    """The sections of the model itself; interpolations may point into those of the training."""
    try:
        sections = {
            name: (
                OmegaConf.to_container(model[name], resolve=True) if OmegaConf.is_config(model[name]) else model[name]
            )
            for name in model
            if name not in _OF_TRAINING and not OmegaConf.is_missing(model, name)
        }
    except Exception as error:  # every kind of unresolvable value has an error of its own
        raise ConfigError(f"a value of `model` in {path} cannot be resolved ({_first_line(error)}): set it") from None
    config = OmegaConf.create(sections)
    missing = sorted(OmegaConf.missing_keys(config))
    ConfigError.raise_if_any(f"`model.{key}` is not set in {path}: add --set model.{key}=VALUE" for key in missing)
    return config


def _built(config: DictConfig, path: str) -> Any:
    kind = ('joint' in config, 'aux_ctc' in config, 'tokenizer' in config)
    if 'target' not in config:
        if kind not in _CLASSES or 'transf_decoder' in config or 'decoder' not in config:
            raise ConfigError(
                f"{path} describes no CTC, transducer or hybrid model: give the recipe of one, or a .nemo file"
            )
        config.target = _MODELS + _CLASSES[kind]
    with neutral_state():
        model = build_model(without_data(config), path)
    model.eval()
    model.requires_grad_(False)
    return model


def _with_new_labels(model: Any, config: DictConfig) -> Any:
    """The model with the labels that NeMo's script for fine-tuning gives it."""
    tokenizer, labels = config.get('tokenizer') or {}, config.get('char_labels') or {}
    with neutral_state():
        if tokenizer.get('update_tokenizer', False):
            if not Path(str(tokenizer.get('dir'))).is_dir():
                raise ConfigError(
                    f"there is no tokenizer in {tokenizer.get('dir')!r}: set model.tokenizer.dir to its folder"
                )
            model.change_vocabulary(new_tokenizer_dir=tokenizer.dir, new_tokenizer_type=tokenizer.type)
        elif labels.get('update_labels', False):
            model.change_vocabulary(new_vocabulary=list(labels.labels))
    model.requires_grad_(False)
    return model.eval()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip('.')

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Trains a model from one of the installed configs, as NeMo's own recipe scripts do.

    python -m nemo_oracle_kd.experiments.train --config-path=CONF/ctc --config-name=separable_ctc_char \\
        model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl save_to=model.nemo

The config determines the kind of model. The scripts of `examples/asr_ctc` and `examples/asr_rnnt` run this training with a
default config. The code contains nothing about distillation, which the command line adds (`+oracle_kd=NAME`).
"""

import lightning.pytorch as pl
import torch
from hydra.utils import get_class
from nemo.collections.asr import models as nemo_models
from nemo.core.config import hydra_runner
from nemo.utils import logging
from nemo.utils.exp_manager import exp_manager
from nemo.utils.trainer_utils import resolve_trainer_cfg
from omegaconf import DictConfig, OmegaConf

from nemo_oracle_kd import models as oracle_models
from nemo_oracle_kd.bridge.register.targets import PUBLIC_TARGETS
from nemo_oracle_kd.errors import ConfigError, unknown_name
from nemo_oracle_kd.experiments.recipes import config_folder

__all__ = ['model_class', 'train']


def model_class(model: DictConfig) -> type:
    """Returns the class of a model from its config: `target`, or by the presence of `oracle`, `joint` and `tokenizer`.

    Raises:
        ConfigError: `target` names a class that a configuration file may not name.
    """
    if model.get('target') is not None:
        if model.target not in PUBLIC_TARGETS:
            raise ConfigError(
                f"model.target is {model.target!r}: {unknown_name('class', model.target, PUBLIC_TARGETS)}"
            )
        return get_class(model.target)
    oracle, transducer, words = ('oracle' in model, 'joint' in model, 'tokenizer' in model)
    if oracle:
        names = ('EncDecOracleRNNTModel', 'EncDecOracleRNNTModelBPE') if transducer else None
        return getattr(oracle_models, (names or ('EncDecOracleCTCModel', 'EncDecOracleCTCModelBPE'))[words])
    names = ('EncDecRNNTModel', 'EncDecRNNTBPEModel') if transducer else ('EncDecCTCModel', 'EncDecCTCModelBPE')
    return getattr(nemo_models, names[words])


def train(cfg: DictConfig) -> None:
    """Trains a model, tests it if there is a test manifest, and saves a `.nemo` if `save_to` is set.

    Args:
        cfg: `model`, `trainer` and `exp_manager` as in NeMo's recipes; `seed`, `num_threads` and `save_to` are optional.
    """
    logging.info(f'Hydra config:\n{OmegaConf.to_yaml(cfg)}')
    if cfg.get('num_threads') is not None:
        torch.set_num_threads(cfg.num_threads)
    if cfg.get('seed') is not None:
        pl.seed_everything(cfg.seed, workers=True)
    trainer = pl.Trainer(**resolve_trainer_cfg(cfg.trainer))
    exp_manager(trainer, cfg.get('exp_manager', None))
    model = model_class(cfg.model)(cfg=cfg.model, trainer=trainer)
    model.maybe_init_from_pretrained_checkpoint(cfg)
    trainer.fit(model)
    if OmegaConf.select(cfg, 'model.test_ds.manifest_filepath') is not None and model.prepare_test(trainer):
        trainer.test(model)
    if cfg.get('save_to') is not None:
        model.save_to(cfg.save_to)
        logging.info(f'Saved {cfg.save_to}')


if __name__ == '__main__':
    hydra_runner(config_path=config_folder('ctc'), config_name='separable_ctc_char')(train)()

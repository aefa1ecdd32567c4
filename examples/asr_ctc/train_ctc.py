# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Trains a NeMo CTC model: a student, alone or distilled, or a conventional teacher.

An ordinary NeMo recipe: nothing in it knows of distillation, which comes from the command line (or not at all).

The student alone:

    python examples/asr_ctc/train_ctc.py \\
        model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl save_to=alone.nemo

The same student distilled from a teacher, oracle or not:

    python examples/asr_ctc/train_ctc.py \\
        model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl save_to=student.nemo \\
        +oracle_kd=frame_kl oracle_kd.teacher.restore_from=teacher.nemo

Sub-word models: add a `model.tokenizer` section to the config, as in NeMo's recipes.
"""

import lightning.pytorch as pl
import torch
from nemo.collections.asr.models import EncDecCTCModel, EncDecCTCModelBPE
from nemo.core.config import hydra_runner
from nemo.utils import logging
from nemo.utils.exp_manager import exp_manager
from nemo.utils.trainer_utils import resolve_trainer_cfg
from omegaconf import DictConfig, OmegaConf


@hydra_runner(config_path='../../conf/ctc', config_name='separable_ctc_char')
def main(cfg: DictConfig) -> None:
    """Trains, and saves a `.nemo` if `save_to` is set."""
    logging.info(f'Hydra config:\n{OmegaConf.to_yaml(cfg)}')
    if cfg.get('num_threads') is not None:
        torch.set_num_threads(cfg.num_threads)
    if cfg.get('seed') is not None:
        pl.seed_everything(cfg.seed, workers=True)
    trainer = pl.Trainer(**resolve_trainer_cfg(cfg.trainer))
    exp_manager(trainer, cfg.get('exp_manager', None))
    model_class = EncDecCTCModelBPE if 'tokenizer' in cfg.model else EncDecCTCModel
    model = model_class(cfg=cfg.model, trainer=trainer)
    model.maybe_init_from_pretrained_checkpoint(cfg)
    trainer.fit(model)
    if cfg.get('save_to') is not None:
        model.save_to(cfg.save_to)
        logging.info(f'Saved {cfg.save_to}')


if __name__ == '__main__':
    main()  # noqa pylint: disable=no-value-for-parameter

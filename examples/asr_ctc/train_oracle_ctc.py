# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Trains an oracle teacher: a CTC model that reads the audio and the transcript (arXiv 2111.03664).

    python examples/asr_ctc/train_oracle_ctc.py \\
        model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl \\
        save_to=oracle.nemo

Over sub-words: --config-name=oracle_conformer_ctc_bpe model.tokenizer.dir=TOKENIZER (a `model.tokenizer` section decides).

From a trained NeMo encoder, frozen (its preprocessor and encoder sections must be copied into the config):

    ... model.oracle.init_audio_encoder_from=trained.nemo model.oracle.freeze_audio_encoder=true

Whether the teacher listens or copies its transcript: nemo-oracle-kd diagnose oracle.nemo --manifest dev.jsonl
"""

import lightning.pytorch as pl
import torch
from nemo.core.config import hydra_runner
from nemo.utils import logging
from nemo.utils.exp_manager import exp_manager
from nemo.utils.trainer_utils import resolve_trainer_cfg
from omegaconf import DictConfig, OmegaConf

from nemo_oracle_kd.models import EncDecOracleCTCModel, EncDecOracleCTCModelBPE


@hydra_runner(config_path='../../conf/oracle_ctc', config_name='oracle_conformer_ctc_char')
def main(cfg: DictConfig) -> None:
    """Trains, tests if there is a test manifest, and saves a `.nemo` if `save_to` is set."""
    logging.info(f'Hydra config:\n{OmegaConf.to_yaml(cfg)}')
    if cfg.get('num_threads') is not None:
        torch.set_num_threads(cfg.num_threads)
    if cfg.get('seed') is not None:
        pl.seed_everything(cfg.seed, workers=True)
    trainer = pl.Trainer(**resolve_trainer_cfg(cfg.trainer))
    exp_manager(trainer, cfg.get('exp_manager', None))
    model_class = EncDecOracleCTCModelBPE if 'tokenizer' in cfg.model else EncDecOracleCTCModel
    teacher = model_class(cfg=cfg.model, trainer=trainer)
    teacher.maybe_init_from_pretrained_checkpoint(cfg)
    trainer.fit(teacher)
    if OmegaConf.select(cfg, 'model.test_ds.manifest_filepath') is not None and teacher.prepare_test(trainer):
        trainer.test(teacher)
    if cfg.get('save_to') is not None:
        teacher.save_to(cfg.save_to)
        logging.info(f'Saved {cfg.save_to}')


if __name__ == '__main__':
    main()  # noqa pylint: disable=no-value-for-parameter

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Trains an oracle teacher with a transducer head: RNN-T, TDT or multi-blank, reading the audio and the transcript.

    python examples/asr_rnnt/train_oracle_rnnt.py \\
        model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl \\
        save_to=oracle.nemo

For sub-words, add a `model.tokenizer` section to the config, as in NeMo's recipes.

To start from a trained NeMo encoder and freeze it (copy its preprocessor and encoder sections into the config):

    ... model.oracle.init_audio_encoder_from=trained.nemo model.oracle.freeze_audio_encoder=true

To see whether the teacher listens or copies its transcript: nemo-oracle-kd diagnose oracle.nemo --manifest dev.jsonl
"""

from nemo.core.config import hydra_runner
from omegaconf import DictConfig

from nemo_oracle_kd.experiments.recipes import config_folder
from nemo_oracle_kd.experiments.train import train


@hydra_runner(config_path=config_folder('oracle_rnnt'), config_name='oracle_separable_rnnt_char')
def main(cfg: DictConfig) -> None:
    """Trains, tests if there is a test manifest, and saves a `.nemo` if `save_to` is set."""
    train(cfg)


if __name__ == '__main__':
    main()  # noqa pylint: disable=no-value-for-parameter

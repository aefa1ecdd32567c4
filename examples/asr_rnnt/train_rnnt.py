# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Trains a NeMo transducer (RNN-T, TDT, multi-blank): a student, alone or distilled, or a conventional teacher.

The training is that of NeMo's own recipes. It contains nothing about distillation, which the command line adds.

The student alone:

    python examples/asr_rnnt/train_rnnt.py \\
        model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl save_to=alone.nemo

The same student distilled from a teacher, oracle or not (`nemo-oracle-kd presets` lists the other presets):

    python examples/asr_rnnt/train_rnnt.py \\
        model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl save_to=student.nemo \\
        +oracle_kd=lattice oracle_kd.teacher.restore_from=teacher.nemo

Sub-word models: add a `model.tokenizer` section to the config, as in NeMo's recipes.
"""

from nemo.core.config import hydra_runner
from omegaconf import DictConfig

from nemo_oracle_kd.experiments.recipes import config_folder
from nemo_oracle_kd.experiments.train import train


@hydra_runner(config_path=config_folder('rnnt'), config_name='separable_rnnt_char')
def main(cfg: DictConfig) -> None:
    """Trains, tests if there is a test manifest, and saves a `.nemo` if `save_to` is set."""
    train(cfg)


if __name__ == '__main__':
    main()  # noqa pylint: disable=no-value-for-parameter

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Trains a recogniser of word pictures: a student, alone or distilled, or a teacher.

The training is that of NeMo's own recipes. It contains nothing about distillation, which the command line adds.

An oracle teacher, which also reads the word:

    python examples/scene_text/train.py --config-name=oracle_residual_crnn_ctc \\
        model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl save_to=oracle.nemo

A student distilled from it:

    python examples/scene_text/train.py \\
        model.train_ds.manifest_filepath=train.jsonl model.validation_ds.manifest_filepath=dev.jsonl save_to=student.nemo \\
        +oracle_kd=frame_kl oracle_kd.teacher.restore_from=oracle.nemo
"""

from nemo.core.config import hydra_runner
from omegaconf import DictConfig

from nemo_oracle_kd.experiments.recipes import config_folder
from nemo_oracle_kd.experiments.train import train


@hydra_runner(config_path=config_folder('scene_text'), config_name='crnn_ctc')
def main(cfg: DictConfig) -> None:
    """Trains, tests if there is a test manifest, and saves a `.nemo` if `save_to` is set."""
    train(cfg)


if __name__ == '__main__':
    main()  # noqa pylint: disable=no-value-for-parameter

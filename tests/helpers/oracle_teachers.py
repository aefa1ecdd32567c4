# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Oracle teachers that have learned to listen or to copy, each trained once for all tests and processes."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_oracle
import torch
from built_once import built_once
from omegaconf import DictConfig

from nemo_oracle_kd.models import EncDecOracleCTCModel, EncDecOracleRNNTModel

#: head -> config of the teacher, its class
HEADS = {
    'ctc': (tiny_oracle.oracle_config, EncDecOracleCTCModel),
    'rnnt': (tiny_oracle.oracle_rnnt_config, EncDecOracleRNNTModel),
}
COPIER_STEPS = 160
#: head -> steps of the listener, those of them of audio alone, learning rate
LISTENER = {'ctc': (168, 40, 0.005), 'rnnt': (240, 80, 0.005)}


def listener(factory: pytest.TempPathFactory, head: str) -> Path:
    """Folder of a teacher of tones, with guards stronger than the defaults and a stage of audio alone: the steps are few.

    Beside `oracle.nemo` lie `metrics.json` (of the last step, and of the tone corpus as validation, which is a part of
    what it was trained on), `oracle.txt` (its options) and `outputs.pt`, what it said of `tiny_oracle.batch()` before it
    was saved.
    """

    def build(folder: Path) -> None:
        seen = tiny.write_tone_corpus(folder, 'dev', 16)  # the tones of the fixture `tone_corpus`
        manifest = tiny.write_tone_corpus(folder, 'train', 32, seed=1)
        manifest.write_text(seen.read_text() + manifest.read_text())
        guards = {'masking_ratio': 0.2, 'substitution_ratio': 0.05, 'dropout': 0.1}
        (make, _), (steps, alone, rate) = HEADS[head], LISTENER[head]
        config = make(manifest, seen, label_corruption=guards, audio_only_steps=alone)
        config.optim.lr = rate
        epochs = steps * config.train_ds.batch_size // 48
        _train(folder, head, config, steps, limit_val_batches=1.0, check_val_every_n_epoch=epochs)

    return built_once(factory, f'listener_{head}', build)


def copier(factory: pytest.TempPathFactory, head: str) -> Path:
    """Folder of a teacher of noise that says nothing, without guards, and told the absolute frame number: it can only copy."""

    def build(folder: Path) -> None:
        make, _ = HEADS[head]
        manifest = tiny_oracle.write_noise_corpus(folder)
        config = make(manifest, audio_ctc_weight=0.0, label_corruption=tiny_oracle.NO_CORRUPTION)
        _train(folder, head, tiny_oracle.invite_copying(config), COPIER_STEPS)

    return built_once(factory, f'copier_{head}', build)


def restored(folder: Path, head: str) -> Any:
    """The teacher of a folder, for tests that may change it."""
    return HEADS[head][1].restore_from(str(folder / 'oracle.nemo'), map_location='cpu').eval()


def _train(folder: Path, head: str, config: DictConfig, steps: int, **options: Any) -> None:
    trainer, teacher = tiny_oracle.fit(config, HEADS[head][1], steps, log_every_n_steps=steps, **options)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    (folder / 'metrics.json').write_text(json.dumps(metrics))
    (folder / 'oracle.txt').write_text(repr(teacher.oracle))
    with torch.no_grad():
        outputs = teacher.eval()(**tiny_oracle.batch())[:2]
    torch.save([output.clone() for output in outputs], folder / 'outputs.pt')  # clones have no NeuralType of NeMo
    teacher.save_to(str(folder / 'oracle.nemo'))

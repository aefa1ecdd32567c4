# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tiny models of word pictures, and pictures of words of few letters that they learn in seconds."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from PIL import Image, ImageDraw, ImageFont

from nemo_oracle_kd.scene_text.fonts import find_fonts

LABELS = ['a', 'e', 'm', 't', '7']
HEIGHT = 16
CONFIGS = Path(__file__).parents[2] / 'conf' / 'scene_text'


@lru_cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(next(path for path in find_fonts() if path.name == 'DejaVuSans.ttf')), 14)


def write_words(folder: Path, name: str = 'train', count: int = 16, seed: int = 0, key: str = 'image') -> Path:
    """Writes pictures of words and a manifest in which a row names its picture by `key`; returns the manifest's path.

    Some texts are in capitals or have punctuation, which no model here writes.
    """
    rng = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        word = ''.join(rng.choice(LABELS, size=int(rng.integers(2, 6))))
        picture = Image.new('L', (int(_font().getlength(word)) + 6, 18), int(rng.integers(150, 256)))
        ImageDraw.Draw(picture).text((3, 0), word, int(rng.integers(0, 80)), font=_font())
        path = f'{name}/{index:03d}.png'
        picture.save(folder / path)
        rows.append({key: path, 'text': (word, word.upper(), word + '!')[index % 3]})
    manifest = folder / f'{name}.jsonl'
    manifest.write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')
    return manifest


def config(
    train: Path | None = None, validation: Path | None = None, name: str = 'crnn_ctc', **encoder: Any
) -> DictConfig:
    """The `model` section of an installed config, made tiny; `encoder` overrides that section."""
    whole = OmegaConf.load(CONFIGS / f'{name}.yaml')
    model = whole.model
    model.labels = model.decoder.vocabulary = LABELS
    model.decoder.num_classes = len(LABELS)
    model.preprocessor.update(height=HEIGHT, min_width=16, max_width=96, sample_rate=100 * HEIGHT)
    model.sample_rate = 100 * HEIGHT
    tiny = {
        'feat_in': HEIGHT,
        'channels': [8, 16],
        'pools': [[4, 2], [4, 2]],
        'convolutions': 1,
        'hidden': 16,
        **encoder,
    }
    model.encoder.get('audio_encoder', model.encoder).update(tiny)
    if 'oracle' in model:
        model.encoder.d_model = 16
        model.oracle.audio_only_steps = 0
    for section, manifest in (('train_ds', train), ('validation_ds', validation)):
        if manifest is None:
            model.pop(section)
        else:
            model[section].update(manifest_filepath=str(manifest), batch_size=8)
    model.optim = {'name': 'adamw', 'lr': 0.01, 'betas': [0.9, 0.98], 'weight_decay': 0.0, 'fused': True}
    return model

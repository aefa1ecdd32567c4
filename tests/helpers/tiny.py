# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tiny real NeMo models and a corpus of tones, for tests that train.

Every label is a tone of its own, so a network of a few thousand weights learns the corpus in seconds.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from omegaconf import DictConfig, OmegaConf

LABELS = [' ', 'a', 'b', 'c', 'd']
SAMPLE_RATE = 8000


def tone_signal(text: str, generator: np.random.Generator, seconds_per_label: float = 0.12) -> np.ndarray:
    """A waveform that spells `text` in tones, with a little noise."""
    pieces = []
    for label in text:
        count = int(SAMPLE_RATE * seconds_per_label * generator.uniform(0.8, 1.2))
        time = np.arange(count) / SAMPLE_RATE
        frequency = 400.0 * (1 + LABELS.index(label))
        fade = np.minimum(1.0, np.minimum(np.arange(count), np.arange(count)[::-1]) / 80.0)
        pieces.append(0.3 * fade * np.sin(2 * np.pi * frequency * time))
    signal = np.concatenate(pieces) if pieces else np.zeros(SAMPLE_RATE // 4)
    return (signal + 0.003 * generator.standard_normal(signal.size)).astype(np.float32)


def write_tone_corpus(folder: Path, name: str = 'train', count: int = 16, seed: int = 0) -> Path:
    """Writes wav files and a NeMo manifest; returns the manifest's path."""
    folder = Path(folder)
    generator = np.random.default_rng(seed)
    audio = folder / f'audio_{name}'
    audio.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        text = ''.join(generator.choice(LABELS[1:], size=int(generator.integers(3, 7))))
        text = text[:2] + ' ' + text[2:]
        signal = tone_signal(text, generator)
        path = audio / f'{index:03d}.wav'
        soundfile.write(path, signal, SAMPLE_RATE, subtype='PCM_16')
        rows.append({'audio_filepath': str(path), 'duration': signal.size / SAMPLE_RATE, 'text': text})
    manifest = folder / f'{name}.jsonl'
    manifest.write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')
    return manifest


def ctc_config(
    train: Path | None = None,
    validation: Path | None = None,
    hidden: int = 32,
    stride: int = 2,
    labels: Sequence[str] = LABELS,
    batch_size: int = 4,
    learning_rate: float = 0.01,
) -> DictConfig:
    """Config of a character CTC model with two separable convolutions, as NeMo's QuartzNet configs write it."""
    block = {'repeat': 1, 'dilation': [1], 'dropout': 0.0, 'residual': False, 'separable': True}
    loader = {
        'sample_rate': SAMPLE_RATE,
        'labels': list(labels),
        'batch_size': batch_size,
        'num_workers': 0,
        'pin_memory': False,
    }
    config: dict[str, Any] = {
        'sample_rate': SAMPLE_RATE,
        'labels': list(labels),
        'preprocessor': {
            '_target_': 'nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor',
            'sample_rate': SAMPLE_RATE,
            'window_size': 0.02,
            'window_stride': 0.01,
            'features': 16,
            'n_fft': 256,
            'normalize': 'per_feature',
            'dither': 1e-5,
            'pad_to': 0,
        },
        'encoder': {
            '_target_': 'nemo.collections.asr.modules.ConvASREncoder',
            'feat_in': 16,
            'activation': 'relu',
            'conv_mask': True,
            'jasper': [
                {'filters': hidden, 'kernel': [11], 'stride': [stride], **block},
                {'filters': hidden, 'kernel': [11], 'stride': [1], **block},
            ],
        },
        'decoder': {
            '_target_': 'nemo.collections.asr.modules.ConvASRDecoder',
            'feat_in': hidden,
            'num_classes': len(labels),
            'vocabulary': list(labels),
        },
        # NeMo's complete default, with sections for searches that nobody makes here, takes half the time of making a model.
        'decoding': {'strategy': 'greedy_batch'},
        'optim': {'name': 'adamw', 'lr': learning_rate, 'betas': [0.9, 0.98], 'weight_decay': 0.0},
    }
    if train is not None:
        config['train_ds'] = {'manifest_filepath': str(train), 'shuffle': True, **loader}
    if validation is not None:
        config['validation_ds'] = {'manifest_filepath': str(validation), 'shuffle': False, **loader}
    return OmegaConf.create(config)


def rnnt_config(
    train: Path | None = None,
    validation: Path | None = None,
    kind: str = 'rnnt',
    hybrid: bool = False,
    joint_hidden: int = 24,
    durations: Sequence[int] = (0, 1, 2),
    big_blanks: Sequence[int] = (2, 4),
    rnnt_loss: str = 'oracle_kd_rnnt',
    **options: Any,
) -> DictConfig:
    """Config of a character transducer over the encoder of `ctc_config` (its options are `options`).

    Args:
        train: training manifest.
        validation: validation manifest.
        kind: 'rnnt', 'tdt' or 'multiblank_rnnt', which is also the name of NeMo's loss.
        hybrid: with a CTC head besides.
        joint_hidden: width of prediction network and joint.
        durations: of a TDT model.
        big_blanks: durations of a multi-blank model.
        rnnt_loss: name of the loss where `kind` is 'rnnt'. NeMo's own, 'default', takes twenty times as long on a CPU.
    """
    config = ctc_config(train, validation, **options)
    hidden = config.decoder.feat_in
    ctc_decoder = config.pop('decoder')
    config.model_defaults = {'enc_hidden': hidden, 'pred_hidden': joint_hidden}
    config.decoder = {
        '_target_': 'nemo.collections.asr.modules.RNNTDecoder',
        'normalization_mode': None,
        'random_state_sampling': False,
        'blank_as_pad': True,
        'prednet': {'pred_hidden': joint_hidden, 'pred_rnn_layers': 1, 't_max': None, 'dropout': 0.0},
    }
    config.joint = {
        '_target_': 'nemo.collections.asr.modules.RNNTJoint',
        'log_softmax': None,
        'preserve_memory': False,
        'fuse_loss_wer': False,
        'jointnet': {'joint_hidden': joint_hidden, 'activation': 'relu', 'dropout': 0.0},
    }
    config.loss = {'loss_name': rnnt_loss}
    if kind == 'tdt':
        config.joint.num_extra_outputs = len(durations)
        config.loss = {'loss_name': 'tdt', 'tdt_kwargs': {'durations': list(durations), 'sigma': 0.05}}
    elif kind == 'multiblank_rnnt':
        config.joint.num_extra_outputs = len(big_blanks)
        config.loss = {
            'loss_name': 'multiblank_rnnt',
            'multiblank_rnnt_kwargs': {'big_blank_durations': list(big_blanks), 'sigma': 0.05},
        }
    config.decoding = {'strategy': 'greedy_batch', 'greedy': {'max_symbols': 4}, 'beam': {'beam_size': 2}}
    if kind != 'rnnt':  # NeMo fills it in from the options of the loss
        config.decoding['durations' if kind == 'tdt' else 'big_blank_durations'] = []
        config.decoding.model_type = 'tdt' if kind == 'tdt' else 'multiblank'
    if hybrid:
        config.aux_ctc = {'ctc_loss_weight': 0.3, 'use_cer': False, 'decoder': ctc_decoder}
        config.aux_ctc.decoding = {'strategy': 'greedy'}
    return config


def train_tokenizer(folder: Path, pieces: int = 16, seed: int = 0) -> Path:
    """Trains a SentencePiece tokenizer on texts of the tone corpus; returns its folder, as `tokenizer.dir` wants it."""
    import sentencepiece

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    texts = [''.join(generator.choice(LABELS[1:], size=n)) for n in generator.integers(2, 6, size=200)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([' '.join(pair) for pair in zip(texts[::2], texts[1::2])]),
        model_prefix=str(folder / 'tokenizer'),
        model_type='bpe',
        vocab_size=pieces,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    vocabulary = (folder / 'tokenizer.vocab').read_text(encoding='utf-8').splitlines()
    pieces_only = [line.split('\t')[0] for line in vocabulary[1:]]
    (folder / 'vocab.txt').write_text(''.join(piece + '\n' for piece in pieces_only), encoding='utf-8')
    return folder


def with_tokenizer(config: DictConfig, folder: Path) -> DictConfig:
    """The config of a CTC model or transducer with sub-words instead of characters, for NeMo's `...ModelBPE` classes."""
    config = config.copy()
    config.pop('labels')
    config.tokenizer = {'dir': str(folder), 'type': 'bpe'}
    for name in ('train_ds', 'validation_ds'):
        if name in config:
            config[name].pop('labels')
    if 'joint' not in config:
        config.decoder.update(num_classes=-1, vocabulary=[])
    if 'aux_ctc' in config:
        config.aux_ctc.decoder.update(num_classes=-1, vocabulary=[])
    return config


def trainer(max_steps: int = 4, **options: Any):
    """A quiet CPU trainer."""
    import lightning.pytorch as pl

    defaults = {
        'max_steps': max_steps,
        'max_epochs': -1,
        'accelerator': 'cpu',
        'devices': 1,
        'logger': False,
        'enable_checkpointing': False,
        'enable_progress_bar': False,
        'enable_model_summary': False,
        'limit_val_batches': 0,
        'log_every_n_steps': 2,
        'num_sanity_val_steps': 0,
    }
    return pl.Trainer(**{**defaults, **options})


def ctc_model(config: DictConfig, trainer=None, cls: type | None = None, seed: int = 0):
    """Builds a CTC model with seeded weights."""
    import torch
    from nemo.collections.asr.models import EncDecCTCModel

    torch.manual_seed(seed)
    return (cls or EncDecCTCModel)(cfg=config, trainer=trainer)


def rnnt_model(config: DictConfig, trainer=None, cls: type | None = None, seed: int = 0):
    """Builds a transducer (hybrid if the config has a CTC head) with seeded weights."""
    import torch
    from nemo.collections.asr.models import EncDecHybridRNNTCTCModel, EncDecRNNTModel

    torch.manual_seed(seed)
    default = EncDecHybridRNNTCTCModel if 'aux_ctc' in config else EncDecRNNTModel
    return (cls or default)(cfg=config, trainer=trainer)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A tiny attention encoder-decoder of the Canary kind, which has neither a CTC nor a transducer head."""

from pathlib import Path
from typing import Any

import tiny
from omegaconf import OmegaConf

_WIDTH = 16


def aed_model(folder: Path) -> Any:
    """Builds an `EncDecMultiTaskModel` with random weights; its tokenizers are trained in ``folder``."""
    from nemo.collections.asr.models import EncDecMultiTaskModel
    from nemo.collections.common.tokenizers.canary_tokenizer import CanaryTokenizer
    from nemo.utils.app_state import AppState

    special = Path(folder) / 'special'
    special.mkdir(parents=True)
    CanaryTokenizer.build_special_tokenizer(['en', 'transcribe', 'pnc', 'nopnc'], str(special))
    words = tiny.train_tokenizer(Path(folder) / 'words')
    audio = tiny.ctc_config(hidden=_WIDTH)
    decoder = {
        'max_sequence_length': 64,
        'num_token_types': 0,
        'hidden_size': _WIDTH,
        'inner_size': _WIDTH,
        'num_layers': 1,
        'num_attention_heads': 2,
        'pre_ln': True,
        'vocab_size': None,
    }
    config = {
        'sample_rate': tiny.SAMPLE_RATE,
        'prompt_format': 'canary',
        'prompt_defaults': None,
        'preprocessor': audio.preprocessor,
        'encoder': audio.encoder,
        'model_defaults': {'asr_enc_hidden': _WIDTH, 'lm_enc_hidden': _WIDTH, 'lm_dec_hidden': _WIDTH},
        'tokenizer': {
            'dir': None,
            'type': 'agg',
            'langs': {
                'spl_tokens': {'dir': str(special), 'type': 'bpe'},
                'en': {'dir': str(words), 'type': 'bpe'},
            },
            'custom_tokenizer': {
                '_target_': 'nemo.collections.common.tokenizers.canary_tokenizer.CanaryTokenizer',
                'tokenizers': None,
            },
        },
        'transf_decoder': {
            '_target_': 'nemo.collections.asr.modules.transformer.get_nemo_transformer',
            'model_name': None,
            'pretrained': False,
            'encoder': None,
            'pre_ln_final_layer_norm': True,
            'config_dict': decoder,
        },
        'head': {
            '_target_': 'nemo.collections.asr.parts.submodules.token_classifier.TokenClassifier',
            'num_layers': 1,
            'hidden_size': _WIDTH,
            'num_classes': None,
        },
        'loss': {
            '_target_': 'nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss',
            'pad_id': None,
        },
    }
    # NeMo keeps the paths of the models that were restored, and would look there for the timestamp model of this one.
    AppState()._all_model_restore_paths.clear()
    return EncDecMultiTaskModel(cfg=OmegaConf.create(config))

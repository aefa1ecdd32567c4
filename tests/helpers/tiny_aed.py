# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A tiny attention encoder-decoder of the Canary kind, which has neither a CTC nor a transducer head."""

import json
from pathlib import Path
from typing import Any

import soundfile
import tiny
from omegaconf import OmegaConf

#: format of the prompt -> its tokens besides those that every Canary tokenizer has
_TOKENS = {
    'canary': ['en', 'transcribe', 'translate', 'pnc', 'nopnc'],
    'canary2': ['startofcontext', 'emo:undefined', 'en']
    + [prefix + name for name in ('pnc', 'itn', 'timestamp', 'diarize') for prefix in ('', 'no')],
}
PROMPT = {'source_lang': 'en', 'target_lang': 'en', 'pnc': 'no'}


def aed_model(folder: Path, prompt_format: str = 'canary', width: int = 16) -> Any:
    """Builds an `EncDecMultiTaskModel` with random weights; its tokenizers are trained in ``folder``."""
    import torch
    from nemo.collections.asr.models import EncDecMultiTaskModel
    from nemo.collections.common.tokenizers.canary_tokenizer import CanaryTokenizer
    from nemo.utils.app_state import AppState

    special = Path(folder) / 'special'
    special.mkdir(parents=True)
    CanaryTokenizer.build_special_tokenizer(_TOKENS[prompt_format], str(special))
    words = tiny.train_tokenizer(Path(folder) / 'words')
    audio = tiny.ctc_config(hidden=width)
    decoder = {
        'max_sequence_length': 64,
        'num_token_types': 0,
        'hidden_size': width,
        'inner_size': width,
        'num_layers': 2,  # with one, the states of the prompt would not depend on the audio
        'num_attention_heads': 2,
        'ffn_dropout': 0.1,
        'attn_score_dropout': 0.1,
        'pre_ln': True,
        'vocab_size': None,
    }
    config = {
        'sample_rate': tiny.SAMPLE_RATE,
        'prompt_format': prompt_format,
        'prompt_defaults': None,
        'preprocessor': audio.preprocessor,
        'encoder': audio.encoder,
        'model_defaults': {'asr_enc_hidden': width, 'lm_enc_hidden': width, 'lm_dec_hidden': width},
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
            'hidden_size': width,
            'num_classes': None,
        },
        'loss': {
            '_target_': 'nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss',
            'pad_id': None,
        },
    }
    # NeMo keeps the paths of the models that were restored, and would look there for the timestamp model of this one.
    AppState()._all_model_restore_paths.clear()
    torch.manual_seed(0)
    return EncDecMultiTaskModel(cfg=OmegaConf.create(config))


def teach(model: Any, manifest: Path, steps: int, learning_rate: float = 0.01) -> None:
    """Trains a model on a manifest, as NeMo's training step does with the prompt masked; all utterances are one batch."""
    import torch

    rows = [json.loads(line) for line in Path(manifest).read_text().splitlines()]
    signals = [torch.from_numpy(soundfile.read(row['audio_filepath'], dtype='float32')[0]) for row in rows]
    languages = {model.prompt.PROMPT_LANGUAGE_SLOT: 'spl_tokens'}
    turn = {'role': 'user', 'slots': {**PROMPT, 'task': 'asr', **languages}}
    dialogs = [
        model.prompt.encode_dialog(
            [turn, {'role': 'assistant', 'slots': {'text': row['text'], 'prompt_language': 'en'}}]
        )
        for row in rows
    ]
    prompted = [dialog['input_ids'] for dialog in dialogs]
    prompt_length = len(dialogs[0]['context_ids'])
    pad = torch.nn.utils.rnn.pad_sequence
    ids, lengths = pad(prompted, batch_first=True), torch.tensor([len(one) for one in prompted])
    audio = {
        'input_signal': pad(signals, batch_first=True),
        'input_signal_length': torch.tensor([len(signal) for signal in signals]),
    }
    position = torch.arange(ids.shape[1] - 1)
    scored = (position < lengths.unsqueeze(1) - 1) & (position >= prompt_length - 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    model.train()
    for _ in range(steps):
        log_probs = model.forward(**audio, transcript=ids[:, :-1], transcript_length=lengths - 1)[0]
        loss = model.loss(log_probs=log_probs, labels=ids[:, 1:], output_mask=scored)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()

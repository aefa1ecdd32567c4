# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The prompt of NeMo's attention decoders (Canary), and the labels of a text that follows it.

An `EncDecMultiTaskModel` gives the probability of a text for audio *and* a prompt, whose slots say what is spoken and what is to be
written: the languages, the task, whether with punctuation and capitals. The prompt is a condition, so its tokens are not scored.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from nemo_oracle_kd.bridge.model import ModelDescription, frame_seconds, tokenizer_fingerprint
from nemo_oracle_kd.bridge.vocabulary import UnwritableText
from nemo_oracle_kd.errors import ConfigError, unknown_name
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['AttentionPrompt', 'describe_attention', 'is_attention_model']

_ROLE = 'user'
#: the sub-tokenizer of the prompt's tokens in a tokenizer that has one per language
_PROMPT_LANGUAGE = 'spl_tokens'
#: slots that change nothing in a plain transcription; neither the user nor the model has to state them
_NEUTRAL = {
    'task': 'asr',
    'decodercontext': '',
    'emotion': '<|emo:undefined|>',
    'itn': 'no',
    'timestamp': 'no',
    'diarize': 'no',
}
_EXAMPLES = {'source_lang': 'en', 'target_lang': 'en', 'pnc': 'no'}


def is_attention_model(model: Any) -> bool:
    """Whether a model is one of NeMo's attention encoder-decoders with a prompt, an `EncDecMultiTaskModel`."""
    return hasattr(model, 'transf_decoder') and hasattr(model, 'prompt')


def describe_attention(model: Any) -> ModelDescription:
    """Describes an `EncDecMultiTaskModel`, whose only head is its attention decoder and which has no blank."""
    return ModelDescription(
        name=type(model).__name__,
        vocabulary=tuple(model.tokenizer.vocab),
        tokenizer=tokenizer_fingerprint(model),
        blanks={},
        sample_rate=int(model.cfg.sample_rate),
        frame_seconds=frame_seconds(model),
        reads_transcript=False,
        heads=('attention',),
    )


class AttentionPrompt:
    """The filled-in prompt of a model, and its conversion of texts to labels and back.

    Args:
        model: an `EncDecMultiTaskModel`.
        given: values of slots. Where one is missing, the model's own default counts, then a value that asks for a plain
            transcription.

    Attributes:
        slots: the value of every slot.
        context: token ids of the prompt.
        end: id of the token that ends a text.
        vocabulary_size: number of tokens of the tokenizer; the model's outputs are padded to a multiple of eight.
        fingerprint: hash of the tokenizer and of the language in which texts are written.

    Raises:
        ConfigError: a slot is unknown, has no value, or has a value that the model does not know.
    """

    def __init__(self, model: Any, given: Mapping[str, str]):
        self._formatter = model.prompt
        self._tokenizer = model.tokenizer
        self._longest = model.transf_decoder.max_sequence_length
        self.slots = self._filled(type(model).__name__, given)
        self._language = self.slots.get('target_lang', '').removeprefix('<|').removesuffix('|>')
        try:
            self.context: list[int] = self._encode([])['context_ids'].tolist()
            self.end = int(self._answer('')[-1])
            self._check_context()
        except (AssertionError, KeyError, RuntimeError, ValueError) as error:
            stated = ' '.join(f'{slot}={value}' for slot, value in self.slots.items())
            raise ConfigError(
                f"{type(model).__name__} does not know this prompt ({stated}; {type(error).__name__}: {error}): correct --prompt"
            ) from None
        self.vocabulary_size = int(self._tokenizer.vocab_size)
        identity = f'{tokenizer_fingerprint(model)} {self.vocabulary_size} {self._language}'
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()

    def _filled(self, name: str, given: Mapping[str, str]) -> dict[str, str]:
        slots = self._formatter.get_slots(_ROLE)
        ConfigError.raise_if_any(
            unknown_name(f'slot of the prompt of {name}', s, slots) for s in given if s not in slots
        )
        turns = self._formatter.get_default_dialog_slots()
        own = next((turn['slots'] for turn in turns if turn['role'] == _ROLE), {})
        known = {**_NEUTRAL, **{slot: value for slot, value in own.items() if value is not None}, **given}
        missing = [slot for slot in slots if slot not in known]
        if missing:
            example = ' '.join(f"{slot}={_EXAMPLES.get(slot, '...')}" for slot in missing)
            raise ConfigError(
                f"the prompt of {name} has no value for {', '.join(missing)}: state what is spoken and what is to be written, "
                f"such as --prompt {example}"
            )
        return {slot: str(known[slot]) for slot in slots}

    def _encode(self, answer: list[dict]) -> dict[str, Any]:
        slots = {**self.slots, self._formatter.PROMPT_LANGUAGE_SLOT: _PROMPT_LANGUAGE}
        return self._formatter.encode_dialog([{'role': _ROLE, 'slots': slots}, *answer])

    def _answer(self, text: str) -> list[int]:
        slots = {'text': text, self._formatter.PROMPT_LANGUAGE_SLOT: self._language}
        return self._encode([{'role': self._formatter.OUTPUT_ROLE, 'slots': slots}])['answer_ids'].tolist()

    def _check_context(self) -> None:
        """Raises if a tokenizer of sub-words has spelt out a token that it does not have."""
        tokens = [] if self.slots.get('decodercontext') else self._tokenizer.ids_to_tokens(self.context)
        spelt = [token for token in tokens if token.strip('▁') and not token.startswith('<|')]
        if spelt:
            raise ValueError(f"it has no token for a part of it, which becomes {''.join(spelt)!r}")

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Labels of a text, without the prompt and without the token that ends it.

        Raises:
            UnwritableText: the labels cannot express the text, or are more than the decoder reads.
        """
        if '<|' in text:  # what a tokenizer of sub-words may take for a token of the prompt
            raise UnwritableText(f"{text!r} holds a token of the prompt")
        *labels, _ = self._answer(text)
        back = self.decode(labels)
        if normalize_spaces(back) != normalize_spaces(text):
            raise UnwritableText(f"the model's tokenizer turns {text!r} into {back!r}")
        if len(self.context) + len(labels) > self._longest:
            raise UnwritableText(f"it has {len(labels)} tokens, and the decoder reads {self._longest} with the prompt")
        return labels

    def decode(self, labels: Sequence[int]) -> str:
        """The text of labels."""
        return self._tokenizer.ids_to_text([int(label) for label in labels])

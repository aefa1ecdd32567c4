# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Texts to labels and back, in the labels of any NeMo model."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from nemo_oracle_kd.bridge.model import tokenizer_fingerprint
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['TextCodec', 'UnwritableText']


class UnwritableText(ValueError):
    """A text that the model's labels cannot express; the message names the first offending part."""


class TextCodec:
    """Texts to labels and back.

    A text is written only if reading it back gives the same text. NeMo's own encoders drop unknown characters, or write them
    as the unknown token; the score of such labels would be that of another sentence.

    Args:
        model: a NeMo ASR model, of characters or of sub-words.
        vocabulary: its labels in order, without blank.

    Raises:
        ValueError: the model has several tokenizers, one per language.
    """

    def __init__(self, model: Any, vocabulary: Sequence[str]):
        self.tokenizer = getattr(model, 'tokenizer', None)
        self.vocabulary = tuple(vocabulary)
        self._ids = {label: i for i, label in enumerate(self.vocabulary)}
        if hasattr(self.tokenizer, 'tokenizers_dict'):
            raise ValueError(
                f"{type(model).__name__} has one tokenizer per language, so a text alone does not tell its labels: use a "
                "model with a single tokenizer"
            )
        identity = tokenizer_fingerprint(model) or json.dumps(self.vocabulary, ensure_ascii=False)
        #: hash of the vocabulary: equal exactly if every text has equal labels
        self.fingerprint = hashlib.sha256(f'{identity} {len(self.vocabulary)}'.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Labels of a text, without blanks.

        Raises:
            UnwritableText: the text cannot be written in the model's labels.
        """
        if self.tokenizer is None:
            unknown = [character for character in text if character not in self._ids]
            if unknown:
                raise UnwritableText(f"the model has no label for {unknown[0]!r}")
            return [self._ids[character] for character in text]
        labels = [int(label) for label in self.tokenizer.text_to_ids(text)]
        back = self.decode(labels)
        if normalize_spaces(back) != normalize_spaces(text):
            raise UnwritableText(f"the model's tokenizer turns {text!r} into {back!r}")
        return labels

    def decode(self, labels: Sequence[int]) -> str:
        """Text of labels."""
        if self.tokenizer is None:
            return ''.join(self.vocabulary[label] for label in labels)
        return self.tokenizer.ids_to_text([int(label) for label in labels])

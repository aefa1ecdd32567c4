# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Converts texts to the labels of any NeMo model, and back."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any

from nemo_oracle_kd.bridge.model import tokenizer_fingerprint
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['TextCodec', 'UnwritableText']


class UnwritableText(ValueError):
    """Raised for a text that the model's labels cannot express. The message names the first unknown part."""


class TextCodec:
    """Converts texts to labels and back.

    A text is encoded only if decoding its labels gives the same text. NeMo's own encoders drop unknown characters or encode
    them as the unknown token, and the score of such labels would be that of another sentence.

    A model with one tokenizer per language (NeMo's `agg`) has to be told the language of a text.

    Args:
        model: a NeMo ASR model, of characters or of sub-words.
        vocabulary: its labels in order, without blank.
    """

    def __init__(self, model: Any, vocabulary: Sequence[str]):
        self.tokenizer = getattr(model, 'tokenizer', None)
        self.vocabulary = tuple(vocabulary)
        self._ids = {label: i for i, label in enumerate(self.vocabulary)}
        self.languages = tuple(getattr(self.tokenizer, 'tokenizers_dict', ()))
        identity = tokenizer_fingerprint(model) or json.dumps(self.vocabulary, ensure_ascii=False)
        #: hash of the vocabulary, equal for two models exactly if every text has the same labels in both
        self.fingerprint = hashlib.sha256(f'{identity} {len(self.vocabulary)}'.encode()).hexdigest()

    def encode(self, text: str, language: str | None = None) -> list[int]:
        """Labels of a text, without blanks.

        Args:
            text: the text.
            language: of the text, for a model with one tokenizer per language.

        Raises:
            UnwritableText: if the model's labels cannot express the text, or if its language is not one of the model's.
        """
        if self.tokenizer is None:
            unknown = [character for character in text if character not in self._ids]
            if unknown:
                raise UnwritableText(f"the model has no label for {unknown[0]!r}")
            return [self._ids[character] for character in text]
        if self.languages and language not in self.languages:
            raise UnwritableText(
                f"the model has one tokenizer per language ({', '.join(self.languages)}) and the row's `lang` is {language!r}"
            )
        of_language = (language,) if self.languages else ()
        labels = [int(label) for label in self.tokenizer.text_to_ids(text, *of_language)]
        back = self.decode(labels)
        if normalize_spaces(back) != normalize_spaces(text):
            raise UnwritableText(f"the model's tokenizer turns {text!r} into {back!r}")
        return labels

    def decode(self, labels: Sequence[int]) -> str:
        """The text of labels without blanks."""
        if self.tokenizer is None:
            return ''.join(self.vocabulary[label] for label in labels)
        labels = [int(label) for label in labels]
        if not self.languages:
            return self.tokenizer.ids_to_text(labels)
        runs = itertools.groupby(labels, self.tokenizer.langs_by_token_id.get)
        offsets = self.tokenizer.offset_token_ids_by_token_id
        return ' '.join(
            self.tokenizer.tokenizers_dict[one].ids_to_text([offsets[k] for k in run]) for one, run in runs
        )

    def language(self, labels: Sequence[int]) -> str | None:
        """The language of labels; `None` for a model that has a single tokenizer, and for no labels."""
        return self.tokenizer.langs_by_token_id[int(labels[0])] if self.languages and len(labels) else None

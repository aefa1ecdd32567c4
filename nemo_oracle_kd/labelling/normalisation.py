# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Brings the texts of other recognisers into a student's alphabet: by a library of rules, then by the case of its letters."""

import importlib.metadata
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['NORMALISERS', 'Alphabet', 'Changes', 'Normaliser']

#: name -> the package behind it
NORMALISERS = {
    'whisper-basic': 'whisper_normalizer',
    'whisper-english': 'whisper_normalizer',
    'nemo': 'nemo_text_processing',
    'none': None,
}
#: stands for the apostrophe within a word, which Whisper's rules take for punctuation; Unicode counts it as a letter
_APOSTROPHE = '\u02bc'


class Alphabet:
    """What a student can write.

    Args:
        source: a `.nemo` file, or its labels as one string; a space is always among them.

    Attributes:
        letters: all characters of its labels.

    Raises:
        ConfigError: the file cannot be restored, or there is no label.
    """

    def __init__(self, source: str):
        self._codec: Any = None
        if source.endswith('.nemo') or Path(source).is_file():
            from nemo_oracle_kd.bridge.model import find_head
            from nemo_oracle_kd.bridge.restore import quiet_nemo, restore_frozen
            from nemo_oracle_kd.bridge.vocabulary import TextCodec

            with quiet_nemo():
                model = restore_frozen(source)
            self._codec = TextCodec(model, find_head(model).vocabulary)
            self.letters = frozenset(''.join(self._codec.vocabulary)) - {'\u2581'}  # SentencePiece's space
        else:
            self.letters = frozenset(source + ' ')
        if not self.letters - {' '}:
            raise ConfigError("--alphabet is empty: give the labels as one string, or the .nemo file of a student")

    @property
    def identity(self) -> str:
        """Equal for two alphabets that write the same texts."""
        return ''.join(sorted(self.letters)) if self._codec is None else self._codec.fingerprint

    @property
    def case(self) -> str | None:
        """`lower` or `upper` if its letters have only this case."""
        lower, upper = (any(is_case(letter) for letter in self.letters) for is_case in (str.islower, str.isupper))
        return {(True, False): 'lower', (False, True): 'upper'}.get((lower, upper))

    def can_write(self, text: str) -> bool:
        """Whether the labels express the text."""
        if self._codec is None:
            return self.letters.issuperset(text)
        from nemo_oracle_kd.bridge.vocabulary import UnwritableText

        try:
            self._codec.encode(text)
        except UnwritableText:
            return False
        return True


@dataclass(frozen=True)
class Normaliser:
    """The rules for a text.

    Attributes:
        name: a key of `NORMALISERS`.
        alphabet: what the student can write; `None` accepts every text.
        language: of `nemo`'s rules.
    """

    name: str = 'whisper-basic'
    alphabet: Alphabet | None = None
    language: str = 'en'

    def __post_init__(self) -> None:
        object.__setattr__(self, '_rules', self._library())

    @property
    def description(self) -> dict[str, Any]:
        """What determines its results."""
        package = NORMALISERS[self.name]
        return {
            'rules': self.name,
            'package': package and f'{package} {importlib.metadata.version(package)}',
            'language': self.language if self.name == 'nemo' else None,
            'alphabet': None if self.alphabet is None else self.alphabet.identity,
        }

    def _library(self) -> Callable[[str], str]:
        if self.name == 'none':
            return str
        try:
            if self.name == 'whisper-english':
                from whisper_normalizer.english import EnglishTextNormalizer

                return EnglishTextNormalizer()
            from whisper_normalizer.basic import BasicTextNormalizer

            plain = self.alphabet is not None and ''.join(self.alphabet.letters).isascii()
            basic = BasicTextNormalizer(remove_diacritics=True) if plain else BasicTextNormalizer(preserve_marks=True)
            if self.name == 'whisper-basic':
                return basic
            from nemo_text_processing.text_normalization.normalize import Normalizer
        except ImportError as error:
            package = NORMALISERS[self.name]
            raise ConfigError(
                f"--normalizer {self.name} needs the package {package} ({error}): install it, or use another normalizer"
            ) from None
        spoken = Normalizer(input_case='cased', lang=self.language)
        return lambda text: basic(_protected(spoken.normalize(text, verbose=False), self.alphabet))

    def __call__(self, text: str) -> str:
        """The text as the student is to write it, or as near to it as the rules come."""
        if self.name == 'whisper-basic':
            text = _protected(text, self.alphabet)
        text = normalize_spaces(self._rules(text).replace(_APOSTROPHE, "'"))
        case = None if self.alphabet is None else self.alphabet.case
        return text.upper() if case == 'upper' else text.lower() if case == 'lower' else text


def _protected(text: str, alphabet: Alphabet | None) -> str:
    """The text with the apostrophes within words (don't) as letters, unless the alphabet has none."""
    if alphabet is not None and "'" not in alphabet.letters:
        return text
    return re.sub(r"(?<=\w)['\u2019](?=\w)", _APOSTROPHE, text)


class Changes:
    """Counts what normalisation changed.

    Args:
        pairs: texts before and after.

    Attributes:
        texts: number of texts.
        changed: number of those that differ.
        by_case: number of those that differ in case alone.
        removed: character -> how often it was taken out (letters count without case).
        examples: some pairs that differ in more than case.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], examples: int = 5):
        self.texts = self.changed = self.by_case = 0
        self.removed: Counter[str] = Counter()
        self.examples: list[tuple[str, str]] = []
        for before, after in pairs:
            before = normalize_spaces(before)
            self.texts += 1
            self.changed += before != after
            if before == after or before.lower() == after.lower():
                self.by_case += before != after
                continue
            self.removed += Counter(before.lower()) - Counter(after.lower())
            if len(self.examples) < examples:
                self.examples.append((before, after))

    def lines(self) -> list[str]:
        """What to print."""
        if not self.changed:
            return [f'normalised {self.texts} texts: none changed']
        removed = ', '.join(
            f'{character!r} {count}' for character, count in self.removed.most_common(8) if character != ' '
        )
        found = [f'normalised {self.texts} texts: {self.changed} changed, {self.by_case} of them in case alone']
        found += [f'taken out: {removed}'] if removed else []
        return found + [f'  {before!r} -> {after!r}' for before, after in self.examples]

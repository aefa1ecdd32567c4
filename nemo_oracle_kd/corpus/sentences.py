# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Makes new sentences out of the words of given texts, so that synthetic speech has the vocabulary of a real corpus.

A sentence is a walk through the pairs of neighbouring words of the texts: the next word is one that followed the last word
somewhere in them, or, now and then, any word. Lengths are drawn from those of the texts.
"""

import hashlib
import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.corpus.texts import ALPHABET, SENTENCES, SPLITS, Sentence, pick
from nemo_oracle_kd.errors import ConfigError

__all__ = ['Rearranged', 'fingerprint_of', 'read_texts', 'rearranged']

#: share of the words that are drawn from all words and not from the neighbours of the last one
FREEDOM = 0.3
#: draws before a sentence that occurs in the texts is accepted
TRIES = 10
_ORDER_STREAM = 0x0DE5


def read_texts(manifest: str | os.PathLike) -> tuple[str, ...]:
    """Reads the texts of a manifest, without empty ones; the recordings need not be there.

    Raises:
        ManifestError: the manifest cannot be read.
        ConfigError: a word has a character outside :data:`~nemo_oracle_kd.corpus.texts.ALPHABET`, or there is no word.
    """
    texts = tuple(' '.join(row['text'].split()) for row in read_manifest(manifest, check_audio=False))
    foreign = {word: None for text in texts for word in text.split() if not set(word) <= set(ALPHABET)}
    if foreign:
        first = ', '.join(f"'{word}'" for word in list(foreign)[:3])
        more = f' and {len(foreign) - 3} more' if len(foreign) > 3 else ''
        raise ConfigError(
            f"--words: {os.fspath(manifest)} has words with characters other than a-z and the apostrophe ({first}{more}): "
            "write them in lower case and out in letters"
        )
    texts = tuple(text for text in texts if text)
    if not texts:
        raise ConfigError(f"--words: {os.fspath(manifest)} has empty texts only: give a manifest with words")
    return texts


def fingerprint_of(texts: Sequence[str]) -> str | None:
    """SHA-256 of texts, in hexadecimal; ``None`` if there are none."""
    return hashlib.sha256('\n'.join(texts).encode()).hexdigest() if texts else None


class Rearranged:
    """Draws sentences of the words of given texts.

    Args:
        texts: texts of single words separated by single spaces, at least one.
        seed: seed of the order in which the sentences must contain the words.
    """

    def __init__(self, texts: Sequence[str], seed: int) -> None:
        sentences = [text.split() for text in texts]
        self._known = frozenset(texts)
        self._lengths = sorted(map(len, sentences))
        self._tokens = [word for words in sentences for word in words]
        self._after: dict[str, list[str]] = defaultdict(list)
        self._before: dict[str, list[str]] = defaultdict(list)
        for words in sentences:
            for left, right in zip(words, words[1:]):
                self._after[left].append(right)
                self._before[right].append(left)
        words = sorted(set(self._tokens))
        self._order = [words[place] for place in np.random.default_rng([seed, _ORDER_STREAM]).permutation(len(words))]

    def draw(self, rng: np.random.Generator, split: str, index: int, train: int) -> Sentence:
        """Draws a sentence.

        Every word occurs in the training sentences: sentence ``index`` of ``train`` must contain the words ``index``,
        ``index + train``, ... of a shuffled vocabulary. If there are more sentences than words, only the first ones have such
        a duty, of one word each.

        Args:
            rng: source of every choice.
            split: ``train``, ``dev`` or ``test``; dev and test sentences have no duty.
            index: number of the sentence in its split.
            train: number of training sentences.

        Returns:
            A sentence that does not occur in the texts, if ten draws find one.
        """
        duty = self._order[index::train] if split == SPLITS[0] else []
        lengths = self._lengths[bisect_left(self._lengths, len(duty)) :]
        for _ in range(TRIES):
            text = ' '.join(self._walk(rng, pick(rng, lengths), duty))
            if text not in self._known:
                break
        return Sentence(SENTENCES, text, text)

    def _walk(self, rng: np.random.Generator, length: int, duty: Sequence[str]) -> list[str]:
        """The words of a sentence that contains those of ``duty`` at random places."""
        words: list[str | None] = [None] * length
        places = sorted(rng.permutation(length)[: max(len(duty), 1)])
        for place, word in zip(places, duty or [pick(rng, self._tokens)]):
            words[place] = word
        for place in range(places[0] - 1, -1, -1):
            words[place] = self._neighbour(rng, self._before, words[place + 1])
        for place in range(places[0] + 1, length):
            words[place] = words[place] or self._neighbour(rng, self._after, words[place - 1])
        return words

    def _neighbour(self, rng: np.random.Generator, neighbours: dict[str, list[str]], word: str) -> str:
        free = rng.random() < FREEDOM
        return pick(rng, self._tokens if free else neighbours.get(word) or self._tokens)


@lru_cache(maxsize=2)
def rearranged(texts: tuple[str, ...], seed: int) -> Rearranged:
    """The sentences of ``texts``; the tables are made once per process."""
    return Rearranged(texts, seed)

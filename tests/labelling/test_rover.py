# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""ROVER: alignments against all alignments by brute force, and votes by hand."""

import itertools
from functools import cache

import pytest

from nemo_oracle_kd.labelling.rover import align, rover


def _cheapest(slots, words):
    """The least cost of all ways to go through slots and words, by trying each."""

    @cache
    def cost(i, j):
        ways = [0] if i == len(slots) and j == len(words) else []
        if i < len(slots) and j < len(words):
            ways.append(cost(i + 1, j + 1) + (words[j] not in slots[i]))
        if i < len(slots):
            ways.append(cost(i + 1, j) + (None not in slots[i]))
        if j < len(words):
            ways.append(cost(i, j + 1) + 1)
        return min(ways)

    return cost(0, 0)


def test_alignments_are_the_cheapest_and_lose_no_word():
    texts = [''.join(letters) for size in range(4) for letters in itertools.product('ab', repeat=size)]
    for first, second, third in itertools.product(texts, texts, ['', 'b', 'aba', 'bbaa']):
        slots, _ = align([[letter] for letter in first], second, 1)
        network, cost = align(slots, third, 2)
        assert cost == _cheapest(slots, third)
        for number, text in enumerate((first, second, third)):
            assert ''.join(slot[number] or '' for slot in network) == text
        assert all(len(slot) == 3 and any(slot) for slot in network)


@pytest.mark.parametrize(
    'texts, votes, expected, share',
    [
        (['a b c', 'a b c', 'x b'], None, 'a b c', (2 / 3 + 1 + 2 / 3) / 3),
        (['a c', 'a b c', 'a b c d'], None, 'a b c', (1 + 2 / 3 + 1 + 2 / 3) / 4),
        (['a', 'b'], None, 'a', 0.5),
        (['a', 'b'], [0.2, 0.6], 'b', 0.75),
        (['a', 'b', 'b'], [0.9, 0.2, 0.3], 'a', 0.9 / 1.4),
        (['', 'um', ''], None, '', 2 / 3),
        (['', ''], None, '', 1.0),
        (['the cat sat'], None, 'the cat sat', 1.0),
    ],
)
def test_the_vote_of_each_slot(texts, votes, expected, share):
    text, agreement = rover(texts, votes)
    assert text == expected and agreement == pytest.approx(share)

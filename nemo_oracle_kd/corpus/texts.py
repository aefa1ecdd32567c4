# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the synthetic corpus says: digit strings, spelled names and letters, dates and short commands.

The vocabulary is about that of AN4: some hundred words over the characters ``a``-``z``, space and apostrophe. Names
are split between train, dev and test, so that a spelled name of the test set is a sequence of letters that training
has not seen as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = ('digits', 'spelling', 'dates', 'commands')
SENTENCES = 'sentences'  # the kind whose words the user gives, see nemo_oracle_kd/corpus/sentences.py
SPLITS = ('train', 'dev', 'test')
ALPHABET = " abcdefghijklmnopqrstuvwxyz'"

_DIGITS = ('zero', 'oh', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
_TEENS = ('ten', 'eleven', 'twelve', 'thirteen', 'fourteen', 'fifteen', 'sixteen', 'seventeen', 'eighteen', 'nineteen')
_TENS = ('twenty', 'thirty', 'forty', 'fifty', 'sixty', 'seventy', 'eighty', 'ninety')
_MONTHS = 'january february march april may june july august september october november december'.split()
_ORDINALS = (
    'first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth '
    'fifteenth sixteenth seventeenth eighteenth nineteenth twentieth'
).split()
_VERBS = ('erase', 'help', 'repeat', 'start', 'stop', 'go', 'enter', 'rubout', 'yes', 'no')
_NAMES = (
    'adams alvarez baker bennett brown campbell carter chang clark cohen collins cooper cruz davis diaz dixon edwards '
    'evans fischer fisher flores foster garcia gomez gonzalez gray green griffin hall harris hayes henry hill howard '
    'hughes ito jackson jacobs james jenkins johnson jones kelly kim king klein kovacs kumar lee lewis lopez lynch '
    'marx mason meyer miller mitchell moore morgan murphy myers nakata nguyen novak olsen ortiz owens parker patel '
    'perez perry peters powell price quinn ramirez reed reyes rivera roberts rossi ruiz sanchez sato schmidt scott '
    'silva singh smith stewart suzuki taylor thomas torres tucker turner vazquez vega wagner walker wang ward watson '
    'weber west white wilson wood wright wu xavier yang yates young zhang ziegler zimmer'
).split()

_COMMANDS = (
    '{verb}',
    '{verb} {verb}',
    'go to page {number}',
    "don't {action}",
    "it's {hour} o'clock",
    'erase the last {count}',
    'go to the {ordinal} name',
    'repeat the {ordinal} name',
    'enter page {number}',
    'start at {hour} fifteen',
    'stop at {hour} thirty',
    'erase page {number}',
)


@dataclass(frozen=True)
class Sentence:
    """One text of the corpus.

    Attributes:
        kind: one of :data:`KINDS`, or :data:`SENTENCES`.
        text: the transcript, over :data:`ALPHABET`.
        spoken: what the synthesiser is given; it differs where spelling misleads it.
    """

    kind: str
    text: str
    spoken: str


def names_of(split: str) -> list[str]:
    """The names that a split may spell: six in ten for train, two each for dev and test."""
    places = {'train': (0, 1, 3, 4, 6, 9), 'dev': (2, 5), 'test': (7, 8)}[split]
    return [name for index, name in enumerate(_NAMES) if index % 10 in places]


def vocabulary() -> set[str]:
    """Every word that :func:`draw_sentence` can produce."""
    commands = {word for pattern in _COMMANDS for word in pattern.split() if not word.startswith('{')}
    words = {*_DIGITS, *_TEENS, *_TENS, *_MONTHS, *_ORDINALS, 'thirtieth', *_VERBS, *commands}
    return words | set(ALPHABET[1:27])


def draw_sentence(rng: np.random.Generator, split: str, kinds: tuple[str, ...] = KINDS) -> Sentence:
    """Draws a sentence of about one to four seconds.

    Args:
        rng: source of every choice.
        split: ``train``, ``dev`` or ``test``; decides which names may be spelled.
        kinds: the kinds to draw from, each equally often.

    Returns:
        The sentence.
    """
    kind = pick(rng, kinds)
    if kind == 'digits':
        words = [pick(rng, _DIGITS) for _ in range(rng.integers(3, 8))]
    elif kind == 'spelling':
        # Letters at random beside the names: few names would be learnt as words, and some letters are rare in them.
        name = pick(rng, names_of(split))
        letters = rng.integers(1, 27, int(rng.integers(3, 7)))
        words = list(name) if rng.random() < 0.6 else [ALPHABET[letter] for letter in letters]
    elif kind == 'dates':
        words = _date(rng)
    else:
        words = _command(rng).split()
    return Sentence(kind, ' '.join(words), _spoken(words, kind))


def pick(rng: np.random.Generator, options: Sequence) -> Any:
    """One of the options, each equally often."""
    return options[int(rng.integers(len(options)))]


def _date(rng: np.random.Generator) -> list[str]:
    day = int(rng.integers(1, 32))
    if day <= 20:
        ordinal = [_ORDINALS[day - 1]]
    elif day == 30:
        ordinal = ['thirtieth']
    else:
        ordinal = [_TENS[day // 10 - 2], _ORDINALS[day % 10 - 1]]
    month = pick(rng, _MONTHS)
    if rng.random() < 0.4:
        return [month, *ordinal]
    return [month, *ordinal, 'nineteen', *_number(rng, 10)]


def _number(rng: np.random.Generator, low: int) -> list[str]:
    value = int(rng.integers(low, 100))
    if value < 10:
        return [_DIGITS[value + 1]]
    if value < 20:
        return [_TEENS[value - 10]]
    return [_TENS[value // 10 - 2], *([_DIGITS[value % 10 + 1]] if value % 10 else [])]


def _command(rng: np.random.Generator) -> str:
    # Every slot is drawn whether the pattern has it or not, so that adding a pattern changes no other choice.
    return pick(rng, _COMMANDS).format(
        verb=pick(rng, _VERBS),
        action=pick(rng, ('stop', 'start', 'go', 'repeat', 'erase', 'enter')),
        number=' '.join(_number(rng, 1)),
        hour=' '.join(pick(rng, _DIGITS[2:] + _TEENS[:3]).split()),
        count=' '.join(pick(rng, _DIGITS[3:]).split()),
        ordinal=pick(rng, _ORDINALS[:12]),
    )


def _spoken(words: list[str], kind: str) -> str:
    if kind != 'spelling':
        return ' '.join(words)
    # Between other letters eSpeak reads a lone "a" as the article; the phonemes say its name. Commas keep the
    # letters apart as a person spelling does.
    return ', '.join("[['eI]]" if letter == 'a' else letter for letter in words)

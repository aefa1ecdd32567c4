# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Puts errors into transcripts: substitutions, deletions and insertions at a given error rate.

Each unit of a transcript (a word or a character) has its own random numbers, which depend on the seed and the row alone. They
are compared with the rate, so that the errors of a lower rate are among those of a higher one. The other rows of the
manifest affect only which words are inserted, and the calibration. Calibration: some errors cancel (a deletion
beside an insertion is one substitution to an aligner), so the rate at which errors are made is raised until the measured
error rate is the one asked for.
"""

import bisect
import itertools
import math
import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, REFERENCE_KEY, TEACHER_KEYS
from nemo_oracle_kd.errors import ConfigError

__all__ = ['UNITS', 'CorruptionReport', 'CorruptionSettings', 'corrupt_rows']

UNITS = ('word', 'character')

#: rows that the calibration measures; a larger manifest is thinned evenly
CALIBRATION_ROWS = 2000
CALIBRATION_STEPS = 14

#: units after which a long text is cut for the measurement: aligning two texts takes time with the product of their lengths.
#: The cuts lie at the same unit of the truth in both, so that an alignment across one could save an error or two at most.
MEASURED_UNITS = 1000


@dataclass(frozen=True)
class CorruptionSettings:
    """Which errors are made.

    Attributes:
        rate: errors per unit of the true transcripts, as a share: 0.3 for 30 %.
        seed: seed of the random numbers.
        unit: `word` or `character`; spaces are never changed as characters.
        shares: of substitutions, deletions and insertions among the errors; they are made to sum to one.
    """

    rate: float
    seed: int = 0
    unit: str = 'word'
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2)

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.rate <= 2:
            problems.append(f"the error rate must be a share from 0 to 2, such as 0.3 for 30 %, not {self.rate}")
        if self.unit not in UNITS:
            problems.append(f"the unit must be one of {', '.join(UNITS)}, not {self.unit!r}")
        if len(self.shares) != 3 or not all(0 <= x < math.inf for x in self.shares) or not sum(self.shares):
            problems.append(
                f"the shares must be three numbers, none negative and not all zero, not {list(self.shares)}"
            )
        ConfigError.raise_if_any(problems)

    @property
    def probabilities(self) -> tuple[float, float, float]:
        """Shares that sum to one."""
        total = sum(self.shares)
        substitutions, deletions, insertions = self.shares
        return substitutions / total, deletions / total, insertions / total

    @property
    def highest(self) -> float:
        """The rate at which every unit has an error."""
        substitutions, deletions, insertions = self.probabilities
        return 1.0 / max(substitutions + deletions, insertions)


@dataclass(frozen=True)
class CorruptionReport:
    """Error rates and counts of the result, measured by jiwer.

    Attributes:
        wer: word error rate as a share.
        cer: character error rate as a share.
        substitutions: in the unit of the settings, as are the next two.
        deletions: likewise.
        insertions: likewise.
        units: in the true transcripts.
        rows: rows.
        changed: rows with at least one error.
        emptied: rows that lost all their words.
    """

    wer: float
    cer: float
    substitutions: int
    deletions: int
    insertions: int
    units: int
    rows: int
    changed: int
    emptied: int


def corrupt_rows(
    rows: Sequence[Mapping[str, Any]], settings: CorruptionSettings
) -> tuple[list[dict[str, Any]], CorruptionReport]:
    """Puts errors into the `text` of each row; the true text goes to `reference_text`.

    Args:
        rows: rows of a manifest.
        settings: which errors are made.

    Returns:
        New rows in the same order, and what was measured.

    Raises:
        ConfigError: rows that are corrupted already; no text; a rate that cannot be reached.
    """
    used = sum(REFERENCE_KEY in row for row in rows)
    if used:
        raise ConfigError(
            f"{used} of {len(rows)} rows hold a `{REFERENCE_KEY}` already, so their `text` is not the true one: corrupt the "
            "original manifest"
        )
    truths = [' '.join(row['text'].split()) for row in rows]
    if not any(truths):
        raise ConfigError("all texts of the manifest are empty: give a manifest with transcripts")
    inventory = _Inventory(truths, settings.unit, replacing=settings.rate > 0)
    keys = [_key(row, truth, settings.seed) for row, truth in zip(rows, truths)]
    rate = _calibrated(truths, keys, inventory, settings)
    pieces = [
        _corrupt(_drawn(truth, key, settings.unit), rate, inventory, settings) for truth, key in zip(truths, keys)
    ]
    corrupted = [
        {**_without_scores(row), 'text': _joined(of_row, settings.unit), REFERENCE_KEY: truth}
        for row, of_row, truth in zip(rows, pieces, truths)
    ]
    return corrupted, _measure(truths, pieces, settings.unit)


#: of a space between words, which has no errors
_NO_NUMBERS = (0.0, 0.0, 0.0, 0.0)


class _Inventory:
    """The units of a corpus, drawn as often as they occur."""

    def __init__(self, texts: Iterable[str], unit: str, replacing: bool):
        counts = Counter(piece for text in texts for piece in _split(text, unit) if piece != ' ')
        self.units = sorted(counts)
        self._cumulative = list(itertools.accumulate(counts[piece] for piece in self.units))
        if len(self.units) < 2 and replacing:
            raise ConfigError(
                f"the manifest holds only one {unit}, {self.units[0]!r}, so nothing can replace it: give a larger manifest"
            )

    def draw(self, number: float, instead_of: str | None = None) -> str:
        """The unit for a number in [0, 1), never `instead_of`."""
        index = min(bisect.bisect_right(self._cumulative, number * self._cumulative[-1]), len(self.units) - 1)
        if self.units[index] == instead_of:
            index = (index + 1) % len(self.units)
        return self.units[index]


def _without_scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without the scores that a teacher gave to its true text."""
    return {key: value for key, value in row.items() if key not in TEACHER_KEYS}


def _split(text: str, unit: str) -> list[str]:
    return text.split() if unit == 'word' else list(text)


def _key(row: Mapping[str, Any], truth: str, seed: int) -> str:
    # the file's name without its folder: a corpus that was moved gets the same errors
    return '\n'.join([str(seed), os.path.basename(row[AUDIO_KEY]), str(row.get('offset') or 0), truth])


def _drawn(text: str, key: str, unit: str) -> list[tuple[str, tuple[float, float, float, float]]]:
    """The units of a text, each with the numbers that decide about its errors at any rate."""
    draw = random.Random(key).random
    # always four numbers per unit, so that earlier errors do not affect later ones
    return [(piece, _NO_NUMBERS if piece == ' ' else (draw(), draw(), draw(), draw())) for piece in _split(text, unit)]


def _corrupt(
    drawn: Sequence[tuple[str, tuple[float, float, float, float]]],
    rate: float,
    inventory: _Inventory,
    settings: CorruptionSettings,
) -> list[tuple[str, str]]:
    """Returns stretches of the true text, each with its corrupted form; most texts have one."""
    substitution, deletion, insertion = (rate * share for share in settings.probabilities)
    stretches, true, result = [], [], []
    for piece, (change, replacement, insert, extra) in drawn:
        if len(true) >= MEASURED_UNITS and (
            piece == ' ' or settings.unit == 'word' or len(true) >= 2 * MEASURED_UNITS
        ):
            stretches.append((true, result))
            true, result = [], []
        true.append(piece)
        if piece == ' ':
            result.append(piece)
            continue
        if change < substitution:
            result.append(inventory.draw(replacement, instead_of=piece))
        elif change < 1.0 - deletion:
            result.append(piece)
        if insert < insertion:
            result.append(inventory.draw(extra))
    between = ' ' if settings.unit == 'word' else ''
    return [(between.join(true), between.join(result)) for true, result in [*stretches, (true, result)]]


def _joined(stretches: Iterable[tuple[str, str]], unit: str) -> str:
    """The corrupted text, with single spaces."""
    return ' '.join((' ' if unit == 'word' else '').join(result for _, result in stretches).split())


def _calibrated(truths: list[str], keys: list[str], inventory: _Inventory, settings: CorruptionSettings) -> float:
    """The rate of making errors at which the measured rate is `settings.rate`, found by bisection."""
    if settings.rate == 0:
        return 0.0
    import jiwer

    step = -(-len(truths) // CALIBRATION_ROWS)
    references = [truth for truth in truths[::step] if truth]
    sample = [_drawn(truth, key, settings.unit) for truth, key in zip(truths[::step], keys[::step]) if truth]

    def measured(rate: float) -> float:
        pieces = [_corrupt(drawn, rate, inventory, settings) for drawn in sample]
        true, made = _compared(references, pieces, settings.unit)
        return float(jiwer.wer(true, made) if settings.unit == 'word' else jiwer.cer(true, made))

    low, high = 0.0, settings.highest
    most = measured(high) if sample else 0.0
    if most < settings.rate:
        raise ConfigError(
            f"an error rate of {settings.rate:g} cannot be reached, because with shares {list(settings.shares)} an error in "
            f"every place gives {most:.3f}: lower the rate, or raise the share of insertions"
        )
    for _ in range(CALIBRATION_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if measured(middle) < settings.rate else (low, middle)
    return high


def _compared(truths: list[str], pieces: list[list[tuple[str, str]]], unit: str) -> tuple[list[str], list[str]]:
    """The true texts and the corrupted ones as they are aligned, long ones in stretches."""
    true, made = [], []
    for truth, of_row in zip(truths, pieces):
        # a text of one stretch is measured as it is written
        stretches = of_row if len(of_row) > 1 else [(truth, _joined(of_row, unit))]
        true += [' '.join(stretch.split()) for stretch, _ in stretches]
        made += [' '.join(stretch.split()) for _, stretch in stretches]
    return true, made


def _measure(truths: list[str], pieces: list[list[tuple[str, str]]], unit: str) -> CorruptionReport:
    import jiwer

    texts = [_joined(of_row, unit) for of_row in pieces]
    true, made = _compared(truths, pieces, unit)
    words, characters = jiwer.process_words(true, made), jiwer.process_characters(true, made)
    of_unit = words if unit == 'word' else characters
    return CorruptionReport(
        wer=float(words.wer),
        cer=float(characters.cer),
        substitutions=of_unit.substitutions,
        deletions=of_unit.deletions,
        insertions=of_unit.insertions,
        units=of_unit.hits + of_unit.substitutions + of_unit.deletions,
        rows=len(truths),
        changed=sum(truth != text for truth, text in zip(truths, texts)),
        emptied=sum(bool(truth) and not text for truth, text in zip(truths, texts)),
    )

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures by which pseudo-labels are judged: score, agreement, rates of speech, signs of hallucination, imported fields.

References: word error rate against a reference, distil-whisper (arXiv 2311.00430); proxies without one, uDistil-Whisper (arXiv
2407.01257); the compression ratio, Whisper (arXiv 2212.04356).
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, is_number
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.filter_expression import Names
from nemo_oracle_kd.labelling.format import (
    FIELDS_KEY,
    LOG_PROB_KEY,
    NBEST_KEY,
    REFERENCE_KEY,
    TOKENS_KEY,
    character_error_rate,
    word_error_rate,
)
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['MEASURES', 'Measures', 'repetition', 'utterance_key']

Row = Mapping[str, Any]


def repetition(text: str) -> float:
    """The largest share of a text's words that one repeated n-gram covers, 0 to 1; 0 if no n-gram occurs twice.

    "thank you thank you thank you" gives 1, and so does "no no". Occurrences do not overlap.
    """
    words = text.split()
    best = 0
    for size in range(1, len(words) // 2 + 1):
        last: dict[tuple[str, ...], int] = {}
        count: dict[tuple[str, ...], int] = {}
        for start in range(len(words) - size + 1):
            gram = tuple(words[start : start + size])
            if start - last.get(gram, -size) >= size:
                last[gram] = start
                count[gram] = count.get(gram, 0) + 1
        most = max(count.values())
        if most < 2:
            break  # a longer n-gram cannot occur twice if no shorter one does
        best = max(best, most * size)
    return best / len(words) if best else 0.0


def _compression_ratio(row: Row) -> float | None:
    content = row['text'].encode('utf-8')
    return len(content) / len(zlib.compress(content)) if content else None


def _nll(row: Row) -> float | None:
    value = row.get(LOG_PROB_KEY)
    return -value + 0.0 if is_number(value) else None


def _nll_per_token(row: Row) -> float | None:
    nll, tokens = _nll(row), row.get(TOKENS_KEY)
    return None if nll is None or not is_number(tokens) else nll / max(1, tokens)


def _log_probs(row: Row) -> list[float]:
    entries = row.get(NBEST_KEY)
    return [entry['log_prob'] for entry in entries] if isinstance(entries, list) else []


def _entropy(row: Row) -> float | None:
    log_probs = _log_probs(row)
    if not log_probs:
        return None
    total = log_probs[0] + math.log(math.fsum(math.exp(value - log_probs[0]) for value in log_probs))
    return max(0.0, math.fsum(math.exp(value - total) * (total - value) for value in log_probs))


def _margin(row: Row) -> float | None:
    log_probs = _log_probs(row)
    return log_probs[0] - log_probs[1] if len(log_probs) > 1 else None


def _per_second(count: Callable[[str], int]) -> Callable[[Row], float | None]:
    def rate(row: Row) -> float | None:
        duration = row.get('duration')
        return count(row['text']) / duration if is_number(duration) and duration > 0 else None

    return rate


def _words(text: str) -> int:
    return len(text.split())


def _field(name: str) -> Callable[[Row], Any]:
    def value(row: Row) -> Any:
        fields = row.get(FIELDS_KEY)
        return fields.get(name) if isinstance(fields, Mapping) else None

    return value


def _language(row: Row) -> str | None:
    found = next((value for value in (_field('language')(row), row.get('lang'), row.get('language')) if value), None)
    return found if isinstance(found, str) else None


#: name -> (type of the value, the value for a row, what it is)
MEASURES: dict[str, tuple[str, Callable[[Row], Any], str]] = {
    'nll': ('number', _nll, '-log P(text | audio), nats'),
    'nll_per_token': ('number', _nll_per_token, 'nats per token of the teacher'),
    'tokens': ('number', lambda row: row.get(TOKENS_KEY), 'tokens of the teacher'),
    'entropy': ('number', _entropy, 'of the posteriors over the N-best list, nats'),
    'margin': ('number', _margin, 'log-probability of the best text minus that of the second, nats'),
    'duration': ('number', lambda row: row.get('duration'), 'seconds'),
    'words': ('number', lambda row: _words(row['text']), 'words of the text'),
    'characters': ('number', lambda row: len(row['text']), 'characters of the text'),
    'words_per_second': ('number', _per_second(_words), 'words per second of audio'),
    'characters_per_second': ('number', _per_second(len), 'characters per second of audio'),
    'repetition': (
        'number',
        lambda row: repetition(row['text']),
        'share of the words that one repeated n-gram covers',
    ),
    'compression_ratio': ('number', _compression_ratio, "bytes of the text over zlib's"),
    'confidence': ('number', _field('confidence'), 'imported confidence, 0 to 1'),
    'no_speech_prob': ('number', _field('no_speech_prob'), 'imported probability that nobody speaks'),
    'language': ('text', _language, 'imported language, or `lang` of the manifest'),
}


def utterance_key(row: Row) -> tuple[str, float]:
    """What identifies an utterance in several manifests: audio file and offset in seconds."""
    return str(row.get(AUDIO_KEY)), round(float(row.get('offset') or 0.0), 3)


class Measures:
    """The measures of the rows of a manifest; each value is computed once.

    Args:
        rows: rows of a scored manifest.
        others: name -> rows of another manifest with other texts for the same utterances.

    Raises:
        ConfigError: another manifest has none of the utterances, or one of them twice.
    """

    def __init__(self, rows: Sequence[Row], others: Mapping[str, Sequence[Row]] | None = None):
        self.rows = rows
        self._others: dict[str, dict[Any, str]] = {}
        for name, of_other in (others or {}).items():
            texts = {utterance_key(row): row['text'] for row in of_other}
            if len(texts) < len(of_other):
                raise ConfigError(
                    f"{len(of_other) - len(texts)} rows of `{name}` repeat an utterance: keep one row for each"
                )
            if not any(utterance_key(row) in texts for row in rows):
                raise ConfigError(
                    f"`{name}` has none of these utterances: give texts of the same audio files and offsets"
                )
            self._others[name] = texts
        self._known: dict[Any, list[Any]] = {}

    @property
    def names(self) -> Names:
        """What an expression about these rows may name."""
        against = ('reference', *self._others)
        kinds = {name: kind for name, (kind, _, _) in MEASURES.items()}
        return Names(kinds, {'wer': against, 'cer': against, 'field': None})

    def values(self, name: str, argument: str | None = None) -> list[Any]:
        """The values of all rows, `None` where there is none."""
        if (name, argument) not in self._known:
            if argument is None:
                of_row = MEASURES[name][1]
            elif name == 'field':
                of_row = _field(argument)
            else:
                of_row = self._error_rate(word_error_rate if name == 'wer' else character_error_rate, argument)
            kind = MEASURES[name][0] if argument is None else 'number'
            values = [of_row(row) for row in self.rows]
            self._known[name, argument] = [value if kind == 'text' or is_number(value) else None for value in values]
        return self._known[name, argument]

    def other_text(self, name: str, row: Row) -> str | None:
        """The text of a row in another manifest, or its reference."""
        if name == 'reference':
            found = row.get(REFERENCE_KEY)
            return found if isinstance(found, str) else None
        return self._others[name].get(utterance_key(row))

    def _error_rate(self, rate: Callable[[str, str], float], name: str) -> Callable[[Row], float | None]:
        def of_row(row: Row) -> float | None:
            other = self.other_text(name, row)
            # a finite number for words that the other does not have at all
            return None if other is None else min(rate(normalize_spaces(other), normalize_spaces(row['text'])), 1e9)

        return of_row

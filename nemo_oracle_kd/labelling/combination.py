# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Combines the texts that several teachers gave to the same speech: the best-scored of each utterance, or a vote on every word."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.files import CHECKSUM, SCORED_FORMAT
from nemo_oracle_kd.labelling.format import (
    FIELDS_KEY,
    LOG_PROB_KEY,
    NBEST_KEY,
    TOKENS_KEY,
    Fingerprint,
    scored_row,
    short_hash,
)
from nemo_oracle_kd.labelling.measures import MEASURES, utterance_key
from nemo_oracle_kd.labelling.rover import rover

__all__ = ['HOW', 'VOTES', 'Labelled', 'combine']

HOW = ('best', 'rover')
VOTES = ('equal', 'probability')
_nll_per_token = MEASURES['nll_per_token'][1]


@dataclass(frozen=True)
class Labelled:
    """The speech as one teacher labels it.

    Attributes:
        path: of the scored manifest.
        rows: its rows.
        header: its header.
    """

    path: str
    rows: Sequence[dict[str, Any]]
    header: dict[str, Any]


def combine(
    teachers: Sequence[Labelled], how: str = 'best', votes: str = 'equal'
) -> tuple[dict[str, Any], list[dict], list[dict]]:
    """Combines the teachers' texts; an utterance that one of them lacks is dropped.

    Args:
        teachers: two or more, all of the same speech.
        how: `best` takes the row whose text has the highest log-probability per token, with its scores; `rover` votes on every
            word and writes texts without scores, and the share of the votes as the field `agreement`.
        votes: of `rover`: `equal`, or `probability` per token of each text.

    Returns:
        The header, the rows, and the dropped rows.

    Raises:
        ConfigError: an utterance occurs twice, none is common to all, or a score is missing that is needed.
    """
    by_key = [{utterance_key(row): row for row in teacher.rows} for teacher in teachers]
    problems = [
        f"{teacher.path} has {len(teacher.rows) - len(rows)} utterances twice: keep one row of each"
        for teacher, rows in zip(teachers, by_key)
        if len(rows) < len(teacher.rows)
    ]
    if how == 'best' or votes == 'probability':
        for teacher in teachers:
            missing = sum(_nll_per_token(row) is None for row in teacher.rows)
            if missing:
                problems.append(
                    f"{missing} of {len(teacher.rows)} rows of {teacher.path} have no score to compare: import them with their "
                    "scores, or use --how rover --votes equal"
                )
    ConfigError.raise_if_any(problems)
    keys = list(dict.fromkeys(key for rows in by_key for key in rows))
    common = [key for key in keys if all(key in rows for rows in by_key)]
    if not common:
        raise ConfigError("no utterance is in all manifests: give labels of the same audio files and offsets")
    prints = [teacher.header.get('fingerprint') for teacher in teachers]
    identity = short_hash([how, prints])
    fingerprint = Fingerprint(identity, identity, short_hash([how, votes, prints]))
    kept = []
    for key in common:
        of_one = [rows[key] for rows in by_key]
        kept.append(_best(of_one, fingerprint) if how == 'best' else _voted(of_one, votes, fingerprint))
    dropped = [
        {**next(rows[key] for rows in by_key if key in rows), 'dropped_because': 'not labelled by every teacher'}
        for key in keys
        if key not in set(common)
    ]
    header = {
        'format': SCORED_FORMAT,
        'fingerprint': str(fingerprint),
        'teacher': {'class': _class_of(teachers)},
        'combined': {
            'how': how,
            'votes': votes if how == 'rover' else None,
            'of': [
                {'path': t.path, 'fingerprint': p, CHECKSUM: t.header.get(CHECKSUM)} for t, p in zip(teachers, prints)
            ],
        },
        'shard': [0, 1],
    }
    return header, kept, dropped


def _class_of(teachers: Sequence[Labelled]) -> str:
    """The classes of all teachers, so that a training still sees an oracle among them."""
    names = [str((teacher.header.get('teacher') or {}).get('class')) for teacher in teachers]
    return 'Combined: ' + ', '.join(dict.fromkeys(names))


def _best(rows: Sequence[dict], fingerprint: Fingerprint) -> dict[str, Any]:
    number = min(range(len(rows)), key=lambda n: (_nll_per_token(rows[n]), n))
    row = rows[number]
    tokens = row[TOKENS_KEY]
    texts = [(entry['log_prob'], entry['text'], None) for entry in row.get(NBEST_KEY) or ()]
    texts = [(row[LOG_PROB_KEY], row['text'], tokens), *texts[1:]]
    return scored_row(
        row, texts, fingerprint, keep_reference=False, fields={**(row.get(FIELDS_KEY) or {}), 'teacher': number}
    )


def _voted(rows: Sequence[dict], votes: str, fingerprint: Fingerprint) -> dict[str, Any]:
    weights = None if votes == 'equal' else [max(math.exp(-_nll_per_token(row)), 1e-9) for row in rows]
    text, agreement = rover([row['text'] for row in rows], weights)
    texts = [(None, text, None)]
    return scored_row(rows[0], texts, fingerprint, keep_reference=False, fields={'agreement': round(agreement, 6)})

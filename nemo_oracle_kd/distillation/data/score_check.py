# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""States what a valid row with a teacher's scores looks like, and checks all training rows against it."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo.utils import logging

from nemo_oracle_kd.bridge.rows.lines import ManifestLine
from nemo_oracle_kd.corpus.findings import Findings
from nemo_oracle_kd.corpus.manifest import SUPERVISED_KEY, is_number
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import (
    FIELDS_KEY,
    FINGERPRINT_KEY,
    LOG_PROB_KEY,
    NBEST_KEY,
    ROW_KEY,
    TOKENS_KEY,
    Fingerprint,
    header_path,
    read_header,
    row_hash,
)
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['ScoreCheck', 'ScoreRules', 'ScoringTeacher', 'mistake_sentence']

_SCORE_AGAIN = "score the manifest with `nemo-oracle-kd score`"
#: largest difference in nats between a row's score and that of its first hypothesis; both are written together, rounded
_ROUNDING = 2e-3

#: kind of mistake -> end of the sentence about the rows that have it, with the fix
_SENTENCES = {
    'flag': f"have a `{SUPERVISED_KEY}` that is neither true nor false: write it as a JSON boolean",
    'no score': f"have no `{LOG_PROB_KEY}`: {_SCORE_AGAIN}, or mark rows with true transcripts as \"{SUPERVISED_KEY}\": true",
    'no fingerprint': f"have a score without a valid `{FINGERPRINT_KEY}`, so its teacher is unknown: {_SCORE_AGAIN}",
    'other teacher': "were scored by another teacher or vocabulary than {expected}: "
    + _SCORE_AGAIN
    + " by that teacher",
    'log-prob': f"have a `{LOG_PROB_KEY}` that is not a log-probability (a finite number, at most 0): {_SCORE_AGAIN}",
    'tokens': f"have no valid `{TOKENS_KEY}` (a count, at least 0): {_SCORE_AGAIN}",
    'text': (
        f"have a `text` that is not the first of their `{NBEST_KEY}`, so `{LOG_PROB_KEY}` is the score of another text: score "
        "the new texts with `nemo-oracle-kd score --reference`, or restore the old texts"
    ),
    'changed': (
        f"have a `{LOG_PROB_KEY}` that differs from that of the first of their `{NBEST_KEY}`: {_SCORE_AGAIN} and change "
        "neither value afterwards"
    ),
    'no n-best': f"have no `{NBEST_KEY}`, which the objective compares: {_SCORE_AGAIN} and --nbest 2 or more",
    'n-best': (
        f"have a `{NBEST_KEY}` that is not a list of {{\"text\", \"log_prob\"}} with log-probabilities (finite numbers, at most "
        f"0): {_SCORE_AGAIN}"
    ),
    'row': (
        f"have an audio file, `duration`, `text` or score that changed after scoring (`{ROW_KEY}` no longer matches): "
        "score the manifest with `nemo-oracle-kd score --overwrite`, or restore the old values"
    ),
    'field': (
        f"have no number {{fields}} in `{FIELDS_KEY}`, by which `confidence.field` weights them (a weight itself, mode value, lies "
        "from 0 to 1): import it with `nemo-oracle-kd import --fields`, or store a measure with `nemo-oracle-kd filter --store`"
    ),
    'duplicates': (
        f"have the same text twice in `{NBEST_KEY}`, which would count twice: merge them with "
        "`nemo-oracle-kd score --rescore`"
    ),
}


@dataclass(frozen=True)
class ScoringTeacher:
    """The teacher whose scores are expected.

    Attributes:
        fingerprint: fingerprint of its scores, of which the parts for teacher and vocabulary are compared.
        model_class: name of the teacher's class; `None` if only the fingerprint is known.
    """

    fingerprint: Fingerprint
    model_class: str | None = None


@dataclass
class ScoreRules:
    """What is required of rows that are not supervised.

    Attributes:
        scores: whether `teacher_log_prob` is read; always so with `nbest`.
        nbest: whether an objective compares several hypotheses.
        expected: fingerprint of the only teacher whose scores are accepted; `None` accepts any.
        fields: entries of `teacher_fields` that rows need -> whether they lie from 0 to 1.
    """

    scores: bool
    nbest: bool = False
    expected: Fingerprint | None = None
    fields: Mapping[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scores = self.scores or self.nbest
        self._known: dict[Any, Fingerprint | None] = {}

    def fingerprint(self, row: Mapping[str, Any]) -> Fingerprint | None:
        """The fingerprint in a row, or `None` if it has no valid one."""
        text = row.get(FINGERPRINT_KEY)
        if not isinstance(text, str):
            return None
        if text not in self._known:  # few teachers, many rows
            try:
                self._known[text] = Fingerprint.parse(text)
            except ConfigError:
                self._known[text] = None
        return self._known[text]

    def mistakes(self, row: Mapping[str, Any]) -> list[str]:
        """The kinds of mistakes in a row that is not supervised."""
        if not isinstance(row.get(SUPERVISED_KEY, False), bool):
            return ['flag']
        found = ['field'] if self.fields and not self._has_fields(row) else []
        if not self.scores:
            return found
        log_prob = row.get(LOG_PROB_KEY)
        if log_prob is None:
            return found + ['no score']
        if not _is_log_prob(log_prob):
            found.append('log-prob')
        tokens = row.get(TOKENS_KEY)
        if type(tokens) is not int or tokens < 0:
            found.append('tokens')
        teacher = self.fingerprint(row)
        if teacher is None:
            found.append('no fingerprint')
        elif self.expected is not None and not teacher.same_scores(self.expected):
            found.append('other teacher')
        entries = row.get(NBEST_KEY)
        if entries is None:
            return found + (['no n-best'] if self.nbest else [])
        if not isinstance(entries, list) or not entries:
            return found + ['n-best']
        first = entries[0]
        if not self.nbest and isinstance(first, dict) and first.get('text') == row.get('text'):
            # the usual case, decided quickly: the row is as `score` wrote it, and no objective reads its other texts
            if first.get('log_prob') == log_prob:
                return found
        texts = _texts(entries if self.nbest else entries[:1])
        if texts is None:
            return found + ['n-best']
        if entries[0]['text'] != row.get('text') and texts[0] != normalize_spaces(row.get('text')):
            found.append('text')
        elif 'log-prob' not in found and abs(entries[0]['log_prob'] - log_prob) > _ROUNDING:
            found.append('changed')
        if len(set(texts)) < len(texts):
            found.append('duplicates')
        return found

    def _has_fields(self, row: Mapping[str, Any]) -> bool:
        values = row.get(FIELDS_KEY)
        if not isinstance(values, dict):
            return False
        return all(
            is_number(values.get(name)) and (not share or 0 <= values[name] <= 1)
            for name, share in self.fields.items()
        )


def mistake_sentence(kind: str, rules: ScoreRules) -> str:
    """The end of the sentence about rows with a kind of mistake."""
    if kind == 'field':
        return _SENTENCES[kind].format(fields=' and '.join(rules.fields))
    return _SENTENCES[kind].format(expected=rules.expected) if kind == 'other teacher' else _SENTENCES[kind]


class ScoreCheck:
    """Checks the scores of all rows, and counts the supervised ones, which need none.

    Args:
        rules: what is required of the rows.
        likelihood: names of the objectives that need true likelihoods, which a teacher that reads the transcript cannot give.
        teacher: the teacher whose scores are expected, if known.

    Attributes:
        rows: number of rows.
        supervised_rows: number of rows that are marked as supervised.
        fingerprint: fingerprint of the teacher that scored the rows, if known.
    """

    def __init__(self, rules: ScoreRules, likelihood: tuple[str, ...] = (), teacher: ScoringTeacher | None = None):
        self.rules, self.likelihood, self.teacher = rules, likelihood, teacher
        self.rows = self.supervised_rows = 0
        self.fingerprint = rules.expected
        self._findings = Findings({kind: mistake_sentence(kind, rules) for kind in _SENTENCES})
        self._teachers: Counter[Any] = Counter()
        self._files: dict[str, None] = {}
        self._alone = 0

    def see(self, line: ManifestLine) -> None:
        """Checks one row."""
        row = line.row
        self.rows += 1
        if row.get(SUPERVISED_KEY) is True:
            self.supervised_rows += 1
            return
        found = self.rules.mistakes(row)
        if found:
            for kind in found:
                self._findings.add(kind, line, f"{line.audio}, text {str(row.get('text'))[:40]!r}")
        elif self.rules.scores:
            self._teachers[row[FINGERPRINT_KEY]] += 1
            self._files[line.path] = None
            if self.rules.nbest:
                self._alone += len(row[NBEST_KEY]) < 2
            # the hash covers the file's name, which archives change
            if ROW_KEY in row and not line.source.tarred and _hash(row) != row[ROW_KEY]:
                self._findings.add('row', line, line.audio)

    def finish(self) -> Iterator[str]:
        """Yields what is wrong, and learns the fingerprint if nothing is."""
        scored = self.rows - self.supervised_rows
        yield from self._findings.sentences(scored)
        if not self.rows:
            yield "model.train_ds loads no row: give a manifest with rows whose duration lies from min_duration to max_duration"
        elif not scored and self.rules.scores:
            yield (
                f"all {self.rows} rows of model.train_ds are marked as supervised, so there is nothing to distil: add rows that "
                "a teacher scored"
            )
        teachers = self._scoring_teachers()
        if len(teachers) > 1:
            shares = ', '.join(f'{name} ({count} rows)' for name, count in teachers.most_common())
            yield (
                f"the rows of model.train_ds were scored by different teachers, {shares}, whose scores cannot be compared: score "
                "all rows by one teacher with `nemo-oracle-kd score --rescore`"
            )
        if self.likelihood:
            yield from self._oracle_problems()
        if self._findings or not teachers:
            return
        self.fingerprint = self.fingerprint or Fingerprint.parse(next(iter(teachers)))
        if self.rules.nbest and self._alone == scored:
            yield (
                f"all {scored} scored rows of model.train_ds have a single hypothesis, whose posterior within its N-best list "
                "is always 1: score them with `nemo-oracle-kd score --nbest 8`, or train with full_sum instead"
            )
        elif self._alone:
            logging.warning(
                f"{self._alone} of {scored} scored rows of the training data have a single hypothesis, from which objectives over "
                "the N-best list learn nothing."
            )

    def _scoring_teachers(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for text, count in self._teachers.items():
            parts = Fingerprint.parse(text)
            found[f'{parts.teacher}-{parts.vocabulary}'] += count
        return found

    def _oracle_problems(self) -> Iterator[str]:
        """Refuses scores of a model that had read the text, or of an unknown model: the file's header names its class."""
        names = ', '.join(self.likelihood)
        if self.teacher is not None and self.teacher.model_class is not None:
            if 'Oracle' in self.teacher.model_class:
                yield _oracle_sentence('the training rows', self.teacher.model_class, names)
            return
        for path in self._files:
            try:
                header = read_header(path)
            except ConfigError as error:
                yield from error.messages
                continue
            model_class = _class_of(header)
            if model_class is None:
                yield (
                    f"{path} has scores but no header {header_path(path).name} that names the teacher's class, so it may be an "
                    f"oracle, whose scores teach {names} nothing: join shards with `nemo-oracle-kd score --merge`, which keeps "
                    "the header, give teacher.restore_from beside teacher.scores, or write {\"teacher\": {\"class\": \"NAME\"}} "
                    "into that file for scores made by another program"
                )
            elif 'Oracle' in model_class:
                yield _oracle_sentence(path, model_class, names)


def _oracle_sentence(whose: str, model_class: str, names: str) -> str:
    return (
        f"the scores of {whose} are those of a {model_class}, which has read the texts and is certain of them all, so {names} "
        "would learn nothing: score the manifest by a teacher that reads audio alone"
    )


def _class_of(header: Any) -> str | None:
    teacher = header.get('teacher') if isinstance(header, Mapping) else None
    name = teacher.get('class') if isinstance(teacher, Mapping) else None
    return name if isinstance(name, str) and name else None


def _hash(row: Mapping[str, Any]) -> Any:
    try:
        return row_hash(row)
    except (TypeError, ValueError):  # the offset or duration is not a number, which the check of the audio reports
        return row[ROW_KEY]


def _is_log_prob(value: Any) -> bool:
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return False
    return -math.inf < value <= 0


def _texts(entries: list[Any]) -> list[str] | None:
    """The texts of an N-best list, or `None` if it is not a valid list."""
    found = []
    for entry in entries:
        if not isinstance(entry, dict):
            return None
        text = entry.get('text')
        if type(text) is not str or not _is_log_prob(entry.get('log_prob')):
            return None
        found.append(normalize_spaces(text))
    return found

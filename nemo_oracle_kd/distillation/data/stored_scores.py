# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The teacher's scores in the rows of the training data: checked as a whole before the first step, handed out per batch."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from nemo.utils import logging
from torch import Tensor
from tqdm import tqdm

from nemo_oracle_kd.bridge.rows.manifests import TrainingManifests, read_lines, training_manifests
from nemo_oracle_kd.corpus.manifest import SUPERVISED_KEY
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import (
    FINGERPRINT_KEY,
    LOG_PROB_KEY,
    NBEST_KEY,
    TOKENS_KEY,
    Fingerprint,
)

__all__ = ['StoredScores']

_SCORE_ANEW = "score the manifest with `nemo-oracle-kd score`"
#: text and score of a row were written together, so they differ by rounding at most
_ROUNDING = 2e-3

#: kind of mistake -> what is said of the rows that have it, with the fix
_SENTENCES = {
    'flag': f"have a `{SUPERVISED_KEY}` that is neither true nor false: write it as a JSON boolean",
    'no score': f"have no `{LOG_PROB_KEY}`: {_SCORE_ANEW}, or mark rows with true transcripts as \"{SUPERVISED_KEY}\": true",
    'no fingerprint': f"have a score without a valid `{FINGERPRINT_KEY}`, so nobody knows whose it is: {_SCORE_ANEW}",
    'other teacher': "were scored by another teacher or vocabulary than {expected}: "
    + _SCORE_ANEW
    + " by that teacher",
    'log-prob': f"have a `{LOG_PROB_KEY}` that is no log-probability (a finite number, at most 0): {_SCORE_ANEW}",
    'tokens': f"have no valid `{TOKENS_KEY}` (a count, at least 0): {_SCORE_ANEW}",
    'text': (
        f"have a `text` that is not the first of their `{NBEST_KEY}`, so `{LOG_PROB_KEY}` is the score of another text: score "
        "the new texts with `nemo-oracle-kd score --reference`, or put the old ones back"
    ),
    'changed': (
        f"have a `{LOG_PROB_KEY}` that differs from that of the first of their `{NBEST_KEY}`: {_SCORE_ANEW} and leave both "
        "as they are written"
    ),
    'no n-best': f"have no `{NBEST_KEY}`, which the objective compares: {_SCORE_ANEW} and --nbest 2 or more",
    'n-best': (
        f"have a `{NBEST_KEY}` that is not a list of {{\"text\", \"log_prob\"}} with log-probabilities (finite numbers, at most "
        f"0): {_SCORE_ANEW}"
    ),
    'duplicates': f"have the same text twice in `{NBEST_KEY}`, which would count twice: {_SCORE_ANEW} --rescore, which merges",
}


class StoredScores:
    """Scores that a teacher wrote into the training manifests.

    All rows that the loader may yield are checked when this is made; rows marked as supervised need no score, and theirs is
    not used. Data without a manifest (Lhotse shars) are checked batch by batch.

    Args:
        train_ds: `model.cfg.train_ds`.
        fingerprint: of the teacher that the scores must come from (the first two parts count); `None`: any, but only one.
        needs_nbest: an objective compares several hypotheses.
        needs_scores: an objective reads `teacher_log_prob`.

    Attributes:
        any_supervised: whether a row is marked `"supervised": true`; for data without a manifest `True`: there may be some.
        fingerprint: of the teacher whose scores these are, as far as known.
        rows: how many rows were checked.
        supervised_rows: how many of them are marked as supervised.

    Raises:
        ConfigError: rows that cannot be used, how many and why.
    """

    def __init__(self, train_ds: Mapping[str, Any], fingerprint: str | None, needs_nbest: bool, needs_scores: bool):
        self.needs_nbest = needs_nbest
        self.needs_scores = needs_scores or needs_nbest
        self.fingerprint = Fingerprint.parse(fingerprint) if fingerprint is not None else None
        self._expected = self.fingerprint
        self.rows = self.supervised_rows = 0
        manifests = training_manifests(train_ds)
        if manifests.text_fields and train_ds.get('use_lhotse', False) and self.needs_scores:
            raise ConfigError(
                f"text_field is {manifests.text_fields[0]!r} in model.train_ds, but the scores are those of `text`: set "
                "text_field=text"
            )
        self._checked = manifests.complete
        self.any_supervised = not self._checked
        if manifests.files:
            self._check_all(manifests, train_ds)
        if not self._checked:
            logging.info(
                "The training data have no manifest that could be read, so their scores are checked batch by batch."
            )

    # -- what a batch needs ---------------------------------------------------------------------------------------

    def supervised(self, rows: Sequence[Mapping[str, Any]]) -> Tensor:
        """Which rows have true transcripts, `[B]` bool."""
        self._check_batch(rows)
        return torch.tensor([row.get(SUPERVISED_KEY) is True for row in rows], dtype=torch.bool)

    def nll(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
        """The teacher's scores of the labels.

        Args:
            rows: of a batch.

        Returns:
            `-log P(text|x)` in nats, `[B]` float64, and the number of labels in the teacher's vocabulary, `[B]`. Supervised
            rows: `inf` and 0.
        """
        self._check_batch(rows)
        scored = [row.get(SUPERVISED_KEY) is not True for row in rows]
        nll = [-float(row[LOG_PROB_KEY]) if has else math.inf for row, has in zip(rows, scored)]
        tokens = [int(row[TOKENS_KEY]) if has else 0 for row, has in zip(rows, scored)]
        return torch.tensor(nll, dtype=torch.float64) + 0.0, torch.tensor(tokens, dtype=torch.long)

    def nbest(self, rows: Sequence[Mapping[str, Any]], most: int) -> tuple[list[list[str]], Tensor, Tensor]:
        """The best hypotheses.

        Args:
            rows: of a batch.
            most: hypotheses per utterance at most.

        Returns:
            Texts, the row's `text` first; `-log P` in nats, `[B, N]` float64, `inf` where there is none; where there is one,
            `[B, N]` bool. N is what the batch needs. Supervised rows have their `text` alone, without a score.
        """
        self._check_batch(rows)
        kept = [[] if row.get(SUPERVISED_KEY) is True else list(row[NBEST_KEY][:most]) for row in rows]
        texts = [[entry['text'] for entry in entries] or [row['text']] for entries, row in zip(kept, rows)]
        width = max((len(of_one) for of_one in texts), default=1)
        nll = [[0.0 - entry['log_prob'] for entry in entries] for entries in kept]
        nll = [values + [math.inf] * (width - len(values)) for values in nll]
        nll = torch.tensor(nll, dtype=torch.float64).reshape(len(rows), width)
        return texts, nll, nll.isfinite()

    # -- checks ---------------------------------------------------------------------------------------------------

    def _check_all(self, manifests: TrainingManifests, train_ds: Mapping[str, Any]) -> None:
        problems: Counter = Counter()
        examples: dict[str, str] = {}
        teachers: Counter = Counter()
        alone = 0
        for row in tqdm(_loaded_rows(manifests, train_ds), desc='checking scores', unit='row', delay=5, leave=False):
            self.rows += 1
            if row.get(SUPERVISED_KEY) is True:
                self.supervised_rows += 1
                continue
            found = self._problems(row)
            for kind in found:
                problems[kind] += 1
                examples.setdefault(kind, f"{row.get('audio_filepath')}, text {str(row.get('text'))[:40]!r}")
            if self.needs_scores and not found:
                parts = Fingerprint.parse(row[FINGERPRINT_KEY])
                teachers[f'{parts.teacher}-{parts.vocabulary}'] += 1
                if self.needs_nbest:
                    alone += len(row[NBEST_KEY]) < 2
        self.any_supervised = self.any_supervised or self.supervised_rows > 0
        ConfigError.raise_if_any(self._sentences(problems, examples, teachers, alone))

    def _sentences(self, problems: Counter, examples: dict[str, str], teachers: Counter, alone: int) -> Iterator[str]:
        scored = self.rows - self.supervised_rows
        for kind, count in problems.items():
            what = _SENTENCES[kind].format(expected=self._expected) if kind == 'other teacher' else _SENTENCES[kind]
            yield f"{count} of {scored} rows of model.train_ds (the first: {examples[kind]}) {what}"
        if not self.rows:
            yield "model.train_ds has no row within min_duration and max_duration: widen them, or check the manifest"
        elif not scored and self.needs_scores:
            yield (
                f"all {self.rows} rows of model.train_ds are marked as supervised, so there is nothing to distil: add rows that "
                "a teacher scored"
            )
        if len(teachers) > 1:
            shares = ', '.join(f'{name} ({count} rows)' for name, count in teachers.most_common())
            yield (
                f"the rows of model.train_ds were scored by different teachers, {shares}, whose scores do not compare: score "
                "them all by one teacher with `nemo-oracle-kd score --rescore`"
            )
        if teachers and not problems and self.needs_nbest and alone == scored:
            yield (
                f"all {scored} scored rows of model.train_ds have one hypothesis, and one alone always has the share 1 of an "
                "N-best list: score them with `nemo-oracle-kd score --nbest 8`, or train with full_sum instead"
            )
        if not problems and teachers:
            self.fingerprint = self.fingerprint or Fingerprint.parse(next(iter(teachers)))
            if 0 < alone < scored:
                logging.warning(
                    f"{alone} of {scored} scored rows of the training data have one hypothesis only; objectives over the N-best "
                    "list learn nothing from these."
                )

    def _check_batch(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self._checked:
            return
        for row in rows:
            found = [] if row.get(SUPERVISED_KEY) is True else self._problems(row)
            if found:
                what = _SENTENCES[found[0]].format(expected=self._expected) if found[0] == 'other teacher' else None
                raise ConfigError(
                    f"training utterances such as {row.get('audio_filepath')} (text {str(row.get('text'))[:40]!r}) "
                    f"{what or _SENTENCES[found[0]]}"
                )
            if self.needs_scores and row.get(SUPERVISED_KEY) is not True:
                # the first row says which teacher it is, where nobody else has
                self._expected = self._expected or Fingerprint.parse(row[FINGERPRINT_KEY])

    def _problems(self, row: Mapping[str, Any]) -> list[str]:
        """Kinds of mistakes of a row that is not supervised."""
        if not isinstance(row.get(SUPERVISED_KEY, False), bool):
            return ['flag']
        if not self.needs_scores:
            return []
        if row.get(LOG_PROB_KEY) is None:
            return ['no score']
        found = []
        if not _is_log_prob(row[LOG_PROB_KEY]):
            found.append('log-prob')
        tokens = row.get(TOKENS_KEY)
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
            found.append('tokens')
        try:
            teacher = Fingerprint.parse(row.get(FINGERPRINT_KEY))
            if self._expected is not None and not teacher.same_scores(self._expected):
                found.append('other teacher')
        except ConfigError:
            found.append('no fingerprint')
        entries = row.get(NBEST_KEY)
        if entries is None:
            return found + (['no n-best'] if self.needs_nbest else [])
        if not isinstance(entries, list) or not entries or not all(_is_hypothesis(entry) for entry in entries):
            return found + ['n-best']
        texts = [_spaces(entry['text']) for entry in entries]
        if texts[0] != _spaces(row.get('text')):
            found.append('text')
        elif 'log-prob' not in found and abs(entries[0]['log_prob'] - row[LOG_PROB_KEY]) > _ROUNDING:
            found.append('changed')
        if len(set(texts)) < len(texts):
            found.append('duplicates')
        return found


def _loaded_rows(manifests: TrainingManifests, train_ds: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows that the loader does not leave out by their duration, with the keys that it adds."""
    shortest, longest = train_ds.get('min_duration', None), train_ds.get('max_duration', None)
    for group, tags in zip(manifests.groups, manifests.tags):
        for line in read_lines(list(group)):
            row = json.loads(line.text)
            _, _, duration, row['text'] = line.key
            row.update(tags)
            if row.get('_skipme', False) and train_ds.get('use_lhotse', False):
                continue
            if duration is not None and shortest is not None and duration < shortest:
                continue
            if duration is not None and longest is not None and duration > longest > 0:
                continue
            yield row


def _is_log_prob(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value) and value <= 0


def _is_hypothesis(entry: Any) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get('text'), str) and _is_log_prob(entry.get('log_prob'))


def _spaces(text: Any) -> str:
    return ' '.join(str(text or '').split())

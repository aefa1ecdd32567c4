# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Turns the teacher's scores in the manifest rows of a batch into tensors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.corpus.manifest import SUPERVISED_KEY
from nemo_oracle_kd.distillation.data.score_check import ScoreRules, mistake_sentence
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import FIELDS_KEY, LOG_PROB_KEY, NBEST_KEY, TOKENS_KEY

__all__ = ['StoredScores']


class StoredScores:
    """Scores that a teacher wrote into the training manifests.

    Rows marked as supervised need no score, and a score in them is ignored.

    Args:
        rules: what is required of the rows.
        checked: whether all rows were checked in advance. Data without a manifest (Lhotse shars) are checked batch by batch.
        any_supervised: whether a row is, or may be, marked `"supervised": true`.
    """

    def __init__(self, rules: ScoreRules, checked: bool, any_supervised: bool):
        self.rules, self.checked, self.any_supervised = rules, checked, any_supervised

    def supervised(self, rows: Sequence[Mapping[str, Any]]) -> Tensor:
        """Whether each row has a true transcript, `[B]` bool.

        Raises:
            ConfigError: a row of unchecked data that breaks the rules.
        """
        self._check_batch(rows)
        return torch.tensor([row.get(SUPERVISED_KEY) is True for row in rows], dtype=torch.bool)

    def nll(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
        """The teacher's scores of the transcripts.

        Args:
            rows: the rows of a batch.

        Returns:
            `-log P(text|x)` in nats, `[B]` float64, and the number of labels in the teacher's vocabulary, `[B]`. They are
            `inf` and 0 in supervised rows.

        Raises:
            ConfigError: a row of unchecked data that breaks the rules.
        """
        self._check_batch(rows)
        scored = [row.get(SUPERVISED_KEY) is not True for row in rows]
        nll = [-float(row[LOG_PROB_KEY]) if has else math.inf for row, has in zip(rows, scored)]
        tokens = [int(row[TOKENS_KEY]) if has else 0 for row, has in zip(rows, scored)]
        return torch.tensor(nll, dtype=torch.float64) + 0.0, torch.tensor(tokens, dtype=torch.long)

    def nbest(self, rows: Sequence[Mapping[str, Any]], most: int) -> tuple[list[list[str]], Tensor, Tensor]:
        """The teacher's N-best lists, cut to the best hypotheses.

        Args:
            rows: the rows of a batch.
            most: largest number of hypotheses per utterance.

        Returns:
            The texts of each row, its `text` first; their `-log P` in nats, `[B, N]` float64, `inf` in places without a
            hypothesis; and `[B, N]` bool, whether a place has one. N is the longest list of the batch. Supervised rows have
            their `text` alone, without a score.

        Raises:
            ConfigError: a row of unchecked data that breaks the rules.
        """
        self._check_batch(rows)
        kept = [[] if row.get(SUPERVISED_KEY) is True else list(row[NBEST_KEY][:most]) for row in rows]
        texts = [[entry['text'] for entry in entries] or [row['text']] for entries, row in zip(kept, rows)]
        width = max((len(of_one) for of_one in texts), default=1)
        nll = [[0.0 - entry['log_prob'] for entry in entries] for entries in kept]
        nll = [values + [math.inf] * (width - len(values)) for values in nll]
        nll = torch.tensor(nll, dtype=torch.float64).reshape(len(rows), width)
        return texts, nll, nll.isfinite()

    def field(self, rows: Sequence[Mapping[str, Any]], name: str) -> Tensor:
        """The values of an entry of `teacher_fields`, `[B]` float64; 0 in supervised rows.

        Raises:
            ConfigError: a row of unchecked data that breaks the rules.
        """
        self._check_batch(rows)
        values = [0.0 if row.get(SUPERVISED_KEY) is True else float(row[FIELDS_KEY][name]) for row in rows]
        return torch.tensor(values, dtype=torch.float64)

    def _check_batch(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.checked:
            return
        for row in rows:
            if row.get(SUPERVISED_KEY) is True:
                continue
            found = self.rules.mistakes(row)
            if found:
                raise ConfigError(
                    f"training utterances such as {row.get('audio_filepath')} (text {str(row.get('text'))[:40]!r}) "
                    f"{mistake_sentence(found[0], self.rules)}"
                )
            if self.rules.scores and self.rules.expected is None:
                # no config named the teacher: the first row decides which one the others must have
                self.rules.expected = self.rules.fingerprint(row)

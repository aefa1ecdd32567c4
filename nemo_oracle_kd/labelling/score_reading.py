# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Says what the numbers of an imported file mean, and turns them into `log P(y|x)` in nats and a count of tokens; never a guess."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nemo_oracle_kd.corpus.manifest import is_number
from nemo_oracle_kd.labelling.hypotheses import Text, word_confidences

__all__ = ['BASES', 'KINDS', 'SCORE_SENTENCES', 'ScoreReading', 'UnusableScore']

KINDS = ('sum', 'mean', 'confidence')
BASES = {'e': 1.0, '10': math.log(10.0), '2': math.log(2.0)}
_UNITS = ('tokens', 'tokens+1', 'words', 'characters')

#: kind of mistake -> end of the sentence about the rows that have it, with the fix
SCORE_SENTENCES = {
    'no score': "have no log-probability: name its key with --score-key or its file with --scores-file, or import the texts "
    "alone with --texts-only",
    'score': "have a log-probability that is not a finite number or a list of such numbers: correct it or remove the row",
    'positive': "have a log-probability above 0: say --costs if the file holds -log P, and correct the numbers otherwise",
    'mean of list': "have a list of log-probabilities, one per token, of which only the sum is meant: say --score sum",
    'list length': "have a list of log-probabilities that is not as long as `tokens`: give one number for each token",
    'no length': "do not say how many tokens the score is of: add `tokens`, or say --length words, --length characters or "
    "--length KEY",
    'no confidences': "have no confidence above 0 for every word, of which --score confidence takes the logarithm: add them to "
    "`words`, or say --score sum or mean",
}


class UnusableScore(ValueError):
    """A score that cannot be read; the message is a key of `SCORE_SENTENCES`."""


@dataclass(frozen=True)
class ScoreReading:
    """How log-probabilities are to be read.

    Attributes:
        kind: one of `KINDS`: the sum over the tokens, their mean, or the product of the words' confidences.
        base: one of `BASES`.
        length: the number of tokens: one of `_UNITS`, or a key of the file.
        costs: whether the file holds `-log P`.
        key: key of the number or of the list of numbers per token; `None` takes `log_prob`, else `token_log_probs`.
        texts_only: whether there is nothing to read.
    """

    kind: str | None = None
    base: str | None = None
    length: str | None = None
    costs: bool = False
    key: str | None = None
    texts_only: bool = False

    @classmethod
    def stated(cls, said: 'ScoreReading', file_format: str, has_file: bool) -> tuple['ScoreReading', list[str]]:
        """What holds for a file, by its format and by what the user said, and sentences about what is not stated.

        Args:
            said: what the user said.
            file_format: one of `hypotheses.FORMATS`.
            has_file: whether the scores are in a file of their own.
        """
        options = {'--score': said.kind, '--log-base': said.base, '--length': said.length, '--score-key': said.key}
        given = [name for name, value in {**options, '--costs': said.costs or None}.items() if value is not None]
        if said.texts_only:
            problems = [f"--texts-only reads no score: leave {', '.join(given)} out"] if given else []
            return said, problems
        if file_format == 'whisper' and said.kind != 'confidence':
            if given:
                return said, [f"Whisper's files say what their scores mean: leave {', '.join(given)} out"]
            return cls('sum', 'e', 'tokens'), []  # `hypotheses` has made sums of the means
        return said, list(said._unstated(file_format, has_file))

    def _unstated(self, file_format: str, has_file: bool) -> Iterator[str]:
        no_scores = "say --texts-only to import the texts alone"
        if file_format == 'huggingface' and self.key is None and self.kind != 'confidence':
            yield f"the pipelines of Hugging Face write no log-probabilities: name a key that you added with --score-key, or {no_scores}"
        elif file_format in ('kaldi', 'ctm') and not has_file and self.kind != 'confidence':
            yield f"the format {file_format} holds no log-probabilities: name their file with --scores-file, or {no_scores}"
        elif self.kind is None:
            yield (
                f"the format {file_format} does not say whether a log-probability is the sum over the tokens or their mean: say "
                f"--score sum, --score mean or --score confidence, or {no_scores}"
            )
        elif self.kind == 'confidence':
            if self.base or self.length or self.costs or self.key:
                yield "--score confidence reads the confidences of the words: leave --log-base, --length, --costs and --score-key out"
        else:
            if self.base is None:
                yield f"the format {file_format} does not define the base of its logarithms: say --log-base e, --log-base 10 or --log-base 2"
            if self.kind == 'mean' and self.length is None:
                yield (
                    f"the format {file_format} does not say by what a mean was divided: say --length {', '.join(_UNITS)} or the "
                    "name of a key"
                )

    def read(self, text: Text) -> tuple[float, int]:
        """`log P` in nats and the number of tokens.

        Raises:
            UnusableScore: the number is missing, or is not what was stated.
        """
        if self.kind == 'confidence':
            confidences = word_confidences(text.values)
            if not confidences or min(confidences) <= 0:
                raise UnusableScore('no confidences')
            return math.fsum(math.log(value) for value in confidences), len(confidences)
        value = self._value(text.values)
        if isinstance(value, list):
            if self.kind == 'mean':
                raise UnusableScore('mean of list')
            tokens = text.values.get('tokens')
            if tokens is not None and len(value) != (len(tokens) if isinstance(tokens, list) else tokens):
                raise UnusableScore('list length')
            total, length = math.fsum(value), len(value)
            if self.length not in (None, 'tokens'):
                length = self._length(text)
        else:
            length = self._length(text)
            total = value * length if self.kind == 'mean' else value
        total *= BASES[self.base] * (-1.0 if self.costs else 1.0)
        if total > 0 or (isinstance(value, list) and any((entry > 0) != self.costs and entry for entry in value)):
            raise UnusableScore('positive')
        return total + 0.0, length

    def _value(self, values: Mapping[str, Any]) -> float | list[float]:
        keys = (self.key,) if self.key else ('log_prob', 'token_log_probs')
        value = next((values[key] for key in keys if values.get(key) is not None), None)
        if value is None:
            raise UnusableScore('no score')
        if not all(is_number(number) for number in (value if isinstance(value, list) else [value])):
            raise UnusableScore('score')
        return value

    def _length(self, text: Text) -> int:
        unit = self.length or 'tokens'
        if unit == 'words':
            return len(text.text.split())
        if unit == 'characters':
            return len(text.text.strip())
        given = text.values.get(unit.removesuffix('+1') if unit == 'tokens+1' else unit)
        count = len(given) if isinstance(given, list) else given
        if type(count) is not int or count < 0:
            raise UnusableScore('no length')
        return count + (unit == 'tokens+1')

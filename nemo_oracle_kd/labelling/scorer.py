# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What labels a manifest: the settings of a run, the interface of a teacher that scores, and the row that it writes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nemo_oracle_kd.bridge.sequence_scores import MAX_CELLS
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import NBEST_KEY, Fingerprint, round_log_prob, scored_row
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['NOT_A_NUMBER', 'NOT_WRITABLE', 'SOURCES', 'Candidate', 'Scorer', 'ScoringSettings']

#: why a row is dropped: all its scores are NaN, or none of its texts can be written
NOT_WRITABLE = 'not writable in the labels of the teacher'
NOT_A_NUMBER = "the teacher's score is not a number"
#: the widest beam; a wider one exceeds the memory of any machine and finds nothing more
MAX_BEAM = 1000

#: where the texts come from: the teacher's own search, the manifest's `text`, or the manifest's `teacher_nbest`
SOURCES = ('decode', 'reference', 'nbest')


#: a text, its log-probability in nats and its number of tokens
Candidate = tuple[str, float, int]


@dataclass(frozen=True)
class ScoringSettings:
    """How texts are found and scored.

    Attributes:
        source: one of `SOURCES`.
        nbest: number of texts kept per utterance.
        beam_size: size of the search's beam; `None` takes `nbest`.
        max_symbols: largest number of labels per frame in a transducer's search.
        head: `auto`, `ctc` or `rnnt`.
        max_cells: largest number of joint cells held at a time.
        kernel: one of `bridge.sequence_scores.KERNELS`.
        prompt: slots of the prompt of a teacher that has one.
    """

    source: str = 'decode'
    nbest: int = 8
    beam_size: int | None = None
    max_symbols: int = 10
    head: str = 'auto'
    max_cells: int = MAX_CELLS
    kernel: str = 'auto'
    prompt: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ConfigError(f"the texts' source must be one of {', '.join(SOURCES)}, not {self.source!r}")
        for name in ('nbest', 'beam_size', 'max_symbols', 'max_cells'):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{_option(name)} must be at least 1, not {value}")
        for name in ('nbest', 'beam_size'):
            if (getattr(self, name) or 1) > MAX_BEAM:
                raise ConfigError(
                    f"{_option(name)} must be at most {MAX_BEAM}, better 4 to 32, not {getattr(self, name)}"
                )
        if self.beam_size is not None and self.beam_size < self.nbest:
            raise ConfigError(
                f"--beam-size ({self.beam_size}) is below --nbest ({self.nbest}): raise --beam-size, or lower --nbest"
            )


def _option(name: str) -> str:
    """The command-line option behind a setting."""
    return f"--{name.replace('_', '-')}"


class Scorer(ABC):
    """A teacher that turns rows of a manifest into scored rows.

    Attributes:
        settings: how texts are found and scored.
        sample_rate: of the audio that it hears, samples per second.
        teacher: its description for the header.
        decoding: settings that determine which texts are found, for the header.
        fingerprint: of its scores.
    """

    settings: ScoringSettings
    sample_rate: int
    teacher: dict[str, Any]
    decoding: dict[str, Any]
    fingerprint: Fingerprint

    @abstractmethod
    def score(self, rows: Sequence[Mapping[str, Any]], signals: Sequence[torch.Tensor]) -> list[dict[str, Any] | str]:
        """Scores a batch.

        Args:
            rows: rows of the manifest.
            signals: audio of each row, `[S]`.

        Returns:
            For each row, the scored row or the reason why it is dropped.
        """

    @abstractmethod
    def check_writable(self, text: str, language: str | None = None) -> None:
        """Refuses a given text whose score would be that of another text.

        Raises:
            UnwritableText: the teacher's labels cannot express it.
        """

    def given_texts(self, row: Mapping[str, Any]) -> list[str]:
        """Returns the distinct texts in the row itself, with normalised spaces.

        Raises:
            ConfigError: the row has no such texts.
        """
        if self.settings.source == 'reference':
            return [normalize_spaces(row['text'])]
        entries = row.get(NBEST_KEY)
        if not isinstance(entries, list) or not entries:
            raise ConfigError(
                f"the row of {row.get('audio_filepath')} has no `{NBEST_KEY}` to score again: score the manifest without --rescore"
            )
        if not all(isinstance(entry, Mapping) and isinstance(entry.get('text'), str) for entry in entries):
            raise ConfigError(
                f"`{NBEST_KEY}` of {row.get('audio_filepath')} is not a list of {{\"text\": ...}}: score the manifest without "
                "--rescore"
            )
        return list(dict.fromkeys(normalize_spaces(entry['text']) for entry in entries))

    def make_row(
        self, row: Mapping[str, Any], candidates: Sequence[Candidate], fields: Mapping[str, Any] | None = None
    ) -> dict[str, Any] | str:
        """The row with its texts and their scores, or why it is dropped.

        Args:
            row: of the manifest.
            candidates: texts with their scores; those that are not finite are left out.
            fields: what else is known about the text.
        """
        if not candidates:
            return NOT_WRITABLE
        finite = [(round_log_prob(score), text, tokens) for text, score, tokens in candidates if math.isfinite(score)]
        if not finite:
            is_nan = any(math.isnan(score) for _, score, _ in candidates)
            return NOT_A_NUMBER if is_nan else 'too short for its labels'
        # rounded scores are compared, so that the order of near ties does not depend on the batch
        finite.sort(key=lambda entry: (-entry[0], entry[1]))
        return scored_row(row, finite, self.fingerprint, self.settings.source == 'decode', fields)

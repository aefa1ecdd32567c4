# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Turns manifest rows and their audio into scored rows: finds the texts, tokenises, scores by full sum, and sorts them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nemo_oracle_kd.bridge.audio import audio_batch
from nemo_oracle_kd.bridge.decoding import decoding_strategy, make_nbest_decoder
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.sequence_scores import MAX_CELLS, Hypotheses, score_encoded, score_labels
from nemo_oracle_kd.bridge.vocabulary import TextCodec, UnwritableText
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import (
    FINGERPRINT_KEY,
    LOG_PROB_KEY,
    NBEST_KEY,
    REFERENCE_KEY,
    ROW_KEY,
    TEACHER_KEYS,
    TOKENS_KEY,
    fingerprint_of,
    round_log_prob,
    row_hash,
    teacher_identity,
)
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['NOT_A_NUMBER', 'SOURCES', 'Scorer', 'ScoringSettings']

#: why a row is dropped: all its scores are NaN, or none of its texts can be written
NOT_WRITABLE = 'not writable in the labels of the teacher'
NOT_A_NUMBER = "the teacher's score is not a number"
#: the widest beam; a wider one exceeds the memory of any machine and finds nothing more
MAX_BEAM = 1000

#: where the texts come from: the teacher's own search, the manifest's `text`, or the manifest's `teacher_nbest`
SOURCES = ('decode', 'reference', 'nbest')


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
    """

    source: str = 'decode'
    nbest: int = 8
    beam_size: int | None = None
    max_symbols: int = 10
    head: str = 'auto'
    max_cells: int = MAX_CELLS
    kernel: str = 'auto'

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


class Scorer:
    """A teacher that turns rows of a manifest into scored rows.

    Args:
        model: a NeMo model in eval mode.
        settings: how texts are found and scored.

    Raises:
        ValueError: the model cannot do what the settings ask for.
    """

    def __init__(self, model: Any, settings: ScoringSettings):
        self.model, self.settings = model, settings
        self.head = find_head(model, settings.head)
        self.codec = TextCodec(model, self.head.vocabulary)
        self.sample_rate = int(model.cfg.get('sample_rate', model.cfg.preprocessor.get('sample_rate', 16000)))
        self.device = next(model.parameters()).device
        self._decode = None
        self.decoding: dict[str, Any] = {'source': settings.source}
        if settings.source == 'decode':
            beam = settings.beam_size or settings.nbest
            self.decoding.update(strategy=decoding_strategy(self.head, beam), beam_size=beam, nbest=settings.nbest)
            if self.head.transducer is not None:
                self.decoding['max_symbols'] = settings.max_symbols
            self._decode = make_nbest_decoder(model, self.head, beam, settings.nbest, settings.max_symbols)
        self.identity = teacher_identity(model)
        self.fingerprint = fingerprint_of(self.identity, self.head.kind, self.codec.fingerprint, self.decoding)

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

    def check_writable(self, text: str) -> None:
        """Refuses a given text whose score would be that of another text.

        Raises:
            UnwritableText: the labels cannot express it, or it is empty and the model has to read it.
        """
        self.codec.encode(text)
        if not text and getattr(self.model, 'reads_transcript', False):
            raise UnwritableText("an oracle model reads the transcript, so it cannot score an empty one")

    def score(self, rows: Sequence[Mapping[str, Any]], signals: Sequence[torch.Tensor]) -> list[dict[str, Any] | str]:
        """Scores a batch.

        Args:
            rows: rows of the manifest.
            signals: audio of each row, `[S]`.

        Returns:
            For each row, the scored row or the reason why it is dropped.
        """
        with torch.inference_mode():
            texts, labels, scores = self._hypotheses(rows, signals)
        return [self._scored_row(row, *entries) for row, entries in zip(rows, zip(texts, labels, scores.tolist()))]

    def _hypotheses(self, rows, signals) -> tuple[list[list[str]], list[list[list[int]]], torch.Tensor]:
        batch = audio_batch(signals, self.device)
        settings = self.settings
        if self._decode is None:
            texts, labels = self._writable([self.given_texts(row) for row in rows])
            hypotheses = Hypotheses.from_lists(labels, self.device)
            scores = score_labels(self.model, self.head, batch, hypotheses, settings.max_cells, settings.kernel)
            return texts, labels, scores
        audio = encode_audio(self.model, batch)
        texts, labels = self._writable(self._decode(audio))
        hypotheses = Hypotheses.from_lists(labels, self.device)
        return (
            texts,
            labels,
            score_encoded(self.model, self.head, audio, hypotheses, settings.max_cells, settings.kernel),
        )

    def _writable(self, texts: list[list[str]]) -> tuple[list[list[str]], list[list[list[int]]]]:
        """Texts and labels, without the texts that the teacher's labels cannot express (an unknown token, say)."""
        kept_texts: list[list[str]] = []
        kept_labels: list[list[list[int]]] = []
        for of_one in texts:
            kept_texts.append([])
            kept_labels.append([])
            for text in of_one:
                try:
                    labels = self.codec.encode(text)
                except UnwritableText:
                    continue
                kept_texts[-1].append(text)
                kept_labels[-1].append(labels)
        return kept_texts, kept_labels

    def _scored_row(
        self, row: Mapping[str, Any], texts: list[str], labels: list[list[int]], scores: list[float]
    ) -> dict[str, Any] | str:
        if not texts:
            return NOT_WRITABLE
        candidates = [
            (round_log_prob(score), text, len(label))
            for text, label, score in zip(texts, labels, scores)
            if math.isfinite(score)
        ]
        if not candidates:
            return NOT_A_NUMBER if any(math.isnan(score) for score in scores) else 'too short for its labels'
        # rounded scores are compared, so that the order of near ties does not depend on the batch
        candidates.sort(key=lambda entry: (-entry[0], entry[1]))
        log_prob, best, tokens = candidates[0]
        scored = {key: value for key, value in row.items() if key not in (*TEACHER_KEYS, 'text')}
        if self.settings.source == 'decode' and isinstance(row.get('text'), str):
            if not isinstance(row.get(REFERENCE_KEY), str):
                scored[REFERENCE_KEY] = row['text']
        scored['text'] = best
        scored[NBEST_KEY] = [{'text': text, 'log_prob': value} for value, text, _ in candidates]
        scored[LOG_PROB_KEY] = log_prob
        scored[TOKENS_KEY] = tokens
        scored[FINGERPRINT_KEY] = str(self.fingerprint)
        scored[ROW_KEY] = row_hash(scored)
        return scored

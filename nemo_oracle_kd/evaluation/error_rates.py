# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Computes word and character error rates of a corpus, and keeps the error counts of every utterance.

Everything else is derived from the counts per utterance: corpus rates (errors over reference length, not the mean of the
utterances' rates), bootstrap intervals and paired tests (:mod:`nemo_oracle_kd.evaluation.significance`).

All rates of this package's evaluation are in **percent**: a WER of 42.0 means 42 errors per 100 reference words. Texts are
compared without normalisation, except that surrounding and repeated white space is dropped. Case and punctuation count.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np

from nemo_oracle_kd.spaces import normalize_spaces


@dataclass(frozen=True)
class ErrorCounts:
    """Edit operations of every utterance, for one unit (words or characters).

    Attributes:
        substitutions: ``[N]`` int64, substituted units of each utterance.
        deletions: ``[N]`` int64, reference units without a counterpart.
        insertions: ``[N]`` int64, hypothesis units without a counterpart.
        reference_lengths: ``[N]`` int64, units in the reference. Zero is allowed: such an utterance can only add
            insertions.
    """

    substitutions: np.ndarray
    deletions: np.ndarray
    insertions: np.ndarray
    reference_lengths: np.ndarray

    def __post_init__(self) -> None:
        sizes = {len(self.substitutions), len(self.deletions), len(self.insertions), len(self.reference_lengths)}
        if len(sizes) != 1:
            raise ValueError(f"the error counts have the lengths {sorted(sizes)}: give counts of the same utterances")

    def __len__(self) -> int:
        return len(self.reference_lengths)

    @property
    def errors(self) -> np.ndarray:
        """``[N]`` int64, all errors of each utterance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Corpus error rate in percent: all errors over all reference units.

        Raises:
            ValueError: all references are empty.
        """
        total = int(self.reference_lengths.sum())
        if total == 0:
            raise ValueError(
                "all references are empty, so the error rate is not defined: give a manifest whose 'text' holds the transcripts"
            )
        return 100.0 * float(self.errors.sum()) / total

    def grouped(self, keys: Sequence[str]) -> ErrorCounts:
        """Adds up utterances that belong together, for example those of one speaker.

        Where a test set has many utterances of few speakers, speakers should be resampled instead of utterances.

        Args:
            keys: ``N`` group names, one per utterance.

        Returns:
            Counts with one row per distinct key, in sorted order of the keys.

        Raises:
            ValueError: the number of keys is not ``N``.
        """
        if len(keys) != len(self):
            raise ValueError(
                f"there are {len(self)} utterances but {len(keys)} group names: give one name per utterance"
            )
        _, index = np.unique(np.asarray(keys, dtype=str), return_inverse=True)

        def add_up(values: np.ndarray) -> np.ndarray:
            return np.bincount(index, weights=values).astype(np.int64)

        return ErrorCounts(
            add_up(self.substitutions), add_up(self.deletions), add_up(self.insertions), add_up(self.reference_lengths)
        )


@dataclass(frozen=True)
class Score:
    """Word and character errors of one system on one corpus."""

    words: ErrorCounts
    characters: ErrorCounts

    @property
    def wer(self) -> float:
        """Word error rate in percent."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """Character error rate in percent."""
        return self.characters.rate


def _count(alignments: list, reference_lengths: list[int]) -> ErrorCounts:
    counts = np.zeros((3, len(alignments)), dtype=np.int64)
    row_of = {'substitute': 0, 'delete': 1, 'insert': 2}
    for utterance, chunks in enumerate(alignments):
        for chunk in chunks:
            if chunk.type in row_of:
                # A substitution spans as many units of the reference as of the hypothesis; a deletion or insertion has one side.
                span = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                counts[row_of[chunk.type], utterance] += span
    return ErrorCounts(counts[0], counts[1], counts[2], np.asarray(reference_lengths, dtype=np.int64))


def score(references: Sequence[str], hypotheses: Sequence[str]) -> Score:
    """Aligns every hypothesis with its reference and counts the errors.

    Args:
        references: ``N`` transcripts. A transcript may be empty; every unit of its hypothesis is then an insertion.
        hypotheses: ``N`` system outputs, in the same order.

    Returns:
        The error counts of words and of characters (spaces between words count as characters).

    Raises:
        ValueError: the lists differ in length, are empty, or hold something other than text.
    """
    if isinstance(references, str) or isinstance(hypotheses, str):
        raise ValueError(
            "references and hypotheses must not be a single string: give lists with one text per utterance"
        )
    if len(references) != len(hypotheses):
        raise ValueError(
            f"there are {len(references)} references but {len(hypotheses)} hypotheses: give one hypothesis per reference, in "
            "the same order"
        )
    if len(references) == 0:
        raise ValueError("the list of references is empty, so there is nothing to score: give at least one utterance")
    for name, texts in (('reference', references), ('hypothesis', hypotheses)):
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(
                    f"the {name} of utterance {index} is {text!r}, not text: give a string, empty if nothing is said"
                )
    references = [normalize_spaces(text) for text in references]
    hypotheses = [normalize_spaces(text) for text in hypotheses]
    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(references, hypotheses)
    return Score(
        words=_count(words.alignments, [len(words) for words in words.references]),
        characters=_count(characters.alignments, [len(letters) for letters in characters.references]),
    )


def pool_seeds(counts: Sequence[ErrorCounts]) -> ErrorCounts:
    """Adds up the counts of several runs of one system on the same utterances.

    The rate of the pooled counts is the mean of the runs' rates. One utterance remains one row, so that resampling draws all
    runs of an utterance together. An interval from pooled counts therefore covers the choice of test utterances, but not
    that of seeds.

    Args:
        counts: one entry per run, all of the same ``N`` utterances in the same order.

    Returns:
        Counts with ``N`` rows.

    Raises:
        ValueError: there is no run, or the reference lengths of the runs differ.
    """
    if not counts:
        raise ValueError("there is nothing to pool: give the error counts of at least one run")
    first = counts[0]
    for other in counts[1:]:
        if not np.array_equal(other.reference_lengths, first.reference_lengths):
            raise ValueError(
                "the reference lengths of the runs differ, so they cannot be pooled: give runs over the same utterances in "
                "the same order"
            )
    return ErrorCounts(
        sum(c.substitutions for c in counts),
        sum(c.deletions for c in counts),
        sum(c.insertions for c in counts),
        sum(c.reference_lengths for c in counts),
    )


def read_transcriptions(path: str | Path) -> tuple[list[dict], list[str], list[str]]:
    """Reads a transcription file: JSON lines with ``text`` (the reference) and ``pred_text`` (the system's output).

    Args:
        path: the file that ``nemo-oracle-kd evaluate --output`` or NeMo's ``transcribe_speech.py`` wrote.

    Returns:
        The rows of the file, the references and the hypotheses.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not text, or a line is not a JSON object or lacks one of the two keys.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no transcription file at '{path}': correct the path")
    rows = []
    try:
        lines = path.read_text(encoding='utf-8-sig').split('\n')
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not UTF-8 text ({error.reason}): give a file of transcriptions") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(
                f"line {number} of '{path}' is not JSON ({error}): write one JSON object per line"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(
                f"line {number} of '{path}' is {line[:40]!r}, which is not a JSON object: write one JSON object per line"
            )
        missing = [key for key in ('text', 'pred_text') if key not in row]
        if missing:
            raise ValueError(
                f"line {number} of '{path}' has no key '{missing[0]}': give a file whose rows have 'text' and 'pred_text'"
            )
        rows.append(row)
    return rows, [row['text'] for row in rows], [row['pred_text'] for row in rows]

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""All checks of the training data, fed by one pass over the manifests; their problems are reported together.

A check is an object with `see(line)`, called with every row that the loader does not leave out, and `finish()`, which yields
sentences about what is wrong.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from nemo_oracle_kd.bridge.rows.lines import ManifestLine, read_through
from nemo_oracle_kd.bridge.rows.manifests import TrainingManifests, training_manifests
from nemo_oracle_kd.bridge.vocabulary import TextCodec
from nemo_oracle_kd.distillation.data.audio import AudioCheck
from nemo_oracle_kd.distillation.data.score_check import ScoreCheck, ScoreRules, ScoringTeacher
from nemo_oracle_kd.distillation.data.texts import ListCheck, TranscriptCheck, WritableCheck
from nemo_oracle_kd.errors import ConfigError

__all__ = ['Check', 'DataChecks', 'DataNeeds', 'check_training_data', 'data_problems', 'rate_problems']


class Check(Protocol):
    """A check of the training rows."""

    def see(self, line: ManifestLine) -> None:
        """Looks at a row."""

    def finish(self) -> Iterable[str]:
        """What is wrong, in sentences that name the fix."""


@dataclass(frozen=True)
class DataNeeds:
    """What a training asks of its rows.

    Attributes:
        text: all rows need a transcript; otherwise the supervised ones do.
        filled_text: it must not be empty, because a teacher reads it.
        flags: the mark of supervised rows is looked at.
        scores: the teacher's score of the text is read from the rows.
        nbest: so many hypotheses of a row are compared; 0: none.
        likelihood: names of the objectives that need true likelihoods in the rows, and no oracle's.
        teacher: whose scores are expected, if known.
    """

    text: bool = True
    filled_text: bool = False
    flags: bool = False
    scores: bool = False
    nbest: int = 0
    likelihood: tuple[str, ...] = ()
    teacher: ScoringTeacher | None = None


class DataChecks:
    """The checks that a training needs.

    Args:
        train_ds: `model.cfg.train_ds`, or `None`.
        needs: what the training asks of its rows.
        codecs: of the student, and of a teacher beside it or `None`: the texts must be writable by both. `None`: any text will
            do.
        audio: look for the audio files; one process is enough for that.

    Attributes:
        manifests: of `train_ds`.
        scores: the check of scores and marks; `None` if nobody looks at these.
        rules: what is asked of rows with scores.
    """

    def __init__(
        self,
        train_ds: Mapping[str, Any] | None,
        needs: DataNeeds,
        codecs: tuple[TextCodec, TextCodec | None] | None = None,
        audio: bool = True,
    ):
        self.manifests: TrainingManifests = training_manifests(train_ds)
        expected = needs.teacher.fingerprint if needs.teacher is not None else None
        self.rules = ScoreRules(needs.scores, needs.nbest > 0, expected)
        self.scores = (
            ScoreCheck(self.rules, needs.likelihood, needs.teacher) if needs.flags or self.rules.scores else None
        )
        self._checks: list[Check] = [AudioCheck(audio), TranscriptCheck(needs.text, needs.filled_text)]
        if self.scores is not None:
            self._checks.append(self.scores)
        if codecs is not None:
            self._checks.append(WritableCheck(*codecs))
            if needs.nbest:
                self._checks.append(ListCheck(codecs[0], needs.nbest))

    @property
    def visitors(self) -> list[Any]:
        """To be called with every row."""
        return [check.see for check in self._checks]

    def read(self) -> list[str]:
        """Reads the manifests; returns what could not be read."""
        return read_through(self.manifests, self.visitors)

    def problems(self) -> list[str]:
        """What is wrong, after the rows were seen."""
        found: list[str] = []
        if self.rules.scores and self.manifests.text_fields:
            found.append(
                f"text_field is {self.manifests.text_fields[0]!r} in model.train_ds, but the scores are those of `text`: set "
                "text_field=text"
            )
        if self.manifests.files:
            for check in self._checks:
                found += check.finish()
        return found


def rate_problems(train_ds: Mapping[str, Any] | None, sample_rate: int | None) -> list[str]:
    """Whether the loader resamples to the rate that the model reads; NeMo does not compare the two.

    Args:
        train_ds: `model.cfg.train_ds`, or `None`.
        sample_rate: of the model, Hz.
    """
    rate = train_ds.get('sample_rate', None) if train_ds is not None else None
    if sample_rate is None or rate is None or int(rate) == sample_rate:
        return []
    return [
        f"model.train_ds.sample_rate is {rate} Hz, but the model reads {sample_rate} Hz: set "
        f"model.train_ds.sample_rate={sample_rate} (NeMo resamples when it loads audio)"
    ]


def data_problems(
    train_ds: Mapping[str, Any] | None,
    needs: DataNeeds,
    student: TextCodec | None = None,
    teacher: TextCodec | None = None,
    audio: bool = True,
) -> list[str]:
    """What is wrong with training data, in sentences; nothing is raised.

    Args:
        train_ds: `model.cfg.train_ds`, or `None`.
        needs: what the training asks of its rows.
        student: of the student: every text must be writable. `None`: any text will do.
        teacher: of a teacher beside the student that scores the texts, or `None`.
        audio: look for the audio files.
    """
    checks = DataChecks(train_ds, needs, None if student is None else (student, teacher), audio)
    return checks.read() + checks.problems()


def check_training_data(
    train_ds: Mapping[str, Any] | None, needs: DataNeeds, sample_rate: int | None = None, audio: bool = True
) -> None:
    """Refuses training data that would fail, or silently train on nothing, later.

    Args:
        train_ds: `model.cfg.train_ds`, or `None`.
        needs: what the training asks of its rows.
        sample_rate: what the model reads, Hz.
        audio: look for the audio files; one process is enough for that.

    Raises:
        ConfigError: all that is wrong, each with rows and fix.
    """
    ConfigError.raise_if_any(rate_problems(train_ds, sample_rate) + data_problems(train_ds, needs, audio=audio))

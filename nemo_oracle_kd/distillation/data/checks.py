# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs all checks of the training data in one pass over the manifests and reports their problems together.

A check has two methods. `see(line)` is called with every row that the loader keeps, and `finish()` yields sentences about
what is wrong.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
        """Checks one row."""

    def finish(self) -> Iterable[str]:
        """Yields what is wrong, in sentences that name the fix."""


@dataclass(frozen=True)
class DataNeeds:
    """What a training requires of its rows.

    Attributes:
        text: whether all rows need a transcript; otherwise only the supervised rows do.
        text_of_label_loss: whether the label loss alone reads the transcripts, so that the rows could do without.
        filled_text: whether the transcript must not be empty, because a teacher reads it.
        flags: whether the mark `"supervised"` of the rows is read.
        scores: whether the teacher's score of the text is read from the rows.
        nbest: number of hypotheses per row that an objective compares; 0 if none does.
        likelihood: names of the objectives that need true likelihoods in the rows, which an oracle teacher cannot give.
        teacher: the teacher whose scores are expected, if known.
        fields: entries of `teacher_fields` that the rows need -> whether they lie from 0 to 1.
    """

    text: bool = True
    text_of_label_loss: bool = False
    filled_text: bool = False
    flags: bool = False
    scores: bool = False
    nbest: int = 0
    likelihood: tuple[str, ...] = ()
    teacher: ScoringTeacher | None = None
    fields: Mapping[str, bool] = field(default_factory=dict)


class DataChecks:
    """The checks that a training needs.

    Args:
        train_ds: `model.cfg.train_ds`, or `None`.
        needs: what the training requires of its rows.
        codecs: the student's codec, and that of a teacher beside the student or `None`. Both must be able to write the
            texts. With `None` in place of the pair, any text is accepted.
        audio: whether to look for the audio files. In a distributed training one process does so for all.
        finder: looks for the teacher's answers to the rows, see `Teacher.rows`; `None` for a teacher that needs none.

    Attributes:
        manifests: the manifests that `train_ds` names.
        scores: the check of scores and marks; `None` if the training reads neither.
        rules: what is required of rows with scores.
    """

    def __init__(
        self,
        train_ds: Mapping[str, Any] | None,
        needs: DataNeeds,
        codecs: tuple[TextCodec, TextCodec | None] | None = None,
        audio: bool = True,
        finder: Any = None,
    ):
        self.manifests: TrainingManifests = training_manifests(train_ds)
        expected = needs.teacher.fingerprint if needs.teacher is not None else None
        self.rules = ScoreRules(needs.scores, needs.nbest > 0, expected, needs.fields)
        self.scores = (
            ScoreCheck(self.rules, needs.likelihood, needs.teacher) if needs.flags or self.rules.scores else None
        )
        transcripts = TranscriptCheck(needs.text, needs.filled_text, needs.text_of_label_loss)
        self._checks: list[Check] = [AudioCheck(audio), transcripts]
        if self.scores is not None:
            self._checks.append(self.scores)
        if finder is not None:
            self._checks.append(finder.check(train_ds))
        if codecs is not None:
            self._checks.append(WritableCheck(*codecs))
            if needs.nbest:
                self._checks.append(ListCheck(codecs[0], needs.nbest))

    @property
    def visitors(self) -> list[Any]:
        """Functions that must be called with every row."""
        return [check.see for check in self._checks]

    def read(self) -> list[str]:
        """Reads the manifests and returns sentences about what could not be read."""
        return read_through(self.manifests, self.visitors)

    def problems(self) -> list[str]:
        """Returns what is wrong, once all rows have been seen."""
        found: list[str] = []
        if self.rules.scores and self.manifests.text_fields:
            found.append(
                f"model.train_ds.text_field is {self.manifests.text_fields[0]!r}, but the scores are those of `text`: set "
                "text_field=text"
            )
        for check in self._checks:
            if self.manifests.files or getattr(check, 'of_config', False):
                found += check.finish()
        return found


def rate_problems(train_ds: Mapping[str, Any] | None, sample_rate: int | None) -> list[str]:
    """Compares the sample rate of the loader with that of the model, which NeMo does not do.

    Args:
        train_ds: `model.cfg.train_ds`, or `None`.
        sample_rate: the model's sample rate, Hz.

    Returns:
        Sentences about what is wrong; empty if the rates agree or one of them is unknown.
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
    """Returns sentences about what is wrong with training data, and raises nothing.

    Args:
        train_ds: `model.cfg.train_ds`, or `None`.
        needs: what the training requires of its rows.
        student: the student's codec, which must be able to write every text; with `None`, any text is accepted.
        teacher: the codec of a teacher beside the student that scores the texts, or `None`.
        audio: whether to look for the audio files.
    """
    checks = DataChecks(train_ds, needs, None if student is None else (student, teacher), audio)
    return checks.read() + checks.problems()


def check_training_data(
    train_ds: Mapping[str, Any] | None, needs: DataNeeds, sample_rate: int | None = None, audio: bool = True
) -> None:
    """Refuses training data that would later fail or silently train on nothing.

    Args:
        train_ds: `model.cfg.train_ds`, or `None`.
        needs: what the training requires of its rows.
        sample_rate: the model's sample rate, Hz.
        audio: whether to look for the audio files. In a distributed training one process does so for all.

    Raises:
        ConfigError: everything that is wrong, each with the rows and the fix.
    """
    ConfigError.raise_if_any(rate_problems(train_ds, sample_rate) + data_problems(train_ds, needs, audio=audio))

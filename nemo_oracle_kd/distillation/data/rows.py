# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Finds the manifest rows behind the batches of a fit, and checks them in one pass over the manifests."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nemo.utils import logging
from torch import Tensor

from nemo_oracle_kd.bridge.attention_prompt import is_attention_model
from nemo_oracle_kd.bridge.model import describe
from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.bridge.rows.batch import UtteranceRows
from nemo_oracle_kd.bridge.rows.shares import give_back
from nemo_oracle_kd.bridge.vocabulary import TextCodec
from nemo_oracle_kd.corpus.manifest import SUPERVISED_KEY
from nemo_oracle_kd.distillation.data.checks import DataChecks, DataNeeds, rate_problems
from nemo_oracle_kd.distillation.data.score_check import ScoringTeacher
from nemo_oracle_kd.distillation.data.shares import set_supervised_share
from nemo_oracle_kd.distillation.data.stored_scores import StoredScores
from nemo_oracle_kd.distillation.settings import DistillationConfig
from nemo_oracle_kd.distillation.teacher_settings import ModelTeacherOptions
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import Fingerprint, model_fingerprint
from nemo_oracle_kd.losses.objectives import OBJECTIVES, needs_of, objectives_of

__all__ = ['TrainingRows', 'data_needs', 'scoring_teacher', 'training_problems']


class TrainingRows:
    """The manifest rows of the current batch; :meth:`attach` makes one for the distillations that need it."""

    def __init__(self, rows: UtteranceRows, stored: StoredScores):
        self.rows, self.stored = rows, stored
        self._replaced_loader: Any = None

    @classmethod
    def attach(cls, student: Any, config: DistillationConfig, teacher: Any = None) -> 'TrainingRows | None':
        """Checks the training data and, where rows are needed, makes the loader report which rows a batch holds.

        The manifests are read once for both.

        Args:
            student: a NeMo model whose training data are set up.
            config: the distillation's config.
            teacher: a teacher beside the student, or `None`.

        Returns:
            `None` where no row is needed: the teacher beside the student needs none, no score is stored, and no row is marked as
            supervised.

        Raises:
            ConfigError: data or rows that cannot be used, with everything that is wrong with them.
        """
        train_ds = student.cfg.get('train_ds')
        asked = config.stored or (teacher is not None and teacher.rows is not None)
        wanted = asked or config.label_loss.on == 'supervised' or config.supervised_share is not None
        checks, problems = _checks(student, config, teacher, train_ds, audio=student.global_rank == 0)

        rows, untraceable = None, []
        if checks.scores is not None:
            try:
                rows = UtteranceRows.find(student)
            except ConfigError as error:
                untraceable = error.messages
        problems += checks.read() if rows is None else rows.read(checks.visitors, SUPERVISED_KEY)
        problems += checks.problems()
        marked = _may_be_marked(checks, train_ds)
        if wanted or marked:
            problems += untraceable if rows is None else rows.unmatched
        problems += _idle_problems(config, marked)
        ConfigError.raise_if_any(problems)
        if not (wanted or marked):
            return None
        return cls._begin(student, config, rows, checks)

    @classmethod
    def _begin(
        cls, student: Any, config: DistillationConfig, rows: UtteranceRows, checks: DataChecks
    ) -> 'TrainingRows':
        complete = checks.manifests.complete
        if not complete:
            logging.info(
                "Some of the training data have no manifest that could be read, so their scores are checked batch by batch."
            )
        checks.rules.expected = checks.scores.fingerprint
        found = cls(rows, StoredScores(checks.rules, complete, not complete or checks.scores.supervised_rows > 0))
        rows.begin()
        if config.supervised_share is not None:
            try:
                found._replaced_loader = set_supervised_share(student, config.supervised_share, rows.marked)
            except ConfigError:
                found.detach(student)
                raise
        return found

    def of_batch(self) -> tuple[list[Mapping[str, Any]], Tensor | None]:
        """Returns the rows of the batch that the model got last, and `[B]` bool whether each is supervised.

        The second is `None` if no row of the training is supervised.
        """
        rows = self.rows.of_batch()
        return rows, self.stored.supervised(rows) if self.stored.any_supervised else None

    def detach(self, student: Any) -> None:
        """Restores the student's loader."""
        if self._replaced_loader is not None:
            give_back(student, self._replaced_loader)
            self._replaced_loader = None
        self.rows.detach()


def training_problems(
    student: Any, config: DistillationConfig, teacher: Any = None, train_ds: Mapping[str, Any] | None = None
) -> list[str]:
    """Returns sentences about what is wrong with the training data of a distillation, without a loader; raises nothing.

    Args:
        student: a NeMo model.
        config: the distillation's config.
        teacher: a teacher beside the student, or `None`.
        train_ds: config of the data, or `None`.
    """
    if teacher is not None and 'attention' in teacher.description.heads:
        return []  # it cannot teach beside the student, as the report on the models says
    try:
        checks, problems = _checks(student, config, teacher, train_ds)
    except ConfigError as error:
        return error.messages
    problems += checks.read() + checks.problems()
    return problems + _idle_problems(config, _may_be_marked(checks, train_ds))


def _checks(
    student: Any, config: DistillationConfig, teacher: Any, train_ds: Mapping[str, Any] | None, audio: bool = True
) -> tuple[DataChecks, list[str]]:
    """The checks of a distillation, and the problems that show before a row is read."""
    facts = describe(student)
    needs = data_needs(config, teacher is not None and teacher.description.reads_transcript)
    finder = None if teacher is None else teacher.rows
    codecs = None
    if objectives_of('sequence', config.objectives):
        codecs = TextCodec(student, facts.vocabulary), None if config.stored or teacher is None else teacher.codec
    checks = DataChecks(train_ds, replace(needs, flags=needs.flags or finder is not None), codecs, audio, finder)
    return checks, rate_problems(train_ds, facts.sample_rate)


def data_needs(config: DistillationConfig, oracle: bool = False) -> DataNeeds:
    """What a distillation requires of the training rows.

    With stored scores, a teacher named by `restore_from` is restored to compute its fingerprint.

    Args:
        config: the distillation's config.
        oracle: whether the teacher beside the student reads the transcript.

    Raises:
        ConfigError: the named teacher does not have the given fingerprint.
    """
    needs, stored = needs_of(config.objectives), config.stored
    label_loss = not config.label_loss.weight.always_zero and config.label_loss.on == 'all'
    reads_text = oracle or _reads_text(config)
    on_supervised = config.label_loss.on == 'supervised' or config.supervised_share is not None
    return DataNeeds(
        text=label_loss or reads_text,
        text_of_label_loss=not reads_text,
        filled_text=oracle,
        flags=stored or bool(needs.sequence) or on_supervised,
        scores=stored and bool(needs.scores),
        nbest=needs.most_texts if stored else 0,
        likelihood=needs.true_likelihood if stored else (),
        teacher=scoring_teacher(config.teacher, config.beside) if stored else None,
        fields=needs.fields,
    )


def _reads_text(config: DistillationConfig) -> bool:
    """Whether an objective, or the estimate of a delay, reads the transcripts."""
    delay = getattr(config.teacher, 'delay', None)
    estimates = delay is not None and delay.mode == 'estimate'
    return estimates or any(OBJECTIVES[name].loss.reads_text for name in config.objectives)


def scoring_teacher(teacher: ModelTeacherOptions, beside: bool = False) -> ScoringTeacher | None:
    """The teacher whose stored scores are accepted, or `None` if any are.

    A teacher named by `restore_from` is restored to compute its fingerprint, and released. One that runs beside the student for
    other objectives need not be the one that scored the texts.

    Args:
        teacher: settings with stored scores.
        beside: whether a teacher runs beside the student.

    Raises:
        ConfigError: the named teacher does not have the given fingerprint.
    """
    named = Fingerprint.parse(teacher.fingerprint) if teacher.fingerprint is not None else None
    if beside or teacher.restore_from is None:
        return None if named is None else ScoringTeacher(named)
    model = restore_frozen(teacher.restore_from)
    if is_attention_model(model):
        raise ConfigError(
            f"the scores of {teacher.restore_from} ({type(model).__name__}) depend on its prompt as well, so that the model alone does "
            "not identify them: leave teacher.restore_from out, and set teacher.fingerprint to that in the header of the manifest"
        )
    own = model_fingerprint(model, teacher.head)
    if named is not None and not own.same_scores(named):
        raise ConfigError(
            f"teacher.fingerprint is {teacher.fingerprint}, but the fingerprint of {teacher.restore_from} is {own}: remove one of "
            "the two"
        )
    return ScoringTeacher(own, type(model).__name__)


def _may_be_marked(checks: DataChecks, train_ds: Mapping[str, Any] | None) -> bool:
    """Whether a row is marked as supervised, or may be: Lhotse data without a manifest cannot be read in advance."""
    lhotse = train_ds is not None and train_ds.get('use_lhotse', False)
    if checks.scores is None:
        return False
    return checks.scores.supervised_rows > 0 or bool(lhotse and not checks.manifests.complete)


def _idle_problems(config: DistillationConfig, marked: bool) -> list[str]:
    """Refuses a label loss that applies to no row if nothing else is trained, and otherwise warns of it."""
    if config.label_loss.on != 'supervised' or marked or config.label_loss.weight.always_zero:
        return []
    what = f"label_loss.on is supervised, but no row of model.train_ds is marked \"{SUPERVISED_KEY}\": true"
    if all(options.weight.always_zero for options in config.objectives.values()):
        return [
            f"{what}, and the weights of the objectives are 0, so nothing would be trained: mark rows, or set label_loss.on to all"
        ]
    logging.warning(
        f"{what}, so NeMo's own loss is 0 on all rows: mark rows with true transcripts, or set label_loss.on=all."
    )
    return []

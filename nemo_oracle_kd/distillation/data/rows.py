# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The manifest rows behind the batches of a fit: the teacher's scores in them, and which of them are supervised."""

from collections.abc import Mapping
from typing import Any, Optional

from torch import Tensor

from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.bridge.rows.batch import UtteranceRows
from nemo_oracle_kd.bridge.rows.manifests import training_manifests
from nemo_oracle_kd.bridge.rows.shares import give_back
from nemo_oracle_kd.corpus.manifest import SUPERVISED_KEY
from nemo_oracle_kd.distillation.data.shares import set_supervised_share
from nemo_oracle_kd.distillation.data.stored_scores import StoredScores
from nemo_oracle_kd.distillation.settings import DistillationConfig
from nemo_oracle_kd.distillation.teacher_settings import TeacherConfig
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import Fingerprint, model_fingerprint, read_header
from nemo_oracle_kd.losses.objectives import OBJECTIVES, objectives_of

__all__ = ['TrainingRows']


class TrainingRows:
    """Rows of the batch in hand. Made by :meth:`attach`, for the distillations that need it."""

    def __init__(self, rows: UtteranceRows, stored: StoredScores):
        self.rows, self.stored = rows, stored
        self._replaced_loader: Any = None

    @classmethod
    def attach(cls, student: Any, config: DistillationConfig) -> Optional['TrainingRows']:
        """Checks the rows of the training data and makes the loader say which of them a batch holds.

        Args:
            student: with its training data set up.
            config: of the distillation.

        Returns:
            `None` where no row has to be looked at: a teacher beside the student, and no rows marked as supervised.

        Raises:
            ConfigError: rows or data that cannot be used.
        """
        train_ds = student.cfg.get('train_ds') or {}
        sequence = objectives_of('sequence', config.objectives)
        on_supervised = config.label_loss.on == 'supervised'
        wanted = not config.teacher.online or on_supervised or config.supervised_share is not None
        if not wanted and not sequence:
            return None
        classes = {name: OBJECTIVES[name][1] for name in sequence}
        stored = StoredScores(
            train_ds,
            None if config.teacher.online else _fingerprint(config.teacher),
            needs_nbest='full_sum_norm' in classes,
            needs_scores=not config.teacher.online and _reads_scores(config),
        )
        marked = stored.supervised_rows > 0 or (stored.any_supervised and train_ds.get('use_lhotse', False))
        if on_supervised and not marked and all(options.weight.always_zero for options in config.objectives.values()):
            raise ConfigError(
                f"label_loss.on is supervised, but no row of model.train_ds says \"{SUPERVISED_KEY}\": true, and the weights of "
                "the objectives are 0, so nothing would be trained: mark rows, or set label_loss.on to all"
            )
        if not config.teacher.online:
            _refuse_oracle_scores(train_ds, config)
        if not wanted and not marked:
            return None
        found = cls(UtteranceRows.attach(student), stored)
        if config.supervised_share is not None:
            try:
                found._replaced_loader = set_supervised_share(
                    student, config.supervised_share, [row.get(SUPERVISED_KEY) is True for row in found.rows]
                )
            except ConfigError:
                found.detach(student)
                raise
        return found

    def of_batch(self) -> tuple[list[Mapping[str, Any]], Tensor | None]:
        """Rows of the batch last handed to the model, and `[B]` bool which are supervised (`None`: none ever is)."""
        rows = self.rows.of_batch()
        return rows, self.stored.supervised(rows) if self.stored.any_supervised else None

    def detach(self, student: Any) -> None:
        """Leaves the student's loader as it was."""
        if self._replaced_loader is not None:
            give_back(student, self._replaced_loader)
            self._replaced_loader = None
        self.rows.detach()


def _refuse_oracle_scores(train_ds: Mapping[str, Any], config: DistillationConfig) -> None:
    """Scores of a model that had read the text, as far as the headers beside the manifests tell."""
    names = [name for name in objectives_of('sequence', config.objectives) if name != 'hard']
    for path in training_manifests(train_ds).files if names else ():
        name = ((read_header(path) or {}).get('teacher') or {}).get('class', '')
        if 'Oracle' in name:
            raise ConfigError(
                f"the scores of {path} are those of a {name}, which has read the texts and is sure of all of them, so that "
                f"{', '.join(names)} would learn nothing from them: score the manifest by a teacher that reads audio alone"
            )


def _reads_scores(config: DistillationConfig) -> bool:
    return any(
        name != 'hard' or config.objectives[name].confidence.mode != 'constant'
        for name in objectives_of('sequence', config.objectives)
    )


def _fingerprint(teacher: TeacherConfig) -> str | None:
    """Whose scores to accept; a teacher that is named besides is restored to ask it, and let go."""
    if teacher.restore_from is None:
        return teacher.fingerprint
    own = model_fingerprint(restore_frozen(teacher.restore_from), teacher.head)
    named = teacher.fingerprint
    if named is not None and not own.same_scores(Fingerprint.parse(named)):
        raise ConfigError(
            f"teacher.fingerprint is {named}, but the fingerprint of {teacher.restore_from} is {own}: remove one of the two"
        )
    return str(own)

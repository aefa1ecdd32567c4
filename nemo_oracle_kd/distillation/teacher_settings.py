# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Options of the `teacher` section of a distillation's config, and their checks."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo_oracle_kd.bridge.model import HEADS
from nemo_oracle_kd.bridge.restore import check_source
from nemo_oracle_kd.losses.lattice_settings import DelayConfig

__all__ = ['ModelTeacherOptions', 'TeacherConfig', 'TeacherOptions', 'maps_labels']

VOCABULARIES = ('same', 'map')
RESAMPLING_MODES = ('none', 'nearest', 'linear')
SCORES = ('manifest',)


@dataclass
class TeacherOptions:
    """Options that every kind of teacher has. A kind adds the field by which it is chosen, with a default."""

    head: str = field(default='auto', metadata={'help': "the teacher's head that scores texts: auto, ctc or rnnt"})
    time_resampling: str = field(
        default='none',
        metadata={'help': "how the teacher's frames are resampled to the student's rate: none, nearest or linear"},
    )

    def problems(self, path: str) -> Iterator[str]:
        if self.time_resampling not in RESAMPLING_MODES:
            yield f"`{path}.time_resampling` is {self.time_resampling!r}: choose one of {', '.join(RESAMPLING_MODES)}"
        if self.head not in HEADS:
            yield f"`{path}.head` is {self.head!r}: choose one of {', '.join(HEADS)}"

    @classmethod
    def own(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values of a section that are meant for this kind, without those that a preset states for another kind."""
        return values

    @property
    def stored(self) -> bool:
        """Whether the scores of texts are read from the training manifest."""
        return False

    def runs_beside(self, families: Collection[str]) -> bool:
        """Whether a teacher runs beside the student.

        Args:
            families: of the objectives.
        """
        return True

    @property
    def name(self) -> str:
        """Name of the teacher in the log."""
        return type(self).__name__

    def check(self) -> None:
        """Refuses a teacher that does not exist, before a training is set up."""


@dataclass
class ModelTeacherOptions(TeacherOptions):
    """Options of teachers that are not the student itself: a model, or what a model gave before."""

    scores: str | None = field(
        default=None,
        metadata={
            'help': 'manifest: objectives over texts use the scores that `nemo-oracle-kd score` wrote into the rows'
        },
    )
    fingerprint: str | None = field(
        default=None, metadata={'help': 'with scores: refuse rows that another teacher scored'}
    )
    shift: int = field(
        default=0,
        metadata={'help': 'frame objectives: student frame t learns from the teacher this many frames earlier'},
    )
    delay: DelayConfig = field(
        default_factory=DelayConfig, metadata={'help': 'frame objectives: given by `shift`, or estimated'}
    )

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if self.delay.mode == 'estimate' and self.shift:
            yield f"`{path}.shift` is {self.shift} and `{path}.delay` estimates it: remove one of them"
        if self.scores is not None and self.scores not in SCORES:
            yield f"`{path}.scores` is {self.scores!r}: choose {', '.join(SCORES)}, or leave it out for an online teacher"
        if self.scores is None and self.fingerprint is not None:
            yield f"`{path}.fingerprint` needs stored scores: set {path}.scores to manifest, or remove {path}.fingerprint"

    @property
    def stored(self) -> bool:
        """Whether the scores of texts are read from the training manifest."""
        return self.scores is not None


@dataclass
class TeacherConfig(ModelTeacherOptions):
    """Options of a teacher that is a frozen NeMo model beside the student, or its scores stored in the manifest, or both.

    An oracle teacher is recognised by its class and also gets the transcripts of the batch.
    """

    restore_from: str | None = field(
        default=None, metadata={'help': 'path of a .nemo file, or the name of a pretrained NeMo model'}
    )
    memory_mb: float = field(
        default=0.0,
        metadata={'help': "megabytes for the teacher's answers to audio that repeats in every epoch; 0 keeps none"},
    )
    vocabulary: str = field(
        default='same',
        metadata={'help': 'frame objectives: same labels in both models, or map: compare classes that both have'},
    )

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if not (math.isfinite(self.memory_mb) and self.memory_mb >= 0):
            yield f"`{path}.memory_mb` is {self.memory_mb}: set a finite number of at least 0"
        if self.vocabulary not in VOCABULARIES:
            yield f"`{path}.vocabulary` is {self.vocabulary!r}: choose one of {', '.join(VOCABULARIES)}"
        if self.vocabulary == 'map' and self.delay.mode == 'estimate':
            yield (
                f"`{path}.delay` estimates emission times of the same labels, which two vocabularies do not have: set {path}.shift, "
                f"or {path}.vocabulary to same"
            )
        if self.restore_from == '':
            yield f"`{path}.restore_from` is empty: give the path of a .nemo file or the name of a pretrained model"
        if self.restore_from is None and self.scores is None:
            yield (
                f"`{path}.restore_from` is missing: give the path of a .nemo file or the name of a pretrained model, or "
                f"set {path}.scores to manifest for scores made by `nemo-oracle-kd score`"
            )

    def runs_beside(self, families: Collection[str]) -> bool:
        """As :meth:`TeacherOptions.runs_beside`: stored scores are enough for objectives over texts."""
        return not self.stored or (self.restore_from is not None and set(families) != {'sequence'})

    @property
    def name(self) -> str:
        """Name of the teacher in the log."""
        stored = 'the scores of the training manifest'
        if self.restore_from is None:
            return stored
        return f'{self.restore_from} and {stored}' if self.stored else self.restore_from

    def check(self) -> None:
        """Refuses what is neither a `.nemo` file nor the name of a pretrained model."""
        if self.restore_from is not None:
            check_source(self.restore_from)


def maps_labels(teacher: TeacherOptions) -> bool:
    """Whether frame objectives compare classes of labels instead of labels."""
    return getattr(teacher, 'vocabulary', 'same') == 'map'

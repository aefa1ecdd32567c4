# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Whether a student can learn from a teacher, decided before the first step and said in sentences."""

from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Tuple

from nemo_oracle_kd.bridge.describe import ModelDescription
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.losses.frame_losses import FRAME_OBJECTIVES

__all__ = ['CompatibilityReport', 'compare']


@dataclass
class CompatibilityReport:
    """Facts of both models side by side, and what stands in the way.

    Attributes:
        rows: `(fact, student, teacher, agrees)`.
        problems: sentences that name the fix; empty when the distillation can run.
    """

    rows: List[Tuple[str, str, str, bool]] = field(default_factory=list)
    problems: List[str] = field(default_factory=list)

    def raise_problems(self) -> None:
        """Raises :class:`ConfigError` with all problems, if any."""
        if self.problems:
            raise ConfigError(self.problems)

    def __str__(self) -> str:
        table = [('', 'student', 'teacher', '')]
        table += [(fact, student, teacher, 'ok' if same else 'differs') for fact, student, teacher, same in self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
        return '\n'.join(lines + [f'problem: {problem}' for problem in self.problems])


def _vocabulary_text(model: ModelDescription) -> str:
    return f"{len(model.vocabulary)} {'characters' if model.tokenizer is None else 'sub-words'}"


def _first_difference(student: Tuple[str, ...], teacher: Tuple[str, ...]) -> str:
    for index, (left, right) in enumerate(zip(student, teacher)):
        if left != right:
            return f"label {index} is {left!r} in the student and {right!r} in the teacher"
    return f"the student has {len(student)} labels and the teacher {len(teacher)}"


def _frame_text(seconds) -> str:
    return 'unknown' if seconds is None else f'{1000 * seconds:g} ms'


def compare(
    student: ModelDescription,
    teacher: ModelDescription,
    objectives: Iterable[str],
    time_resampling: str = 'none',
) -> CompatibilityReport:
    """Compares a student with a teacher for the given objectives.

    Args:
        student: description of the student.
        teacher: description of the teacher.
        objectives: names of the objectives; what they need decides which differences matter.
        time_resampling: the teacher's `time_resampling` setting.
    """
    classes: Dict[str, type] = {name: FRAME_OBJECTIVES[name][1] for name in objectives}
    per_class = [name for name, loss in classes.items() if loss.needs_same_vocabulary]
    per_frame = [name for name, loss in classes.items() if loss.needs_same_frame_rate]
    report = CompatibilityReport()

    same_labels = student.vocabulary == teacher.vocabulary and student.tokenizer == teacher.tokenizer
    report.rows.append(('vocabulary', _vocabulary_text(student), _vocabulary_text(teacher), same_labels))
    same_blank = student.blank == teacher.blank
    report.rows.append(('blank', str(student.blank), str(teacher.blank), same_blank))
    same_rate = student.sample_rate == teacher.sample_rate
    report.rows.append(('sample rate', f'{student.sample_rate} Hz', f'{teacher.sample_rate} Hz', same_rate))
    known = student.frame_seconds is not None and teacher.frame_seconds is not None
    same_frames = not known or abs(student.frame_seconds - teacher.frame_seconds) < 1e-6
    report.rows.append(('frame', _frame_text(student.frame_seconds), _frame_text(teacher.frame_seconds), same_frames))
    report.rows.append(('reads', 'audio', 'audio + transcript' if teacher.reads_transcript else 'audio', True))

    if not same_rate:
        report.problems.append(
            f"the teacher was trained on {teacher.sample_rate} Hz audio and the student reads {student.sample_rate} Hz: set "
            f"model.sample_rate={teacher.sample_rate} (NeMo resamples when it loads audio) or use another teacher"
        )
    needing = ', '.join(per_class)
    if per_class and student.vocabulary != teacher.vocabulary:
        report.problems.append(
            f"{needing} compares classes one by one, but {_first_difference(student.vocabulary, teacher.vocabulary)}: train "
            "the student with the teacher's labels or tokenizer"
        )
    elif per_class and not same_labels:
        report.problems.append(
            f"{needing} compares classes one by one, but the tokenizers differ: train the student with the teacher's "
            "tokenizer (model.tokenizer.dir)"
        )
    elif per_class and not same_blank:
        report.problems.append(
            f"{needing} compares classes one by one, but blank is {student.blank} in the student and {teacher.blank} in the "
            "teacher: use models with the same blank"
        )
    if per_frame and not same_frames and time_resampling == 'none':
        report.problems.append(
            f"{', '.join(per_frame)} compares frame by frame, but a frame is {_frame_text(student.frame_seconds)} in the "
            f"student and {_frame_text(teacher.frame_seconds)} in the teacher: set teacher.time_resampling to nearest or "
            "linear"
        )
    if student.reads_transcript:
        report.problems.append(
            f"the student is a {student.name}, which reads the transcript and could not be used without one: distil into a "
            "model that reads audio alone"
        )
    return report

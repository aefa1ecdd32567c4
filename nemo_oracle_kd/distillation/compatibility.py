# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Decides before the first step whether a student can learn from a teacher, and says in sentences what prevents it.

Training and `nemo-oracle-kd check` call the same :func:`report`.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from nemo_oracle_kd.bridge.hooks.student import student_heads
from nemo_oracle_kd.bridge.hooks.transducer import loss_modifiers
from nemo_oracle_kd.bridge.label_classes import classes_of
from nemo_oracle_kd.bridge.model import ModelDescription, describe, weight_problems
from nemo_oracle_kd.distillation.families.lattice import lattice_problems
from nemo_oracle_kd.distillation.settings import DistillationConfig
from nemo_oracle_kd.distillation.teacher_settings import maps_labels
from nemo_oracle_kd.distillation.teachers import Teacher
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.losses.objectives import OBJECTIVES, objectives_of

__all__ = ['CompatibilityReport', 'compare', 'report']


@dataclass
class CompatibilityReport:
    """The facts of both models side by side, and what prevents a distillation.

    Attributes:
        rows: `(fact, student, teacher, agrees)`.
        problems: sentences that name the fix; empty when the distillation can run.
    """

    rows: list[tuple[str, str, str, bool]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

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


def _blank_text(model: ModelDescription) -> str:
    if len(set(model.blanks.values())) == 1:
        return str(next(iter(model.blanks.values())))
    return ', '.join(f'{blank} ({head})' for head, blank in model.blanks.items())


def _first_difference(student: tuple[str, ...], teacher: tuple[str, ...]) -> str:
    for index, (left, right) in enumerate(zip(student, teacher)):
        if left != right:
            return f"label {index} is {left!r} in the student and {right!r} in the teacher"
    return f"the student has {len(student)} labels and the teacher {len(teacher)}"


def _frame_text(seconds) -> str:
    return 'unknown' if seconds is None else f'{1000 * seconds:g} ms'


def report(student: Any, teacher: Teacher | None, config: DistillationConfig) -> CompatibilityReport:
    """Compares two models for a distillation.

    Args:
        student: a NeMo model.
        teacher: the teacher beside it, or `None` when its scores are in the manifest.
        config: of the distillation.

    Raises:
        ValueError: the student has neither a CTC nor a transducer head, or needs a prompt.
    """
    facts = dataclasses.replace(describe(student), heads=tuple(student_heads(student)))
    resampling = config.teacher.time_resampling
    found = compare(
        facts,
        teacher and teacher.description,
        config.objectives,
        resampling,
        maps_labels(config.teacher),
        config.stored,
    )
    found.problems += _loss_problems(student, config.objectives)
    found.problems += weight_problems(student, 'the student')
    if teacher is not None and teacher.model is not None:
        found.problems += weight_problems(teacher.model, 'the teacher')
    found.problems += teacher.problems(config.objectives) if teacher is not None else ()
    lattice = {name: config.objectives[name] for name in objectives_of('lattice', config.objectives)}
    if teacher is not None and 'attention' in teacher.description.heads:
        return found
    if lattice and teacher is not None and teacher.lattice_source is None:
        found.problems.append(
            f"{', '.join(lattice)} reads the joint or the encoder of a NeMo model, which this kind of teacher "
            f"({type(teacher).__name__}) does not have: use an objective on frames, such as frame_kl"
        )
    elif lattice and teacher is not None:
        found.problems += lattice_problems(student, teacher.lattice_source, lattice, resampling)
    return found


def compare(
    student: ModelDescription,
    teacher: ModelDescription | None,
    objectives: Iterable[str],
    time_resampling: str = 'none',
    map_labels: bool = False,
    stored: bool = False,
) -> CompatibilityReport:
    """Compares a student with a teacher for the given objectives.

    Args:
        student: description of the student; its `heads` are those that it is trained with.
        teacher: description of the teacher, or `None` when its scores are in the manifest.
        objectives: names of the objectives; what these need decides which differences matter.
        time_resampling: the teacher's `time_resampling` setting.
        map_labels: whether frame objectives compare classes of labels that both models have.
        stored: whether objectives over texts read scores from the manifest, whatever the teacher beside the student is.
    """
    names = list(objectives)
    found = CompatibilityReport()
    if student.reads_transcript:
        found.problems.append(
            f"the student is a {student.name}, which reads the transcript and could not be used without one: distil into a "
            "model that reads audio alone"
        )
    if teacher is None:
        facts = (_vocabulary_text(student), _blank_text(student), f'{student.sample_rate} Hz')
        facts += (_frame_text(student.frame_seconds), 'audio', ' + '.join(student.heads))
        for fact, value in zip(('vocabulary', 'blank', 'sample rate', 'frame', 'reads', 'heads'), facts):
            found.rows.append((fact, value, 'scores of the manifest', True))
        return found
    same = _fill_rows(found, student, teacher)
    if not same['sample rate']:
        found.problems.append(
            f"the teacher was trained on {teacher.sample_rate} Hz audio and the student reads {student.sample_rate} Hz: set "
            f"model.sample_rate={teacher.sample_rate} (NeMo resamples when it loads audio) or use another teacher"
        )
    if 'attention' in teacher.heads:
        found.problems += _attention_problems(teacher, names)
        return found
    found.problems += _class_problems(student, teacher, names, same, map_labels)
    if map_labels:
        found.problems += _map_problems(found, student, teacher, names, same)
    found.problems += _frame_problems(student, teacher, names, same, time_resampling)
    scores = [name for name in names if OBJECTIVES[name].loss.needs_true_likelihood]
    if scores and teacher.reads_transcript and not stored:
        found.problems.append(
            f"{', '.join(scores)} takes the teacher's score of the transcript, which is about 0 nats for a {teacher.name}, "
            "because it has read it: use a teacher that reads audio alone"
        )
    return found


def _fill_rows(found: CompatibilityReport, student: ModelDescription, teacher: ModelDescription) -> dict[str, bool]:
    known = student.frame_seconds is not None and teacher.frame_seconds is not None
    same = {
        'vocabulary': student.vocabulary == teacher.vocabulary and student.tokenizer == teacher.tokenizer,
        'blank': all(
            student.blanks[head] == teacher.blanks[head] for head in student.blanks.keys() & teacher.blanks.keys()
        ),
        'sample rate': student.sample_rate == teacher.sample_rate,
        'frame': not known or abs(student.frame_seconds - teacher.frame_seconds) < 1e-6,
    }
    texts = {
        'vocabulary': _vocabulary_text,
        'blank': _blank_text,
        'sample rate': lambda model: f'{model.sample_rate} Hz',
        'frame': lambda model: _frame_text(model.frame_seconds),
        'reads': lambda model: 'audio + transcript' if model.reads_transcript else 'audio',
        'heads': lambda model: ' + '.join(model.heads),
    }
    for fact, text in texts.items():
        found.rows.append((fact, text(student), text(teacher), same.get(fact, True)))
    return same


def _attention_problems(teacher: ModelDescription, names: list[str]) -> Iterator[str]:
    """Yields what an attention decoder can serve, and what it cannot."""
    texts = objectives_of('sequence', names)
    others = ', '.join(name for name in names if name not in texts)
    if texts:
        yield (
            f"{', '.join(texts)} can learn from the stored scores of an attention decoder ({teacher.name}), but not with the model "
            "beside the student: label the training manifest with `nemo-oracle-kd score --prompt ...`, and set teacher.scores "
            "to manifest instead of teacher.restore_from"
        )
    if others:
        yield (
            f"{others} compares frames, lattices or encoders, which cannot be read from an attention decoder ({teacher.name}): use a "
            "CTC, transducer or hybrid teacher, or learn from stored scores with hard, full_sum or full_sum_norm"
        )


def _map_problems(found, student, teacher, names: list[str], same: dict[str, bool]) -> Iterator[str]:
    """Yields what keeps classes of labels from being compared, and adds them to the table."""
    mapped = ', '.join(_mappable(names))
    if same['vocabulary']:
        yield "teacher.vocabulary=map compares less than both models know, because they have the same labels: leave it out"
    elif teacher.reads_transcript:
        yield (
            f"the {teacher.name} gets the transcript in the student's labels, which teacher.vocabulary=map does not translate: train the "
            "student with the teacher's labels or tokenizer"
        )
    elif not mapped:
        yield (
            "teacher.vocabulary=map is for frame objectives that read no transcript (frame_kl, softmax_l2, guided_ctc), and there is none: "
            "leave it out"
        )
    else:
        classes = classes_of(student, teacher)
        shared = len(set(classes.teacher.tolist())) - 1
        text = f"{len(classes.lost)} of {len(teacher.vocabulary)} labels without one"
        found.rows.append(('classes', str(len(classes.names) - 1), text, shared > 0))
        if not shared:
            yield (
                f"{mapped} compares labels by their first letters, but no label of the teacher begins with a letter of the student's: use a "
                "teacher that writes the same alphabet"
            )


def _mappable(names: list[str]) -> list[str]:
    return [name for name in objectives_of('frame', names) if not OBJECTIVES[name].loss.reads_text]


def _class_problems(student, teacher, names: list[str], same: dict[str, bool], map_labels: bool) -> Iterator[str]:
    mappable = _mappable(names)
    per_class = [name for name in names if OBJECTIVES[name].loss.needs_same_vocabulary]
    if map_labels:
        per_class = [name for name in per_class if name not in mappable]
    needing = ', '.join(per_class)
    other = ', or compare classes of labels by teacher.vocabulary=map' if per_class and per_class == mappable else ''
    if per_class and student.vocabulary != teacher.vocabulary:
        yield (
            f"{needing} compares classes one by one, but {_first_difference(student.vocabulary, teacher.vocabulary)}: train "
            f"the student with the teacher's labels or tokenizer{other}"
        )
    elif per_class and not same['vocabulary']:
        yield (
            f"{needing} compares classes one by one, but the tokenizers differ: train the student with the teacher's "
            f"tokenizer (model.tokenizer.dir){other}"
        )
    # the blank of the head that is compared: a lattice's is compared with the rest of the joint
    of_frames = ', '.join(objectives_of('frame', per_class))
    blanks = student.blanks.get('ctc'), teacher.blanks.get('ctc')
    if of_frames and same['vocabulary'] and None not in blanks and blanks[0] != blanks[1]:
        yield (
            f"{of_frames} compares classes one by one, but blank is {blanks[0]} in the student and {blanks[1]} in the "
            "teacher: use models with the same blank"
        )


def _frame_problems(student, teacher, names, same: dict[str, bool], time_resampling: str) -> Iterator[str]:
    per_frame = ', '.join(objectives_of('frame', names))
    if per_frame and 'ctc' not in student.heads:
        yield (
            f"{per_frame} compares frame posteriors, but the student ({student.name}) is not trained with a CTC head: use a "
            "CTC student, a hybrid one with model.aux_ctc.ctc_loss_weight above 0, or an objective for transducers, such as "
            "one_best_path or full_sum"
        )
    if per_frame and 'ctc' not in teacher.heads:
        yield (
            f"{per_frame} compares frame posteriors, but the teacher ({teacher.name}) has no CTC head: use a CTC or hybrid "
            "teacher, or the objective full_sum"
        )
    rate = ', '.join(name for name in names if OBJECTIVES[name].loss.needs_same_frame_rate)
    if rate and not same['frame'] and time_resampling == 'none':
        # frames of a lattice can be picked but not mixed
        fix = 'nearest' if objectives_of('lattice', names) else 'nearest or linear'
        yield (
            f"{rate} compares frame by frame, but a frame is {_frame_text(student.frame_seconds)} in the "
            f"student and {_frame_text(teacher.frame_seconds)} in the teacher: set teacher.time_resampling to {fix}"
        )


def _loss_problems(model: Any, objectives: Iterable[str]) -> Iterator[str]:
    """Yields what keeps the student's own transducer loss from being a score."""
    classes = {name: OBJECTIVES[name].loss for name in objectives}
    names = [name for name, loss in classes.items() if loss.needs_true_likelihood]
    own = ', '.join(name for name, loss in classes.items() if loss.compares_own_loss)
    if not names or not hasattr(model, 'joint'):
        return
    options = loss_modifiers(model)
    slope = {name: value for name, value in options.items() if name in ('fastemit_lambda', 'clamp')}
    if slope:
        found, off = _option_texts(slope)
        yield (
            f"{', '.join(names)} follows the gradient of log P, which {found} of model.loss changes: set {off} in the options "
            "of model.loss"
        )
    value = {name: value for name, value in options.items() if name in ('sigma', 'omega')}
    if value and own:
        found, off = _option_texts(value)
        yield (
            f"{own} takes the model's own loss for -log P, but with {found} it is another value: set {off} in the options "
            "of model.loss"
        )
    if own and type(model.joint).__name__ == 'SampledRNNTJoint':
        yield (
            f"{own} takes the model's own loss for -log P, but over the sampled vocabulary of SampledRNNTJoint it is another "
            "value: use RNNTJoint with fuse_loss_wer"
        )


def _option_texts(options: dict[str, float]) -> tuple[str, str]:
    off = ' and '.join(f"{name}={'-1' if name == 'clamp' else '0'}" for name in options)
    return ' and '.join(f'{name}={value:g}' for name, value in options.items()), off

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs the objectives that compare the lattices of two transducers, and checks whether two models can be compared."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nemo_oracle_kd.bridge.joint import joint_dropout, joint_problems
from nemo_oracle_kd.bridge.model import TransducerFacts, find_head, transducer_facts
from nemo_oracle_kd.bridge.signals import StudentStep
from nemo_oracle_kd.distillation.families.context import StepContext
from nemo_oracle_kd.distillation.sides import model_side
from nemo_oracle_kd.distillation.teachers import Teacher
from nemo_oracle_kd.functional import Transducer
from nemo_oracle_kd.losses.objectives import OBJECTIVES
from nemo_oracle_kd.losses.transducer_side import common_frames

__all__ = ['LatticeFamily', 'lattice_problems']


class LatticeFamily:
    """Runs the teacher on the batch's labels and compares its lattice with that of the student's transducer.

    The student's encoder and prediction network do not run again: the outputs from which its own loss was computed are
    reused, with a fused joint as well.

    Args:
        objectives: name -> config.
        student: a NeMo transducer that passes :func:`lattice_problems`.
        teacher: a teacher beside it, whose model is a transducer.
        time_resampling: the teacher's `time_resampling` setting.
    """

    #: heads of the student to whose losses these objectives are added
    heads = ('transducer',)
    #: fields of the teacher's `EncodedAudio` that are read
    signals = frozenset({'encoded'})

    def __init__(self, objectives: Mapping[str, Any], student: Any, teacher: Teacher, time_resampling: str):
        transducer = find_head(student, 'rnnt').transducer
        self.losses_by_name: dict[str, nn.Module] = {
            name: OBJECTIVES[name].loss(config, transducer, name) for name, config in objectives.items()
        }
        self.student, self.teacher = student, teacher
        self.time_resampling = time_resampling
        self._reads = {loss.reads for loss in self.losses_by_name.values()}

    def losses(self, step: StudentStep, context: StepContext) -> dict[str, Tensor]:
        """Computes every objective.

        Args:
            step: outputs of the student's transducer.
            context: the training step.

        Returns:
            Name -> unweighted loss per utterance, `[B]`.
        """
        transcripts = step.transcripts
        student = model_side(self.student, step.encoded, step.predicted, step.lengths, self._reads)
        with torch.no_grad():
            teacher = self.teacher.transducer_side(context.hear(), transcripts, self._reads)
        student, teacher = common_frames(student, teacher, self.time_resampling)
        values = {}
        for name, loss in self.losses_by_name.items():
            values[name] = loss(student, teacher, transcripts.labels, transcripts.lengths, context.step)
            context.metrics.update({f'{name}_{key}': value for key, value in loss.statistics.items()})
        return values

    def state(self) -> dict[str, int]:
        """State for a checkpoint: objective -> estimated delay, in frames."""
        delays = {name: getattr(loss, 'delay', None) for name, loss in self.losses_by_name.items()}
        return {name: delay.shift for name, delay in delays.items() if delay is not None and delay.shift is not None}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Restores the delays of a resumed training, for objectives that are still configured to estimate one."""
        for name, shift in state.items():
            delay = getattr(self.losses_by_name.get(name), 'delay', None)
            if delay is not None:
                delay.shift = int(shift)


def lattice_problems(
    student: Any, teacher: Any, objectives: Mapping[str, Any], time_resampling: str = 'none'
) -> Iterator[str]:
    """Yields sentences that say why the lattices of two models cannot be compared, each with the fix.

    Vocabulary, sample rate and frame rate matter to all objectives and are compared by
    :func:`nemo_oracle_kd.distillation.compatibility.compare`.

    Args:
        student: a NeMo model.
        teacher: a NeMo model, or the facts of one whose answers were stored.
        objectives: name -> config, of the lattice family alone.
        time_resampling: the teacher's `time_resampling` setting.
    """
    names = ', '.join(objectives)
    lacking = False
    ours = transducer_facts(student)
    theirs = teacher if isinstance(teacher, TransducerFacts) else transducer_facts(teacher)
    for facts, role in ((ours, 'student'), (theirs, 'teacher')):
        if facts.transducer is None:
            lacking = True
            yield (
                f"{names} compares transducers, but the {role} ({facts.name}) has no joint: use an RNN-T, TDT or "
                "hybrid model, or an objective on frames, such as frame_kl"
            )
    if lacking:
        return
    share_of_ctc = float(getattr(student, 'ctc_loss_weight', 0.0))
    if share_of_ctc >= 1.0:
        yield (
            f"{names} is part of the transducer's loss, which model.aux_ctc.ctc_loss_weight={share_of_ctc:g} multiplies by "
            "0: set it below 1, or use an objective on frames, such as frame_kl"
        )
    reads = {name: OBJECTIVES[name].loss.reads for name in objectives}
    of_joints = [*joint_problems(student, 'student', training=True)]
    if teacher is not theirs:
        of_joints += joint_problems(teacher, 'teacher', training=False)
    if set(reads.values()) != {'encoder'}:
        yield from of_joints
    lattices = ', '.join(name for name in objectives if reads[name] == 'lattice')
    if lattices:
        yield from _head_problems(lattices, ours.transducer, theirs.transducer)
        if ours.transducer.durations and _frame_rates_differ(ours, theirs):
            yield (
                f"{lattices} cannot compare durations counted in frames of different lengths: use a teacher of the student's "
                "frame rate, or the objective full_sum"
            )
    if time_resampling == 'linear':
        yield (
            f"{names} compares lattices, whose frames can be picked but not mixed: set teacher.time_resampling=nearest instead "
            "of linear"
        )
    if theirs.reads_transcript and (ours.vocabulary, ours.tokenizer) != (theirs.vocabulary, theirs.tokenizer):
        yield (
            f"{names} gives the {theirs.name} the transcript in the student's labels, which differ from its own: train "
            "the student with the teacher's labels or tokenizer"
        )
    for name, config in objectives.items():
        sizes = ours.encoder_size, theirs.encoder_size
        yield from _option_problems(name, config, sizes, 0.0 if of_joints else joint_dropout(student))


def _option_problems(name: str, config: Any, sizes: tuple[int, int], dropout: float) -> Iterator[str]:
    if dropout and hasattr(config, 'window') and config.window.used and config.dropout:
        yield (
            f"{name}.window compares shifts, but a dropout of {dropout:g} in the student's joint would make the choice random: set "
            f"{name}.dropout=false"
        )
    if getattr(config, 'distance', None) in ('l2', 'cosine') and sizes[0] != sizes[1]:
        yield (
            f"{name}.distance={config.distance} needs encoders of one size, but the student's gives {sizes[0]} values per "
            f"frame and the teacher's {sizes[1]}: set {name}.distance=similarity"
        )


def _head_problems(names: str, student: Transducer, teacher: Transducer) -> Iterator[str]:
    if type(student) is not type(teacher):
        yield (
            f"{names} compares lattices of one kind, but the student is a {student.title} and the teacher a "
            f"{teacher.title}: use models of one kind, or the objective full_sum"
        )
    elif student.durations != teacher.durations:
        yield (
            f"{names} compares outputs one by one, but their durations are {list(student.durations)} in the student and "
            f"{list(teacher.durations)} in the teacher: train the student with the teacher's durations, or use the objective "
            "full_sum"
        )
    elif student.blank != teacher.blank:
        yield (
            f"{names} compares classes one by one, but blank is {student.blank} in the student's joint and {teacher.blank} in "
            "the teacher's: use models with the same blank"
        )


def _frame_rates_differ(student: TransducerFacts, teacher: TransducerFacts) -> bool:
    rates: tuple = (student.frame_seconds, teacher.frame_seconds)
    return None not in rates and abs(rates[0] - rates[1]) > 1e-6

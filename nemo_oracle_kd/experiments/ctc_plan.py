# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Plans comparisons of CTC students: which teachers and students are trained, from which start, and for how long.

Every system is trained by :mod:`nemo_oracle_kd.experiments.train` with overrides on its command line, so that each command can
be run by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nemo_oracle_kd.corpus.manifest import AUDIO_KEY
from nemo_oracle_kd.experiments.comparison import SystemRun
from nemo_oracle_kd.experiments.jobs import CLI, Job
from nemo_oracle_kd.experiments.recipes import Training, quoted, recipe_run, steps
from nemo_oracle_kd.scene_text.pictures import FILE_KEYS

__all__ = [
    'SCENE_TEXT',
    'STUDENT',
    'TASKS',
    'TEACHERS',
    'Plan',
    'Start',
    'Student',
    'Task',
    'Teacher',
    'speed_job',
    'synthesis_job',
    'teacher_training',
]

STUDENT = 'ctc/separable_ctc_char'
#: validations of a student that gets the plan's number of updates, and the most that a longer training gets
VALIDATIONS, MOST_VALIDATIONS = 8, 40
#: speaking rate of the synthetic speech, in words a minute; readers are slower than the default of `synthesize`
RATE = ['--rate', '80', '170']


@dataclass(frozen=True)
class Start:
    """A model that is trained once, and from which systems of all seeds start.

    Attributes:
        config: family and name of an installed config.
        train: its training manifest.
        updates: optimizer steps.
        overrides: further arguments of the command line.
    """

    config: str
    train: Path
    updates: int
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class Teacher:
    """A teacher of every seed.

    Attributes:
        config: family and name of an installed config; those with `oracle` in their name read the transcript.
        seconds: processor seconds of training, without validation; `None`: those of the plan.
        overrides: further arguments of the command line.
        start: name of a :class:`Start`. An oracle teacher takes encoder and CTC decoder of its audio branch from it.
        encoder_of: name of another teacher, instead of a start: an oracle teacher then is a label branch on the frozen encoder
            of that teacher of the same seed.
    """

    config: str
    seconds: float | None = None
    overrides: Sequence[str] = ()
    start: str | None = None
    encoder_of: str | None = None

    @property
    def reads_transcript(self) -> bool:
        """Whether it is an oracle teacher."""
        return self.config.rsplit('/', 1)[1].startswith('oracle_')


TEACHERS = {
    'conventional_teacher': Teacher('ctc/separable_ctc_char_teacher'),
    'oracle_teacher': Teacher('oracle_ctc/oracle_separable_ctc_char'),
}


@dataclass(frozen=True)
class Task:
    """What is recognised, and by which networks.

    Attributes:
        student: family and name of the installed config of every student.
        teachers: name -> teacher.
        file_keys: keys under which a row of a manifest may name its file.
        speeds: whether teachers are trained on copies at several speeds, see :func:`speed_job`.
    """

    student: str
    teachers: Mapping[str, Teacher]
    file_keys: Sequence[str] = (AUDIO_KEY,)
    speeds: bool = True


SCENE_TEXT = Task(
    'scene_text/crnn_ctc',
    {
        'conventional_teacher': Teacher('scene_text/residual_crnn_ctc'),
        'oracle_teacher': Teacher('scene_text/oracle_residual_crnn_ctc'),
    },
    FILE_KEYS,
    speeds=False,
)
TASKS = {'speech': Task(STUDENT, TEACHERS), 'scene_text': SCENE_TEXT}


@dataclass(frozen=True)
class Student:
    """A student of every seed. Without a preset it is trained alone.

    Attributes:
        teacher: name of a :class:`Teacher`, for presets that need one.
        preset: name of a preset of `conf/oracle_kd`.
        overrides: overrides of the preset.
        updates: optimizer steps; `None`: those of the plan.
        start: name of a :class:`Start`.
        network: overrides that change the network. Students are compared with those of the same network.
    """

    teacher: str | None = None
    preset: str | None = None
    overrides: Sequence[str] = ()
    updates: int | None = None
    start: str | None = None
    network: Sequence[str] = ()


@dataclass
class Plan:
    """What to train and for how long.

    Attributes:
        students: name -> student.
        updates: optimizer steps of every student that does not name its own.
        teacher_seconds: processor seconds of training of every teacher that does not name its own, without validation.
            Processor time does not depend on other work on the machine, so the teachers are treated alike.
        student_overrides: overrides for every student.
        teachers: name -> teacher. Those that no student learns from are not trained.
        starts: name -> start, or the path of a `.nemo` that exists. Starts that no system needs are not trained.
        student_config: family and name of the installed config of every student.
    """

    students: Mapping[str, Student]
    updates: int
    teacher_seconds: float
    student_overrides: Sequence[str] = ()
    teachers: Mapping[str, Teacher] = field(default_factory=lambda: dict(TEACHERS))
    starts: Mapping[str, Start | Path] = field(default_factory=dict)
    student_config: str = STUDENT

    @property
    def teachers_used(self) -> dict[str, Teacher]:
        """The teachers that students learn from, and those whose encoders these have."""
        named = {student.teacher for student in self.students.values()}
        named |= {teacher.encoder_of for name, teacher in self.teachers.items() if name in named}
        return {name: teacher for name, teacher in self.teachers.items() if name in named}

    def reads_transcript(self, student: str) -> bool:
        """Whether the student learns from a teacher that reads the transcript, its own label branch included."""
        one = self.students[student]
        return one.preset == 'oracle_self' or (one.teacher is not None and self.teachers[one.teacher].reads_transcript)

    def pairs(self) -> list[tuple[str, str]]:
        """Every student that an oracle teaches, with every student of the same network that none teaches."""
        told = {name: self.reads_transcript(name) for name in self.students}
        return [
            (control, name)
            for name in self.students
            for control in self.students
            if told[name] and not told[control] and self.students[name].network == self.students[control].network
        ]

    def start_jobs(self, dev: Path, out: Path, depends: Sequence[str] = ()) -> list[Job]:
        """The trainings of the starts that systems need.

        Args:
            dev: manifest of the validation.
            out: output folder.
            depends: jobs that make the data.
        """
        systems = [*self.students.values(), *self.teachers_used.values()]
        named = {system.start for system in systems}
        jobs = []
        for name, start in self.starts.items():
            if name in named and isinstance(start, Start):
                words = [*steps(start.updates, VALIDATIONS), *start.overrides]
                training = Training(start.config, {'train': start.train, 'dev': dev}, words)
                jobs.append(recipe_run(name, 0, out / 'starts', training, depends).job)
        return jobs

    def runs(
        self, data: Mapping[str, Path], out: Path, seeds: Sequence[int], depends: Sequence[str] = ()
    ) -> list[SystemRun]:
        """Returns all trainings of teachers and students.

        Args:
            data: manifests `train` and `dev`, and `teacher_train` if teachers are trained on other data.
            out: output folder.
            seeds: random seeds.
            depends: jobs that make data and starts.

        Raises:
            ValueError: a teacher or start is named that the plan does not have.
        """
        self._check()
        teacher_data = {**data, 'train': data.get('teacher_train', data['train'])}
        runs = []
        for seed in seeds:
            group = out / f'seed_{seed}'
            for name, teacher in self.teachers_used.items():
                seconds = self.teacher_seconds if teacher.seconds is None else teacher.seconds
                start, inputs, waits = None, [], list(depends)
                if teacher.start:
                    start, inputs = self._start_model(teacher.start, out)
                elif teacher.encoder_of:
                    start = group / f'{teacher.encoder_of}.nemo'
                    waits.append(f'{group.name}/{teacher.encoder_of}')
                training = replace(teacher_training(teacher, seconds, teacher_data, start), inputs=inputs)
                runs.append(recipe_run(name, seed, group, training, waits))
            for name, student in self.students.items():
                waits = [*depends, *([f'{group.name}/{student.teacher}'] if student.teacher else [])]
                runs.append(recipe_run(name, seed, group, self._student_training(student, data, group), waits))
        return runs

    def _check(self) -> None:
        systems = {**self.students, **self.teachers}
        for kind, known in (('teacher', self.teachers), ('encoder_of', self.teachers), ('start', self.starts)):
            for name, system in systems.items():
                wanted = getattr(system, kind, None)
                if wanted is not None and wanted not in known:
                    raise ValueError(
                        f"{name} names the {kind} '{wanted}': choose one of {', '.join(known) or 'none'}, or add it"
                    )

        for name, teacher in self.teachers.items():
            if teacher.encoder_of is not None and not teacher.reads_transcript:
                raise ValueError(f"{name} is no oracle teacher, so it has no label branch: set encoder_of to None")

    def _start_model(self, name: str, out: Path) -> tuple[Path, list[Path]]:
        """The model of a start, and what of it is an input that no job makes."""
        start = self.starts[name]
        if isinstance(start, Start):
            return out / 'starts' / 'training' / name / 'model.nemo', []
        return start, [start]

    def _student_training(self, student: Student, data: Mapping[str, Path], group: Path) -> Training:
        updates = student.updates or self.updates
        validations = min(max(VALIDATIONS * updates // self.updates, VALIDATIONS), MOST_VALIDATIONS)
        overrides = [*steps(updates, validations), *self.student_overrides, *student.network]
        inputs: list[Path] = []
        if student.start is not None:
            start, inputs = self._start_model(student.start, group.parent)
            overrides.append(f'+init_from_nemo_model={quoted(start)}')
        if student.preset is not None:
            overrides.append(f'+oracle_kd={student.preset}')
        if student.teacher is not None:
            overrides += [
                f'oracle_kd.teacher.restore_from={quoted(group / f"{student.teacher}.nemo")}',
                'oracle_kd.teacher.memory_mb=500',  # every epoch has the same audio
            ]
        return Training(self.student_config, data, [*overrides, *student.overrides], inputs=inputs)


def teacher_training(
    teacher: Teacher, seconds: float, data: Mapping[str, Path], start: Path | None = None
) -> Training:
    """The training of a teacher for a number of processor seconds.

    Args:
        teacher: what is trained.
        seconds: processor seconds of training, without validation.
        data: manifests `train` and `dev`.
        start: model to start from. An oracle teacher takes encoder and CTC decoder of its audio branch from it.
    """
    budget = f'{{_target_: nemo_oracle_kd.callbacks.TimeBudget, seconds: {seconds:g}, clock: cpu}}'
    overrides = [
        '~model.optim.sched',  # TimeBudget lowers the learning rate itself
        'trainer.max_epochs=-1',
        'trainer.val_check_interval=200',
    ]
    if start is not None:
        key = 'model.oracle.init_audio_encoder_from' if teacher.reads_transcript else '+init_from_nemo_model'
        overrides.append(f'{key}={quoted(start)}')
    if teacher.encoder_of is not None:
        overrides += ['model.oracle.freeze_audio_encoder=true', 'model.oracle.audio_only_steps=0']
    return Training(teacher.config, data, [*overrides, *teacher.overrides], [budget])


def speed_job(train: Path, copies: Path) -> Job:
    """The job that copies the recordings at several speeds; copies of other recordings are removed from the folder."""
    return Job(
        'speed_copies',
        [*CLI, 'perturb', '--manifest', str(train), '--output', str(copies)],
        outputs=[copies / 'train.jsonl'],
        inputs=[train],
        scratch=[copies],
    )


def synthesis_job(train: Path, corpus: Path, utterances: int) -> Job:
    """The job that synthesises sentences with the words of the training texts."""
    sizes = ['--train', str(utterances), '--dev', '20', '--test', '20', '--workers', '1']
    command = [*CLI, 'synthesize', str(corpus), '--kinds', 'sentences', '--words', str(train)]
    return Job(
        'synthetic', [*command, *sizes, *RATE], outputs=[corpus / 'train.jsonl'], inputs=[train], scratch=[corpus]
    )

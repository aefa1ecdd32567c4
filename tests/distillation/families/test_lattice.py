# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What a step of lattice distillation makes: no tensor of the lattice's size, nothing in the teacher, nothing twice."""

import pytest
import tiny
import torch
from hydra import compose, initialize_config_dir
from torch.utils._python_dispatch import TorchDispatchMode

from nemo_oracle_kd.bridge.signals import AudioBatch, StudentStep, Transcripts
from nemo_oracle_kd.distillation.distiller import Distiller
from nemo_oracle_kd.distillation.families.context import StepContext
from nemo_oracle_kd.distillation.families.lattice import LatticeFamily
from nemo_oracle_kd.distillation.teacher_settings import TeacherConfig
from nemo_oracle_kd.distillation.teachers import OnlineTeacher
from nemo_oracle_kd.losses.lattice import LATTICE_OBJECTIVES

BATCH, FRAMES, LABELS, CLASSES = 3, 120, 20, 400


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, torch.Tensor):
                self.numbers = max(self.numbers, x.numel())
        return result


@pytest.fixture(scope='module')
def wide(tmp_path_factory):
    """A student and a teacher with many labels, and a batch."""
    config = tiny.rnnt_config(labels=[f'w{i}' for i in range(CLASSES - 1)], joint_hidden=16)
    path = tmp_path_factory.mktemp('wide') / 'teacher.nemo'
    tiny.rnnt_model(config, seed=1).save_to(str(path))
    signal = torch.randn(BATCH, FRAMES * 160) * 0.1
    transcripts = Transcripts(torch.randint(0, CLASSES - 1, (BATCH, LABELS)), torch.full((BATCH,), LABELS))
    batch = AudioBatch(signal, torch.full((BATCH,), FRAMES * 160), transcripts)
    return tiny.rnnt_model(config), OnlineTeacher(TeacherConfig(restore_from=str(path))), batch


def step_of(student, batch):
    """As the hook of the student's loss sees it."""
    encoded, lengths = student(input_signal=batch.signal.clone(), input_signal_length=batch.lengths)
    labels, label_lengths = batch.transcripts.labels, batch.transcripts.lengths
    predicted, _, _ = student.decoder(targets=labels, target_length=label_lengths)
    return StudentStep('transducer', None, batch.transcripts, lengths, None, encoded=encoded, predicted=predicted)


@pytest.mark.parametrize(
    'name, options',
    [
        ('lattice', {}),
        ('lattice', {'window': 2}),
        ('lattice', {'delay': {'mode': 'estimate', 'batches': 1, 'max_spread': None}}),
        ('lattice_topk', {'cells': 'student_occupancy'}),
        ('lattice_collapsed', {'cells': 'teacher_occupancy'}),
        ('one_best_path', {'cells': 'band'}),
        ('encoder', {}),
        ('representation', {}),
    ],
)
def test_no_tensor_is_as_large_as_a_lattice(wide, name, options):
    from nemo_oracle_kd.strict_config import build_or_raise

    student, teacher, batch = wide
    config = build_or_raise(LATTICE_OBJECTIVES[name][0], options, name)
    family = LatticeFamily({name: config}, student, teacher, 'none')
    step = step_of(student, batch)
    with LargestTensor() as watch:
        values = family.losses(step, StepContext(0, teacher=teacher, batch=batch))[name]
        values.sum().backward()
    lattice = BATCH * step.encoded.shape[2] * (LABELS + 1) * CLASSES
    assert step.encoded.shape[2] >= FRAMES - 2 and (values > 0).all()
    assert watch.numbers < 0.4 * lattice
    assert all(weight.grad is None for weight in teacher.model.parameters())


def test_the_networks_of_the_student_run_once_and_those_of_the_teacher_once(wide):
    student, teacher, batch = wide
    family = LatticeFamily(
        {name: LATTICE_OBJECTIVES[name][0]() for name in LATTICE_OBJECTIVES}, student, teacher, 'none'
    )
    step, calls = step_of(student, batch), []
    hooks = [
        module.register_forward_hook(lambda *_, name=f'{role} {part}': calls.append(name))
        for role, model in (('student', student), ('teacher', teacher.model))
        for part, module in (('encoder', model.encoder), ('decoder', model.decoder), ('joint', model.joint))
    ]
    family.losses(step, StepContext(0, teacher=teacher, batch=batch))
    for hook in hooks:
        hook.remove()
    assert sorted(calls) == ['teacher decoder', 'teacher encoder']
    assert not teacher.model.training and not any(p.requires_grad for p in teacher.model.parameters())


def test_a_preset_is_changed_on_the_command_line(tmp_path):
    (tmp_path / 'recipe.yaml').write_text('trainer: {max_epochs: 1}\n')
    overrides = ['+oracle_kd=lattice', 'oracle_kd.teacher.restore_from=t.nemo', 'oracle_kd.label_loss.on=supervised']
    overrides += [f'oracle_kd.objectives.lattice.{x}' for x in ('shift=1', 'cells=path', 'window=4', 'weight=0.01')]
    with initialize_config_dir(config_dir=str(tmp_path), version_base=None):
        composed = compose('recipe', overrides=overrides)
    config = Distiller(composed.oracle_kd).config
    lattice = config.objectives['lattice']
    assert (lattice.shift, lattice.cells.mode, lattice.window.last, lattice.weight.value) == (1, 'path', 4, 0.01)
    assert config.label_loss.on == 'supervised' and lattice.divergence == 'kl'

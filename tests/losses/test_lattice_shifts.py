# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which frames the lattice objectives compare: shifts, windows, estimated delays and frame rates, on lattices made by hand."""

from dataclasses import replace

import pytest
import torch
from lattice_cases import BLANK, CLASSES, batch
from lattice_pairs import EMITTED, LONG, RNNT, SPOKEN, TARGETS, TDT, emitter, late_pair, objective, random_pair, sides
from nemo.utils import logging

from nemo_oracle_kd.functional import (
    JointTensors,
    lattice_cell_divergence,
    path_cells,
    teacher_frame_map,
    to_student_frames,
    transducer_best_path,
)
from nemo_oracle_kd.losses.transducer_side import TransducerSide, common_frames


@pytest.mark.unit
@pytest.mark.parametrize('name', ['lattice', 'lattice_topk', 'lattice_collapsed', 'one_best_path'])
def test_a_late_student_is_compared_with_what_its_teacher_said_earlier(name):
    student, teacher = late_pair(2)
    arguments = (*sides(student, teacher, EMITTED), TARGETS, SPOKEN)
    assert objective(name, shift=2)(*arguments).max() < 1e-12
    assert objective(name)(*arguments).min() > 1.0


@pytest.mark.unit
def test_the_teachers_path_moves_with_the_shift():
    student, teacher = random_pair(labels=3, frames=6)
    targets, _, labels = batch()
    frames = torch.tensor([6, 5, 4])
    loss = objective('one_best_path', shift=1)(*sides(student, teacher, frames), targets, labels)
    moved = teacher_frame_map(frames, frames, 6, 1)
    path = transducer_best_path(RNNT, teacher, targets, frames, labels)
    cells = to_student_frames(path_cells(path.step_frames, path.step_labels, 6, 4).double(), moved)
    values = lattice_cell_divergence(student, teacher, targets, frames, labels, BLANK, teacher_frames=moved)
    assert torch.allclose(loss, (values * cells).sum((1, 2)), rtol=1e-10)


@pytest.mark.unit
@pytest.mark.parametrize('cells', ['all', 'teacher_occupancy', 'student_occupancy', 'path', 'band'])
def test_a_window_finds_the_delay(cells):
    student, teacher = late_pair(3)
    loss = objective('lattice', cells=cells, shift=1, window=4)
    value = loss(*sides(student, teacher, EMITTED), TARGETS, SPOKEN)
    assert value.max() < 1e-12 and loss.statistics['shift'] == 3.0
    soft = objective('lattice', cells=cells, window={'last': 5, 'mode': 'soft', 'softness': 0.01})
    assert objective('lattice', cells=cells)(*sides(student, teacher, EMITTED), TARGETS, SPOKEN).min() > 1.0
    assert (soft(*sides(student, teacher, EMITTED), TARGETS, SPOKEN) < 1.0).all()


@pytest.mark.unit
def test_the_window_of_a_tdt_judges_tokens_and_durations_together():
    student, teacher = random_pair(labels=2, frames=6)
    targets, frames, labels = torch.tensor([[0, 1], [2, 0], [1, 1]]), torch.tensor([6, 5, 6]), torch.tensor([2, 1, 2])
    cells = {'mode': 'path'}
    shifts = range(-1, 2)
    window = {'first': -1, 'last': 1}
    found = objective('lattice', TDT, cells=cells, window=window)(*sides(student, teacher, frames), targets, labels)
    assert found.shape == (3,) and (found > 0).all()

    path = transducer_best_path(TDT, teacher, targets, frames, labels)
    cells = path_cells(path.step_frames, path.step_labels, 6, 3).double()
    back = torch.stack([teacher_frame_map(frames, frames, 6, -s) >= 0 for s in shifts]).all(0)
    each = []
    for shift in shifts:
        moved = teacher_frame_map(frames, frames, 6, shift)
        weights = to_student_frames(cells * back.unsqueeze(2), moved)
        each.append(
            sum(
                lattice_cell_divergence(
                    student.head(s.start, s.stop),
                    teacher.head(s.start, s.stop),
                    targets,
                    frames,
                    labels,
                    s.blanks,
                    teacher_frames=moved,
                    weights=weights,
                ).sum((1, 2))
                for s in TDT.softmaxes
            )
        )
    assert torch.allclose(found, torch.stack(each).amin(0), rtol=1e-9)


@pytest.mark.unit
def test_an_estimated_delay_is_reported_and_then_used(caplog):
    student, teacher = late_pair(2)
    loss = objective('lattice', delay={'mode': 'estimate', 'batches': 2, 'from_step': 1})
    arguments = (*sides(student, teacher, EMITTED), TARGETS, SPOKEN)
    messages = []
    info, logging.info = logging.info, messages.append
    try:
        for step in (0, 1):  # before from_step, and the first of two batches
            waiting = loss(*arguments, step=step)
            assert waiting.tolist() == [0.0, 0.0] and loss.statistics == {}
            assert torch.autograd.grad(waiting.sum(), student.weight)[0].abs().max() == 0
        assert loss(*arguments, step=2).max() < 1e-12
    finally:
        logging.info = info
    assert loss.statistics['shift'] == 2.0 and len(messages) == 1
    assert 'lattice: over 2 batches the student emits +2.0 frames after the teacher' in messages[0]
    assert 'shift: 2 and delay: given' in messages[0]
    assert loss(*arguments, step=3).max() < 1e-12 and len(messages) == 1


@pytest.mark.unit
def test_batches_without_speech_put_the_estimate_off():
    student, teacher = late_pair(2)
    loss = objective('lattice', delay={'mode': 'estimate', 'batches': 1})
    both = sides(student, teacher, EMITTED)
    assert loss(*both, TARGETS, torch.zeros_like(SPOKEN)).tolist() == [0.0, 0.0] and loss.delay.shift is None
    assert loss(*both, TARGETS, SPOKEN).max() < 1e-12 and loss.delay.shift == 2


@pytest.mark.unit
@pytest.mark.parametrize(
    'options',
    [
        {'shift': 5},
        {'window': 5},
        {'window': {'last': 5, 'mode': 'soft'}},
        {'window': {'last': 5, 'per': 'frame'}},
        {'cells': 'path', 'shift': 2},
        {'cells': 'path', 'window': 2},
        {'cells': 'teacher_occupancy', 'shift': 5},
    ],
)
def test_a_mean_over_cells_is_one_over_the_cells_that_have_a_partner(options):
    # every cell of such a pair has the same divergence
    def uniform(frames, value):
        encoder = torch.zeros(2, frames, CLASSES, dtype=torch.float64)
        encoder[..., 0] = value
        prediction = torch.zeros(2, 4, CLASSES, dtype=torch.float64)
        return JointTensors(encoder, prediction, torch.eye(CLASSES, dtype=torch.float64))

    both = sides(uniform(LONG, 0.0), uniform(LONG, 2.0), EMITTED)
    plain = objective('lattice', normalization='cells')(*both, TARGETS, SPOKEN)
    moved = objective('lattice', normalization='cells', **options)(*both, TARGETS, SPOKEN)
    assert plain.min() > 0.1 and torch.allclose(moved, plain, rtol=1e-9)


@pytest.mark.unit
def test_a_shift_beyond_the_utterances_is_reported_once():
    student, teacher = late_pair(2)
    messages = []
    warning, logging.warning = logging.warning, messages.append
    try:
        loss = objective('lattice', shift=LONG)
        for _ in range(2):
            assert loss(*sides(student, teacher, EMITTED), TARGETS, SPOKEN).tolist() == [0.0, 0.0]
    finally:
        logging.warning = warning
    assert loss.statistics['uncompared'] == 1.0
    assert len(messages) == 1 and '100 % of the utterances' in messages[0] and 'lattice.shift' in messages[0]


@pytest.mark.unit
def test_frame_rates_and_rounded_lengths_meet_on_the_students_frames():
    student = emitter([[1, 3]], torch.tensor([[0, 1]]), 6)
    teacher = emitter([[2, 3, 6, 7]], torch.tensor([[0, 0, 1, 1]]), 12)
    teacher = replace(teacher, prediction=teacher.prediction[:, :3])
    ours = TransducerSide(student, student.encoder, torch.tensor([6]))
    theirs = TransducerSide(teacher, teacher.encoder, torch.tensor([12]))
    one, other = common_frames(ours, theirs, 'nearest')
    assert other.joint.encoder.shape[1] == 6 and other.lengths.tolist() == one.lengths.tolist() == [6]
    assert torch.equal(other.joint.encoder, student.encoder)
    for name in ('lattice', 'one_best_path', 'encoder', 'representation'):
        assert objective(name)(one, other, torch.tensor([[0, 1]]), torch.tensor([2])).abs().max() < 1e-12
    with pytest.raises(ValueError, match='time_resampling to nearest'):
        common_frames(ours, theirs, 'none')

    longer = replace(teacher, encoder=torch.nn.functional.pad(student.encoder, (0, 0, 0, 2), value=7.0))
    one, other = common_frames(ours, TransducerSide(longer, longer.encoder, torch.tensor([7])), 'none')
    assert one.lengths.tolist() == [6] and torch.equal(other.joint.encoder, student.encoder)
    shorter = TransducerSide(longer, longer.encoder[:, :5], torch.tensor([5]))
    shorter = replace(shorter, joint=replace(longer, encoder=longer.encoder[:, :5]))
    one, other = common_frames(ours, shorter, 'none')
    assert one.lengths.tolist() == other.lengths.tolist() == [5] and other.encoded.shape[1] == 6
    assert torch.equal(other.encoded[:, :5], student.encoder[:, :5])


@pytest.mark.unit
def test_a_process_group_of_one_estimates_as_a_process_alone(tmp_path):
    student, teacher = late_pair(2)
    loss = objective('lattice', delay={'mode': 'estimate', 'batches': 1})
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/rendezvous', rank=0, world_size=1)
    try:
        assert loss(*sides(student, teacher, EMITTED), TARGETS, SPOKEN).max() < 1e-12
    finally:
        torch.distributed.destroy_process_group()
    assert loss.delay.shift == 2

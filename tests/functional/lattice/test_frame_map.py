# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Weights on cells, frame maps, delay and window of lattice distillation."""

from dataclasses import replace

import pytest
import torch
from lattice_cases import BLANK, FRAMES, LABELS, batch, joint, loss_and_gradients, pair, parameters

from nemo_oracle_kd.functional import (
    RNNT,
    JointTensors,
    band_cells,
    estimate_delay,
    lattice_cell_divergence,
    lattice_divergence,
    occupancy_weights,
    path_cells,
    teacher_frame_map,
    to_student_frames,
    transducer_best_path,
    transducer_occupancy,
    valid_cells,
    windowed_lattice_divergence,
)


@pytest.mark.unit
def test_the_valid_cells_are_those_of_the_lengths():
    cells = valid_cells(torch.tensor([2, 0]), torch.tensor([0, 1]), frames=3, positions=2)
    assert cells.tolist() == [[[True, False], [True, False], [False, False]], [[False, False]] * 3]


@pytest.mark.unit
def test_the_cells_of_a_path_are_the_nodes_it_leaves():
    # blank, label, blank, label, blank; the second utterance has no path
    frames = torch.tensor([[0, 1, 1, 2, 2], [-1] * 5])
    labels = torch.tensor([[0, 1, 0, 1, 0], [-1] * 5])
    cells = path_cells(frames, labels, 3, 3)
    assert cells[0].nonzero().tolist() == [[0, 0], [1, 0], [1, 1], [2, 1], [2, 2]]
    assert not cells[1].any()
    with pytest.raises(ValueError, match='leaves a lattice'):
        path_cells(frames, labels, 3, 2)
    with pytest.raises(ValueError, match='one shape'):
        path_cells(frames, labels[:, 1:], 3, 3)


@pytest.mark.unit
def test_a_band_reaches_as_far_as_it_says_to_either_side():
    cells = torch.zeros(1, 6, 2, dtype=torch.bool)
    cells[0, 3, 1] = True
    wide = band_cells(cells, before=2, after=1)
    assert wide.nonzero().tolist() == [[0, 1, 1], [0, 2, 1], [0, 3, 1], [0, 4, 1]]
    assert torch.equal(band_cells(cells, 0, 0), cells)
    with pytest.raises(ValueError, match='0 or more'):
        band_cells(cells, -1, 0)


@pytest.mark.unit
def test_occupancy_and_best_path_of_the_teacher_weigh_its_cells():
    student, teacher = pair(gradient=False)
    targets, frames, labels = batch()
    arguments = (RNNT(BLANK), teacher.logits(), targets, frames, labels)
    cells = lattice_cell_divergence(student, teacher, targets, frames, labels, BLANK)
    gamma = transducer_occupancy(*arguments).node
    weighted = lattice_divergence(student, teacher, targets, frames, labels, BLANK, weights=occupancy_weights(gamma))
    assert torch.allclose(weighted, (cells * gamma).sum((1, 2)), rtol=1e-10)
    cut = occupancy_weights(gamma, threshold=0.5)
    assert ((cut == 0) | (cut >= 0.5)).all() and (cut > 0).any() and (cut == 0).any()

    path = transducer_best_path(*arguments)
    nodes = path_cells(path.step_frames, path.step_labels, FRAMES, LABELS + 1)
    assert nodes.sum((1, 2)).tolist() == (frames + labels).tolist()
    on_path = lattice_divergence(student, teacher, targets, frames, labels, BLANK, weights=nodes)
    assert torch.allclose(on_path, (cells * nodes).sum((1, 2)), rtol=1e-10)
    with pytest.raises(ValueError, match='threshold'):
        occupancy_weights(gamma, threshold=2.0)


@pytest.mark.unit
def test_a_shift_compares_the_students_frame_with_an_earlier_one_of_the_teacher():
    frames = torch.tensor([5, 3])
    assert teacher_frame_map(frames, frames, 5, 2).tolist() == [[-1, -1, 0, 1, 2], [-1, -1, 0, -1, -1]]
    assert teacher_frame_map(frames, frames, 5, -1).tolist() == [[1, 2, 3, 4, -1], [1, 2, -1, -1, -1]]
    each = teacher_frame_map(frames, frames, 5, torch.tensor([0, 1]))
    assert each.tolist() == [[0, 1, 2, 3, 4], [-1, 0, 1, -1, -1]]
    with pytest.raises(ValueError, match='shift must be'):
        teacher_frame_map(frames, frames, 5, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match='Both lengths'):
        teacher_frame_map(frames, frames[:1], 5)


@pytest.mark.unit
def test_other_frame_rates_take_the_nearest_frame():
    double, single = torch.tensor([6]), torch.tensor([3])
    assert teacher_frame_map(double, single, 6).tolist() == [[0, 0, 1, 1, 2, 2]]
    assert teacher_frame_map(single, double, 3).tolist() == [[1, 3, 5]]
    assert teacher_frame_map(double, single, 6, shift=2).tolist() == [[-1, -1, 0, 0, 1, 1]]
    assert teacher_frame_map(double, torch.tensor([0]), 6).tolist() == [[-1] * 6]


@pytest.mark.unit
def test_values_of_the_teachers_cells_follow_the_map():
    values = torch.arange(8.0).view(1, 4, 2)
    moved = to_student_frames(values, torch.tensor([[-1, 0, 3]]))
    assert moved.tolist() == [[[0, 0], [0, 1], [6, 7]]]
    with pytest.raises(ValueError, match='T_teacher'):
        to_student_frames(values[0], torch.tensor([[0]]))


def delayed(delay, frames=9, labels=2):
    """A teacher, and a student that does the same `delay` frames later."""
    teacher = joint(1, 4, frames=frames, labels=labels, batch=2)
    encoder = teacher.encoder.roll(delay, dims=1)
    student = replace(teacher, encoder=encoder).detach()
    student = JointTensors(*(x.requires_grad_() for x in parameters(student)), activation='tanh')
    lengths = torch.tensor([frames, frames - 1])
    return student, teacher, torch.tensor([[0, 1], [2, 3]]), lengths, torch.tensor([2, 1])


@pytest.mark.unit
@pytest.mark.parametrize('unit', ['utterance', 'frame'])
def test_the_window_finds_a_planted_delay(unit):
    student, teacher, targets, frames, labels = delayed(3)
    result = windowed_lattice_divergence(
        student, teacher, targets, frames, frames, labels, BLANK, range(0, 6), unit=unit
    )
    assert result.shift.tolist() == [3, 3]
    assert result.loss.abs().max() < 1e-12
    shifted = teacher_frame_map(frames, frames, 9, 3)
    exact = lattice_divergence(student, teacher, targets, frames, labels, BLANK, teacher_frames=shifted)
    plain = lattice_divergence(student, teacher, targets, frames, labels, BLANK)
    assert exact.abs().max() < 1e-12 < plain.min()


@pytest.mark.unit
@pytest.mark.parametrize('unit', ['utterance', 'frame'])
def test_the_window_is_the_minimum_over_shifts_of_the_cells_they_share(unit):
    student, teacher = pair()
    targets, frames, labels = batch()
    shifts = (0, 1, 2)
    common = (torch.arange(FRAMES) >= 2).view(1, -1, 1) & valid_cells(frames, labels, FRAMES, LABELS + 1)
    cells = torch.stack(
        [
            lattice_cell_divergence(
                student,
                teacher,
                targets,
                frames,
                labels,
                BLANK,
                weights=common,
                teacher_frames=teacher_frame_map(frames, frames, FRAMES, shift),
            )
            for shift in shifts
        ]
    )
    expected = cells.sum((2, 3)).amin(0) if unit == 'utterance' else cells.sum(3).amin(0).sum(1)
    arguments = (student, teacher, targets, frames, frames, labels, BLANK, shifts)
    hard = windowed_lattice_divergence(*arguments, unit=unit).loss
    assert torch.allclose(hard, expected, rtol=1e-11)
    nearly_hard = windowed_lattice_divergence(*arguments, unit=unit, mode='soft', softness=1e-5)
    assert torch.allclose(nearly_hard.loss, expected, rtol=1e-3)
    soft = windowed_lattice_divergence(*arguments, unit=unit, mode='soft', softness=1.0).loss
    mean = cells.mean(0).sum((1, 2))
    assert (hard <= soft).all() and (soft <= mean + 1e-12).all()


@pytest.mark.unit
def test_a_window_of_one_shift_is_that_shift():
    student, teacher = pair()
    targets, frames, labels = batch()
    shifted = teacher_frame_map(frames, frames, FRAMES, 1)
    expected = loss_and_gradients(
        lattice_divergence, student, teacher, targets, frames, labels, BLANK, teacher_frames=shifted, bins='collapsed'
    )
    for mode in ('minimum', 'soft'):
        ours = loss_and_gradients(
            lambda own, m: windowed_lattice_divergence(
                own, teacher, targets, frames, frames, labels, BLANK, [1], mode=m, bins='collapsed'
            ).loss,
            student,
            mode,
        )
        for a, b in zip(ours, expected):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-14)


@pytest.mark.unit
@pytest.mark.parametrize('mode', ['minimum', 'soft'])
@pytest.mark.parametrize('unit', ['utterance', 'frame'])
def test_the_gradient_of_the_window_is_that_of_finite_differences(unit, mode):
    student = joint(0, 2, frames=3, labels=1, batch=2, classes=4, gradient=True)
    teacher = joint(1, 3, frames=3, labels=1, batch=2, classes=4)
    frames = torch.tensor([3, 2])

    def loss(*tensors):
        own = JointTensors(*tensors, activation='tanh')
        return windowed_lattice_divergence(
            own,
            teacher,
            torch.tensor([[1], [0]]),
            frames,
            frames,
            torch.tensor([1, 0]),
            3,
            [0, 1],
            mode=mode,
            unit=unit,
        ).loss

    assert torch.autograd.gradcheck(loss, parameters(student), fast_mode=True)


@pytest.mark.unit
@pytest.mark.parametrize(
    'options, message',
    [
        ({'mode': 'mean'}, 'Unknown window'),
        ({'unit': 'cell'}, 'Unknown window'),
        ({'shifts': []}, 'at least one shift'),
        ({'softness': 0.0}, 'softness must be positive'),
    ],
)
def test_windows_that_do_not_exist_are_refused(options, message):
    student, teacher = pair(gradient=False)
    targets, frames, labels = batch()
    options = {'shifts': [0], **options}
    with pytest.raises(ValueError, match=message):
        windowed_lattice_divergence(student, teacher, targets, frames, frames, labels, BLANK, **options)
    with pytest.raises(ValueError, match='random dropout'):
        random = replace(student, dropout=0.5)
        windowed_lattice_divergence(random, teacher, targets, frames, frames, labels, BLANK, [0])


@pytest.mark.unit
def test_the_delay_is_the_median_difference_of_the_emission_times():
    teacher = torch.tensor([[1, 4, 9], [2, 5, -1]])
    student = torch.tensor([[4, 7, 40], [5, -1, -1]])
    delay = estimate_delay(student, teacher)
    assert (delay.shift, delay.median, delay.labels) == (3, 3.0, 4)
    assert delay.mean == pytest.approx((3 + 3 + 31 + 3) / 4)
    assert delay.per_utterance.tolist() == [3, 3]
    assert 'shift 3' in str(delay) and '4 labels' in str(delay)


@pytest.mark.unit
def test_labels_of_the_first_frame_tell_no_delay():
    # the first word cannot be emitted earlier than that, by either of them
    teacher = torch.tensor([[0, 0, 0, 6, 9, 4], [0, 0, -1, -1, -1, -1]])
    student = torch.tensor([[0, 0, 5, 13, 16, 0], [0, 2, -1, -1, -1, -1]])
    delay = estimate_delay(student, teacher)
    assert (delay.shift, delay.labels, delay.quartiles) == (7, 2, (7.0, 7.0))
    assert delay.per_utterance.tolist() == [7, 7]
    only = estimate_delay(student[1:], teacher[1:])  # there is nothing else to go by
    assert (only.labels, only.median) == (2, 1.0)


@pytest.mark.unit
def test_the_delay_counts_in_frames_of_the_student():
    # The student has two frames where the teacher has one, and emits in the first or the second of them.
    teacher = torch.tensor([[1, 4, 9, 11]])
    student = torch.tensor([[2, 9, 18, 23]])
    assert estimate_delay(student, teacher, frame_ratio=2.0).median == 0.0
    assert estimate_delay(student + 6, teacher, frame_ratio=torch.tensor([2.0])).shift == 6
    with pytest.raises(ValueError, match='no delay to estimate'):
        estimate_delay(torch.full((1, 2), -1), torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(ValueError, match='one shape'):
        estimate_delay(teacher, teacher[:, 1:])


@pytest.mark.unit
def test_the_estimated_delay_repairs_the_comparison():
    student, teacher, targets, frames, labels = delayed(2)
    teacher_times = transducer_best_path(RNNT(BLANK), teacher.logits(), targets, frames, labels).label_frames
    student_times = torch.where(teacher_times >= 0, teacher_times + 2, teacher_times)
    shift = estimate_delay(student_times, teacher_times).shift
    shifted = teacher_frame_map(frames, frames, 9, shift)
    plain = lattice_divergence(student, teacher, targets, frames, labels, BLANK).sum()
    repaired = lattice_divergence(student, teacher, targets, frames, labels, BLANK, teacher_frames=shifted).sum()
    assert repaired < 1e-12 < plain

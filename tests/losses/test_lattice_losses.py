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


"""What the lattice objectives compare: cells, shifts, windows, estimated delays and frame rates, on lattices made by hand."""

from dataclasses import replace

import pytest
import torch
from lattice_cases import BLANK, CLASSES, FRAMES, LABELS, batch, joint
from nemo.utils import logging

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional import (
    JointTensors,
    TransducerOutputs,
    joint_best_path,
    joint_occupancy,
    lattice_cell_divergence,
    path_cells,
    teacher_frame_map,
    to_student_frames,
    valid_cells,
)
from nemo_oracle_kd.losses.lattice_losses import LATTICE_OBJECTIVES
from nemo_oracle_kd.losses.transducer_side import TransducerSide, common_frames
from nemo_oracle_kd.strict_config import build_or_raise

RNNT = TransducerOutputs('rnnt', BLANK)
TDT = TransducerOutputs('tdt', CLASSES - 3, (0, 1))


def objective(name, outputs=RNNT, **options):
    config, loss = LATTICE_OBJECTIVES[name]
    return loss(build_or_raise(config, options, f'objectives.{name}'), outputs, name)


def sides(student, teacher, lengths):
    return [TransducerSide(of, of.encoder, lengths) for of in (student, teacher)]


def random_pair(seed=0, **options):
    student = joint(2 * seed, 4, gradient=True, **options)
    return student, joint(2 * seed + 1, 5, **options)


def emitter(times, targets, frames, gradient=False):
    """A joint that emits the labels of every utterance at these frames, and blanks elsewhere."""
    encoder = torch.zeros(len(times), frames, CLASSES, dtype=torch.float64)
    encoder[..., BLANK] = 4.0
    for b, of_one in enumerate(times):
        for t, label in zip(of_one, targets[b].tolist()):
            encoder[b, t, label] = 8.0
    prediction = torch.zeros(len(times), targets.shape[1] + 1, CLASSES, dtype=torch.float64)
    weight = torch.eye(CLASSES, dtype=torch.float64)
    return JointTensors(*(x.requires_grad_(gradient) for x in (encoder, prediction, weight)))


TIMES, TARGETS, LONG = [[1, 3, 5], [0, 2, 6]], torch.tensor([[0, 1, 2], [3, 1, 3]]), 12
EMITTED, SPOKEN = torch.tensor([LONG, LONG - 1]), torch.tensor([3, 3])


def late_pair(delay):
    """A student that does what its teacher does, `delay` frames later."""
    teacher = emitter(TIMES, TARGETS, LONG)
    return emitter([[t + delay for t in of_one] for of_one in TIMES], TARGETS, LONG, gradient=True), teacher


@pytest.mark.unit
@pytest.mark.parametrize('outputs', [RNNT, TDT], ids=lambda o: o.kind)
@pytest.mark.parametrize('mode', ['all', 'teacher_occupancy', 'student_occupancy', 'path', 'band'])
def test_the_cells_that_count_are_those_of_the_mode(mode, outputs):
    student, teacher = random_pair()
    targets, frames, labels = batch(classes=outputs.blank + 1)
    cells = {'mode': mode, 'threshold': 0.05, 'before': 1, 'after': 0}
    loss = objective('lattice', outputs, cells=cells)(*sides(student, teacher, frames), targets, labels)

    lattice = (outputs, targets, frames, labels)
    path = joint_best_path(teacher, *lattice)
    marked = path_cells(path.step_frames, path.step_labels, FRAMES, LABELS + 1).double()
    before = torch.nn.functional.pad(marked, (0, 0, 0, 1))[:, 1:]
    inside = valid_cells(frames, labels, FRAMES, LABELS + 1)
    gamma = {'teacher_occupancy': teacher, 'student_occupancy': student}.get(mode)
    if gamma is not None:
        gamma = joint_occupancy(gamma, *lattice)
        gamma = gamma * (gamma >= 0.05)
    weights = {'all': inside.double(), 'path': marked, 'band': ((marked + before) > 0) & inside}.get(mode, gamma)
    values = sum(
        lattice_cell_divergence(
            student.head(s.start, s.stop), teacher.head(s.start, s.stop), targets, frames, labels, s.blanks or (0,)
        )
        for s in outputs.softmaxes
    )
    assert torch.allclose(loss, (values * weights).sum((1, 2)), rtol=1e-6) and (loss > 0).all()

    mean = objective('lattice', outputs, cells=cells, normalization='cells')
    averaged = mean(*sides(student, teacher, frames), targets, labels)
    assert torch.allclose(averaged, loss / weights.double().sum((1, 2)), rtol=1e-6)


@pytest.mark.unit
def test_collapsed_is_at_most_top_k_is_at_most_full():
    student, teacher = random_pair()
    targets, frames, labels = batch()
    full, top, collapsed = (
        objective(name, **options)(*sides(student, teacher, frames), targets, labels)
        for name, options in (('lattice', {}), ('lattice_topk', {'top_k': 2}), ('lattice_collapsed', {}))
    )
    assert (collapsed < top).all() and (top < full).all()


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
    path = joint_best_path(teacher, RNNT, targets, frames, labels)
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

    path = joint_best_path(teacher, TDT, targets, frames, labels)
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
                    s.blanks or (0,),
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
@pytest.mark.parametrize('name', LATTICE_OBJECTIVES)
def test_the_padding_is_never_read(name):
    targets, frames, labels = batch()

    def both():
        student, teacher = joint(0, 4), joint(1, 4)
        return student, teacher

    clean = objective(name)(*sides(*both(), frames), targets, labels)
    student, teacher = both()
    for of in (student, teacher):
        for b in range(3):
            of.encoder[b, int(frames[b]) :] = float('nan')
            of.prediction[b, int(labels[b]) + 1 :] = float('nan')
    student = JointTensors(*(x.requires_grad_() for x in (student.encoder, student.prediction, student.weight)))
    dirty = objective(name)(
        *sides(replace(student, activation='tanh', bias=joint(0, 4).bias), teacher, frames), targets, labels
    )
    assert torch.allclose(dirty, clean, rtol=1e-10)
    gradients = torch.autograd.grad(dirty.sum(), [student.encoder, student.weight], allow_unused=True)
    assert all(g is None or bool(torch.isfinite(g).all()) for g in gradients) and gradients[0] is not None


@pytest.mark.unit
def test_the_encoder_objective_is_the_squared_distance_of_centred_logits():
    student, teacher = random_pair()
    targets, frames, labels = batch()
    loss = objective('encoder')(*sides(student, teacher, frames), targets, labels)
    logits = [torch.tanh(of.encoder) @ of.weight.T + of.bias for of in (student, teacher)]
    difference = logits[0] - logits[1]
    difference = difference - difference.mean(2, keepdim=True)
    inside = torch.arange(FRAMES) < frames.unsqueeze(1)
    assert torch.allclose(loss, (difference.square().mean(2) * inside).sum(1), rtol=1e-10)
    raised = replace(student, bias=student.bias + 3.0)
    assert torch.allclose(objective('encoder')(*sides(raised, teacher, frames), targets, labels), loss, rtol=1e-9)
    late, early = late_pair(2)
    assert objective('encoder', shift=2)(*sides(late, early, EMITTED), TARGETS, SPOKEN).max() < 1e-12


@pytest.mark.unit
def test_representations_are_compared_by_distance_angle_or_likeness_of_frames():
    targets, frames, labels = batch()
    student, teacher = random_pair()
    same_size = replace(joint(7, 4))
    inside = torch.arange(FRAMES) < frames.unsqueeze(1)
    a, b = student.encoder, same_size.encoder
    measured = {
        name: objective('representation', distance=name)(*sides(student, same_size, frames), targets, labels)
        for name in ('l2', 'cosine', 'similarity')
    }
    assert torch.allclose(measured['l2'], ((a - b).square().mean(2) * inside).sum(1), rtol=1e-10)
    angle = torch.nn.functional.cosine_similarity(a, b, dim=2)
    assert torch.allclose(measured['cosine'], ((1 - angle) * inside).sum(1), rtol=1e-10)
    for n in range(3):
        x, y = a[n, : frames[n]], b[n, : frames[n]]
        alike = [torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2) for z in (x, y)]
        assert torch.allclose(measured['similarity'][n], (alike[0] - alike[1]).square().mean(1).sum(), rtol=1e-8)
    # encoders of different sizes, and a rotation, which likeness does not see
    assert (objective('representation')(*sides(student, teacher, frames), targets, labels) > 0).all()
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    turned = replace(student, encoder=student.encoder @ turn)
    assert objective('representation')(*sides(student, turned, frames), targets, labels).max() < 1e-12


@pytest.mark.unit
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('name', LATTICE_OBJECTIVES)
def test_half_precision_outputs_give_finite_losses_near_those_of_single_precision(name, dtype):
    targets, frames, labels = batch()
    single = [joint(seed, 4, dtype=torch.float32, gradient=seed == 0) for seed in (0, 1)]
    expected = objective(name)(*sides(*single, frames), targets, labels)
    half = [replace(of, encoder=of.encoder.to(dtype), prediction=of.prediction.to(dtype)) for of in single]
    with torch.autocast('cpu', dtype):
        ours = objective(name)(*sides(*half, frames), targets, labels)
    assert ours.dtype == torch.float32 and torch.allclose(ours, expected, rtol=0.03)
    wanted, got = (
        torch.autograd.grad(x.sum(), [single[0].encoder, single[0].weight], allow_unused=True)
        for x in (expected, ours)
    )
    for a, b in zip(got, wanted):
        assert (a is None) == (b is None)
        assert a is None or float((a - b).abs().max() / b.abs().max()) < 0.05


@pytest.mark.unit
@pytest.mark.parametrize(
    'name, options, message',
    [
        ('lattice', {'divergence': 'js'}, "choose one of kl, reverse_kl, jensen_shannon"),
        (
            'lattice',
            {'cells': 'some'},
            "objectives.lattice.cells.mode` is 'some': choose one of all, teacher_occupancy",
        ),
        ('lattice', {'cells': {'mode': 'band', 'before': -1}}, 'at least 0 frames'),
        ('lattice', {'cells': {'threshold': 1.0}}, 'less than 1'),
        ('lattice', {'normalization': 'mean'}, 'choose one of none, cells'),
        ('lattice', {'temperature': 0.0}, 'greater than 0'),
        ('lattice', {'shift': 3, 'delay': 'estimate'}, 'remove one of them'),
        ('lattice', {'delay': {'mode': 'estimate', 'batches': 0}}, '`batches` of at least 1'),
        ('lattice', {'window': {'first': 3, 'last': 1}}, '`first` up to `last`'),
        ('lattice', {'window': {'first': 2, 'last': 2}}, 'set `shift` instead'),
        ('lattice', {'window': {'last': 2, 'softness': 0.0}}, 'greater than 0'),
        ('lattice', {'window': {'last': 2, 'per': 'frame'}, 'cells': 'path'}, 'window.per` to utterance'),
        ('lattice', {'top_k': 3}, "Unknown key 'top_k'"),
        ('lattice_topk', {'top_k': 0}, 'take lattice_collapsed'),
        ('one_best_path', {'cells': 'all'}, 'choose path or band'),
        ('representation', {'distance': 'l1'}, 'choose one of l2, cosine, similarity'),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, message):
    with pytest.raises(ConfigError) as refusal:
        objective(name, **options)
    assert message in str(refusal.value)


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

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the lattice objectives compare: cells, bins, padding, precision, and what is refused, on lattices made by hand."""

from dataclasses import replace

import pytest
import torch
from lattice_cases import FRAMES, LABELS, batch, joint
from lattice_pairs import EMITTED, RNNT, SPOKEN, TARGETS, TDT, late_pair, objective, random_pair, sides

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional import (
    JointTensors,
    lattice_cell_divergence,
    path_cells,
    transducer_best_path,
    transducer_occupancy,
    valid_cells,
)
from nemo_oracle_kd.losses.lattice import LATTICE_OBJECTIVES


@pytest.mark.unit
@pytest.mark.parametrize('transducer', [RNNT, TDT], ids=lambda t: t.kind)
@pytest.mark.parametrize('mode', ['all', 'teacher_occupancy', 'student_occupancy', 'path', 'band'])
def test_the_cells_that_count_are_those_of_the_mode(mode, transducer):
    student, teacher = random_pair()
    targets, frames, labels = batch(classes=transducer.blank + 1)
    cells = {'mode': mode, 'threshold': 0.05, 'before': 1, 'after': 0}
    loss = objective('lattice', transducer, cells=cells)(*sides(student, teacher, frames), targets, labels)

    rest = (targets, frames, labels)
    path = transducer_best_path(transducer, teacher, *rest)
    marked = path_cells(path.step_frames, path.step_labels, FRAMES, LABELS + 1).double()
    before = torch.nn.functional.pad(marked, (0, 0, 0, 1))[:, 1:]
    inside = valid_cells(frames, labels, FRAMES, LABELS + 1)
    gamma = {'teacher_occupancy': teacher, 'student_occupancy': student}.get(mode)
    if gamma is not None:
        gamma = transducer_occupancy(transducer, gamma, *rest).node
        gamma = gamma * (gamma >= 0.05)
    weights = {'all': inside.double(), 'path': marked, 'band': ((marked + before) > 0) & inside}.get(mode, gamma)
    values = sum(
        lattice_cell_divergence(
            student.head(s.start, s.stop), teacher.head(s.start, s.stop), targets, frames, labels, s.blanks
        )
        for s in transducer.softmaxes
    )
    assert torch.allclose(loss, (values * weights).sum((1, 2)), rtol=1e-6) and (loss > 0).all()

    mean = objective('lattice', transducer, cells=cells, normalization='cells')
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
        ('lattice', {'temperature': 1e300}, 'from 0.001 to 1000'),
        ('lattice', {'shift': 3, 'delay': 'estimate'}, 'remove one of them'),
        ('lattice', {'delay': {'mode': 'estimate', 'batches': 0}}, '`batches` of at least 1'),
        ('lattice', {'window': {'first': 3, 'last': 1}}, 'window.first` must be at most'),
        ('lattice', {'window': {'first': 2, 'last': 2}}, 'set `shift` instead'),
        ('lattice', {'window': {'last': 2, 'softness': 0.0}}, 'greater than 0'),
        ('lattice', {'window': {'last': 2, 'per': 'frame'}, 'cells': 'path'}, 'window.per` to utterance'),
        ('lattice', {'top_k': 3}, "Unknown key 'top_k'"),
        ('lattice_topk', {'top_k': 0}, 'use lattice_collapsed'),
        ('one_best_path', {'cells': 'all'}, 'choose path or band'),
        ('representation', {'distance': 'l1'}, 'choose one of l2, cosine, similarity'),
    ],
)
def test_options_that_make_no_sense_are_refused(name, options, message):
    with pytest.raises(ConfigError) as refusal:
        objective(name, **options)
    assert message in str(refusal.value)

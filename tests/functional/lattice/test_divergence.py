# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Lattice distillation without the lattice against the lattice, loops written by hand, and finite differences."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lattice_cases import (
    BATCH,
    BLANK,
    CLASSES,
    FRAMES,
    LABELS,
    batch,
    joint,
    loss_and_gradients,
    pair,
    parameters,
    relative_error,
)

from nemo_oracle_kd.functional import (
    LATTICE_BINS,
    LATTICE_DIVERGENCES,
    JointTensors,
    lattice_cell_divergence,
    lattice_divergence,
    teacher_frame_map,
)
from nemo_oracle_kd.functional.reference.lattice import reference_lattice_divergence

DIVERGENCES = sorted(LATTICE_DIVERGENCES)
UNEQUAL = torch.tensor([0.3, -1.7, 2.0])


def cell_weights(seed=0):
    """Random weights, some of them zero."""
    g = torch.Generator().manual_seed(seed)
    weights = torch.rand(BATCH, FRAMES, LABELS + 1, generator=g, dtype=torch.float64)
    return weights * (weights > 0.3)


@pytest.mark.unit
@pytest.mark.parametrize('divergence', DIVERGENCES)
@pytest.mark.parametrize('bins', LATTICE_BINS)
def test_loss_and_gradients_equal_those_of_the_materialised_lattice(bins, divergence):
    targets, frames, labels = batch()
    shifted = teacher_frame_map(frames, frames - 1, FRAMES, shift=1)
    variants = [
        ('tanh', 1.0, {}, None),
        ('relu', 2.0, {'weights': cell_weights()}, UNEQUAL),
        ('sigmoid', 0.5, {'teacher_frames': shifted}, UNEQUAL),
    ]
    for activation, temperature, extra, factors in variants:
        options = {'bins': bins, 'divergence': divergence, 'temperature': temperature, 'top_k': 2, **extra}
        for dtype, loss_tolerance, gradient_tolerance in ((torch.float64, 1e-10, 1e-10), (torch.float32, 1e-6, 1e-5)):
            student, teacher = pair(activation=activation, dtype=dtype)
            arguments = (teacher, targets, frames, labels, BLANK)
            ours = loss_and_gradients(
                lattice_divergence, student, *arguments, factors=factors, tile_cells=7, **options
            )
            expected = loss_and_gradients(
                reference_lattice_divergence, student, *arguments, factors=factors, **options
            )
            assert ours[0].dtype == dtype
            assert relative_error(ours[0], expected[0]) <= loss_tolerance
            for own, other in zip(ours[1:], expected[1:]):
                assert relative_error(own, other) <= gradient_tolerance


def by_hand(student, teacher, targets, frames, labels, bins, top_k=2):
    """KL(teacher || student) with loops over utterances, cells and classes, in Python floats."""

    def posterior(model, b, t, u):
        hidden = [
            math.tanh(float(e) + float(p))
            for e, p in zip(model.encoder[b, t].tolist(), model.prediction[b, u].tolist())
        ]
        logits = [
            float(bias) + sum(w * h for w, h in zip(row, hidden))
            for row, bias in zip(model.weight.tolist(), model.bias.tolist())
        ]
        total = sum(math.exp(x) for x in logits)
        return [math.exp(x) / total for x in logits]

    result = []
    for b, (length, count) in enumerate(zip(frames.tolist(), labels.tolist())):
        value = 0.0
        for t in range(length):
            for u in range(count + 1):
                p, q = posterior(teacher, b, t, u), posterior(student, b, t, u)
                singles = set(range(len(p)))
                if bins != 'full':
                    singles = {BLANK} | ({int(targets[b, u])} if u < count else set())
                    if bins == 'topk':
                        singles |= set(sorted(range(len(p)), key=lambda k: -p[k])[:top_k])
                others = [k for k in range(len(p)) if k not in singles]
                groups = [[k] for k in sorted(singles)] + ([others] if others else [])
                for group in groups:
                    p_group, q_group = sum(p[k] for k in group), sum(q[k] for k in group)
                    value += p_group * math.log(p_group / q_group)
        result.append(value)
    return torch.tensor(result, dtype=torch.float64)


@pytest.mark.unit
@pytest.mark.parametrize('bins', LATTICE_BINS)
def test_the_divergence_is_the_sum_over_all_cells_written_by_hand(bins):
    student, teacher = pair(seed=3, gradient=False)
    targets, frames, labels = batch(seed=3)
    ours = lattice_divergence(student, teacher, targets, frames, labels, BLANK, bins=bins, top_k=2)
    assert torch.allclose(ours, by_hand(student, teacher, targets, frames, labels, bins), rtol=1e-12)


@pytest.mark.unit
@pytest.mark.parametrize('divergence', DIVERGENCES)
@pytest.mark.parametrize('bins', LATTICE_BINS)
def test_gradients_are_those_of_finite_differences(bins, divergence):
    student = joint(0, 2, frames=2, labels=1, batch=2, classes=4, gradient=True)
    teacher = joint(1, 3, frames=2, labels=1, batch=2, classes=4)
    targets, frames, labels = torch.tensor([[1], [0]]), torch.tensor([2, 1]), torch.tensor([1, 0])

    def loss(*tensors):
        own = JointTensors(*tensors, activation='tanh')
        return lattice_divergence(
            own, teacher, targets, frames, labels, 3, bins=bins, divergence=divergence, top_k=1, temperature=1.5
        )

    # gradcheck weights the utterances at random, so it goes through the second loop over the tiles as well.
    assert torch.autograd.gradcheck(loss, parameters(student), fast_mode=True)


@pytest.mark.unit
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**31 - 1), st.integers(1, CLASSES), st.sampled_from(DIVERGENCES), st.floats(0.5, 3.0))
def test_merging_classes_never_raises_the_divergence(seed, top_k, divergence, temperature):
    student, teacher = pair(seed=seed, gradient=False)
    full, topk, collapsed = (
        lattice_cell_divergence(
            student, teacher, *batch(seed), BLANK, bins=b, divergence=divergence, top_k=top_k, temperature=temperature
        )
        for b in ('full', 'topk', 'collapsed')
    )
    assert (collapsed <= topk + 1e-12).all()
    assert (topk <= full + 1e-12).all()
    assert (collapsed >= -1e-12).all()


@pytest.mark.unit
@pytest.mark.parametrize('divergence', DIVERGENCES)
@pytest.mark.parametrize('bins', LATTICE_BINS)
def test_identical_models_have_no_divergence_and_no_gradient(bins, divergence):
    student, _ = pair(dtype=torch.float32)
    result = loss_and_gradients(
        lattice_divergence, student, student.detach(), *batch(), BLANK, bins=bins, divergence=divergence
    )
    for x in result:
        assert x.abs().max() <= (1e-6 if divergence == 'jensen_shannon' else 0.0)


@pytest.mark.unit
@pytest.mark.parametrize('bins', LATTICE_BINS)
def test_garbage_in_the_padding_changes_neither_loss_nor_gradients(bins):
    student, teacher = pair()
    targets, frames, labels = batch()
    expected = loss_and_gradients(lattice_divergence, student, teacher, targets, frames, labels, BLANK, bins=bins)

    def spoil(model):
        encoder, prediction = model.encoder.detach().clone(), model.prediction.detach().clone()
        for b in range(BATCH):
            encoder[b, frames[b] :] = math.nan
            prediction[b, labels[b] + 1 :] = math.inf
        return replace(model, encoder=encoder, prediction=prediction)

    dirty_targets = targets.clone()
    for b in range(BATCH):
        dirty_targets[b, labels[b] :] = -99
    weights = torch.ones(BATCH, FRAMES, LABELS + 1, dtype=torch.float64)
    for b in range(BATCH):
        weights[b, frames[b] :], weights[b, :, labels[b] + 1 :] = math.nan, math.nan
    own = spoil(student)
    own = replace(own, encoder=own.encoder.requires_grad_(), prediction=own.prediction.requires_grad_())
    dirty = loss_and_gradients(
        lattice_divergence, own, spoil(teacher), dirty_targets, frames, labels, BLANK, bins=bins, weights=weights
    )
    for a, b in zip(dirty, expected):
        assert torch.allclose(a, b, rtol=1e-13, atol=0)


@pytest.mark.unit
def test_neither_the_batch_nor_the_tiles_are_seen_in_the_result():
    student, teacher = pair()
    targets, frames, labels = batch()

    def one(b):
        def cut(m):
            return replace(m, encoder=m.encoder[b : b + 1], prediction=m.prediction[b : b + 1])

        return cut(student), cut(teacher), targets[b : b + 1], frames[b : b + 1], labels[b : b + 1], BLANK

    whole = loss_and_gradients(lattice_divergence, student, teacher, targets, frames, labels, BLANK, tile_cells=1000)
    tiny = loss_and_gradients(lattice_divergence, student, teacher, targets, frames, labels, BLANK, tile_cells=1)
    for a, b in zip(whole, tiny):
        assert torch.allclose(a, b, rtol=1e-12)
    parts = torch.cat([lattice_divergence(*one(b)) for b in range(BATCH)])
    assert torch.allclose(parts, whole[0], rtol=1e-12)
    for a, b in zip(torch.autograd.grad(parts.sum(), parameters(student)), whole[1:]):
        assert torch.allclose(a, b, rtol=1e-12)


@pytest.mark.unit
@pytest.mark.parametrize('bins', LATTICE_BINS)
def test_a_constant_added_to_the_logits_changes_nothing(bins):
    student, teacher = pair(gradient=False)
    plain = lattice_divergence(student, teacher, *batch(), BLANK, bins=bins)
    lifted = replace(student, bias=student.bias + 40.0), replace(teacher, bias=teacher.bias - 30.0)
    assert torch.allclose(lattice_divergence(*lifted, *batch(), BLANK, bins=bins), plain, rtol=1e-11)


@pytest.mark.unit
@pytest.mark.parametrize('divergence', DIVERGENCES)
@pytest.mark.parametrize('bins', LATTICE_BINS)
def test_models_that_are_certain_give_finite_losses_and_gradients(bins, divergence):
    student, teacher = pair(dtype=torch.float32)
    sure = replace(student, weight=(student.weight * 3e3).detach().requires_grad_()), replace(
        teacher, weight=teacher.weight * 3e3
    )
    for x in loss_and_gradients(
        lattice_divergence, sure[0], sure[1], *batch(), BLANK, bins=bins, divergence=divergence
    ):
        assert torch.isfinite(x).all()


@pytest.mark.unit
def test_the_rest_may_be_empty_and_a_top_k_of_all_classes_is_the_full_divergence():
    student, teacher = pair()
    full = loss_and_gradients(lattice_divergence, student, teacher, *batch(), BLANK)
    topk = loss_and_gradients(lattice_divergence, student, teacher, *batch(), BLANK, bins='topk', top_k=50)
    for a, b in zip(topk, full):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-13)
    # Two classes: label, blank, and nothing else.
    student, teacher = pair(classes=2)
    targets, frames, labels = torch.zeros(BATCH, LABELS, dtype=torch.long), *batch()[1:]
    full = loss_and_gradients(lattice_divergence, student, teacher, targets, frames, labels, 1)
    collapsed = loss_and_gradients(lattice_divergence, student, teacher, targets, frames, labels, 1, bins='collapsed')
    for a, b in zip(collapsed, full):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.unit
def test_an_utterance_without_frames_or_with_all_weights_zero_gives_zero():
    student, teacher = pair()
    targets, frames, labels = batch()
    weights = torch.ones(BATCH, FRAMES, LABELS + 1, dtype=torch.bool)
    weights[1] = False
    result = loss_and_gradients(
        lattice_divergence, student, teacher, targets, frames * torch.tensor([1, 1, 0]), labels, BLANK, weights=weights
    )
    assert result[0][0] > 0 and result[0][1:].tolist() == [0, 0]
    assert result[1][1:].abs().max() == 0 and result[2][1:].abs().max() == 0
    nothing = loss_and_gradients(
        lattice_divergence, student, teacher, targets, frames, labels, BLANK, weights=torch.zeros_like(weights)
    )
    assert all(x.abs().max() == 0 for x in nothing)


@pytest.mark.unit
def test_only_what_requires_a_gradient_gets_one():
    student, teacher = pair()
    frozen = replace(student, weight=student.weight.detach(), bias=None)
    lattice_divergence(frozen, teacher, *batch(), BLANK).sum().backward()
    assert student.encoder.grad.abs().sum() > 0 and student.weight.grad is None
    with torch.no_grad():
        assert not lattice_divergence(student, teacher, *batch(), BLANK).requires_grad


@pytest.mark.unit
def test_the_cell_divergence_adds_up_to_the_divergence():
    student, teacher = pair(gradient=False)
    targets, frames, labels = batch()
    cells = lattice_cell_divergence(student, teacher, targets, frames, labels, BLANK, weights=cell_weights())
    whole = lattice_divergence(student, teacher, targets, frames, labels, BLANK, weights=cell_weights())
    assert torch.allclose(cells.sum((1, 2)), whole, rtol=1e-12)
    assert cells[1, frames[1] :].abs().max() == 0 and cells[2, :, 1:].abs().max() == 0


@pytest.mark.unit
def test_the_two_softmaxes_of_a_tdt_joint_are_distilled_apart_and_all_blanks_count_as_blanks():
    durations = 2
    student, teacher = pair(classes=CLASSES + durations)
    targets, frames, labels = batch()
    tokens = lattice_divergence(
        student.head(0, CLASSES), teacher.head(0, CLASSES), targets, frames, labels, BLANK, bins='collapsed'
    )
    rest = (CLASSES, CLASSES + durations)
    spans = lattice_divergence(student.head(*rest), teacher.head(*rest), targets, frames, labels, ())
    ours = torch.autograd.grad((tokens + spans).sum(), parameters(student))
    q, p = student.logits(), teacher.logits()
    only = JointTensors(student.encoder, student.prediction, student.weight[:CLASSES], student.bias[:CLASSES], 'tanh')
    other = teacher.head(0, CLASSES)
    expected = reference_lattice_divergence(only, other, targets, frames, labels, BLANK, bins='collapsed')
    log_q, log_p = q[..., CLASSES:].log_softmax(-1), p[..., CLASSES:].log_softmax(-1)
    cells = (log_p.exp() * (log_p - log_q)).sum(-1)
    for b in range(BATCH):
        expected = expected + torch.nn.functional.one_hot(torch.tensor(b), BATCH) * (
            cells[b, : frames[b], : labels[b] + 1].sum()
        )
    assert torch.allclose(tokens + spans, expected, rtol=1e-11)
    for a, b in zip(ours, torch.autograd.grad(expected.sum(), parameters(student))):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)

    arguments = (student.head(0, CLASSES), other, targets % (BLANK - 1), frames, labels, (BLANK, BLANK - 1))
    assert torch.allclose(
        lattice_divergence(*arguments, bins='collapsed'),
        reference_lattice_divergence(*arguments, bins='collapsed'),
        rtol=1e-11,
    )


WRONG = {
    'classes': lambda s, t, y, n, m: (s, replace(t, weight=t.weight[:-1], bias=None), y, n, m, BLANK),
    'prediction networks': lambda s, t, y, n, m: (s, replace(t, prediction=t.prediction[:, 1:]), y, n, m, BLANK),
    'targets must have shape': lambda s, t, y, n, m: (s, t, y[:, 1:], n, m, BLANK),
    'targets contain the blank; leave blanks out': lambda s, t, y, n, m: (s, t, y.fill_(BLANK), n, m, BLANK),
    'Labels must lie between': lambda s, t, y, n, m: (s, t, y.fill_(CLASSES), n, m, BLANK),
    'blank must be one of': lambda s, t, y, n, m: (s, t, y, n, m, CLASSES),
    'logit_lengths must lie': lambda s, t, y, n, m: (s, t, y, n + 1, m, BLANK),
    'target_lengths must lie': lambda s, t, y, n, m: (s, t, y, n, m + 1, BLANK),
    'teacher_frame_map': lambda s, t, y, n, m: (s, replace(t, encoder=t.encoder[:, 1:]), y, n, m, BLANK),
    'must not drop hidden units': lambda s, t, y, n, m: (s, replace(t, dropout=0.1), y, n, m, BLANK),
}


@pytest.mark.unit
@pytest.mark.parametrize('bins', ['full', 'collapsed'])
@pytest.mark.parametrize('message', sorted(WRONG))
def test_models_that_do_not_fit_are_refused_with_the_fix(message, bins):
    student, teacher = pair(gradient=False)
    with pytest.raises(ValueError, match=message):
        lattice_divergence(*WRONG[message](student, teacher, *batch()), bins=bins)


@pytest.mark.unit
def test_outputs_without_a_blank_have_no_bins():
    with pytest.raises(ValueError, match="bins='full' only"):
        lattice_divergence(*pair(gradient=False), *batch(), (), bins='topk')


@pytest.mark.unit
@pytest.mark.parametrize(
    'options, message',
    [
        ({'bins': 'half'}, 'Unknown bins'),
        ({'divergence': 'l2'}, 'Unknown divergence'),
        ({'temperature': 0.0}, 'temperature must be positive'),
        ({'bins': 'topk', 'top_k': 0}, 'top_k must be'),
        ({'tile_cells': 0}, 'tile_cells must be'),
        ({'weights': torch.ones(1)}, 'weights must have shape'),
        ({'teacher_frames': torch.zeros(1, dtype=torch.long)}, 'teacher_frames must have shape'),
        ({'teacher_frames': torch.full((BATCH, FRAMES), FRAMES)}, 'names frame'),
    ],
)
def test_choices_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lattice_divergence(*pair(gradient=False), *batch(), BLANK, **options)


@pytest.mark.unit
def test_a_joint_of_the_wrong_shape_is_refused():
    good = joint(0, 4)
    for change, message in (
        ({'weight': good.weight[:, 1:]}, 'hidden sizes'),
        ({'prediction': good.prediction[1:]}, 'one batch'),
        ({'bias': good.bias[1:]}, 'bias must have shape'),
        ({'activation': 'gelu'}, 'Unknown joint activation'),
        ({'dropout': 1.0}, r'lie in \[0, 1\)'),
        ({'encoder': good.encoder[0]}, 'A joint needs'),
    ):
        with pytest.raises(ValueError, match=message):
            replace(good, **change)

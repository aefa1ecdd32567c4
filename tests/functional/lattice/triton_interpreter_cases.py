# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The Triton kernel of the full divergence against the PyTorch tile, in Triton's interpreter.

Run by `test_triton.py` in a process of its own with TRITON_INTERPRET=1, which has to be set before triton is
imported. The interpreter takes a tenth of a second per cell, so that shapes are tiny.
"""

import pytest
import torch
from lattice_cases import joint, loss_and_gradients, relative_error

from nemo_oracle_kd.functional import LATTICE_DIVERGENCES, lattice_divergence
from nemo_oracle_kd.functional.lattice import triton as lattice_triton
from nemo_oracle_kd.functional.lattice.distances import full_divergence, work_buffers
from nemo_oracle_kd.functional.lattice.triton import fused_divergence

# Columns beyond the last class are -inf - -inf; what becomes of them is not used.
pytestmark = pytest.mark.filterwarnings('ignore:invalid value encountered')
# Largest relative error of one rounding; to bfloat16 the interpreter truncates, where a GPU rounds to nearest.
HALF = {torch.float16: 2**-11, torch.bfloat16: 2**-7}


def logits(rows, classes, spread=3.0):
    return spread * torch.randn(rows, classes), spread * torch.randn(rows, classes)


def by_pytorch(name, student, teacher, dtype=torch.float64):
    """Value and gradient of the PyTorch tile."""
    q, p = student.to(dtype, copy=True), teacher.to(dtype, copy=True)
    return full_divergence(name, q, p, work_buffers(tuple(q.shape), q)), q


def by_triton(name, student, teacher, student_bias=None, teacher_bias=None, scale=1.0):
    q = student.clone()
    return fused_divergence(name, q, teacher, student_bias, teacher_bias, scale, True), q


@pytest.mark.parametrize('name', LATTICE_DIVERGENCES)
@pytest.mark.parametrize('classes', [1, 5, 37])
def test_float32_is_that_of_pytorch(name, classes):
    student, teacher = logits(2, classes)
    value, gradient = by_triton(name, student, teacher)
    expected, expected_gradient = by_pytorch(name, student, teacher)
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', LATTICE_DIVERGENCES)
def test_classes_are_worked_off_in_several_blocks(name, monkeypatch):
    monkeypatch.setattr(lattice_triton, 'MAX_BLOCK', 16)
    student, teacher = logits(1, 37)
    student[0, 36] = 12.0  # the maximum in the last block, so that earlier sums are rescaled
    value, gradient = by_triton(name, student, teacher)
    expected, expected_gradient = by_pytorch(name, student, teacher)
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('dtype', HALF)
def test_half_precision_products_are_read_as_they_are_and_the_gradient_is_rounded_once(dtype):
    student, teacher = (x.to(dtype) for x in logits(2, 11))
    value, gradient = by_triton('kl', student, teacher)
    expected, expected_gradient = by_pytorch('kl', student, teacher)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=HALF[dtype], atol=1e-6)


def test_bias_and_temperature_are_those_of_the_logits():
    student, teacher = logits(2, 7)
    student_bias, teacher_bias = logits(1, 7)[0][0], logits(1, 7)[0][0]
    value, gradient = by_triton('kl', student, teacher, student_bias, teacher_bias, scale=0.5)
    expected, expected_gradient = by_pytorch('kl', (student + student_bias) / 2, (teacher + teacher_bias) / 2)
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', LATTICE_DIVERGENCES)
def test_equal_models_give_exactly_zero_and_leave_the_teacher_alone(name):
    student, _ = logits(2, 9)
    teacher = student.clone()
    value, gradient = by_triton(name, student, teacher)
    assert torch.equal(value, torch.zeros(2)) and torch.equal(gradient, torch.zeros(2, 9))
    assert torch.equal(teacher, student)


@pytest.mark.parametrize('name', LATTICE_DIVERGENCES)
def test_large_logits_neither_overflow_nor_lose_the_divergence(name):
    student, teacher = logits(2, 6, spread=1.0)
    student, teacher = student + 1e4, teacher - 1e4
    student[1, 0] += 300.0
    value, gradient = by_triton(name, student, teacher)
    expected, expected_gradient = by_pytorch(name, student, teacher)
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', LATTICE_DIVERGENCES)
def test_a_class_of_minus_infinity_in_both_models_is_no_class(name):
    student, teacher = logits(2, 6)
    expected, expected_gradient = by_pytorch(name, student[:, 1:], teacher[:, 1:])
    student[:, 0] = teacher[:, 0] = float('-inf')
    value, gradient = by_triton(name, student, teacher)
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient[:, 1:], expected_gradient.float(), rtol=1e-5, atol=1e-6)
    assert torch.equal(gradient[:, 0], torch.zeros(2))


def test_a_class_that_the_student_alone_excludes_costs_infinitely_much():
    student, teacher = logits(1, 6)
    student[:, 2] = float('-inf')
    value, gradient = by_triton('kl', student, teacher)
    assert value.item() == float('inf')
    torch.testing.assert_close(gradient, student.softmax(-1) - teacher.softmax(-1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('broken', [float('nan'), float('inf')])
def test_what_is_not_a_number_is_not_hidden(broken):
    student, teacher = logits(2, 6)
    student[0, 3] = broken
    value, gradient = by_triton('kl', student, teacher)
    assert value[0].isnan() and value[1].isfinite() and gradient[0].isnan().any() and gradient[1].isfinite().all()


def test_values_without_gradient_leave_the_logits_alone():
    student, teacher = logits(2, 6)
    before = student.clone()
    value = fused_divergence('kl', student, teacher, None, None, 1.0, False)
    assert torch.equal(student, before)
    torch.testing.assert_close(value, by_pytorch('kl', student, teacher)[0].float(), rtol=1e-5, atol=1e-6)


def small_lattice(dtype=torch.float32):
    """Two utterances, one of them with padding that is not a number; eight valid cells."""
    shape = {'frames': 3, 'labels': 1, 'batch': 2, 'classes': 5, 'dtype': dtype}
    student, teacher = joint(0, 4, gradient=True, **shape), joint(1, 3, **shape)
    for model in (student, teacher):
        model.encoder.data[1, 2:] = float('nan')
        model.prediction.data[1, 1:] = float('nan')
    return student, teacher, torch.tensor([[1], [0]]), torch.tensor([3, 2]), torch.tensor([1, 0]), 4


@pytest.mark.parametrize('options', [{}, {'temperature': 2.0, 'tile_cells': 5, 'divergence': 'jensen_shannon'}])
def test_the_lattice_divergence_and_all_its_gradients_are_those_of_pytorch(options):
    student, *arguments = small_lattice()
    factors = torch.tensor([1.0, 3.0])
    ours = loss_and_gradients(lattice_divergence, student, *arguments, factors=factors, backend='triton', **options)
    expected = loss_and_gradients(lattice_divergence, student, *arguments, factors=factors, backend='torch', **options)
    for own, other in zip(ours, expected):
        assert relative_error(own, other) <= 1e-5


@pytest.mark.parametrize('dtype', HALF)
def test_the_lattice_divergence_with_half_precision_products_is_near_that_of_pytorch(dtype):
    student, *arguments = small_lattice()
    options = {'weights': torch.full((2, 3, 2), 1e-3), 'matmul_dtype': dtype}
    ours = loss_and_gradients(lattice_divergence, student, *arguments, backend='triton', **options)
    expected = loss_and_gradients(lattice_divergence, student, *arguments, backend='torch', **options)
    assert relative_error(ours[0], expected[0]) <= 1e-5
    for own, other in zip(ours[1:], expected[1:]):
        assert own.dtype == torch.float32 and relative_error(own, other) <= 2 * HALF[dtype]


def test_on_a_cpu_auto_means_pytorch_even_under_the_interpreter():
    choice = ('full', 'kl', 5, torch.float32, torch.float32, torch.device('cpu'))
    assert lattice_triton.choose_backend('auto', *choice) == 'torch'
    assert lattice_triton.choose_backend('triton', *choice) == 'triton'


@pytest.mark.parametrize('name', LATTICE_DIVERGENCES)
def test_the_trial_before_the_first_use_passes(name):
    assert lattice_triton._passes_trial.__wrapped__(name, 7, torch.float32, torch.device('cpu'))
    assert lattice_triton._passes_trial.__wrapped__(name, 7, torch.bfloat16, torch.device('cpu'))


def test_a_kernel_that_computes_something_else_is_found_in_the_trial(monkeypatch):
    def wrong(*arguments):
        return fused_divergence(*arguments) * 1.01

    monkeypatch.setattr(lattice_triton, 'fused_divergence', wrong)
    with pytest.warns(RuntimeWarning, match='its result is off by'):
        assert not lattice_triton._passes_trial.__wrapped__('kl', 7, torch.float32, torch.device('cpu'))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What lattice distillation keeps in memory, and what it does in half precision and under dropout."""

from dataclasses import replace

import pytest
import torch
from lattice_cases import BLANK, batch, joint, loss_and_gradients, pair, parameters, relative_error, without_dropout
from torch.utils._python_dispatch import TorchDispatchMode

from nemo_oracle_kd.functional import LATTICE_BINS, JointTensors, lattice_divergence
from nemo_oracle_kd.functional.lattice.joint import dropout_mask


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, torch.Tensor):
                self.numbers = max(self.numbers, x.numel())
        return result


@pytest.mark.unit
@pytest.mark.parametrize('bins', LATTICE_BINS)
def test_no_tensor_is_larger_than_a_tile(bins):
    classes, frames, labels, tile = 50, 12, 7, 8
    student = joint(0, 3, frames=frames, labels=labels, batch=2, classes=classes, gradient=True)
    teacher = joint(1, 4, frames=frames, labels=labels, batch=2, classes=classes)
    targets = torch.randint(0, classes - 1, (2, labels))
    lengths = torch.tensor([frames, frames - 3]), torch.tensor([labels, labels - 2])
    with LargestTensor() as largest:
        loss = lattice_divergence(
            student, teacher, targets, *lengths, classes - 1, bins=bins, top_k=3, tile_cells=tile
        )
        (loss * torch.tensor([1.0, 2.0])).sum().backward()
    # A tile holds 400 numbers, the cells are 192, the lattice would be 9600.
    assert largest.numbers <= tile * classes


@pytest.mark.unit
@pytest.mark.parametrize('dtype, rounding', [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize('bins', LATTICE_BINS)
def test_half_precision_stays_near_float32(bins, dtype, rounding):
    """Against float32 on the same numbers. Half-precision inputs are computed in float32: the loss is the same and the
    gradients are rounded once. Products in half precision too: about ten roundings."""
    student, teacher = pair(dtype=torch.float32)
    small = JointTensors(*(x.detach().to(dtype).requires_grad_() for x in parameters(student)), activation='tanh')
    same = JointTensors(*(x.detach().float().requires_grad_() for x in parameters(small)), activation='tanh')
    arguments = (teacher, *batch(), BLANK)
    exact = loss_and_gradients(lattice_divergence, same, *arguments, bins=bins)
    for loss_tolerance, tolerance, options in (
        (1e-6, rounding, {}),
        (10 * rounding, 10 * rounding, {'matmul_dtype': dtype}),
    ):
        result = loss_and_gradients(lattice_divergence, small, *arguments, bins=bins, **options)
        assert result[0].dtype == torch.float32
        assert relative_error(result[0], exact[0]) <= loss_tolerance
        for own, other in zip(result[1:], exact[1:]):
            assert own.dtype == dtype
            assert relative_error(own, other) <= tolerance


@pytest.mark.unit
def test_half_precision_products_lose_nothing_to_tiny_weights():
    student, teacher = pair(dtype=torch.float32)
    half = replace(student, encoder=student.encoder.detach().half().requires_grad_())
    arguments = (teacher, *batch(), BLANK)
    tiny = torch.full((3, 5, 4), 1e-9)
    unit = loss_and_gradients(lattice_divergence, half, *arguments, matmul_dtype=torch.float16)
    scaled = loss_and_gradients(lattice_divergence, half, *arguments, matmul_dtype=torch.float16, weights=tiny)
    # The encoder's gradient is float16 itself and cannot hold 1e-9; those of the float32 parameters can.
    for own, other in zip(scaled[2:], unit[2:]):
        assert relative_error(own * 1e9, other) <= 1e-5


@pytest.mark.unit
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_around_the_loss_leaves_its_arithmetic_alone(dtype):
    student, teacher = pair(dtype=torch.float32)
    exact = loss_and_gradients(lattice_divergence, student, teacher, *batch(), BLANK)
    with torch.autocast('cpu', dtype=dtype):
        result = loss_and_gradients(lattice_divergence, student, teacher, *batch(), BLANK)
    for own, other in zip(result, exact):
        assert own.dtype == torch.float32 and torch.equal(own, other)


@pytest.mark.unit
def test_the_gradient_under_dropout_is_that_of_the_loss_returned():
    student = joint(0, 4, frames=2, labels=1, batch=2, classes=4, gradient=True)
    teacher = joint(1, 3, frames=2, labels=1, batch=2, classes=4)
    arguments = (torch.tensor([[1], [0]]), torch.tensor([2, 1]), torch.tensor([1, 0]), 3)

    def loss(*tensors):
        own = JointTensors(*tensors, activation='tanh', dropout=0.5)
        return lattice_divergence(own, teacher, *arguments, dropout_seed=5, tile_cells=2)

    assert torch.autograd.gradcheck(loss, parameters(student), fast_mode=True)


@pytest.mark.unit
def test_dropout_repeats_with_its_seed_and_follows_the_global_one():
    student, teacher = pair(dropout=0.5)
    teacher = without_dropout(teacher)

    def loss(**options):
        return lattice_divergence(student, teacher, *batch(), BLANK, **options).detach()

    assert torch.equal(loss(dropout_seed=1), loss(dropout_seed=1))
    assert not torch.equal(loss(dropout_seed=1), loss(dropout_seed=2))
    torch.manual_seed(7)
    first = loss()
    assert not torch.equal(loss(), first)
    torch.manual_seed(7)
    assert torch.equal(loss(), first)


@pytest.mark.unit
def test_dropout_masks_of_different_tiles_differ_and_keep_the_mean():
    like = torch.empty(400, 50)
    masks = [dropout_mask(like, 0.2, seed=3, tile=tile) for tile in range(2)]
    assert not torch.equal(*masks)
    for mask in masks:
        assert set(mask.unique().tolist()) == {0.0, 1.25}
        assert abs(float(mask.mean()) - 1.0) < 0.02


@pytest.mark.unit
def test_logits_of_a_joint_with_dropout_are_refused():
    with pytest.raises(ValueError, match='random'):
        pair(dropout=0.5)[0].logits()


@pytest.mark.unit
@pytest.mark.parametrize(
    ('encoder', 'weight', 'expected'),
    [
        (torch.float16, torch.float16, torch.float32),
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float64),
    ],
)
def test_values_are_never_computed_in_half_precision_and_keep_float64(encoder, weight, expected):
    x = joint(0, 3)
    mixed = replace(x, encoder=x.encoder.to(encoder), weight=x.weight.to(weight))
    assert mixed.value_dtype == expected

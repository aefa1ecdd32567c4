# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Masks and padding."""

import pytest
import torch

from nemo_oracle_kd.functional import compute_dtype, fill_padding, length_mask


def test_the_mask_is_true_up_to_each_length():
    mask = length_mask(torch.tensor([3, 0, 1]), 3)
    assert mask.tolist() == [[True, True, True], [False, False, False], [True, False, False]]


def test_filling_keeps_nan_in_the_padding_out_of_values_and_gradients():
    x = torch.tensor([[1.0, 2.0, float('nan')], [float('inf'), float('nan'), 1.0]], requires_grad=True)
    filled = fill_padding(x, torch.tensor([2, 0]), value=7.0)
    filled.exp().sum().backward()
    assert filled.tolist() == [[1.0, 2.0, 7.0], [7.0, 7.0, 7.0]]
    assert x.grad[0, 2] == 0 and torch.equal(x.grad[1], torch.zeros(3))
    assert torch.allclose(x.grad[0, :2], torch.tensor([1.0, 2.0]).exp())


def test_filling_reaches_all_trailing_axes_and_keeps_the_type():
    x = torch.ones(2, 3, 4, 5, dtype=torch.float16)
    filled = fill_padding(x, torch.tensor([1, 3]))
    assert filled.dtype == torch.float16
    assert filled.sum(dim=(2, 3)).tolist() == [[20, 0, 0], [20, 20, 20]]


def test_narrow_types_are_computed_in_float32_and_float64_stays():
    types = [compute_dtype(t) for t in (torch.float16, torch.bfloat16, torch.float32, torch.float64)]
    assert types == [torch.float32, torch.float32, torch.float32, torch.float64]


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match='one length per utterance'):
        fill_padding(torch.zeros(2, 3), torch.tensor([1, 1, 1]))
    with pytest.raises(ValueError, match=r'shape \[B\]'):
        length_mask(torch.tensor([[1]]), 3)

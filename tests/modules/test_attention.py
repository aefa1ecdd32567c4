# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Multi-head attention: masking, and the weights it shows."""

import pytest
import torch

from nemo_oracle_kd.modules import MultiHeadAttention


def _inputs(queries=5, keys=4):
    mask = torch.tensor([[True] * keys, [True] * (keys - 2) + [False] * 2])
    return torch.randn(2, queries, 8), torch.randn(2, keys, 8), mask


def test_masked_memory_changes_nothing():
    attention = MultiHeadAttention(8, 2)
    query, memory, mask = _inputs()
    spoiled = torch.where(mask[..., None], memory, torch.full_like(memory, 1e3))
    torch.testing.assert_close(attention(query, memory, mask)[0], attention(query, spoiled, mask)[0])


def test_the_weights_shown_are_those_used():
    attention = MultiHeadAttention(8, 2)
    query, memory, mask = _inputs()
    fast, nothing = attention(query, memory, mask)
    slow, weights = attention(query, memory, mask, return_attention=True)
    assert nothing is None and weights.shape == (2, 2, 5, 4)
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 5))
    assert (weights[1, :, :, 2:] == 0).all()


def test_a_row_without_any_valid_key_stays_finite_with_finite_gradients():
    attention = MultiHeadAttention(8, 2)
    query, memory, mask = _inputs()
    output, _ = attention(query, memory.requires_grad_(), torch.zeros_like(mask))
    output.sum().backward()
    assert torch.isfinite(output).all() and torch.isfinite(memory.grad).all()


def test_no_queries_give_no_outputs():
    attention = MultiHeadAttention(8, 2)
    _, memory, mask = _inputs()
    assert attention(memory[:, :0], memory, mask)[0].shape == (2, 0, 8)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match='multiple of n_heads'):
        MultiHeadAttention(8, 3)

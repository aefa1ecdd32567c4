# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Masked multi-head attention and the feed-forward block, which label encoder and fusion share.

`torch.nn.MultiheadAttention` does not serve here for two reasons. The weights of every head must be available on request,
to diagnose copying. And a row whose keys are all masked must give a defined value instead of NaN.
"""

import math

import torch
from torch import nn

__all__ = ['FeedForward', 'MultiHeadAttention']


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention with separate query, key and value projections.

    Args:
        d_model: width of queries, keys, values and output.
        n_heads: number of heads; must divide `d_model`.
        dropout: dropout on the attention weights (training mode only).

    Raises:
        ValueError: if `n_heads` does not divide `d_model`.
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float = 0.0):
        super().__init__()
        if n_heads < 1 or d_model % n_heads:
            raise ValueError(f"d_model ({d_model}) must be a multiple of n_heads ({n_heads}): change one of them")
        self.n_heads = n_heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.output = nn.Linear(d_model, d_model)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, N, D]` -> `[B, H, N, D / H]`."""
        return x.view(x.shape[0], x.shape[1], self.n_heads, x.shape[2] // self.n_heads).transpose(1, 2)

    def forward(
        self,
        query: torch.Tensor,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        return_attention: bool = False,
        logit_bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Lets every query attend to the memory.

        Args:
            query: `[B, N, D]`.
            memory: keys and values, `[B, M, D]`.
            memory_mask: bool `[B, M]`, true where the memory is valid.
            return_attention: whether to return the weights too.
            logit_bias: added to the attention logits of every head, `[B, N, M]`.

        Returns:
            `[B, N, D]` and, on request, the weights `[B, H, N, M]` (otherwise None). A row without any valid key
            attends uniformly; its value is finite, and the caller has to mask it.
        """
        q, k, v = self._heads(self.query(query)), self._heads(self.key(memory)), self._heads(self.value(memory))
        bias = torch.zeros(memory_mask.shape, dtype=q.dtype, device=q.device)
        # The lowest finite number, because with -inf the softmax of an entirely masked row would be NaN.
        bias = bias.masked_fill(~memory_mask, torch.finfo(q.dtype).min)[:, None, None, :]
        if logit_bias is not None:
            # Masked keys get no bias, because a sum below the lowest number would overflow.
            bias = torch.where(memory_mask[:, None, None, :], bias + logit_bias[:, None].to(q.dtype), bias)
        attention = None
        if return_attention:
            attention = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias, dim=-1)
            context = nn.functional.dropout(attention, self.dropout, self.training) @ v
        else:
            context = nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0
            )
        context = context.transpose(1, 2).reshape(query.shape)
        return self.output(context), attention


class FeedForward(nn.Sequential):
    """Position-wise feed-forward block with SiLU, of widths D, `expansion * D` and D.

    Args:
        d_model: width of input and output.
        expansion: hidden width in units of `d_model`.
        dropout: dropout after the activation.
    """

    def __init__(self, d_model: int, expansion: float, dropout: float):
        hidden = max(1, round(d_model * expansion))
        super().__init__(nn.Linear(d_model, hidden), nn.SiLU(), nn.Dropout(dropout), nn.Linear(hidden, d_model))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The label encoder of an oracle teacher: embedding, positions and Transformer layers.

It is the target side of the teacher: "an embedding layer and a self-attention-based Transformer encoder layer"
(arXiv 2306.10058, the successor of arXiv 2111.03664, whose own sizes are not public).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from nemo_oracle_kd.functional.tensors import length_mask
from nemo_oracle_kd.modules.attention import FeedForward, MultiHeadAttention

__all__ = ['LabelEncoder', 'LabelEncoderConfig']


@dataclass
class LabelEncoderConfig:
    """Size of the label encoder. Its width is the `d_model` of the oracle encoder."""

    n_layers: int = field(default=1, metadata={'help': 'Transformer layers over the labels'})
    n_heads: int = field(default=4, metadata={'help': 'attention heads'})
    ff_expansion: float = field(default=4.0, metadata={'help': 'feed-forward width in units of d_model'})
    dropout: float = field(default=0.1, metadata={'help': 'dropout on embeddings, attention and residual branches'})
    max_positions: int = field(default=1024, metadata={'help': 'longest transcript, in labels'})

    def problems(self, path: str) -> Iterator[str]:
        if self.n_layers < 0:
            yield f"`{path}.n_layers` must be at least 0 (0: embedding and positions only), not {self.n_layers}"
        for name in ('n_heads', 'max_positions'):
            if getattr(self, name) < 1:
                yield f"`{path}.{name}` must be at least 1, not {getattr(self, name)}"
        if self.ff_expansion <= 0:
            yield f"`{path}.ff_expansion` must be greater than 0, not {self.ff_expansion}"
        if not 0.0 <= self.dropout < 1.0:
            yield f"`{path}.dropout` must be at least 0 and below 1, not {self.dropout}"


def sinusoidal_positions(n: int, d_model: int) -> torch.Tensor:
    """Sines and cosines of geometrically spaced wavelengths, `[n, d_model]`."""
    position = torch.arange(n, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float32) * (-math.log(10000.0) / d_model))
    table = torch.zeros(n, d_model)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate)[:, : d_model // 2]
    return table


class LabelEncoderLayer(nn.Module):
    """One Transformer encoder layer with normalisation before each block."""

    def __init__(self, d_model: int, config: LabelEncoderConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, config.n_heads, config.dropout)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, config.ff_expansion, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Encodes `x [B, U, D]` with the bool `mask [B, U]` of valid labels; returns `[B, U, D]`."""
        y = self.attention_norm(x)
        x = x + self.dropout(self.attention(y, y, mask)[0])
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class LabelEncoder(nn.Module):
    """Turns label ids into the memory that the audio stream attends to.

    The memory starts with one learned vector, "no text", which does not depend on the labels. It is the only key of an
    empty transcript (U = 0), and gives a frame that matches no label, such as silence, something to attend to.

    Args:
        num_labels: number of labels without the CTC blank. The id `num_labels` is the mask label.
        d_model: width of the memory.
        config: depth, heads, dropout, longest transcript.
    """

    def __init__(self, num_labels: int, d_model: int, config: LabelEncoderConfig):
        super().__init__()
        self.d_model = d_model
        self.config = config
        self.num_labels = num_labels
        self.no_text = nn.Parameter(torch.randn(1, 1, d_model) * 0.02)
        self.register_buffer('positions', sinusoidal_positions(config.max_positions, d_model), persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(LabelEncoderLayer(d_model, config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(d_model)
        self.embedding = nn.Embedding(num_labels + 1, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)

    @property
    def mask_id(self) -> int:
        """Id of the mask label."""
        return self.num_labels

    def forward(self, labels: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encodes the labels of a batch.

        Args:
            labels: ids, `[B, U]`; the padding may hold any value.
            lengths: labels per utterance, `[B]`; 0 is an empty transcript.

        Returns:
            The memory `[B, U + 1, D]`, whose first position is "no text", and its mask, bool `[B, U + 1]`. U is the length of
            the longest transcript.

        Raises:
            ValueError: if a transcript is longer than `max_positions`, or if an id lies outside the vocabulary.
        """
        longest = int(lengths.max()) if lengths.numel() else 0
        if longest > self.config.max_positions:
            raise ValueError(
                f"a transcript has {longest} labels, but the label encoder allows {self.config.max_positions}: raise "
                "encoder.label_encoder.max_positions or shorten the utterance"
            )
        labels = labels[:, :longest]
        mask = length_mask(lengths, longest)
        labels = torch.where(mask, labels, torch.zeros_like(labels))
        if longest and (int(labels.min()) < 0 or int(labels.max()) > self.num_labels):
            raise ValueError(
                f"the transcript has label ids from {int(labels.min())} to {int(labels.max())}, but the vocabulary has "
                f"{self.num_labels} labels: encode the text with the tokenizer of this model"
            )
        x = self.embedding(labels) * math.sqrt(self.d_model) + self.positions[:longest].to(self.embedding.weight.dtype)
        x = self.dropout(x)
        for layer in self.layers if longest else ():
            x = layer(x, mask)
        memory = torch.cat([self.no_text.expand(labels.shape[0], 1, -1), self.norm(x)], dim=1)
        no_text_mask = torch.ones(lengths.shape[0], 1, dtype=torch.bool, device=lengths.device)
        return memory, torch.cat([no_text_mask, mask], dim=1)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Fusion of audio and labels: self-attention over the audio stream, then cross-attention to the encoded labels.

The audio stream provides the queries, and the labels provide keys and values (arXiv 2306.10058). There is no other path
from the labels to the output. No position is added to the audio stream, because a query that knew its absolute frame
number could copy label u at frame u.

Attention by content alone learns slowly which label belongs to a frame. An alignment prior helps: it adds
`-(t/T - u/U)^2 / (2 sigma^2)` to the logits, so each label is expected at about its share of the utterance. A wide prior
leaves the choice among neighbouring labels to the audio. A narrow one (0.05) would place the labels by itself, which is
copying.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from nemo_oracle_kd.modules.attention import FeedForward, MultiHeadAttention

__all__ = ['FusionConfig', 'LabelFusion']


@dataclass
class FusionConfig:
    """Depth and options of the fusion. Its width is the `d_model` of the oracle encoder."""

    n_layers: int = field(default=1, metadata={'help': 'fusion layers'})
    n_heads: int = field(default=4, metadata={'help': 'attention heads of self- and cross-attention'})
    self_attention: bool = field(
        default=True, metadata={'help': 'self-attention over the audio before each cross-attention'}
    )
    ff_expansion: float = field(default=4.0, metadata={'help': 'feed-forward width in units of d_model; 0: none'})
    dropout: float = field(default=0.1, metadata={'help': 'dropout on attention and residual branches'})
    alignment_prior: float | None = field(
        default=0.2, metadata={'help': 'width sigma of the alignment prior, in utterance lengths; null: none'}
    )
    no_text_bias: float = field(default=-2.0, metadata={'help': 'added to the attention logit of "no text"'})

    def problems(self, path: str) -> Iterator[str]:
        for name in ('n_layers', 'n_heads'):
            if getattr(self, name) < 1:
                yield f"`{path}.{name}` must be at least 1, not {getattr(self, name)}"
        if self.ff_expansion < 0:
            yield f"`{path}.ff_expansion` must be at least 0 (0: no feed-forward), not {self.ff_expansion}"
        if self.alignment_prior is not None and self.alignment_prior <= 0:
            yield f"`{path}.alignment_prior` must be greater than 0, or null for no prior, not {self.alignment_prior}"
        if not 0.0 <= self.dropout < 1.0:
            yield f"`{path}.dropout` must be at least 0 and below 1, not {self.dropout}"


def alignment_bias(
    audio_mask: torch.Tensor, memory_mask: torch.Tensor, sigma: float | None, no_text_bias: float
) -> torch.Tensor:
    """The alignment prior as attention logits: `-((t + 0.5) / T - (u + 0.5) / U)^2 / (2 sigma^2)`.

    Args:
        audio_mask: bool `[B, N]`; T is the number of valid frames.
        memory_mask: bool `[B, M]`, "no text" first; U is the number of valid labels.
        sigma: width of the prior in utterance lengths; None for a flat prior.
        no_text_bias: logit of "no text".

    Returns:
        `[B, N, M]`, float32.
    """
    n, m = audio_mask.shape[1], memory_mask.shape[1]
    bias = torch.zeros(len(audio_mask), n, m, device=audio_mask.device)
    bias[:, :, 0] = no_text_bias
    if sigma is not None and m > 1:
        frames, labels = audio_mask.sum(1), memory_mask[:, 1:].sum(1).clamp(min=1)
        time = (torch.arange(n, device=bias.device) + 0.5) / frames.clamp(min=1)[:, None]
        place = (torch.arange(m - 1, device=bias.device) + 0.5) / labels[:, None]
        bias[:, :, 1:] = -((time[:, :, None] - place[:, None, :]) ** 2) / (2 * sigma**2)
    return bias


class LabelFusionLayer(nn.Module):
    """One fusion layer: self-attention (optional), cross-attention and feed-forward (optional).

    Every block has normalisation before it and a residual connection around it.
    """

    def __init__(self, d_model: int, config: FusionConfig):
        super().__init__()
        self.self_norm = nn.LayerNorm(d_model) if config.self_attention else None
        self.self_attention = (
            MultiHeadAttention(d_model, config.n_heads, config.dropout) if config.self_attention else None
        )
        self.cross_norm = nn.LayerNorm(d_model)
        self.cross_attention = MultiHeadAttention(d_model, config.n_heads, config.dropout)
        self.ff_norm = nn.LayerNorm(d_model) if config.ff_expansion else None
        self.feed_forward = FeedForward(d_model, config.ff_expansion, config.dropout) if config.ff_expansion else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: torch.Tensor,
        audio_mask: torch.Tensor,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        logit_bias: torch.Tensor,
        return_attention: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Fuses `x [B, T, D]` with `memory [B, M, D]`; returns `[B, T, D]` and the cross-attention `[B, H, T, M]` or None."""
        if self.self_attention is not None:
            y = self.self_norm(x)
            x = x + self.dropout(self.self_attention(y, y, audio_mask)[0])
        y, attention = self.cross_attention(self.cross_norm(x), memory, memory_mask, return_attention, logit_bias)
        x = x + self.dropout(y)
        if self.feed_forward is not None:
            x = x + self.dropout(self.feed_forward(self.ff_norm(x)))
        return x, attention


class LabelFusion(nn.Module):
    """A stack of fusion layers and a final norm.

    Args:
        d_model: width of audio stream and memory.
        config: depth, heads, dropout.
    """

    def __init__(self, d_model: int, config: FusionConfig):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(LabelFusionLayer(d_model, config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        x: torch.Tensor,
        audio_mask: torch.Tensor,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        return_attention: bool = False,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Fuses the audio stream with the encoded labels.

        Args:
            x: audio stream, `[B, T, D]`.
            audio_mask: bool `[B, T]`.
            memory: encoded labels, `[B, M, D]`.
            memory_mask: bool `[B, M]`.
            return_attention: whether to return the cross-attention weights too.

        Returns:
            `[B, T, D]` and one `[B, H, T, M]` per layer (an empty list unless asked for).
        """
        logit_bias = alignment_bias(audio_mask, memory_mask, self.config.alignment_prior, self.config.no_text_bias)
        maps = []
        for layer in self.layers:
            x, attention = layer(x, audio_mask, memory, memory_mask, logit_bias, return_attention)
            if attention is not None:
                maps.append(attention)
        return self.norm(x), maps

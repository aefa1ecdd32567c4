# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Corruption of the transcript that an oracle teacher reads, so that copying it does not suffice.

A teacher that reads its own target can reach CTC loss 0 without using the audio, for example by emitting the labels in the
first U frames. Labels that are masked, wrong or absent in training force it to keep listening. (arXiv 2306.10058 masks the
target of attention models for the same reason.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

__all__ = ['LabelCorruption', 'LabelCorruptionConfig']


@dataclass
class LabelCorruptionConfig:
    """How much of the transcript is corrupted in training. Each value is a probability in [0, 1]."""

    masking_ratio: float = field(default=0.1, metadata={'help': 'share of labels replaced by the mask label'})
    substitution_ratio: float = field(default=0.0, metadata={'help': 'share of labels replaced by a random label'})
    dropout: float = field(default=0.05, metadata={'help': 'probability that an utterance loses its whole transcript'})

    def problems(self, path: str) -> Iterator[str]:
        for name in ('masking_ratio', 'substitution_ratio', 'dropout'):
            if not 0.0 <= getattr(self, name) <= 1.0:
                yield f"`{path}.{name}` must be a probability between 0 and 1, not {getattr(self, name)}"
        if self.masking_ratio + self.substitution_ratio > 1.0:
            yield (
                f"`{path}` has masking_ratio {self.masking_ratio} and substitution_ratio {self.substitution_ratio}, but a label is "
                "either masked or substituted: choose ratios whose sum is at most 1"
            )


class LabelCorruption(nn.Module):
    """Masks, substitutes and drops labels in training mode; the identity in eval mode.

    Random numbers come from torch's generator of the tensor's device, so `seed_everything` fixes them.

    Args:
        config: the three probabilities; without a config nothing is corrupted.
    """

    def __init__(self, config: LabelCorruptionConfig | None = None):
        super().__init__()
        self.config = config or LabelCorruptionConfig(0.0, 0.0, 0.0)

    def forward(
        self, labels: torch.Tensor, lengths: torch.Tensor, num_labels: int, mask_id: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Corrupts the labels of a batch.

        Args:
            labels: label ids, `[B, U]`.
            lengths: labels per utterance, `[B]`.
            num_labels: substitutes are drawn from `0 .. num_labels - 1`.
            mask_id: id of the mask label.

        Returns:
            Corrupted labels `[B, U]` (a new tensor where anything changed) and lengths `[B]` (0 where the transcript
            was dropped).
        """
        c = self.config
        if not self.training:
            return labels, lengths
        if c.masking_ratio or c.substitution_ratio:
            draw = torch.rand(labels.shape, device=labels.device)
            substitutes = torch.randint_like(labels, num_labels)
            substituted = (draw >= c.masking_ratio) & (draw < c.masking_ratio + c.substitution_ratio)
            labels = torch.where(substituted, substitutes, labels)
            labels = torch.where(draw < c.masking_ratio, torch.full_like(labels, mask_id), labels)
        if c.dropout:
            dropped = torch.rand(lengths.shape, device=lengths.device) < c.dropout
            lengths = torch.where(dropped, torch.zeros_like(lengths), lengths)
        return labels, lengths

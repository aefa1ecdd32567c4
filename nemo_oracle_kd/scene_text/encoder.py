# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Encoders of word pictures: convolutions over rows and columns, then an LSTM over the columns (CRNN, arXiv 1507.05717)."""

from collections.abc import Sequence

import torch
from nemo.core.classes import typecheck
from nemo.core.classes.module import NeuralModule
from nemo.core.neural_types import AcousticEncodedRepresentation, LengthsType, NeuralType, SpectrogramType
from torch import nn

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional.tensors import length_mask

__all__ = ['ConvRecurrentEncoder']


class _Stage(nn.Module):
    """Convolutions of 3 by 3 with a shortcut around the second and later ones if wanted, then the largest of each field."""

    def __init__(self, inputs: int, outputs: int, convolutions: int, residual: bool, pool: tuple[int, int]):
        super().__init__()
        widths = [inputs, *[outputs] * convolutions]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, bias=False) for before, after in zip(widths, widths[1:])
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in self.convolutions)
        self.residual, self.pool = residual, pool

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ragged = bool((lengths < x.shape[3]).any())
        mask = length_mask(lengths, x.shape[3])[:, None, None] if ragged else None
        last = len(self.convolutions) - 1
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms)):
            y = norm(convolution(x))
            if self.residual and number:
                y = y + x
            if mask is not None:
                y = y.mul_(mask)  # a picture must not see how far it is padded
            if number == last and self.pool != (1, 1):  # the same as after the next line, on fewer values
                y = nn.functional.max_pool2d(y, self.pool, ceil_mode=True)
            x = y.relu_()
        return x, _divided(lengths, self.pool[1])


def _divided(lengths: torch.Tensor, factor: int) -> torch.Tensor:
    return torch.div(lengths + factor - 1, factor, rounding_mode='floor')


class _BothWays(nn.Module):
    """An LSTM from left to right and one from right to left, exact for padded sequences without packing them."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.forth = nn.LSTM(width, hidden, batch_first=True)
        self.back = nn.LSTM(width, hidden, batch_first=True)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        place = torch.arange(x.shape[1], device=x.device)[None]
        mirrored = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)[:, :, None]
        back, _ = self.back(x.gather(1, mirrored.expand_as(x)))
        forth, _ = self.forth(x)
        return torch.cat([forth, back.gather(1, mirrored.expand_as(back))], dim=2)


class ConvRecurrentEncoder(NeuralModule):
    """Convolutional stages that halve height and width, then bidirectional LSTMs over what is left of the columns.

    Args:
        feat_in: rows of the pictures.
        channels: channels of each stage.
        pools: rows and columns that each stage joins.
        convolutions: convolutions of each stage; one number for all.
        residual: whether the second and later convolutions of a stage have a shortcut.
        hidden: units of each direction of an LSTM.
        recurrent_layers: number of bidirectional LSTMs.
        dropout: on the input of each LSTM and on the output.

    Raises:
        ConfigError: lists of different lengths, or more pooling than rows.
    """

    def __init__(
        self,
        feat_in: int = 32,
        channels: Sequence[int] = (16, 32, 64, 96),
        pools: Sequence[Sequence[int]] = ((2, 2), (2, 2), (2, 1), (2, 1)),
        convolutions: int | Sequence[int] = 1,
        residual: bool = False,
        hidden: int = 96,
        recurrent_layers: int = 1,
        dropout: float = 0.1,
    ):
        super().__init__()
        counts = [convolutions] * len(channels) if isinstance(convolutions, int) else list(convolutions)
        if not len(channels) == len(pools) == len(counts):
            raise ConfigError(
                f"`encoder` has {len(channels)} channels, {len(pools)} pools and {len(counts)} numbers of convolutions: give one "
                "of each for every stage"
            )
        rows, width, self.subsampling_factor = feat_in, 1, 1
        stages = []
        for outputs, pool, count in zip(channels, pools, counts):
            stages.append(_Stage(width, outputs, count, residual, (int(pool[0]), int(pool[1]))))
            width, rows = outputs, -(-rows // int(pool[0]))
            self.subsampling_factor *= int(pool[1])
        # a third faster on processors
        self.stages = nn.ModuleList(stages).to(memory_format=torch.channels_last)
        widths = [width * rows, *[2 * hidden] * recurrent_layers]
        self.recurrent = nn.ModuleList(_BothWays(before, hidden) for before in widths[:-1])
        self.dropout = nn.Dropout(dropout)
        self._feat_out = widths[-1]

    @property
    def input_types(self) -> dict[str, NeuralType]:
        return {
            'audio_signal': NeuralType(('B', 'D', 'T'), SpectrogramType()),
            'length': NeuralType(tuple('B'), LengthsType()),
        }

    @property
    def output_types(self) -> dict[str, NeuralType]:
        return {
            'outputs': NeuralType(('B', 'D', 'T'), AcousticEncodedRepresentation()),
            'encoded_lengths': NeuralType(tuple('B'), LengthsType()),
        }

    @typecheck()
    def forward(self, audio_signal: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            audio_signal: pictures `[B, H, W]`, 0 in the padding.
            length: `[B]` columns.

        Returns:
            `[B, D, T]` with one frame for `subsampling_factor` columns, and `[B]` frames.
        """
        x, lengths = audio_signal[:, None], length
        for stage in self.stages:
            x, lengths = stage(x, lengths)
        x = x.flatten(1, 2).transpose(1, 2)
        for layer in self.recurrent:
            x = layer(self.dropout(x), lengths)
        return self.dropout(x).transpose(1, 2), lengths

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The preprocessor of word pictures: from signals to normalised rows over columns, as a spectrogram is frequencies over time."""

import torch
from nemo.core.classes import typecheck
from nemo.core.classes.module import NeuralModule
from nemo.core.neural_types import AudioSignal, LengthsType, NeuralType, SpectrogramType

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional.tensors import length_mask
from nemo_oracle_kd.scene_text.pictures import PictureSize

__all__ = ['WordPicturePreprocessor']


class WordPicturePreprocessor(NeuralModule):
    """Gives every picture mean 0 and deviation 1 over its own pixels.

    Everything of this package that counts seconds counts columns: one column is `window_stride` seconds.

    Args:
        height: rows of a picture.
        min_width: least number of columns.
        max_width: largest number of columns.
        sample_rate: pixels per "second", `height / window_stride`.
        window_stride: "seconds" per column.
        contrast_floor: least deviation, in grey values from 0 to 1, by which a picture is divided: a blank picture stays blank,
            whatever its grain.

    Raises:
        ConfigError: sizes that contradict each other.
    """

    def __init__(
        self,
        height: int = 32,
        min_width: int = 32,
        max_width: int = 256,
        sample_rate: int = 3200,
        window_stride: float = 0.01,
        contrast_floor: float = 0.02,
    ):
        super().__init__()
        problems = []
        if not 1 <= min_width <= max_width:
            problems.append(f"`preprocessor.min_width` must be from 1 to max_width ({max_width}), not {min_width}")
        if height < 1 or round(sample_rate * window_stride) != height:
            problems.append(
                f"a column of {height} pixels is `preprocessor.window_stride` {window_stride} s at `preprocessor.sample_rate` "
                f"{sample_rate}, which gives {sample_rate * window_stride:g} pixels: set sample_rate to height / window_stride"
            )
        if not contrast_floor > 0:
            problems.append(f"`preprocessor.contrast_floor` must be greater than 0, not {contrast_floor}")
        ConfigError.raise_if_any(problems)
        self.size = PictureSize(height, min_width, max_width)
        self.contrast_floor = contrast_floor
        self._sample_rate = sample_rate  # the name by which NeMo asks

    @property
    def input_types(self) -> dict[str, NeuralType]:
        return {
            'input_signal': NeuralType(('B', 'T'), AudioSignal(freq=self._sample_rate)),
            'length': NeuralType(tuple('B'), LengthsType()),
        }

    @property
    def output_types(self) -> dict[str, NeuralType]:
        return {
            'processed_signal': NeuralType(('B', 'D', 'T'), SpectrogramType()),
            'processed_length': NeuralType(tuple('B'), LengthsType()),
        }

    @typecheck()
    @torch.no_grad()
    def forward(self, input_signal: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            input_signal: `[B, W * H]` grey values in [0, 1], padded with anything.
            length: `[B]` pixels.

        Returns:
            `[B, H, W]`, 0 in the padding, and `[B]` columns.
        """
        height = self.size.height
        columns = length // height
        widest = input_signal.shape[1] // height
        rows = input_signal[:, : widest * height].reshape(len(input_signal), widest, height).transpose(1, 2)
        mask = length_mask(columns, widest)[:, None]
        rows = rows.float().masked_fill(~mask, 0.0)
        pixels = (columns * height).clamp(min=1)[:, None, None]
        centred = (rows - rows.sum(dim=(1, 2), keepdim=True) / pixels).masked_fill(~mask, 0.0)
        deviation = (centred.square().sum(dim=(1, 2), keepdim=True) / pixels).sqrt()
        return centred / deviation.clamp(min=self.contrast_floor), columns

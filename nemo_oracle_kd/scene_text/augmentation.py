# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distorts pictures in training, in the place where speech has SpecAugment: a teacher beside the student sees them undistorted."""

import torch
from nemo.core.classes import typecheck
from nemo.core.classes.module import NeuralModule
from nemo.core.neural_types import LengthsType, NeuralType, SpectrogramType

from nemo_oracle_kd.functional.tensors import length_mask

__all__ = ['PictureAugmentation']


class PictureAugmentation(NeuralModule):
    """Slight rotation, slant, perspective and change of size, blur, noise and contrast, each drawn for each picture.

    The middle of a picture stays where it is, and letters move by less than a letter, so that a teacher's posteriors for the
    undistorted picture hold.

    Args:
        rotation: largest rise of the base line, in rows per column.
        slant: largest shift of the top row against the middle, in columns per row.
        perspective: largest relative change of the height from the middle to an end.
        scale: largest relative change of the height.
        shift: largest shift up or down, in rows.
        blur: share of the pictures that are blurred.
        noise: largest deviation of added noise, in deviations of the picture.
        contrast: largest relative change of the contrast.
    """

    def __init__(
        self,
        rotation: float = 0.08,
        slant: float = 0.25,
        perspective: float = 0.2,
        scale: float = 0.15,
        shift: float = 2.0,
        blur: float = 0.3,
        noise: float = 0.2,
        contrast: float = 0.3,
    ):
        super().__init__()
        self.rotation, self.slant, self.perspective, self.scale = rotation, slant, perspective, scale
        self.shift, self.blur, self.noise, self.contrast = shift, blur, noise, contrast

    @property
    def input_types(self) -> dict[str, NeuralType]:
        return {
            'input_spec': NeuralType(('B', 'D', 'T'), SpectrogramType()),
            'length': NeuralType(tuple('B'), LengthsType()),
        }

    @property
    def output_types(self) -> dict[str, NeuralType]:
        return {'augmented_spec': NeuralType(('B', 'D', 'T'), SpectrogramType())}

    @typecheck()
    @torch.no_grad()
    def forward(self, input_spec: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """
        Args:
            input_spec: normalised pictures, `[B, H, W]`.
            length: `[B]` columns.

        Returns:
            `[B, H, W]`, 0 in the padding.
        """
        pictures = self._distorted(input_spec, length)
        if self.blur > 0:
            soft = torch.nn.functional.avg_pool2d(pictures[:, None], 3, stride=1, padding=1, count_include_pad=False)
            drawn = torch.rand(len(pictures), 2, device=pictures.device)
            share = torch.where(drawn[:, 0] < self.blur, drawn[:, 1], 0.0)[:, None, None]
            pictures = torch.lerp(pictures, soft[:, 0], share)
        pictures = pictures * (1.0 + self._draw(pictures, self.contrast))
        pictures = pictures + torch.randn_like(pictures) * self._draw(pictures, self.noise).abs()
        return pictures.masked_fill(~length_mask(length, pictures.shape[2])[:, None], 0.0)

    @staticmethod
    def _draw(pictures: torch.Tensor, largest: float) -> torch.Tensor:
        """`[B, 1, 1]`, drawn evenly from `-largest` to `largest`."""
        return (2.0 * torch.rand(len(pictures), 1, 1, device=pictures.device) - 1.0) * largest

    def _distorted(self, pictures: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """The pictures, each seen through a random projection about its middle."""
        _, height, width = pictures.shape
        ends = (length.float() - 1.0).clamp(min=1.0)[:, None, None]
        x = torch.arange(width, device=pictures.device).float()[None, None] - 0.5 * ends
        y = torch.arange(height, device=pictures.device).float()[None, :, None] - 0.5 * (height - 1)
        # a long word turns less, so that its ends stay in the picture
        rise = self._draw(pictures, self.rotation) * (2.0 * height / ends).clamp(max=1.0)
        stretch = 1.0 + self._draw(pictures, self.scale) + self._draw(pictures, self.perspective) * 2.0 * x / ends
        rows = y * stretch + x * rise + self._draw(pictures, self.shift)
        columns = x + y * self._draw(pictures, self.slant)
        # beyond its own end a picture goes on with its last column, not with the padding
        columns = (columns + 0.5 * ends).clamp(min=0.0).minimum(ends)
        rows = (rows + 0.5 * (height - 1)).clamp(0.0, height - 1.0)
        grid = torch.stack([2.0 * columns / max(width - 1, 1) - 1.0, 2.0 * rows / max(height - 1, 1) - 1.0], dim=-1)
        return torch.nn.functional.grid_sample(pictures[:, None], grid, align_corners=True)[:, 0]

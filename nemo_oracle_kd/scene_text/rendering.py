# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Renders a word as a picture such as a photograph of a sign gives: font, colours, background, distortion, blur, noise."""

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np

from nemo_oracle_kd.corpus.texts import pick

__all__ = ['render_word']

#: least difference of the brightness of letters and background, of 255
_CONTRAST = 50


@lru_cache(maxsize=256)
def _font(path: Path, size: int):
    from PIL import ImageFont

    # the basic layout engine is in every build of Pillow, so that the bytes do not depend on the build
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def render_word(rng: np.random.Generator, word: str, fonts: Sequence[Path]) -> bytes:
    """A JPEG file with a word on it.

    Args:
        rng: source of every choice.
        word: what is written.
        fonts: fonts to choose from.
    """
    from PIL import Image, ImageDraw, ImageFilter

    font = _font(pick(rng, fonts), int(rng.integers(22, 40)))
    spacing = float(rng.uniform(0.0, 0.25)) * font.size if rng.random() < 0.2 else 0.0
    outline = int(rng.integers(1, 3)) if rng.random() < 0.15 else 0
    places, pen = [], 0.0
    for letter in word:
        places.append(pen)
        pen += font.getlength(letter) + spacing
    ascent, descent = font.getmetrics()
    margin = 3 + outline + int(rng.integers(0, 5))
    width, height = int(pen - spacing) + 2 * margin + 2, ascent + descent + 2 * margin
    letters = Image.new('L', (width, height))
    draw = ImageDraw.Draw(letters)
    bend = float(rng.normal(0.0, 0.1)) * height if rng.random() < 0.2 else 0.0
    for letter, place in zip(word, places):
        middle = 2.0 * place / max(pen, 1.0) - 1.0
        draw.text((margin + place, margin + bend * middle * middle), letter, 255, font=font)
    edge = letters.filter(ImageFilter.MaxFilter(2 * outline + 1)) if outline else None
    background, ink = _background(rng, (width, height)), _colour(rng)
    canvas = _with_contrast(background, ink)
    picture = Image.fromarray(canvas)
    if edge is not None:
        picture.paste(tuple(int(255 - value) for value in ink), (0, 0), edge)
    elif rng.random() < 0.2:  # a shadow
        offset = (int(rng.integers(-2, 3)), int(rng.integers(-2, 3)))
        picture.paste(tuple(int(value) for value in rng.integers(0, 256, 3)), offset, letters.point(lambda v: v // 2))
    picture.paste(tuple(int(value) for value in ink), (0, 0), letters)
    picture = _crop(rng, picture, letters)
    picture = _seen_from_aside(rng, picture)
    return _photographed(rng, picture)


def _colour(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, 3)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """`[height, width, 3]` float: one colour, a run of colours, or stains."""
    width, height = size
    base = np.broadcast_to(_colour(rng).astype(np.float32), (height, width, 3)).copy()
    kind = rng.random()
    if kind < 0.4:
        return base
    if kind < 0.7:
        other, along = _colour(rng) - base[0, 0], rng.random() < 0.5
        ramp = np.linspace(0.0, rng.uniform(0.2, 0.7), width if along else height, dtype=np.float32)
        return base + (ramp[None, :, None] if along else ramp[:, None, None]) * other
    from PIL import Image

    coarse = rng.integers(0, 256, (max(height // 12, 2), max(width // 12, 2), 3)).astype(np.uint8)
    stains = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return base + rng.uniform(0.1, 0.5) * (np.asarray(stains, dtype=np.float32) - 128.0)


def _with_contrast(background: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """The background made lighter or darker where the ink would not stand out against it."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    difference = float((background @ weights).mean() - ink @ weights)
    if abs(difference) < _CONTRAST:
        lighter = ink @ weights < 128
        background = background + ((_CONTRAST - difference) if lighter else -(_CONTRAST + difference))
    return background.clip(0, 255).astype(np.uint8)


def _crop(rng: np.random.Generator, picture, letters):
    """Cuts as loosely or tightly as boxes around words are drawn."""
    left, top, right, bottom = letters.getbbox() or (0, 0, *letters.size)
    loose = rng.uniform(-0.03, 0.15, 4) * (bottom - top)
    box = (left - loose[0], top - loose[1], right + loose[2], bottom + loose[3])
    return picture.crop(
        (
            max(0, round(box[0])),
            max(0, round(box[1])),
            min(picture.width, max(round(box[2]), left + 2)),
            min(picture.height, max(round(box[3]), top + 2)),
        )
    )


def _seen_from_aside(rng: np.random.Generator, picture):
    """Moves the four corners, by up to an eighth of the height."""
    from PIL import Image

    if rng.random() < 0.4:
        return picture
    width, height = picture.size
    reach = rng.uniform(0.0, 0.12) * height
    moves = rng.uniform(-reach, reach, 8)
    corners = np.array([0, 0, 0, height, width, height, width, 0], dtype=np.float64) + moves
    return picture.transform((width, height), Image.Transform.QUAD, corners.tolist(), Image.Resampling.BILINEAR)


def _photographed(rng: np.random.Generator, picture) -> bytes:
    """Scaled, blurred, noisy and compressed."""
    from PIL import Image, ImageFilter

    height = int(rng.integers(16, 40))
    width = max(4, round(picture.width * height / picture.height * float(rng.uniform(0.8, 1.2))))
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    if rng.random() < 0.4:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0)) * height / 32))
    pixels = np.asarray(picture, dtype=np.float32)
    if rng.random() < 0.5:
        pixels = pixels + rng.normal(0.0, rng.uniform(2.0, 14.0), pixels.shape)
    pixels = (pixels - 128.0) * rng.uniform(0.5, 1.1) + 128.0 + rng.uniform(-30.0, 30.0)
    encoded = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(encoded, 'JPEG', quality=int(rng.integers(50, 96)))
    return encoded.getvalue()

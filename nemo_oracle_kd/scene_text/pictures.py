# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Reads pictures of words and their texts: files to signals, manifest rows to what a model recognises.

A picture is a signal as audio is: its grey values in [0, 1], column by column from left to right, each column from the bottom
up. A picture of height `H` and `W` columns is `[W * H]`. Frequencies are ordered in the same way, so whatever draws a spectrogram
draws the picture upright. A blank picture is silence.
"""

import contextlib
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nemo_oracle_kd.corpus.manifest import AUDIO_KEY, read_manifest

__all__ = ['FILE_KEYS', 'PictureInputs', 'PictureSize', 'picture_columns', 'read_picture', 'recognised_form']

#: of Pillow's `Resampling`; speech must not need Pillow
_BILINEAR = 2
#: keys under which a row of a manifest may name its picture; the last one is what NeMo's `transcribe()` writes
FILE_KEYS = ('image', 'image_filepath', AUDIO_KEY)


@dataclass(frozen=True)
class PictureSize:
    """The size to which pictures are brought; the ratio of the sides is kept within the limits.

    Attributes:
        height: rows.
        min_width: least number of columns; narrower pictures are stretched.
        max_width: largest number of columns; wider pictures are compressed.
    """

    height: int = 32
    min_width: int = 32
    max_width: int = 256

    def columns(self, width: int, height: int) -> int:
        """Columns of a picture that is `width` by `height` pixels large."""
        return min(max(round(width * self.height / height), self.min_width), self.max_width)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """A picture whose header has been read.

    Raises:
        ValueError: the file is no picture that Pillow can read.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}): repair it, or remove its row") from None


def read_picture(path: str | Path, size: PictureSize) -> torch.Tensor:
    """Grey values of a picture as a signal, `[columns * height]` uint8.

    Raises:
        ValueError: the file is no picture.
    """
    with _opened(path) as picture:
        grey = picture.convert('L')
    columns = size.columns(*grey.size)
    if grey.size != (columns, size.height):
        grey = grey.resize((columns, size.height), _BILINEAR)
    return torch.from_numpy(np.asarray(grey)[::-1].T.reshape(-1).copy())


def picture_columns(path: str | Path, size: PictureSize) -> int:
    """Columns that :func:`read_picture` will make of a file, of which only the header is read.

    Raises:
        ValueError: the file is no picture.
    """
    with _opened(path) as picture:
        return size.columns(*picture.size)


def recognised_form(text: str, labels: Collection[str]) -> str:
    """A text in the labels of a model: accents and all that has no label are dropped, and so is case if no label is a capital.

    With the labels 0-9 and a-z these are the texts that word accuracy in scene text recognition compares.
    """
    known = set(labels)
    plain = ''.join(c for c in unicodedata.normalize('NFKD', text) if c in known or not unicodedata.combining(c))
    if not any(c.isupper() for c in known):
        plain = plain.lower()
    return re.sub(r'\s+', ' ', ''.join(c for c in plain if c in known)).strip()


class PictureInputs:
    """Reads the rows of a manifest as pictures, with the members of `nemo_oracle_kd.evaluation.inputs.AudioInputs`.

    Args:
        size: the size of the pictures.
        labels: the labels of the model.
    """

    wording = {
        "another utterance's text": "another word's text",
        "another utterance's audio": "another word's picture",
        "the text's own audio": "the text's own picture",
        'its own audio': 'its own picture',
        'silent audio': 'blank picture',
        'silence': 'a blank picture',
        'audio branch': 'picture branch',
        'the audio': 'the picture',
        'wrong audio': 'wrong picture',
        'never hears': 'never sees',
        'nor what it hears': 'nor what it sees',
        'is heard': 'is seen',
        'heard share': 'seen share',
        'share heard': 'share seen',
        'spoken': 'written',
        'utterances': 'pictures',
        'with time': 'with the columns',
        'over time': 'over the columns',
        'frequency': 'rows',
        'mel band': 'rows',
        'seconds': 'columns / 100',
    }

    def __init__(self, size: PictureSize, labels: Collection[str]):
        self.size, self.labels = size, frozenset(labels)

    def rows(self, manifest: str | Path) -> list[dict[str, Any]]:
        """The rows of a manifest with the absolute path of the picture as `audio_filepath`, and `text` in the model's labels.

        A text of which nothing is left is empty.
        """
        rows = []
        for row in read_manifest(manifest, file_keys=FILE_KEYS, check_audio=False):
            rows.append({**row, AUDIO_KEY: row[AUDIO_KEY], 'text': recognised_form(row['text'], self.labels)})
        return rows

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Why a row has no picture; `None` if it has one."""
        try:
            picture_columns(row[AUDIO_KEY], self.size)
        except ValueError as error:
            return str(error)
        return None

    def signal(self, row: Mapping[str, Any]) -> torch.Tensor:
        """The picture as a signal, `[columns * height]` float32 in [0, 1].

        Raises:
            ValueError: the file is no picture.
        """
        return read_picture(row[AUDIO_KEY], self.size).float() / 255.0

    def file(self, row: Mapping[str, Any], folder: Path) -> str:
        """The row's file, for the model's `transcribe()`."""
        return row[AUDIO_KEY]

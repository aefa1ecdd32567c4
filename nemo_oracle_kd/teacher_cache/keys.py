# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Identifies an utterance by its manifest row, in the same way for every kind of loader.

The key stands for the file's name without folder and extension, the stretch of audio, and the text where the teacher's answer
depends on it. A corpus can therefore be moved, and a manifest may be relabelled or gain keys. Archives rename files: NeMo writes
`/data/train/a.wav` as `data_train_a.wav`, or `..._a-sub1.wav` for one of several stretches, so a row of an archive is looked for
under every end of its name.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from nemo_oracle_kd.corpus.manifest import AUDIO_KEY
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['label_sum', 'utterance_key', 'utterance_keys']

_STRETCH_OF_ARCHIVE = re.compile(r'-sub\d+$')


def utterance_key(row: Mapping[str, Any], with_text: bool) -> int:
    """The key of a row of a manifest, a whole number of 63 bits.

    Args:
        row: with `audio_filepath`, `duration` in seconds, and `offset` in seconds where there is one.
        with_text: whether another text is another utterance.
    """
    return _key(_stem(row), row, with_text)


def utterance_keys(row: Mapping[str, Any], with_text: bool, archived: bool) -> list[int]:
    """The keys under which the row of a training batch may be found, the most probable first.

    Args:
        row: as NeMo's loaders resolve it.
        with_text: as above.
        archived: whether the audio is in archives, which rename it.
    """
    stem = _stem(row)
    stems = [stem]
    if archived:
        parts = stem.split('_')
        stems += ['_'.join(parts[first:]) for first in range(1, len(parts))]
    return [_key(one, row, with_text) for one in stems if one]


def label_sum(labels: Sequence[int]) -> int:
    """Checksum of the labels of an utterance."""
    return crc32(np.asarray(labels, dtype='<i4').tobytes())


def _stem(row: Mapping[str, Any]) -> str:
    name = str(row.get(AUDIO_KEY) or '').rsplit('/', 1)[-1]
    stem = name.rsplit('.', 1)[0] if '.' in name.lstrip('.') else name
    return _STRETCH_OF_ARCHIVE.sub('', stem).replace('.', '_')


def _key(stem: str, row: Mapping[str, Any], with_text: bool) -> int:
    text = normalize_spaces(row.get('text')) if with_text else ''
    whole = f"{stem}\n{row.get('offset') or 0.0:.3f} {row['duration']:.3f}\n{text}"
    digest = hashlib.blake2b(whole.encode('utf-8', 'surrogatepass'), digest_size=8).digest()
    return int.from_bytes(digest, 'little') >> 1

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The words of synthetic pictures: words of syllables, numbers, codes, and the words of a manifest if one is given."""

import os
import re
from collections.abc import Sequence

import numpy as np

from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.corpus.texts import pick
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.scene_text.pictures import FILE_KEYS

__all__ = ['draw_word', 'words_of']

_ONSETS = (
    'b c d f g h j k l m n p r s t v w y z bl br ch cl cr dr fl fr gl gr ph pl pr qu sc sh sk sl sm sn sp st str sw th tr tw wh'
).split() + [''] * 8
_NUCLEI = 'a a e e e i i o o u ai au ay ea ee ei ey ie io oa oo ou ow oy ue y'.split()
_CODAS = (
    'b c ck d f ff g ght k l ll ld lt m mp n nd ng nk nt p r rd rk rn rt s s ss st sh t t tt th ve x z'.split()
    + [''] * 14
)
_ENDINGS = ['', '', '', 's', 'ed', 'er', 'ers', 'ing', 'ion', 'ly', 'al', 'e', 'es', 'ness', 'y']
_SYMBOLS = 'abcdefghijklmnopqrstuvwxyz0123456789'


def draw_word(rng: np.random.Generator, words: Sequence[str] = ()) -> str:
    """Draws a word as it is to be rendered: in small letters, in capitals, or with a capital.

    Args:
        rng: source of every choice.
        words: words of which two in three are taken; empty for none.
    """
    kind = rng.random()
    if words and kind < 0.66:
        return _cased(rng, str(pick(rng, words)))
    kind = rng.random()
    if kind < 0.68:
        syllables = 1 + int(rng.random() < 0.6) + int(rng.random() < 0.1)
        word = ''.join(pick(rng, _ONSETS) + pick(rng, _NUCLEI) + pick(rng, _CODAS) for _ in range(syllables))
        return _cased(rng, (word + pick(rng, _ENDINGS))[:14])
    if kind < 0.84:
        return ''.join(str(digit) for digit in rng.integers(0, 10, 1 + int(rng.geometric(0.4))))[:8]
    length = 1 + min(int(rng.geometric(0.35)), 7)
    return _cased(rng, ''.join(pick(rng, _SYMBOLS) for _ in range(length)))


def _cased(rng: np.random.Generator, word: str) -> str:
    share = rng.random()
    return word.upper() if share < 0.45 else word.capitalize() if share < 0.75 else word


def words_of(manifest: str | os.PathLike) -> tuple[str, ...]:
    """The different words of letters and digits in the texts of a manifest, in small letters and in order.

    Raises:
        ManifestError: the manifest cannot be read.
        ConfigError: it has no such word.
    """
    rows = read_manifest(manifest, check_audio=False, file_keys=FILE_KEYS)
    words = tuple(sorted({word for row in rows for word in re.findall('[a-z0-9]+', row['text'].lower())}))
    if not words:
        raise ConfigError(f"--words: {os.fspath(manifest)} has no word of letters or digits: give another manifest")
    return words

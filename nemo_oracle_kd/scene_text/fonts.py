# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Finds fonts that come with Python packages: those of matplotlib, and those of font packages (entry points `fonts_ttf`)."""

import hashlib
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

from nemo_oracle_kd.errors import ConfigError

__all__ = ['find_fonts', 'fonts_fingerprint']

#: beginnings of the names of matplotlib's fonts that have letters and digits in their usual places
_MATPLOTLIB = ('DejaVuSans', 'DejaVuSerif', 'STIXGeneral', 'cmb10', 'cmr10', 'cmss10', 'cmtt10')
#: fonts of symbols, in which a word could not be read
_SYMBOLS = ('awesome', 'Display.ttf')


def find_fonts() -> list[Path]:
    """The TrueType fonts of the environment, in order of their names.

    Raises:
        ConfigError: there is none.
    """
    found = {path.name: path for path in (files('matplotlib') / 'mpl-data' / 'fonts' / 'ttf').iterdir()}
    found = {name: path for name, path in found.items() if name.endswith('.ttf') and name.startswith(_MATPLOTLIB)}
    for entry in entry_points(group='fonts_ttf'):
        named = entry.load()
        found.update((Path(path).name, Path(path)) for path in (named.values() if hasattr(named, 'values') else named))
    fonts = [Path(found[name]) for name in sorted(found) if not any(part in name for part in _SYMBOLS)]
    if not fonts:
        raise ConfigError("no font was found: pip install 'nemo_oracle_kd[scene_text]'")
    return fonts


def fonts_fingerprint(fonts: list[Path]) -> str:
    """Short hash of the names and contents of fonts."""
    digest = hashlib.sha256()
    for path in fonts:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]

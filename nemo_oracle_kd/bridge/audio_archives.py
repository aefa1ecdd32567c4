# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Finds the audio of manifest rows in the archives of NeMo's tarred data sets, and that of cuts in Lhotse Shar.

An archive is indexed once by its headers. The audio of one utterance is then read from its place, in any order.
"""

import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nemo_oracle_kd.bridge.audio import ArchivedAudio, AudioSpan
from nemo_oracle_kd.errors import ConfigError

__all__ = ['TarredAudio', 'expand_archives', 'index_archive']

#: how Lhotse finds the number of a shard in the name of its archive
_NUMBER = re.compile(r'audio[^/]*_(\d+)[^/]*\.tar')
#: the end that NeMo gives to one of several utterances of a recording
_PART = re.compile(r'-sub\d+$')
#: members of a Shar that describe the audio, or stand for one that is missing
_NO_AUDIO = ('.json', '.nodata', '.nometa')


def expand_archives(paths: Iterable[str]) -> list[str]:
    """Paths of archives, also from NeMo's notation for ranges (`audio_{0..7}.tar`, `audio__OP_0..7_CL_.tar`).

    Raises:
        ConfigError: there is no such file.
    """
    from nemo.collections.asr.data.audio_to_text import expand_sharded_filepaths

    found = []
    for path in paths:
        found += expand_sharded_filepaths(path, shard_strategy='replicate', world_size=1, global_rank=0)
    ConfigError.raise_if_any(
        f"there is no archive {path!r}: give the .tar files of the data set, as in model.train_ds.tarred_audio_filepaths"
        for path in found
        if not os.path.isfile(path)
    )
    return found


def index_archive(path: str) -> Iterator[tuple[str, ArchivedAudio]]:
    """Yields the members of an archive that hold audio: name and place.

    Raises:
        ConfigError: the file is compressed, or not a tar archive.
    """
    try:
        with tarfile.open(path, 'r:') as archive:  # uncompressed, or a member could not be read from its place
            for member in archive:
                if member.isfile() and not member.name.endswith(_NO_AUDIO):
                    name = member.name.removeprefix('./')
                    yield name, ArchivedAudio(path, name, member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise ConfigError(
            f"{path} cannot be read as an uncompressed tar archive ({error}): correct the path"
        ) from None


class TarredAudio:
    """The audio of a tarred data set of NeMo.

    A row belongs to the member that its `audio_filepath` names, as NeMo matches them: by the name without folder and ending. If the
    rows have a `shard_id` and the archives are numbered, only the archive of that number is looked at.

    Args:
        archives: paths of the archives.

    Raises:
        ConfigError: an archive cannot be read.
    """

    def __init__(self, archives: Iterable[str]):
        self._members: dict[tuple[int | None, str], ArchivedAudio] = {}
        for path in archives:
            number = _NUMBER.search(path)
            for name, audio in index_archive(path):
                self._members.setdefault((None, _stem(name)), audio)
                if number is not None:
                    self._members[int(number[1]), _stem(name)] = audio

    def span(self, row: Mapping[str, Any]) -> AudioSpan:
        """The stretch of audio that a row describes.

        Raises:
            KeyError: no archive holds it.
        """
        stem, shard = _stem(row['audio_filepath']), row.get('shard_id')
        whole = _PART.sub('', stem)
        for key in ((shard, stem), (shard, whole), (None, stem), (None, whole)):
            if key in self._members:
                return AudioSpan(self._members[key], float(row.get('offset') or 0.0), row.get('duration'))
        raise KeyError(f"no archive holds {row['audio_filepath']}")

    def problems(self, rows: Iterable[Mapping[str, Any]], manifest: str | Path) -> Iterator[str]:
        """Yields a sentence if the archives lack the audio of some rows."""
        missing, total = [], 0
        for row in rows:
            total += 1
            try:
                self.span(row)
            except KeyError:
                missing.append(row['audio_filepath'])
        if missing:
            yield (
                f"the audio of {len(missing)} of {total} rows of {manifest} (the first: {missing[0]}) is in none of the archives: give "
                "all archives of the data set, or leave --tarred-audio-filepaths out if the audio is in files"
            )


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]

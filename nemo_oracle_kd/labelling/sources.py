# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Speech to be labelled: rows, and where their audio is. It comes from files, from NeMo's tarred data sets or from Lhotse Shar."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_oracle_kd.bridge.audio import AudioSpan
from nemo_oracle_kd.bridge.audio_archives import TarredAudio, expand_archives
from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.errors import ConfigError

__all__ = ['SpeechSource', 'content_hash', 'manifest_source', 'tarred_source']


@dataclass(frozen=True)
class SpeechSource:
    """Utterances.

    Attributes:
        name: for messages.
        inputs: files that must not be written to.
        rows: of a manifest, in order.
        sha256: hash of the manifest, by which an interrupted run recognises it.
        span: finds the audio of a row; raises `KeyError` if there is none.
    """

    name: str
    inputs: tuple[str, ...]
    rows: list[dict[str, Any]]
    sha256: str
    span: Callable[[Mapping[str, Any]], AudioSpan] = AudioSpan.of_row


def manifest_source(path: str | Path, require_text: bool = False) -> SpeechSource:
    """The utterances of a manifest whose audio is in files.

    Args:
        path: the manifest.
        require_text: refuse rows without a transcript.

    Raises:
        ValueError: a manifest that cannot be used.
    """
    rows = read_manifest(path, require_text=require_text)
    return SpeechSource(str(path), (str(path),), rows, content_hash([path]))


def tarred_source(path: str | Path, archives: Sequence[str], require_text: bool = False) -> SpeechSource:
    """The utterances of a manifest whose audio is in archives.

    Args:
        path: the manifest.
        archives: paths or ranges of paths, as in `model.train_ds.tarred_audio_filepaths`.
        require_text: refuse rows without a transcript.

    Raises:
        ValueError: a manifest that cannot be used, or archives that lack the audio of some rows.
    """
    paths = expand_archives(archives)
    rows = read_manifest(path, require_text=require_text, check_audio=False, archived=True)
    audio = TarredAudio(paths)
    ConfigError.raise_if_any(audio.problems(rows, path))
    return SpeechSource(str(path), (str(path), *paths), rows, content_hash([path]), audio.span)


def content_hash(paths: Sequence[str | Path]) -> str:
    """SHA-256 of the content of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()

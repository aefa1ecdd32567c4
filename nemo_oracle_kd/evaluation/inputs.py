# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""How the rows of a manifest become the input of a model: as audio, or by rules of the model's own.

A model whose rows are no audio has an attribute `inputs` with the members of :class:`AudioInputs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import soundfile
import torch

from nemo_oracle_kd.bridge.audio import AudioSpan, read_audio
from nemo_oracle_kd.corpus.manifest import read_manifest

__all__ = ['AudioInputs', 'inputs_of', 'reworded']

#: a `duration` that ends less than this many seconds before its file covers the whole file, because manifests round it
_ROUNDING = 0.005


class AudioInputs:
    """Reads the rows of a manifest as audio.

    Args:
        sample_rate: of the model, Hz.
    """

    #: phrases about audio in tables and verdicts -> what they are called for these inputs
    wording: Mapping[str, str] = {}

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate

    def rows(self, manifest: str | Path) -> list[dict[str, Any]]:
        """The rows of a manifest with the absolute path of the file as `audio_filepath`, and `text` as the model writes it."""
        return read_manifest(manifest)

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Why a row has no input, which would otherwise be counted as an error of the model; `None` if it has one."""
        path = row['audio_filepath']
        try:
            info = soundfile.info(path)
        except (OSError, soundfile.LibsndfileError):
            return f"{path} cannot be read as audio"
        offset = row.get('offset') or 0.0
        if offset * info.samplerate >= info.frames:
            return f"{path} has {info.duration:g} s of audio and an offset of {offset:g} s"
        return None

    def signal(self, row: Mapping[str, Any]) -> torch.Tensor:
        """What the model's preprocessor reads, `[S]`.

        Raises:
            ValueError: the file cannot be read, or holds nothing there.
        """
        return read_audio(AudioSpan.of_row(row), self.sample_rate)

    def file(self, row: Mapping[str, Any], folder: Path) -> str:
        """A file for the model's `transcribe()` with exactly the row's audio in one channel: its own, or a new one in a folder.

        Parts of a file are passed as files because NeMo pads waveforms shorter than a second with silence, but not files.
        """
        span, info = AudioSpan.of_row(row), soundfile.info(row['audio_filepath'])
        whole = not span.offset and (span.duration is None or span.duration >= info.duration - _ROUNDING)
        # only samples that are stored as floats can be NaN
        if whole and info.channels == 1 and info.subtype not in ('FLOAT', 'DOUBLE'):
            return span.path
        signal = read_audio(AudioSpan(span.path) if whole else span, self.sample_rate)
        path = folder / f'{len(list(folder.iterdir()))}.wav'
        soundfile.write(path, signal.numpy(), self.sample_rate, subtype='FLOAT')
        return str(path)


def inputs_of(model: Any) -> AudioInputs:
    """How a model reads the rows of a manifest.

    Args:
        model: a NeMo ASR model.
    """
    own = getattr(model, 'inputs', None)
    if own is not None:
        return own
    return AudioInputs(int(model.cfg.get('sample_rate', model.cfg.preprocessor.get('sample_rate', 16000))))


def reworded(text: str, wording: Mapping[str, str]) -> str:
    """A text with the phrases about audio in the words of other inputs, the longest phrases first."""
    for phrase in sorted(wording, key=len, reverse=True):
        text = text.replace(phrase, wording[phrase])
    return text

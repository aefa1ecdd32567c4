# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Reads audio files into batches, as NeMo reads them for training.

A `duration` shorter than the file limits what is read, so a teacher gets exactly the audio that trains the student.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import torch

from nemo_oracle_kd.bridge.signals import AudioBatch, Transcripts

__all__ = ['ArchivedAudio', 'AudioSpan', 'audio_batch', 'audio_seconds', 'read_audio', 'silence_like']


@dataclass(frozen=True)
class ArchivedAudio:
    """An audio file inside an uncompressed archive.

    Attributes:
        archive: path of the archive.
        name: of the member.
        start: first byte of its content.
        size: in bytes.
    """

    archive: str
    name: str
    start: int
    size: int

    def open(self) -> BytesIO:
        """The content of the file."""
        with open(self.archive, 'rb') as archive:
            archive.seek(self.start)
            return BytesIO(archive.read(self.size))

    def __str__(self) -> str:
        return f'{self.name} in {self.archive}'


@dataclass(frozen=True)
class AudioSpan:
    """A stretch of an audio file.

    Attributes:
        path: the file, which may be in an archive.
        offset: where it begins, in seconds.
        duration: its length in seconds; `None` for all the rest.
    """

    path: str | ArchivedAudio
    offset: float = 0.0
    duration: float | None = None

    @property
    def file(self) -> Any:
        """What readers of audio take: the path, or the content of a file in an archive."""
        return self.path.open() if isinstance(self.path, ArchivedAudio) else self.path

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> 'AudioSpan':
        """The stretch of audio that a manifest row describes, as NeMo reads it for training."""
        return cls(row['audio_filepath'], float(row.get('offset') or 0.0), row.get('duration'))


def audio_seconds(span: AudioSpan) -> float:
    """Length of a stretch in seconds, read from the file if `duration` is not given."""
    if span.duration is not None:
        return float(span.duration)
    import soundfile

    return max(0.0, float(soundfile.info(span.file).duration) - span.offset)


def read_audio(span: AudioSpan, sample_rate: int) -> torch.Tensor:
    """Samples `[S]` in [-1, 1], mixed to one channel and resampled.

    Raises:
        ValueError: if the file cannot be read, or if there are no samples or some are not finite.
    """
    from nemo.collections.asr.parts.preprocessing.segment import AudioSegment

    try:
        segment = AudioSegment.from_file(
            span.file,
            target_sr=sample_rate,
            offset=span.offset,
            duration=span.duration or 0,  # 0: to the end
            channel_selector='average',
        )
    except Exception as error:  # soundfile, pydub and ffmpeg raise different errors
        if _begins_behind_the_end(span):
            raise ValueError(_no_audio(span)) from None
        raise ValueError(f"{span.path} cannot be read as audio: {error}") from error
    if len(segment.samples) == 0:
        raise ValueError(_no_audio(span))
    samples = torch.as_tensor(segment.samples, dtype=torch.float32)
    if not bool(samples.isfinite().all()):
        raise ValueError(f"{span.path} holds samples that are not finite numbers (NaN or infinite): mend the file")
    return samples


def _no_audio(span: AudioSpan) -> str:
    return f"{span.path} holds no audio at {span.offset:g} s: mend the offset, or remove the row from the manifest"


def _begins_behind_the_end(span: AudioSpan) -> bool:
    import soundfile

    try:
        return span.offset >= soundfile.info(span.file).duration
    except (OSError, soundfile.LibsndfileError):
        return False


def silence_like(signal: torch.Tensor, lengths: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
    """Faint white noise (-80 dB of full scale) in the shape of `signal` `[B, S]`, always the same for a seed.

    Zeros, or noise below the floor of the logarithm, would not do: the features would be constant, and their normalisation
    would divide rounding errors by their own standard deviation.

    Args:
        signal: waveforms.
        lengths: `[B]` valid samples.
        seeds: one per utterance.
    """
    silence = torch.zeros(signal.shape)
    for row, seed in enumerate(seeds):
        length = int(lengths[row])
        silence[row, :length] = 1e-4 * torch.randn(length, generator=torch.Generator().manual_seed(seed))
    return silence.to(signal)


def audio_batch(signals: Sequence[torch.Tensor], device: Any = 'cpu') -> AudioBatch:
    """Pads signals `[S]` to a batch without transcripts, on the given device."""
    lengths = torch.tensor([len(signal) for signal in signals])
    signal = torch.nn.utils.rnn.pad_sequence(list(signals), batch_first=True)
    no_labels = torch.zeros(len(signals), 0, dtype=torch.long)
    no_lengths = torch.zeros(len(signals), dtype=torch.long)
    return AudioBatch(signal.to(device), lengths.to(device), Transcripts(no_labels.to(device), no_lengths.to(device)))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What can be kept of a teacher's answers: the interface of a signal, and the registry."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from nemo_oracle_kd.bridge.model import TransducerFacts
from nemo_oracle_kd.bridge.signals import EncodedAudio, Transcripts
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.teacher_cache.index import CacheOptions
from nemo_oracle_kd.teacher_cache.shards import Field, Utterance

__all__ = ['PADDING', 'CachedSignal', 'Measured', 'Record', 'padded']

#: field -> values of one utterance
Record = dict[str, Tensor]
#: statistic -> its values over the frames, cells or utterances of a batch
Measured = dict[str, Tensor]


#: statistic of every signal: what the padding of a batch changes in a frame
PADDING = 'padding'


class CachedSignal(ABC):
    """A signal of a teacher as it is kept on disk.

    Args:
        options: what is kept.
        classes: number of outputs of the head, blank included and durations left out.
        facts: of the teacher's transducer.

    Attributes:
        name: in a config and on the command line, together with `head`.
        head: the head of the teacher that gives it.
        family: of the objectives that it serves.
        reads_text: whether it depends on the transcript, also of a teacher that reads audio alone.
        unit: what a row of the data is.
    """

    name: ClassVar[str]
    head: ClassVar[str]
    family: ClassVar[str] = 'frame'
    reads_text: ClassVar[bool] = False
    unit: ClassVar[str] = 'frame'

    def __init__(self, options: CacheOptions, classes: int, facts: TransducerFacts):
        self.options, self.classes, self.facts = options, classes, facts
        self.number = 'F16' if options.dtype == 'float16' else 'F32'
        self.ids = 'I16' if classes <= 2**15 else 'I32'

    @property
    @abstractmethod
    def fields(self) -> dict[str, Field]:
        """The tensors of its data."""

    def rows(self, frames: int, labels: int) -> int:
        """Rows of an utterance of so many frames and labels."""
        return frames

    @abstractmethod
    def record(self, model: Any, audio: EncodedAudio, transcripts: Transcripts) -> tuple[list[Record], Measured]:
        """What is kept of a batch, and statistics of what is not.

        Args:
            model: the teacher.
            audio: its outputs.
            transcripts: labels of the texts; of length 0 where they are not needed.
        """

    @abstractmethod
    def answer(self, utterances: Sequence[Utterance], transcripts: Transcripts) -> EncodedAudio:
        """The outputs of the teacher for a batch, on the device of the transcripts."""

    def bounds(self, measured: Mapping[str, tuple[float, float]]) -> list[str]:
        """Sentences that say how far training from the cache may be from training beside the teacher.

        Args:
            measured: statistic -> mean and largest value.
        """
        digits = 2.0**-11 if self.number == 'F16' else 2.0**-24
        mean, largest = measured.get(PADDING, (0.0, 0.0))
        of = (
            'probabilities of a frame (sum of absolute values)'
            if self.head == 'ctc'
            else "encoder's output in a frame (relative)"
        )
        return [
            f"numbers are kept as {self.options.dtype}, with a relative error of at most {digits:.0e}",
            f"the padding of a batch, which is another one in training, changes the {of} by {mean:.2g} on average and {largest:.2g} at "
            "most, measured on the longest utterances of each file",
        ]

    def stored(self, record: Mapping[str, Tensor]) -> Record:
        """A record in the types of the fields.

        Raises:
            ConfigError: numbers are too large for the type.
        """
        kept = {name: field.stored(record[name]) for name, field in self.fields.items()}
        for name, values in kept.items():
            if values.is_floating_point() and not bool(values.isfinite().all()):
                raise ConfigError(
                    f"the teacher's {name} exceed the numbers of {self.options.dtype}: use --dtype float32"
                )
        return kept

    def check(self, utterance: Utterance) -> None:
        """Refuses an utterance whose counts contradict each other.

        Raises:
            ConfigError: they do.
        """
        rows = len(next(iter(utterance.data.values())))
        if rows != self.rows(utterance.frames, utterance.labels):
            raise ConfigError(
                "the cache holds an utterance whose lengths contradict each other: copy the cache again, or cache the teacher again"
            )


def padded(parts: Sequence[Tensor], device: Any, shape: tuple[int, ...] | None = None) -> Tensor:
    """Tensors `[R, ...]` of single utterances as one `[B, R', ...]`, zero in the padding, float32 or int64.

    Args:
        parts: one per utterance.
        device: of the result.
        shape: padded sizes of the leading dimensions after the batch; that of the largest part by default.
    """
    dims = 1 if shape is None else len(shape)
    sizes = (max((len(part) for part in parts), default=0),) if shape is None else shape
    dtype = torch.float32 if parts[0].is_floating_point() else torch.int64
    whole = torch.zeros(len(parts), *sizes, *parts[0].shape[dims:], dtype=dtype)
    for row, part in zip(whole, parts):
        row[tuple(slice(0, size) for size in part.shape[:dims])] = part.to(dtype)
    return whole.to(device)

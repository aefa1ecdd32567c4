# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A shard of a cache: one `safetensors` file with the answers to some hundred utterances.

The answers of all utterances follow each other in tensors `data.<field>` `[R, columns]`; a row is a frame, a cell or a step of a
path. Beside them, per utterance: `keys` (see `keys.py`), `frames`, `labels` (their number), `label_sums`, `rows` of the data, and
`checks`, a checksum of its data. `safetensors` holds numbers alone and is read through a memory map, so that nothing in a file is
run and an utterance is read without the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from nemo_oracle_kd.errors import ConfigError

__all__ = ['Field', 'Shard', 'Utterance', 'shard_bytes']

_DTYPES = {'F16': torch.float16, 'F32': torch.float32, 'I16': torch.int16, 'I32': torch.int32, 'I64': torch.int64}
#: per utterance: name -> type
_PER_UTTERANCE = {'keys': 'I64', 'frames': 'I32', 'labels': 'I32', 'label_sums': 'I64', 'rows': 'I32', 'checks': 'I64'}


@dataclass(frozen=True)
class Field:
    """One tensor of the data.

    Attributes:
        columns: numbers per row.
        dtype: `F16`, `F32`, `I16` or `I32`, as `safetensors` names it.
        below: upper limit of a field of ids; `None` for other numbers.
    """

    columns: int
    dtype: str
    below: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes per row."""
        return self.columns * _DTYPES[self.dtype].itemsize

    def stored(self, values: Tensor) -> Tensor:
        """Values `[R, columns]` as they are stored."""
        return values.reshape(-1, self.columns).to('cpu', _DTYPES[self.dtype]).contiguous()


@dataclass(frozen=True)
class Utterance:
    """What is kept of one utterance.

    Attributes:
        key: see `keys.py`.
        frames: valid frames of the teacher.
        labels: number of labels of its text, where the answer depends on it.
        label_sum: checksum of these labels.
        data: field -> `[rows, columns]`, in the types of the fields.
    """

    key: int
    frames: int
    labels: int
    label_sum: int
    data: Mapping[str, Tensor]


def shard_bytes(utterances: Sequence[Utterance], fields: Mapping[str, Field]) -> bytes:
    """The content of a shard; the same utterances give the same bytes."""
    from safetensors.torch import save

    tensors = {f'data.{name}': torch.cat([one.data[name] for one in utterances]) for name in fields}
    first = next(iter(fields))
    columns = {
        'keys': [one.key for one in utterances],
        'frames': [one.frames for one in utterances],
        'labels': [one.labels for one in utterances],
        'label_sums': [one.label_sum for one in utterances],
        'rows': [len(one.data[first]) for one in utterances],
        'checks': [_check(one.data, fields) for one in utterances],
    }
    tensors |= {name: torch.tensor(values, dtype=_DTYPES[_PER_UTTERANCE[name]]) for name, values in columns.items()}
    return save(tensors)


def _check(data: Mapping[str, Tensor], fields: Mapping[str, Field]) -> int:
    total = 0
    for name in fields:
        total = crc32(data[name].contiguous().numpy().tobytes(), total)
    return total


class Shard:
    """A shard that is read. The header is read at once, and the data of an utterance when it is asked for.

    Args:
        path: of the file.
        fields: the data that it must hold.
        size: its length in bytes.
        count: number of its utterances.

    Raises:
        ConfigError: the file is missing, is not the one that the index describes, or is damaged.
    """

    def __init__(self, path: Path, fields: Mapping[str, Field], size: int, count: int):
        self.path, self._fields = path, fields
        try:
            actual = path.stat().st_size
        except OSError:
            raise self._damaged("is missing") from None
        if actual != size:
            raise self._damaged(f"has {actual} bytes instead of {size}")
        self._file = self._open()
        columns = {name: self._whole(name, (count,)) for name in _PER_UTTERANCE}
        self.keys, self.frames, self.labels, self.label_sums, self._rows, self._checks = columns.values()
        if any(len(values) and int(values.min()) < 0 for values in columns.values()):
            raise self._damaged("has negative lengths")
        self._ends = np.cumsum(self._rows, dtype=np.int64)
        rows = int(self._ends[-1]) if count else 0
        for name, field in fields.items():
            self._expect(f'data.{name}', (rows, field.columns), field.dtype)

    def _open(self) -> Any:
        from safetensors import safe_open

        try:
            return safe_open(str(self.path), framework='pt', device='cpu')
        except Exception as error:  # the library's own error, and OSError
            raise self._damaged(f"cannot be read ({str(error).splitlines()[0][:120]})") from None

    def _expect(self, name: str, shape: tuple[int, ...], dtype: str) -> Any:
        try:
            found = self._file.get_slice(name)
        except Exception:
            raise self._damaged(f"lacks the tensor {name}") from None
        if tuple(found.get_shape()) != shape or found.get_dtype() != dtype:
            raise self._damaged(
                f"holds {name} as {found.get_dtype()} {found.get_shape()} instead of {dtype} {list(shape)}"
            )
        return found

    def _whole(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return self._expect(name, shape, _PER_UTTERANCE[name])[:].numpy()

    def _damaged(self, what: str) -> ConfigError:
        return ConfigError(
            f"{self.path} {what}: copy the cache again, or delete the file and repeat `nemo-oracle-kd cache`, which makes what is "
            "missing"
        )

    def read(self, position: int) -> Utterance:
        """One utterance.

        Raises:
            ConfigError: its data are damaged.
        """
        end, rows = int(self._ends[position]), int(self._rows[position])
        data = {}
        for name in self._fields:
            part = self._file.get_slice(f'data.{name}')[end - rows : end]
            data[name] = part if part.is_contiguous() else part.contiguous()
        if _check(data, self._fields) != int(self._checks[position]):
            raise self._damaged(f"is damaged at its utterance {position}")
        for name, field in self._fields.items():
            self._check_numbers(name, field, data[name])
        counts = int(self.frames[position]), int(self.labels[position]), int(self.label_sums[position])
        return Utterance(int(self.keys[position]), *counts, data)

    def _check_numbers(self, name: str, field: Field, values: Tensor) -> None:
        """A checksum is no protection against numbers that were made wrong on purpose; an id out of range would end the process."""
        if field.below is None:
            sound = bool(values.isfinite().all())
        else:
            sound = not values.numel() or (int(values.min()) >= 0 and int(values.max()) < field.below)
        if not sound:
            raise self._damaged(f"holds numbers in {name} that cannot be those of a teacher")

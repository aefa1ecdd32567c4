# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The data set of word pictures: manifest rows to batches of the layout that NeMo's CTC models train on."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from nemo.utils import logging
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from nemo_oracle_kd.corpus.manifest import AUDIO_KEY
from nemo_oracle_kd.scene_text.pictures import PictureInputs, picture_columns, read_picture

__all__ = ['WidthBuckets', 'WordPictures', 'make_loader']

#: batches whose pictures are sorted by width together
_BUCKET_BATCHES = 20


class WordPictures(Dataset):
    """Pictures of words with their labels.

    A picture that was read stays in memory, up to a limit over all pictures: small files are decoded more slowly than they are
    recognised.

    Args:
        manifests: manifests that are read together.
        inputs: how rows become signals and texts.
        labels: the labels of the model, in order.
        need_text: leave out rows of whose text nothing is left, and say how many.
        cache_mb: memory for pictures that have been read.

    Raises:
        ValueError: a file that is no picture, or no row with a text.
        ManifestError: a manifest that cannot be used.
    """

    def __init__(
        self,
        manifests: Sequence[str | Path],
        inputs: PictureInputs,
        labels: Sequence[str],
        need_text: bool = True,
        cache_mb: float = 1024.0,
    ):
        self.inputs = inputs
        numbers = {label: number for number, label in enumerate(labels)}
        rows = [row for manifest in manifests for row in inputs.rows(manifest)]
        kept = [row for row in rows if row['text']] if need_text else rows
        if len(kept) < len(rows):
            logging.warning(
                f"{len(rows) - len(kept)} of {len(rows)} pictures are left out, because no label of the model is in their text."
            )
        if not kept:
            raise ValueError(
                f"no row of {', '.join(map(str, manifests))} has a text that the model can write: give others, or other labels"
            )
        self.paths = [row[AUDIO_KEY] for row in kept]
        self.labels = [torch.tensor([numbers[c] for c in row['text']], dtype=torch.long) for row in kept]
        bar = tqdm(self.paths, desc='measuring pictures', unit='file', delay=3, leave=False)
        self.columns = [picture_columns(path, inputs.size) for path in bar]
        self._cache: dict[int, torch.Tensor] = {}
        self._room = int(cache_mb * 2**20)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Grey values `[S]` uint8 and labels `[U]`."""
        signal = self._cache.get(index)
        if signal is None:
            signal = read_picture(self.paths[index], self.inputs.size)
            if signal.numel() <= self._room:
                self._room -= signal.numel()
                self._cache[index] = signal
        return signal, self.labels[index]

    @staticmethod
    def collate(items: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, ...]:
        """Signals `[B, S]` in [0, 1], their lengths, labels `[B, U]` and theirs, as NeMo's loaders yield them."""
        signals, labels = [item[0] for item in items], [item[1] for item in items]
        return (
            torch.nn.utils.rnn.pad_sequence(signals, batch_first=True).float() / 255.0,
            torch.tensor([len(signal) for signal in signals]),
            torch.nn.utils.rnn.pad_sequence(labels, batch_first=True),
            torch.tensor([len(one) for one in labels]),
        )


class WidthBuckets(Sampler):
    """A random order in which the pictures of a batch are about equally wide.

    Args:
        columns: width of each picture.
        batch_size: pictures of a batch.
    """

    def __init__(self, columns: Sequence[int], batch_size: int):
        self.columns, self.batch_size = torch.tensor(columns), batch_size

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[int]:
        batches = []
        for part in torch.randperm(len(self)).split(_BUCKET_BATCHES * self.batch_size):
            # the remainder that fills no batch must not always be the widest pictures
            part = part[torch.randperm(len(part))]
            whole = len(part) - len(part) % self.batch_size
            ordered = part[:whole][self.columns[part[:whole]].argsort()]
            batches += [*ordered.split(self.batch_size), *([part[whole:]] if whole < len(part) else [])]
        short = [batch for batch in batches if len(batch) < self.batch_size]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        for number in torch.randperm(len(full)).tolist():
            yield from full[number].tolist()
        for batch in short:
            yield from batch.tolist()


def make_loader(config: Mapping[str, Any], inputs: PictureInputs, labels: Sequence[str]) -> DataLoader:
    """Makes the loader of a data section of a model's config.

    Args:
        config: `manifest_filepath` (one, several with commas, or a list), `batch_size`, `shuffle`, and optionally `drop_last`,
            `num_workers`, `pin_memory`, `cache_mb`.
        inputs: how rows become signals and texts.
        labels: the labels of the model, in order.

    Raises:
        ValueError: a manifest or a picture that cannot be used.
    """
    paths = config['manifest_filepath']
    manifests = [path for path in paths.split(',') if path] if isinstance(paths, str) else list(paths)
    shuffle, size = bool(config.get('shuffle', False)), int(config['batch_size'])
    pictures = WordPictures(manifests, inputs, labels, shuffle, float(config.get('cache_mb', 1024.0)))
    return DataLoader(
        pictures,
        batch_size=size,
        sampler=WidthBuckets(pictures.columns, size) if shuffle else None,
        collate_fn=pictures.collate,
        drop_last=bool(config.get('drop_last', False)),
        num_workers=int(config.get('num_workers', 0)),
        pin_memory=bool(config.get('pin_memory', False)) and torch.cuda.is_available(),
    )

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Makes NeMo's and Lhotse's data sets tell which utterances a batch holds, and finds the manifest rows of these."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Union

import numpy as np

from nemo_oracle_kd.bridge.rows.lines import Visitor, read_through
from nemo_oracle_kd.bridge.rows.manifests import training_manifests
from nemo_oracle_kd.bridge.rows.matching import LinesOfEntries, Matcher, RowTable
from nemo_oracle_kd.errors import ConfigError

__all__ = ['LhotseRows', 'NativeRows', 'Row', 'find_row_source', 'row_of_cut']

Row = dict[str, Any]
_TRACEABLE = "NeMo's native data sets (also concatenated, bucketed or tarred) and Lhotse can tell which utterances a batch holds"
#: options of Lhotse that cut or join the utterances of the manifest
_CUTTING = (
    'concatenate_samples',
    'truncate_duration',
    'cut_into_windows_duration',
    'cut_text_into_windows_tokens',
)


def find_row_source(loader: Any, model: Any) -> Union['NativeRows', 'LhotseRows']:
    """Finds the rows behind a training loader.

    Raises:
        ConfigError: if the loader cannot tell which utterances a batch holds.
    """
    from nemo.collections.asr.data.audio_to_text_lhotse import LhotseSpeechToTextBpeDataset

    dataset = getattr(loader, 'dataset', None)
    mapping = getattr(dataset, 'dataset', dataset)
    if isinstance(mapping, LhotseSpeechToTextBpeDataset):
        _check_whole_utterances(model.cfg.get('train_ds') or {})
        return LhotseRows(mapping, model.cfg.get('train_ds'))
    leaves: list[Any] = []
    if not _collect(dataset, leaves):
        kind = type(loader if dataset is None else dataset).__name__
        raise ConfigError(
            f"`model.train_ds` makes a {kind}, whose batches cannot be matched with the rows of a manifest; {_TRACEABLE}: "
            "take use_dali, hf_data_cfg, is_code_switched and prompts out of model.train_ds, or train without stored scores"
        )
    return NativeRows(leaves, model.cfg.train_ds)


def _check_whole_utterances(config: Any) -> None:
    found = [name for name in _CUTTING if config.get(name, None)]
    if found:
        raise ConfigError(
            f"`model.train_ds.{found[0]}` joins or cuts utterances, but a manifest row describes a whole utterance: remove the option"
        )
    if config.get('multi_config', False):
        for part in config.values():
            if isinstance(part, Mapping):
                _check_whole_utterances(part)


def _collect(dataset: Any, leaves: list[Any]) -> bool:
    """Collects the data sets that read manifests, below those that join them. Returns whether there are no others."""
    from nemo.collections.asr.data.audio_to_text import BucketingDataset, _AudioTextDataset, _TarredAudioToTextDataset
    from nemo.collections.common.data.dataset import ConcatDataset
    from torch.utils.data import ChainDataset, Subset

    if isinstance(dataset, (_AudioTextDataset, _TarredAudioToTextDataset)):
        if all(dataset is not leaf for leaf in leaves):  # a bucket with a weight occurs several times
            leaves.append(dataset)
        return True
    if isinstance(dataset, BucketingDataset):
        return _collect(dataset.wrapped_dataset, leaves)
    if isinstance(dataset, Subset):  # NeMo's ConcatDataset turns its parts into these
        return _collect(dataset.dataset, leaves)
    if isinstance(dataset, (ConcatDataset, ChainDataset)):
        return all(_collect(part, leaves) for part in dataset.datasets)
    return False


class NativeRows:
    """Rows of NeMo's own data sets. Utterances have consecutive numbers over all data sets that read manifests."""

    def __init__(self, leaves: Sequence[Any], config: Any):
        self.leaves = list(leaves)
        self.entries = LinesOfEntries([leaf.manifest_processor.collection for leaf in self.leaves])
        self.before: list[tuple[bool, Any]] = []
        self.manifests = training_manifests(config)
        self.sharded = bool(config.get('shard_manifests', False))
        self.table: RowTable | None = None
        self.unmatched: list[str] = []

    def read(self, visitors: Sequence[Visitor] = (), mark: str | None = None) -> list[str]:
        """Reads the manifests once, finds the line of each entry, and shows the lines to visitors.

        Returns:
            Messages about what could not be read.
        """
        matcher = Matcher(self.entries, self.manifests, self.sharded, mark)
        problems = read_through(self.manifests, visitors, [matcher])
        try:
            self.table = matcher.finish()
        except ConfigError as error:
            self.unmatched = [] if problems else error.messages  # unreadable lines explain the missing ones
        return problems

    @property
    def marked(self) -> np.ndarray:
        """For each entry, whether the `mark` of :meth:`read` is true in its row."""
        return self.table.marked

    @property
    def nbytes(self) -> int:
        """Size of the index of rows in bytes."""
        return self.table.nbytes if self.table is not None else 0

    def __len__(self) -> int:
        return len(self.entries)

    def row(self, index: int) -> Row:
        entry = self.entries[index]
        try:
            row = self.table.row(index)
            intact = row.get('duration', entry.duration) == entry.duration
        except ValueError:
            intact = False
        if not intact:
            path = self.table.files[self.table.file[index]]
            raise RuntimeError(f"{path} was changed during the training: leave manifests as they are, and start again")
        row.update(audio_filepath=entry.audio_file, text=entry.text_raw, duration=entry.duration)
        return row

    def rows(self, utterances: Any) -> list[Row]:
        return [self.row(index) for index in utterances.tolist()]

    def switch(self, on: bool) -> None:
        if not on:
            for leaf, (return_sample_id, stream) in zip(self.leaves, self.before):
                leaf.return_sample_id = return_sample_id
                vars(leaf).pop('_process_sample', None)
                if stream is not None:
                    leaf._dataset = stream
            if self.table is not None:
                self.table.close()
            return
        self.before = [(leaf.return_sample_id, getattr(leaf, '_dataset', None)) for leaf in self.leaves]
        for leaf, first in zip(self.leaves, self.entries.firsts.tolist()):
            leaf.return_sample_id = True
            if first and hasattr(leaf, '_dataset'):
                leaf._dataset = leaf._dataset.compose(_NumberedStream(first))
            elif first:
                leaf._process_sample = _NumberedSamples(leaf, first)


class _NumberedSamples:
    """Replaces a data set's `_process_sample` to count its index over all data sets. It is sent to loader workers."""

    def __init__(self, dataset: Any, first: int):
        self.dataset, self.first = dataset, first

    def __call__(self, index: int) -> tuple[Any, ...]:
        *sample, index = type(self.dataset)._process_sample(self.dataset, index)
        return (*sample, self.first + int(index))


class _NumberedStream:
    """Last stage of a tarred data set's pipeline, which counts its index over all data sets. It is sent to loader workers."""

    def __init__(self, first: int):
        self.first = first

    def __call__(self, samples: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for *sample, index in samples:
            yield (*sample, self.first + int(index))


class LhotseRows:
    """Rows of Lhotse's cuts, which carry all keys of their manifest line."""

    unmatched: tuple[str, ...] = ()
    nbytes = 0
    marked = np.zeros(0, dtype=np.bool_)

    def __init__(self, dataset: Any, config: Any):
        self.dataset = dataset
        self.manifests = training_manifests(config)
        self.before = dataset.return_cuts

    def read(self, visitors: Sequence[Visitor] = (), mark: str | None = None) -> list[str]:
        """Reads the manifests once if there are visitors; see `NativeRows.read`."""
        return read_through(self.manifests, visitors) if visitors else []

    def __len__(self) -> int:
        return 0

    def switch(self, on: bool) -> None:
        self.dataset.return_cuts = True if on else self.before

    def rows(self, utterances: Any) -> list[Row]:
        return [row_of_cut(cut) for cut in utterances]


def row_of_cut(cut: Any) -> Row:
    """The manifest row that a Lhotse cut stands for.

    Raises:
        ValueError: the cut holds several transcripts.
    """
    parts = [track.cut for track in cut.tracks] if hasattr(cut, 'tracks') else [cut]  # noise and padding are mixed in
    spoken = [part for part in parts if any(_has_text(part))]
    if sum(sum(_has_text(part)) for part in parts) > 1:
        raise ValueError(
            f"the training utterance {cut.id} holds several transcripts, but a manifest row describes one utterance: remove what "
            "joins them (a noise manifest must have no `text`)"
        )
    part = spoken[0] if spoken else cut.first_non_padding_cut if hasattr(cut, 'tracks') else cut
    text = next((supervision.text for supervision in part.supervisions if supervision.text is not None), '')
    source = part.recording.sources[0]
    audio = source.source if source.type == 'file' else part.recording.id
    own = {'offset': part.start, **(part.custom or {})}
    return {**own, 'text': text, 'duration': part.duration, 'audio_filepath': str(audio)}


def _has_text(cut: Any) -> list[bool]:
    return [supervision.text is not None for supervision in getattr(cut, 'supervisions', ())]

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Data sets that say which utterances a batch holds, and the manifest rows of these: NeMo's own and Lhotse's."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Union

from tqdm import tqdm

from nemo_oracle_kd.bridge.rows.manifests import entry_key, read_lines, training_manifests
from nemo_oracle_kd.errors import ConfigError

__all__ = ['LhotseRows', 'NativeRows', 'Row', 'find_row_source']

Row = dict[str, Any]
_TRACEABLE = (
    "NeMo's native data sets (also concatenated, bucketed or tarred) and Lhotse can say which utterances a batch holds"
)
#: Lhotse options that make other utterances out of those of the manifest
_CUTTING = (
    'concatenate_samples',
    'truncate_duration',
    'cut_into_windows_duration',
    'cut_text_into_windows_tokens',
)


def find_row_source(loader: Any, model: Any) -> Union['NativeRows', 'LhotseRows']:
    """The rows behind a training loader.

    Raises:
        ConfigError: it cannot say which utterances a batch holds.
    """
    from nemo.collections.asr.data.audio_to_text_lhotse import LhotseSpeechToTextBpeDataset

    dataset = getattr(loader, 'dataset', None)
    mapping = getattr(dataset, 'dataset', dataset)
    if isinstance(mapping, LhotseSpeechToTextBpeDataset):
        _check_whole_utterances(model.cfg.get('train_ds') or {})
        return LhotseRows(mapping)
    leaves: list[Any] = []
    if not _collect(dataset, leaves):
        kind = type(loader if dataset is None else dataset).__name__
        raise ConfigError(
            f"model.train_ds makes a {kind}, whose batches cannot be matched with the rows of a manifest; {_TRACEABLE}: "
            "take use_dali, hf_data_cfg, is_code_switched and prompts out of model.train_ds, or train without stored scores"
        )
    return NativeRows(leaves, model.cfg.train_ds)


def _check_whole_utterances(config: Any) -> None:
    found = [name for name in _CUTTING if config.get(name, None)]
    if found:
        raise ConfigError(
            f"model.train_ds.{found[0]} joins or cuts utterances, but the rows of a manifest are about whole ones: take it out"
        )
    if config.get('multi_config', False):
        for part in config.values():
            if hasattr(part, 'get'):
                _check_whole_utterances(part)


def _collect(dataset: Any, leaves: list[Any]) -> bool:
    """Finds the data sets that read manifests below one that joins them; whether there is nothing else."""
    from nemo.collections.asr.data.audio_to_text import BucketingDataset, _AudioTextDataset, _TarredAudioToTextDataset
    from nemo.collections.common.data.dataset import ConcatDataset
    from torch.utils.data import ChainDataset, Subset

    if isinstance(dataset, (_AudioTextDataset, _TarredAudioToTextDataset)):
        if all(dataset is not leaf for leaf in leaves):  # a bucket with a weight comes several times
            leaves.append(dataset)
        return True
    if isinstance(dataset, BucketingDataset):
        return _collect(dataset.wrapped_dataset, leaves)
    if isinstance(dataset, Subset):  # what NeMo's ConcatDataset turns its parts into
        return _collect(dataset.dataset, leaves)
    if isinstance(dataset, (ConcatDataset, ChainDataset)):
        return all(_collect(part, leaves) for part in dataset.datasets)
    return False


class NativeRows:
    """Rows of NeMo's own data sets; utterances are numbered through all data sets that read manifests."""

    def __init__(self, leaves: Sequence[Any], config: Any):
        self.leaves = list(leaves)
        self.entries = [entry for leaf in self.leaves for entry in leaf.manifest_processor.collection]
        self.before: list[tuple[bool, Any]] = []
        self.lines = self._match(config)

    def _match(self, config: Any) -> list[str]:
        """The line of each entry."""
        groups = training_manifests(config).groups
        # the numbers of NeMo's entries count the lines that one data set reads: all of them, those of its own entry of
        # manifest_filepath, or (shard_manifests) those of this process
        numbered = len(self.leaves) in (1, len(groups)) and not config.get('shard_manifests', False)
        if len(self.leaves) == 1 or not numbered:
            groups = (tuple(path for group in groups for path in group),)
        lines: dict[tuple[Any, ...], list[tuple[int, int, str]]] = {}
        for number, group in enumerate(groups):
            for line in tqdm(read_lines(list(group)), desc='reading manifest rows', unit='row', delay=5, leave=False):
                lines.setdefault(line.key, []).append((number, line.number, line.text))
        found = []
        for number, leaf in enumerate(self.leaves):
            for entry in leaf.manifest_processor.collection:
                key = entry_key(entry.audio_file, entry.offset, entry.duration, entry.text_raw)
                found.append(_line_of(entry, lines.get(key, []), number if numbered else None))
        return found

    def __len__(self) -> int:
        return len(self.lines)

    def row(self, index: int) -> Row:
        row, entry = json.loads(self.lines[index]), self.entries[index]
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
            return
        self.before = [(leaf.return_sample_id, getattr(leaf, '_dataset', None)) for leaf in self.leaves]
        first = 0
        for leaf in self.leaves:
            leaf.return_sample_id = True
            if first and hasattr(leaf, '_dataset'):
                leaf._dataset = leaf._dataset.compose(_NumberedStream(first))
            elif first:
                leaf._process_sample = _NumberedSamples(leaf, first)
            first += len(leaf.manifest_processor.collection)


def _line_of(entry: Any, candidates: list[tuple[int, int, str]], group: int | None) -> str:
    texts = {text for _, _, text in candidates}
    if len(texts) > 1:  # same audio, same text, other keys: the line number decides
        texts = {text for number, line, text in candidates if (number, line) == (group, entry.id)}
    if len(texts) != 1:
        problem = "several rows" if texts or candidates else "no row"
        raise ConfigError(
            f"{problem} of model.train_ds.manifest_filepath could be that of {entry.audio_file} (offset {entry.offset}, duration "
            f"{entry.duration}, text {entry.text_raw[:60]!r}): keep one row per utterance, and do not change the manifest after "
            "the loader was set up"
        )
    return texts.pop()


class _NumberedSamples:
    """Instead of a data set's `_process_sample`: its index counted over all data sets. Goes to loader workers."""

    def __init__(self, dataset: Any, first: int):
        self.dataset, self.first = dataset, first

    def __call__(self, index: int) -> tuple[Any, ...]:
        *sample, index = type(self.dataset)._process_sample(self.dataset, index)
        return (*sample, self.first + int(index))


class _NumberedStream:
    """Last stage of a tarred data set's pipeline: its index counted over all data sets. Goes to loader workers."""

    def __init__(self, first: int):
        self.first = first

    def __call__(self, samples: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for *sample, index in samples:
            yield (*sample, self.first + int(index))


class LhotseRows:
    """Rows of Lhotse's cuts, which carry all keys of their manifest line."""

    def __init__(self, dataset: Any):
        self.dataset = dataset
        self.before = dataset.return_cuts

    def __len__(self) -> int:
        return 0

    def switch(self, on: bool) -> None:
        self.dataset.return_cuts = True if on else self.before

    def rows(self, utterances: Any) -> list[Row]:
        return [_row_of_cut(cut) for cut in utterances]


def _row_of_cut(cut: Any) -> Row:
    parts = [track.cut for track in cut.tracks] if hasattr(cut, 'tracks') else [cut]  # noise and padding are mixed in
    spoken = [part for part in parts if any(_has_text(part))]
    if sum(sum(_has_text(part)) for part in parts) > 1:
        raise ValueError(
            f"the training utterance {cut.id} holds several transcripts, but a row of a manifest is about one utterance: take out "
            "what joins them (a noise manifest must have no `text`)"
        )
    part = spoken[0] if spoken else cut.first_non_padding_cut if hasattr(cut, 'tracks') else cut
    text = next((supervision.text for supervision in part.supervisions if supervision.text is not None), '')
    source = part.recording.sources[0]
    audio = source.source if source.type == 'file' else part.recording.id
    return {**(part.custom or {}), 'text': text, 'duration': part.duration, 'audio_filepath': str(audio)}


def _has_text(cut: Any) -> list[bool]:
    return [supervision.text is not None for supervision in getattr(cut, 'supervisions', ())]

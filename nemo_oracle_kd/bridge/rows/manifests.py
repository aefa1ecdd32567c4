# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Finds the manifests that a `train_ds` config reads, and the options that apply to their rows."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ['Source', 'TrainingManifests', 'training_manifests']

_BRACES = ('{', '_OP_', '(', '[', '<')  # by these NeMo recognises the begin of a range of shards
#: options of a data config that also apply to the entries of its `input_cfg`
_INHERITED = ('use_lhotse', 'text_field', 'min_duration', 'max_duration')


@dataclass(frozen=True)
class Source:
    """Manifests that are read together: one of NeMo's data sets (a part of a concatenated one, a bucket), or a Lhotse source.

    Attributes:
        files: paths in order.
        lhotse: whether Lhotse reads them.
        tarred: whether the audio is in archives.
        text_field: the key of the transcript.
        shortest: the loader leaves out rows with a `duration` below this, in seconds; `None` for no limit.
        longest: the loader leaves out rows with a `duration` above this, in seconds; `None` or 0 for no limit.
        tags: keys that Lhotse's `input_cfg` adds to the rows.
        file_fields: keys under which a row may name its file, for data sets of a model's own, whose rows need no duration; empty
            for NeMo's rule.
    """

    files: tuple[str, ...]
    lhotse: bool = False
    tarred: bool = False
    text_field: str = 'text'
    shortest: float | None = None
    longest: float | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)
    file_fields: tuple[str, ...] = ()

    def loads(self, row: Mapping[str, Any], duration: Any) -> bool:
        """Whether the loader uses the row."""
        if self.lhotse and row.get('_skipme', False):
            return False
        if not isinstance(duration, (int, float)):
            return True
        if self.shortest is not None and duration < self.shortest:
            return False
        return self.longest is None or duration <= self.longest or self.longest <= 0


@dataclass(frozen=True)
class TrainingManifests:
    """The manifests of a data set.

    Attributes:
        sources: one per entry from which NeMo makes a data set, or Lhotse a source; otherwise a single one.
        complete: whether all data come from these manifests. It is false if Lhotse shars or cut sets are among them.
    """

    sources: tuple[Source, ...]
    complete: bool

    @property
    def files(self) -> list[str]:
        """All paths, in order."""
        return [path for source in self.sources for path in source.files]

    @property
    def text_fields(self) -> tuple[str, ...]:
        """Keys other than `text` from which transcripts are read."""
        return tuple(dict.fromkeys(s.text_field for s in self.sources if s.text_field != 'text'))


def training_manifests(
    config: Mapping[str, Any] | None, inherited: Mapping[str, Any] | None = None
) -> TrainingManifests:
    """Finds the manifests of a `train_ds` config: paths, lists and lists of lists, shard ranges, Lhotse's `input_cfg`.

    Args:
        config: `model.cfg.train_ds`, or `None`.
        inherited: options of the enclosing config.
    """
    if config is None:
        return TrainingManifests((), False)
    options = {
        **(inherited or {}),
        **{name: config[name] for name in _INHERITED if config.get(name, None) is not None},
    }
    if config.get('multi_config', False):
        parts = [part for name, part in config.items() if isinstance(part, Mapping) and name != 'sampler_weights']
        return _joined([training_manifests(part, options) for part in parts])
    if config.get('input_cfg', None) is not None:
        return _from_input_cfg(config.get('input_cfg'), {'use_lhotse': True, **options})
    lhotse = bool(options.get('use_lhotse', False))
    groups = _groups(config.get('manifest_filepath', None))
    sources = tuple(
        Source(
            files=tuple(path for path in group if _is_plain(path)),
            lhotse=lhotse,
            tarred=bool(config.get('is_tarred', False) or config.get('tarred_audio_filepaths', None)),
            text_field=str(options.get('text_field', 'text')) if lhotse else 'text',
            shortest=options.get('min_duration'),
            longest=options.get('max_duration'),
            file_fields=tuple(config.get('file_fields', None) or ()),
        )
        for group in groups
    )
    others = any(config.get(name, None) is not None for name in ('shar_path', 'cuts_path'))
    others = others or any(not _is_plain(path) for group in groups for path in group)
    return TrainingManifests(sources, bool(groups) and not others)


def _is_plain(path: str) -> bool:
    """Whether a manifest is a file of lines. Lhotse also reads compressed files and commands."""
    return not path.endswith('.gz') and not path.startswith('pipe:')


def _from_input_cfg(value: Any, options: Mapping[str, Any]) -> TrainingManifests:
    if isinstance(value, (str, os.PathLike)):
        from omegaconf import OmegaConf

        if not os.path.isfile(value):
            return TrainingManifests((), False)
        value = OmegaConf.load(value)
    parts = []
    for entry in value:
        part = training_manifests(entry, options)
        tags = dict(entry.get('tags', None) or {})  # tags of a group override those of its entries
        sources = (_with_tags(source, tags) for source in part.sources)
        parts.append(TrainingManifests(tuple(sources), part.complete))
    return _joined(parts)


def _with_tags(source: Source, tags: Mapping[str, Any]) -> Source:
    return Source(**{**vars(source), 'tags': {**source.tags, **tags}})


def _joined(parts: list[TrainingManifests]) -> TrainingManifests:
    return TrainingManifests(sum((part.sources for part in parts), ()), all(part.complete for part in parts))


def _groups(value: Any) -> tuple[tuple[str, ...], ...]:
    if value is None:
        return ()
    if isinstance(value, (str, os.PathLike)):
        return (tuple(_paths(value)),)
    entries = list(value)
    if len(entries) == 1 and not isinstance(entries[0], str):
        return _groups(entries[0])
    groups = (tuple(_paths(entry)) for entry in entries)
    return tuple(group for group in groups if group)


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, (int, float)) or value is None:  # a weight: Lhotse's [[path, weight], ...]
        return
    if not isinstance(value, (str, os.PathLike)):
        for entry in value:
            yield from _paths(entry)
        return
    value = str(value)
    if os.path.isfile(os.path.expanduser(value)):
        yield value
    elif any(brace in value for brace in _BRACES) and not value.startswith('pipe:'):
        from nemo.collections.asr.data.audio_to_text import expand_sharded_filepaths

        yield from expand_sharded_filepaths(value, shard_strategy='replicate', world_size=1, global_rank=0)
    else:
        yield from (part for part in value.split(',') if part)

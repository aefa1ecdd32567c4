# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which manifests a `train_ds` config reads, and their lines as NeMo itself reads them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

__all__ = ['ManifestLine', 'TrainingManifests', 'read_lines', 'training_manifests']

_BRACES = ('{', '_OP_', '(', '[', '<')  # what NeMo takes for the begin of a range of shards


@dataclass(frozen=True)
class TrainingManifests:
    """The manifests of a data set.

    Attributes:
        groups: paths, one tuple for each entry of `manifest_filepath` that NeMo makes a data set of its own from (concat,
            buckets); a single tuple otherwise.
        complete: whether all data come from these manifests (`False` with Lhotse shars or cut sets among them).
        tags: for each group, the keys that Lhotse's `input_cfg` adds to its rows.
        text_fields: keys other than `text` that Lhotse is told to read transcripts from.
    """

    groups: tuple[tuple[str, ...], ...]
    complete: bool
    tags: tuple[dict[str, Any], ...] = ()
    text_fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.tags:
            object.__setattr__(self, 'tags', tuple({} for _ in self.groups))

    @property
    def files(self) -> list[str]:
        """All paths, in order."""
        return [path for group in self.groups for path in group]


@dataclass(frozen=True)
class ManifestLine:
    """One line as NeMo's native loaders read it.

    Attributes:
        number: running number over the non-blank lines of all manifests read together, from 0: the `id` of NeMo's entries.
        key: audio file (resolved), offset, duration and text.
        text: the line itself.
    """

    number: int
    key: tuple[Any, ...]
    text: str


def training_manifests(config: Mapping[str, Any]) -> TrainingManifests:
    """Finds the manifests of a `train_ds` config: paths, lists and lists of lists, shard ranges, Lhotse's `input_cfg`.

    Args:
        config: `model.cfg.train_ds`.
    """
    if config.get('multi_config', False):
        parts = [part for name, part in config.items() if hasattr(part, 'get') and name != 'sampler_weights']
        return _joined([training_manifests(part) for part in parts])
    text_field = config.get('text_field', None) if config.get('use_lhotse', True) else None
    text_fields = () if text_field in (None, 'text') else (text_field,)
    if config.get('input_cfg', None) is not None:
        found = _from_input_cfg(config.get('input_cfg'))
        return replace(found, text_fields=found.text_fields + text_fields)
    groups = _groups(config.get('manifest_filepath', None))
    others = any(config.get(name, None) is not None for name in ('shar_path', 'cuts_path'))
    return TrainingManifests(groups, bool(groups) and not others, text_fields=text_fields)


def _from_input_cfg(value: Any) -> TrainingManifests:
    if isinstance(value, (str, os.PathLike)):
        from omegaconf import OmegaConf

        if not os.path.isfile(value):
            return TrainingManifests((), False)
        value = OmegaConf.load(value)
    parts = []
    for entry in value:
        part = training_manifests(entry)
        tags = dict(entry.get('tags', None) or {})  # those of a group are set after those of its entries
        parts.append(replace(part, tags=tuple({**inner, **tags} for inner in part.tags)))
    return _joined(parts)


def _joined(parts: list[TrainingManifests]) -> TrainingManifests:
    return TrainingManifests(
        sum((part.groups for part in parts), ()),
        all(part.complete for part in parts),
        sum((part.tags for part in parts), ()),
        sum((part.text_fields for part in parts), ()),
    )


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
    elif any(brace in value for brace in _BRACES):
        from nemo.collections.asr.data.audio_to_text import expand_sharded_filepaths

        yield from expand_sharded_filepaths(value, shard_strategy='replicate', world_size=1, global_rank=0)
    else:
        yield from (part for part in value.split(',') if part)


def read_lines(files: list[str]) -> Iterator[ManifestLine]:
    """Reads manifests by NeMo's own parser, so that each key equals that of NeMo's entry for the line.

    Raises:
        ValueError: NeMo cannot read a line.
    """
    from nemo.collections.common.parts.preprocessing import manifest

    parse = getattr(manifest, '__parse_item')
    current: str | None = None

    def parse_and_keep(line: str, file: str) -> dict:
        nonlocal current
        current = line
        return parse(line, file)

    for item in manifest.item_iter(list(files), parse_func=parse_and_keep):
        yield ManifestLine(
            item['id'], entry_key(item['audio_file'], item['offset'], item['duration'], item['text']), current
        )


def entry_key(audio_file: str, offset: float | None, duration: float | None, text: str) -> tuple[Any, ...]:
    """What tells utterances apart; a missing offset is 0, as for the loader."""
    return audio_file, float(offset or 0.0), None if duration is None else float(duration), text

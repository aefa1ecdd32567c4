# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Joins the parts of a cache that several machines have made, each from its part of one manifest."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from nemo_oracle_kd.corpus.outputs import write_text_atomically
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.parts import Part, parts_in_order
from nemo_oracle_kd.teacher_cache.folder import cache_files, clear_temporaries
from nemo_oracle_kd.teacher_cache.index import INDEX_NAME, CacheIndex, ShardRecord, file_checksum

__all__ = ['merge_caches']


def merge_caches(folder: str | Path, parts: Sequence[str | Path]) -> CacheIndex:
    """Copies the shards of finished parts into one cache; the parts are kept.

    Args:
        folder: of the whole cache; files of a cache in it are replaced.
        parts: folders of the parts, in any order.

    Returns:
        The index of the whole cache.

    Raises:
        ConfigError: a part is missing, given twice, unfinished or damaged, or belongs to another run.
    """
    folder, parts = Path(folder).expanduser(), [Path(part).expanduser() for part in parts]
    ordered = _in_order(parts, [CacheIndex.read(part) for part in parts])
    folder.mkdir(parents=True, exist_ok=True)
    for path in cache_files(folder):
        path.unlink()
    clear_temporaries(folder)
    first = ordered[0][1]
    whole = CacheIndex(first.options, first.teacher, {**first.manifest, 'part': [0, 1]}, first.batch_size)
    with tqdm(total=sum(len(index.shards) for _, index in ordered), desc='merging', unit='file', leave=False) as bar:
        rows = 0
        for part, index in ordered:
            for record in index.shards:
                name = f'shard-{len(whole.shards):05d}.safetensors'
                whole.shards.append(_copied(part, folder, record, name, record.first + rows))
                bar.update()
            rows += index.manifest['rows']
        if first.joint is not None:
            whole.joint = _copied(ordered[0][0], folder, first.joint, first.joint.file, 0)
    whole.manifest['rows'] = rows
    write_text_atomically(folder / INDEX_NAME, whole.text())
    return whole


def _in_order(parts: Sequence[Path], indices: Sequence[CacheIndex]) -> list[tuple[Path, CacheIndex]]:
    by_path = dict(zip(parts, indices))
    numbered = []
    for path, index in zip(parts, indices):
        settings = index.header()
        manifest = settings['manifest']
        settings['manifest'] = {key: value for key, value in manifest.items() if key not in ('part', 'rows')}
        numbered.append(Part(path, *manifest['part'], settings))
    return [
        (part.path, by_path[part.path]) for part in parts_in_order(numbered, 'cache it with --shard {number}/{count}')
    ]


def _copied(part: Path, folder: Path, record: ShardRecord, name: str, first: int) -> ShardRecord:
    """Copies a file and checks it on the way."""
    source, target = part / record.file, folder / name
    temporary = folder / f'.{name}.0.tmp'
    try:
        shutil.copyfile(source, temporary)
        if file_checksum(temporary) != record.sha256:
            raise ConfigError(
                f"{source} is damaged: its checksum is not that of the index; copy the part again, or delete the file and repeat the "
                "command that cached the part"
            )
        temporary.replace(target)
    except FileNotFoundError:
        raise ConfigError(f"{source} is missing: copy the part again") from None
    finally:
        temporary.unlink(missing_ok=True)
    return replace(record, file=name, first=first)

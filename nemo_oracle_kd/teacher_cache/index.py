# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The index of a cache, `index.json`: what was cached, from which teacher and manifest, and which shards there are.

It is written last, so that a folder with an index is complete.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_oracle_kd.bridge.model import ModelDescription, TransducerFacts
from nemo_oracle_kd.corpus.manifest import is_number
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional import make_transducer

__all__ = ['CACHE_FORMAT', 'INDEX_NAME', 'CacheIndex', 'CacheOptions', 'ShardRecord', 'file_checksum', 'teacher_facts']

CACHE_FORMAT = 'nemo_oracle_kd teacher cache'
VERSION = 1
INDEX_NAME = 'index.json'
_SHARD_NAME = re.compile(r'shard-\d{5,8}\.safetensors')
_CHECKSUM = re.compile(r'[0-9a-f]{64}')


@dataclass(frozen=True)
class CacheOptions:
    """What is kept of a teacher's answers.

    Attributes:
        signal: one of `SIGNALS` in `signals.py`.
        head: the head that gives it, `ctc` or `transducer`.
        top_k: number of classes that are kept one by one.
        temperatures: for which the sum of the other classes is kept.
        dtype: `float16` or `float32`.
    """

    signal: str
    head: str = 'ctc'
    top_k: int = 8
    temperatures: tuple[float, ...] = (1.0,)
    dtype: str = 'float16'


@dataclass(frozen=True)
class ShardRecord:
    """One file of a cache.

    Attributes:
        file: its name.
        sha256: checksum of its content.
        size: bytes.
        utterances: their number.
        first: row of the manifest at which it begins; empty shards are not written.
        measured: statistic -> sum, count and largest value.
    """

    file: str
    sha256: str
    size: int
    utterances: int
    first: int
    measured: Mapping[str, list[float]] = field(default_factory=dict)


@dataclass
class CacheIndex:
    """An index.

    Attributes:
        options: what is kept.
        teacher: facts of the teacher, see :func:`teacher_facts`.
        manifest: `sha256` and number of `rows` of the manifest, and the `part` of it, `[number, of]`.
        batch_size: utterances that the teacher heard at a time; padding changes the last digits of what it says.
        shards: the files, in the order of the manifest.
        joint: record of the file with the joint's tensors, or `None`.
    """

    options: CacheOptions
    teacher: dict[str, Any]
    manifest: dict[str, Any]
    batch_size: int
    shards: list[ShardRecord] = field(default_factory=list)
    joint: ShardRecord | None = None

    @property
    def utterances(self) -> int:
        """Number of utterances."""
        return sum(shard.utterances for shard in self.shards)

    @property
    def size(self) -> int:
        """Bytes of all files but the index."""
        return sum(shard.size for shard in self.shards) + (self.joint.size if self.joint else 0)

    @property
    def measured(self) -> dict[str, tuple[float, float]]:
        """Statistic -> mean and largest value over the whole cache."""
        sums: dict[str, list[float]] = {}
        for shard in self.shards:
            for name, (total, count, largest) in shard.measured.items():
                entry = sums.setdefault(name, [0.0, 0.0, 0.0])
                entry[:] = [entry[0] + total, entry[1] + count, max(entry[2], largest)]
        return {name: (total / max(count, 1), largest) for name, (total, count, largest) in sums.items()}

    @property
    def description(self) -> ModelDescription:
        """The teacher, for the comparison with a student."""
        facts = self.teacher
        return ModelDescription(
            name=facts['class'],
            vocabulary=tuple(facts['vocabulary']),
            tokenizer=facts['tokenizer'],
            blanks=dict(facts['blanks']),
            sample_rate=facts['sample_rate'],
            frame_seconds=facts['frame_seconds'],
            reads_transcript=facts['reads_transcript'],
        )

    @property
    def transducer(self) -> TransducerFacts:
        """The teacher's transducer, for the comparison with a student's."""
        facts = self.teacher
        given = facts['transducer']
        return TransducerFacts(
            facts['class'],
            None if given is None else make_transducer(given['kind'], given['blank'], given['durations']),
            tuple(facts['vocabulary']),
            facts['tokenizer'],
            facts['frame_seconds'],
            facts['encoder_size'],
            facts['reads_transcript'],
        )

    def header(self) -> dict[str, Any]:
        """The settings that identify a run, without its outcome."""
        whole = self.as_json()
        del whole['shards'], whole['joint']
        return whole

    def as_json(self) -> dict[str, Any]:
        """The content of the file."""
        return {
            'format': CACHE_FORMAT,
            'version': VERSION,
            'options': dataclasses.asdict(self.options),
            'teacher': self.teacher,
            'manifest': self.manifest,
            'batch_size': self.batch_size,
            'joint': None if self.joint is None else dataclasses.asdict(self.joint),
            'shards': [dataclasses.asdict(shard) for shard in self.shards],
        }

    def text(self) -> str:
        """The text of the file."""
        return json.dumps(self.as_json(), indent=1, ensure_ascii=False) + '\n'

    @classmethod
    def read(cls, folder: str | Path) -> 'CacheIndex':
        """Reads the index of a folder.

        Raises:
            ConfigError: there is none, or it is damaged, or of another version.
        """
        path = Path(folder) / INDEX_NAME
        if not path.is_file():
            what = 'is not finished' if (Path(folder) / 'journal').exists() else f'has no {INDEX_NAME}'
            raise ConfigError(
                f"{folder} is no cache of a teacher, because it {what}: give the folder that `nemo-oracle-kd cache` has written"
            )
        try:
            values = json.loads(path.read_text(encoding='utf-8'))
            found, version = values['format'], values['version']
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            raise _damaged(path) from None
        if found != CACHE_FORMAT or version != VERSION:
            raise ConfigError(
                f"{path} is of the format {str(found)[:40]!r}, version {str(version)[:10]}, and this package reads "
                f"{CACHE_FORMAT!r}, version {VERSION}: cache the teacher again, or use the package that wrote it"
            )
        try:
            return cls._parse(values)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _damaged(path) from None

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> 'CacheIndex':
        options = values['options']
        index = cls(
            CacheOptions(**{**options, 'temperatures': tuple(options['temperatures'])}),
            dict(values['teacher']),
            dict(values['manifest']),
            values['batch_size'],
            [ShardRecord(**shard) for shard in values['shards']],
            None if values['joint'] is None else ShardRecord(**values['joint']),
        )
        files = [*index.shards, *([index.joint] if index.joint else [])]
        sound = all(_is_sound(record) for record in files) and len({record.file for record in files}) == len(files)
        sound = sound and all(_SHARD_NAME.fullmatch(shard.file) for shard in index.shards)
        sound = sound and (index.joint is None or index.joint.file == 'joint.safetensors')
        sound = sound and _options_are_sound(index.options) and _teacher_is_sound(index.teacher)
        if not sound or not _manifest_is_sound(index.manifest):
            raise ValueError
        if index.transducer.transducer is None and index.options.head == 'transducer':  # building it checks it
            raise ValueError
        return index


def _damaged(path: Path) -> ConfigError:
    return ConfigError(f"{path} is damaged: copy the cache again, or cache the teacher again with --overwrite")


def _is_sound(record: ShardRecord) -> bool:
    counts = all(type(value) is int and value >= 0 for value in (record.size, record.utterances, record.first))
    measured = all(
        len(values) == 3 and all(is_number(value) for value in values) for values in record.measured.values()
    )
    return counts and measured and _CHECKSUM.fullmatch(record.sha256) is not None and type(record.file) is str


def _options_are_sound(options: CacheOptions) -> bool:
    temperatures = all(is_number(value) and value > 0 for value in options.temperatures)
    known = options.head in ('ctc', 'transducer') and options.dtype in ('float16', 'float32')
    return (
        known and temperatures and len(options.temperatures) > 0 and type(options.top_k) is int and options.top_k > 0
    )


def _manifest_is_sound(manifest: Mapping[str, Any]) -> bool:
    number, parts = manifest['part']
    counts = [manifest['rows'], manifest['shard_rows'], number, parts]
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and number < parts
        and type(manifest['sha256']) is str
    )


def _teacher_is_sound(facts: Mapping[str, Any]) -> bool:
    texts = [facts['class'], facts['identity'], facts['preprocessor'], *facts['vocabulary'], *facts['blanks']]
    numbers = [facts['sample_rate'], facts['encoder_size'], *facts['blanks'].values()]
    return (
        all(type(text) is str for text in texts)
        and all(type(number) is int and number >= 0 for number in numbers)
        and (facts['tokenizer'] is None or type(facts['tokenizer']) is str)
        and (facts['frame_seconds'] is None or is_number(facts['frame_seconds']))
        and type(facts['reads_transcript']) is bool
    )


def teacher_facts(model: Any) -> dict[str, Any]:
    """The facts of a teacher, of JSON's types: its identity, and what must agree with a student."""
    from omegaconf import OmegaConf

    from nemo_oracle_kd.bridge.model import describe, transducer_facts
    from nemo_oracle_kd.labelling.format import short_hash, teacher_identity

    description, lattice = describe(model), transducer_facts(model)
    transducer = lattice.transducer
    return {
        'class': description.name,
        'identity': teacher_identity(model),
        'preprocessor': short_hash(OmegaConf.to_container(model.cfg.preprocessor, resolve=True)),
        'vocabulary': list(description.vocabulary),
        'tokenizer': description.tokenizer,
        'blanks': dict(description.blanks),
        'sample_rate': description.sample_rate,
        'frame_seconds': description.frame_seconds,
        'reads_transcript': description.reads_transcript,
        'encoder_size': lattice.encoder_size,
        'transducer': (
            None
            if transducer is None
            else {'kind': transducer.kind, 'blank': transducer.blank, 'durations': list(transducer.durations)}
        ),
    }


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()

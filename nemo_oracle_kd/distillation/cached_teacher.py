# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A teacher that answered before: its outputs come from the folder of a cache, and no model is in memory."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, Transcripts
from nemo_oracle_kd.distillation.data.cached_rows import CachedRows
from nemo_oracle_kd.distillation.teacher_settings import ModelTeacherOptions
from nemo_oracle_kd.distillation.teachers import Teacher
from nemo_oracle_kd.losses.lattice_settings import TEACHER_CELL_MODES
from nemo_oracle_kd.losses.objectives import OBJECTIVES, objectives_of
from nemo_oracle_kd.losses.transducer_side import TransducerSide
from nemo_oracle_kd.teacher_cache.index import CacheIndex
from nemo_oracle_kd.teacher_cache.reader import TeacherCache

__all__ = ['CacheConfig', 'CachedTeacher']

#: options of a model beside the student that a preset states -> the value that asks for nothing
_OF_MODELS = {'restore_from': (None, '???'), 'memory_mb': (None, 0), 'vocabulary': (None, 'same')}


@dataclass
class CacheConfig(ModelTeacherOptions):
    """Options of a teacher whose answers `nemo-oracle-kd cache` has written."""

    cache: str | None = field(default=None, metadata={'help': 'folder that `nemo-oracle-kd cache` has written'})

    @classmethod
    def own(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Without the options of a model that a preset leaves open."""
        return {key: value for key, value in values.items() if value not in _OF_MODELS.get(key, ())}

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if not self.cache:
            yield f"`{path}.cache` is empty: give the folder that `nemo-oracle-kd cache` has written"
        if self.head != 'auto':
            yield f"`{path}.head` is for a model beside the student, but a cache holds one head: remove it"
        if self.time_resampling == 'linear':
            yield (
                f"`{path}.time_resampling` is linear, but of the frames in a cache only the best classes are known, so they can be picked "
                "and not mixed: set it to nearest"
            )

    @property
    def name(self) -> str:
        """Name of the teacher in the log."""
        return f'the cache {self.cache}' + (' and the scores of the training manifest' if self.stored else '')

    def check(self) -> None:
        """Refuses a folder that holds no finished cache."""
        CacheIndex.read(self.cache)


class CachedTeacher(Teacher):
    """Reads a teacher's answers from a cache, by the manifest rows of the batch.

    The audio of the batch is not heard. Augmentation after the loader (SpecAugment) and noise are the student's alone; whatever moves
    the audio in time is refused, because frames of teacher and student would no longer belong together.

    Args:
        config: options with `cache`.

    Raises:
        ConfigError: the cache is unfinished, damaged, or of another version.
    """

    config_class = CacheConfig

    def __init__(self, config: CacheConfig):
        self.config = config
        self.cache = TeacherCache(config.cache)
        self.description = self.cache.index.description
        self.rows = CachedRows(self.cache)

    def __str__(self) -> str:
        index = self.cache.index
        options, manifest = index.options, index.manifest
        kept = f', {options.top_k} classes' if 'topk' in options.signal else ''
        at = ' and '.join(f'{value:g}' for value in options.temperatures)
        return (
            f"cache: {options.signal} ({options.head}{kept}, temperature {at}, {options.dtype}) of {index.utterances} utterances "
            f"({manifest['rows']} rows), {index.size / 1e6:.1f} MB"
        )

    @property
    def lattice_source(self) -> Any:
        """Facts of the transducer that was cached; `None` for the frames of a CTC head."""
        return self.cache.index.transducer if self.cache.signal.family == 'lattice' else None

    def hear(self, batch: AudioBatch) -> EncodedAudio:
        """Reads the answers.

        Raises:
            ConfigError: an utterance is not in the cache, its labels differ, or its data are damaged.
        """
        return self.cache.answer(batch.rows, batch.transcripts, self.rows.archived)

    def transducer_side(self, heard: EncodedAudio, transcripts: Transcripts, reads: Collection[str]) -> TransducerSide:
        """The lattice as it was kept, or the encoder's output with the joint of the cache."""
        if heard.lattice is not None:
            return TransducerSide(heard.lattice, None, heard.lengths)
        joint = self.cache.joint.of_encoded(heard.encoded) if set(reads) != {'encoder'} else None
        return TransducerSide(joint, heard.encoded.transpose(1, 2), heard.lengths)

    def problems(self, objectives: Mapping[str, Any]) -> Iterator[str]:
        """Yields what the objectives need and the cache does not hold."""
        if texts := ', '.join(objectives_of('sequence', objectives)):
            if not self.config.stored:
                yield (
                    f"{texts} compares scores of texts, which a cache does not hold: label the training manifest with `nemo-oracle-kd "
                    "score`, and set teacher.scores to manifest beside teacher.cache"
                )
        others = {name: config for name, config in objectives.items() if OBJECTIVES[name].loss.family != 'sequence'}
        if not others:
            yield f"nothing reads the cache {self.config.cache}: remove teacher.cache, or add an objective such as frame_kl"
        for name, config in others.items():
            yield from self._objective_problems(name, config)
        if self.config.time_resampling != 'none' and self.cache.signal.unit == 'step':
            yield (
                "the best path in the cache is that of the teacher's own frames: leave teacher.time_resampling at none, or cache "
                "lattice_topk for lattice_topk instead"
            )

    def _objective_problems(self, name: str, config: Any) -> Iterator[str]:
        signal, options, loss = self.cache.signal, self.cache.index.options, OBJECTIVES[name].loss
        if signal.name not in loss.cached_signals or signal.family != loss.family:
            usable = ' or '.join(f'--signal {one}' for one in loss.cached_signals)
            fix = (
                f"cache the teacher with {usable}"
                if usable
                else "set teacher.restore_from to run the teacher beside the student"
            )
            yield f"{name} cannot learn from the signal {signal.name} of a {options.head} head, which the cache holds: {fix}"
            return
        temperature = float(getattr(config, 'temperature', 1.0))
        known = ' and '.join(f'{at:g}' for at in options.temperatures)
        if hasattr(config, 'temperature') and temperature not in options.temperatures:
            yield (
                f"{name}.temperature is {temperature:g}, and the cache holds the remaining classes at temperature {known}: set it to one of "
                f"these, or cache the teacher with --temperature {temperature:g}"
            )
        if getattr(config, 'prior_scale', 0.0):
            yield (
                f"{name}.prior_scale needs the teacher's posteriors, and the cache holds the occupancy without a prior: set it to 0, or set "
                "teacher.restore_from to run the teacher beside the student"
            )
        if getattr(config, 'top_k', 0) > options.top_k:
            yield (
                f"{name}.top_k is {config.top_k}, and the cache holds {options.top_k} classes per cell: lower it, or cache the teacher with "
                f"--top-k {config.top_k}"
            )
        cells = getattr(getattr(config, 'cells', None), 'mode', 'all')
        if cells in TEACHER_CELL_MODES and options.temperatures != (1.0,) and signal.unit == 'cell':
            yield (
                f"{name}.cells is {cells}, which is computed at temperature 1, and the cache holds the lattice at temperature {known}: set "
                f"{name}.cells to all, or cache the teacher with --temperature 1"
            )
        if cells == 'band' and signal.unit == 'step':
            yield f"{name}.cells is band, and the cache holds the cells of the path alone: set {name}.cells to path"

    def to(self, device: torch.device) -> 'CachedTeacher':
        """Nothing to move: answers go to the device of the batch."""
        return self

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Checks before a training that a cache holds an answer to every row, and that nothing moves the audio in time."""

from collections.abc import Iterator, Mapping
from typing import Any

from nemo.utils import logging

from nemo_oracle_kd.bridge.rows.lines import ManifestLine
from nemo_oracle_kd.bridge.rows.manifests import training_manifests
from nemo_oracle_kd.corpus.findings import Findings
from nemo_oracle_kd.teacher_cache.reader import TeacherCache

__all__ = ['CachedRows', 'CachedRowsCheck']

#: augmentors of NeMo's native loaders that move, stretch, cut or silence a part of the audio
_MOVING_AUGMENTORS = ('speed', 'time_stretch', 'shift', 'silence', 'random_segment')
#: options of the loaders that do so
_MOVING_OPTIONS = ('trim_silence', 'perturb_speed', 'pad_min_duration', 'truncate_duration', 'concatenate_samples')
_MOVING_OPTIONS += ('cut_into_windows_duration', 'slice_audio')

_SENTENCES = {
    'missing': (
        "are not in the cache (file name, offset and duration must be those that were cached, and the text too where the answer depends on "
        "it): cache the teacher over the manifest that trains the student"
    )
}


class CachedRows:
    """Finds the answers to training rows in a cache.

    Args:
        cache: of the teacher.

    Attributes:
        archived: whether a part of the training audio is in archives, which rename files.
    """

    def __init__(self, cache: TeacherCache):
        self.cache = cache
        self.archived = False

    def check(self, train_ds: Mapping[str, Any] | None) -> 'CachedRowsCheck':
        """The check of a training's data."""
        self.archived = any(source.tarred for source in training_manifests(train_ds).sources)
        return CachedRowsCheck(self, train_ds)


class CachedRowsCheck:
    """Looks for every row of a training in the cache.

    Args:
        rows: of the cache.
        train_ds: `model.cfg.train_ds`, or `None`.
    """

    #: whether there is something to say without a manifest
    of_config = True

    def __init__(self, rows: CachedRows, train_ds: Mapping[str, Any] | None):
        self._rows, self._train_ds = rows, train_ds
        self._count = 0
        self._findings = Findings(_SENTENCES)

    def see(self, line: ManifestLine) -> None:
        """Checks one row."""
        self._count += 1
        row = {**line.row, 'audio_filepath': line.audio, 'duration': line.duration}
        if self._rows.cache.find(row, line.source.tarred) < 0:
            self._findings.add('missing', line, line.audio)

    def finish(self) -> Iterator[str]:
        """Yields what is wrong, in sentences that name the fix."""
        moving, noisy = _augmentation(self._train_ds or {})
        if moving:
            yield (
                f"model.train_ds has {' and '.join(moving)}, which moves the audio in time, so that the frames of the cached teacher would "
                "belong to other sounds: remove it, or run the teacher beside the student with teacher.restore_from"
            )
        elif noisy:
            logging.info(
                f"model.train_ds has {' and '.join(noisy)}: the student hears the augmented audio, the cached teacher has heard the clean one."
            )
        yield from self._findings.sentences(self._count)


def _augmentation(train_ds: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What moves the audio in time, and what else changes it, in a data config and the configs inside it."""
    moving = [name for name in _MOVING_OPTIONS if train_ds.get(name, None)]
    noisy: list[str] = []
    augmentor = train_ds.get('augmentor', None)
    for name in augmentor if isinstance(augmentor, Mapping) else ():
        (moving if str(name) in _MOVING_AUGMENTORS else noisy).append(f'augmentor.{name}')
    parts = list(train_ds.values()) if train_ds.get('multi_config', False) else []
    entries = train_ds.get('input_cfg', None)
    parts += list(entries) if entries is not None and not isinstance(entries, str) else []
    for part in parts:
        if isinstance(part, Mapping):
            inner = _augmentation(part)
            moving, noisy = moving + inner[0], noisy + inner[1]
    return list(dict.fromkeys(moving)), list(dict.fromkeys(noisy))

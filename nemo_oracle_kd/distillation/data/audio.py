# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Checks that the audio of the training rows exists: a missing file would otherwise stop the training after hours."""

import math
import os
from collections.abc import Iterator

from tqdm import tqdm

from nemo_oracle_kd.bridge.rows.lines import ManifestLine
from nemo_oracle_kd.corpus.findings import Findings, Sample

__all__ = ['AudioCheck']

#: number of files that are opened; opening all files of a large corpus takes minutes, so a fixed random sample is drawn
AUDIO_SAMPLE = 5000

_SENTENCES = {
    'duration': "have a `duration` that is not a number of seconds above 0: correct it",
    'offset': "have an `offset` that is not a number of seconds of at least 0: correct it",
    'missing': (
        "name an audio file that does not exist or cannot be read (relative paths start at the manifest's folder): correct "
        "the path, or remove the rows"
    ),
    'empty': "name a file that holds no audio: remove the rows",
}


class AudioCheck:
    """Checks the duration and offset of every row, that its file exists, and that a sample of the files holds audio.

    Formats that libsndfile does not know (mp4, opus in webm) and audio in archives are left to the loader.

    Args:
        files: whether to look at the files. In a distributed training one process does so for all.
    """

    def __init__(self, files: bool = True):
        self.files = files
        self.rows = 0
        self._findings = Findings(_SENTENCES)
        self._sample = Sample(AUDIO_SAMPLE)

    def see(self, line: ManifestLine) -> None:
        """Checks one row."""
        self.rows += 1
        duration, offset = line.duration, line.row.get('offset')
        # `not 0 < duration` also refuses NaN; True and False are numbers to Python
        wrong = type(duration) is not float and not _is_number(duration) or not 0 < duration < math.inf
        if wrong and not (duration is None and line.source.file_fields):
            self._findings.add('duration', line, f'{duration!r}')
        if offset is not None and (not _is_number(offset) or not 0 <= offset < math.inf):
            self._findings.add('offset', line, f'{offset!r}')
        if not self.files or line.source.tarred:
            return
        path = line.audio_file
        if '://' in path:  # an object store
            return
        if not os.access(path, os.R_OK):
            self._findings.add('missing', line, path)
        elif self._sample.wants():
            self._sample.keep((path, str(line)))

    def finish(self) -> Iterator[str]:
        """Yields what is wrong, in sentences that name the fix."""
        import soundfile

        seen: dict[str, bool] = {}
        kept = self._sample.kept
        for path, place in tqdm(kept, desc='checking audio', unit='file', disable=len(kept) < 2000, leave=False):
            if path not in seen:
                try:
                    seen[path] = soundfile.info(path).frames == 0
                except (soundfile.LibsndfileError, OSError):
                    seen[path] = False
            if seen[path]:
                self._findings.add('empty', place, path)
        yield from self._findings.sentences(self.rows)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

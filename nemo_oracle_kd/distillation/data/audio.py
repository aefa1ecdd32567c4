# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Whether the audio of the training rows is there: a missing or empty file is found now or after hours."""

import math
import os
from collections.abc import Iterator

from tqdm import tqdm

from nemo_oracle_kd.bridge.rows.lines import ManifestLine
from nemo_oracle_kd.distillation.data.findings import Findings, Sample

__all__ = ['AudioCheck']

#: opening every file of a large corpus takes minutes, so beyond this a fixed random sample is opened
AUDIO_SAMPLE = 5000

_SENTENCES = {
    'duration': "have a `duration` that is no length in seconds above 0: correct it",
    'offset': "have an `offset` that is no time in seconds of at least 0: correct it",
    'missing': (
        "name an audio file that does not exist, or may not be read (relative paths are looked up beside the manifest): correct the path, or remove "
        "the rows"
    ),
    'empty': "name a file that holds no audio: remove the rows",
}


class AudioCheck:
    """Durations and offsets of all rows, their files, and the content of a sample of these.

    Formats that libsndfile does not know (mp4, opus in webm) are left to the loader. So is audio in archives.

    Args:
        files: look at files; one process is enough for that.
    """

    def __init__(self, files: bool = True):
        self.files = files
        self.rows = 0
        self._findings = Findings(_SENTENCES)
        self._sample = Sample(AUDIO_SAMPLE)

    def see(self, line: ManifestLine) -> None:
        """Looks at a row."""
        self.rows += 1
        duration, offset = line.duration, line.row.get('offset')
        # not (... > 0): NaN is neither; bool is an int to Python
        if type(duration) is not float and not _is_number(duration) or not 0 < duration < math.inf:
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
        """What is wrong."""
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

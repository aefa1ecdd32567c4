# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Makes a corpus of rendered words: plans it, renders it in parallel, resumes it, and writes its manifests last.

Every picture is a function of (settings, split, index) alone, as in :mod:`nemo_oracle_kd.corpus.synthesis`, whose layout this
follows: `corpus.json`, `images/<split>/<thousand>/<split>-00000.jpg`, and `train.jsonl`, `dev.jsonl`, `test.jsonl` when all
pictures are there.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nemo_oracle_kd.corpus.claims import SETTINGS_FILE, claim_folder, finish_manifest
from nemo_oracle_kd.corpus.outputs import write_bytes_atomically, write_text_atomically
from nemo_oracle_kd.corpus.sentences import fingerprint_of
from nemo_oracle_kd.corpus.texts import SPLITS
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.processes import work_in_processes
from nemo_oracle_kd.scene_text.fonts import find_fonts, fonts_fingerprint
from nemo_oracle_kd.scene_text.rendering import render_word
from nemo_oracle_kd.scene_text.words import draw_word

__all__ = ['WordSettings', 'draw_picture', 'picture_name', 'synthesize_words']

# Raised whenever a change of this package changes the bytes of a corpus, so that old and new are never mixed.
FORMAT = 1
_CHUNK = 100


@dataclass(frozen=True)
class WordSettings:
    """Everything that the bytes of a corpus of words depend on, besides the fonts.

    Attributes:
        train: number of training pictures.
        dev: number of validation pictures.
        test: number of test pictures.
        seed: seed of all random choices.
        words: words of which two in three pictures show one; empty for none.
    """

    train: int = 1200
    dev: int = 120
    test: int = 200
    seed: int = 0
    words: tuple[str, ...] = field(default=(), repr=False)

    def check(self) -> None:
        """Refuses settings out of range.

        Raises:
            ConfigError: with one sentence for every value that is out of range.
        """
        ConfigError.raise_if_any(
            [
                f"--{name} must be at least {least}, not {getattr(self, name)}"
                for name, least in (*((split, 1) for split in SPLITS), ('seed', 0))
                if getattr(self, name) < least
            ]
        )

    def record(self, fonts: list[Path]) -> dict:
        """The settings as `corpus.json` holds them; equal records mean equal bytes.

        Args:
            fonts: of the pictures.
        """
        content = {'format': FORMAT, 'kind': 'words', **asdict(self), 'words': fingerprint_of(self.words)}
        return {**content, 'fonts': len(fonts), 'font_fingerprint': fonts_fingerprint(fonts)}


def picture_name(split: str, index: int) -> str:
    """Path of a picture relative to the corpus folder, with forward slashes; a folder holds a thousand."""
    return f'images/{split}/{index // 1000:03d}/{split}-{index:06d}.jpg'


def draw_picture(settings: WordSettings, split: str, index: int, fonts: list[Path] | None) -> tuple[str, bytes]:
    """The word of a picture, and its file, which is empty if no fonts are given.

    Args:
        settings: of the corpus.
        split: `train`, `dev` or `test`.
        index: number of the picture.
        fonts: fonts to choose from; `None` for the word alone.
    """
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
    word = draw_word(rng, settings.words)
    return word, b'' if fonts is None else render_word(rng, word, fonts)


def _render_chunk(job: tuple[WordSettings, str, list[Path], list[tuple[str, int]]]) -> int:
    """Renders some pictures to their files; the unit of work of a worker process."""
    settings, folder, fonts, chunk = job
    for split, index in chunk:
        write_bytes_atomically(
            Path(folder, picture_name(split, index)), draw_picture(settings, split, index, fonts)[1]
        )
    return len(chunk)


def synthesize_words(
    folder: str | os.PathLike,
    settings: WordSettings,
    workers: int = 1,
    progress: bool = True,
    overwrite: bool = False,
) -> dict[str, int]:
    """Makes the corpus, or what is missing of it after an interruption.

    Args:
        folder: where the corpus goes; new, empty, or a corpus with the same settings.
        settings: what to make.
        workers: number of processes; the bytes do not depend on it.
        progress: whether to show a progress bar.
        overwrite: whether to remove a corpus of other settings first.

    Returns:
        For every split the number of pictures, and under `rendered` how many this call made.

    Raises:
        ConfigError: settings out of range, or the folder holds something else.
        OSError: the folder cannot be written.
    """
    settings.check()
    if workers < 1:
        raise ConfigError(f"--workers must be at least 1, not {workers}")
    folder, fonts = Path(folder), find_fonts()
    record = settings.record(fonts)
    if overwrite and (folder / SETTINGS_FILE).is_file():
        _empty_corpus(folder, record)
    claim_folder(folder, record, [f'images/{split}' for split in SPLITS])
    plan = [(split, index) for split in SPLITS for index in range(getattr(settings, split))]
    missing = [item for item in plan if not (folder / picture_name(*item)).is_file()]
    bar = tqdm(total=len(plan), initial=len(plan) - len(missing), unit='word', desc='render', disable=not progress)
    # closing() ends the worker processes before the exception of an interrupted run goes on.
    with bar, contextlib.closing(_rendered(settings, folder, fonts, missing, workers)) as results:
        for count in results:
            bar.update(count)
    for leftover in folder.glob('images/*/*/.*.tmp'):
        leftover.unlink(missing_ok=True)
    for split in SPLITS:
        finish_manifest(folder / f'{split}.jsonl', _rows(settings, split))
    return {split: getattr(settings, split) for split in SPLITS} | {'rendered': len(missing)}


def _rendered(
    settings: WordSettings, folder: Path, fonts: list[Path], items: list[tuple[str, int]], workers: int
) -> Iterator[int]:
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    jobs = [(settings, str(folder), fonts, chunk) for chunk in chunks]
    if workers == 1:
        yield from map(_render_chunk, jobs)
    elif jobs:
        yield from work_in_processes(_render_chunk, jobs, workers)


def _rows(settings: WordSettings, split: str) -> Iterator[dict[str, str]]:
    for index in range(getattr(settings, split)):
        yield {'image': picture_name(split, index), 'text': draw_picture(settings, split, index, None)[0]}


def _empty_corpus(folder: Path, record: dict) -> None:
    """Removes what this command made in a folder, and nothing else, and claims the folder for other settings."""
    for split in SPLITS:
        (folder / f'{split}.jsonl').unlink(missing_ok=True)
        shutil.rmtree(folder / 'images' / split, ignore_errors=True)
    write_text_atomically(folder / SETTINGS_FILE, json.dumps(record, indent=1) + '\n')

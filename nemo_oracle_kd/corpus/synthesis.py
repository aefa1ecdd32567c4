# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Makes a whole speech corpus: plans it, renders it in parallel, resumes it, and writes its manifests last.

Every utterance is a function of (settings, split, index) alone: its random generator is seeded with them, and the
synthesiser keeps nothing between utterances (see :mod:`~nemo_oracle_kd.corpus.espeak`). The number of workers, their
order and an interruption therefore change no byte. Layout of a corpus folder::

    corpus.json                      the settings, written first; a second run must agree with them
    audio/<split>/<split>-00000.flac 16-bit mono, each file written whole or not at all
    train.jsonl dev.jsonl test.jsonl NeMo manifests, written when all audio is there
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

import soundfile
from tqdm import tqdm

from nemo_oracle_kd.corpus.claims import claim_folder, finish_manifest
from nemo_oracle_kd.corpus.outputs import write_audio_atomically
from nemo_oracle_kd.corpus.settings import CorpusSettings
from nemo_oracle_kd.corpus.texts import SPLITS
from nemo_oracle_kd.corpus.utterances import draw_utterance, render, synthesizer
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.processes import end_processes, follow_parent, work_in_processes

_CHUNK = 8
#: exit codes of a process that its own code has ended
_CRASHES = tuple(
    -getattr(signal, name) for name in ('SIGSEGV', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGABRT') if hasattr(signal, name)
)


def audio_name(split: str, index: int) -> str:
    """Path of an utterance relative to the corpus folder, with forward slashes."""
    return f'audio/{split}/{split}-{index:05d}.flac'


def _duration(path: Path, rate: int) -> float | None:
    """Length in seconds of a finished audio file, or None if there is none that can be read to its end."""
    try:
        # A file that was cut short still has a header that promises everything.
        promised = soundfile.info(path).frames
        samples, found = soundfile.read(path, dtype='int16')
    except (OSError, soundfile.LibsndfileError):
        return None
    return len(samples) / rate if found == rate and 0 < len(samples) == promised else None


def _render_chunk(job: tuple[CorpusSettings, str, list[tuple[str, int]], set[tuple[str, int]]]) -> int:
    """Renders some utterances to their files, those of the set calmly; the unit of work that a worker process is given."""
    settings, folder, chunk, calm = job
    for split, index in chunk:
        samples = render(settings, split, index, calm=(split, index) in calm)
        write_audio_atomically(Path(folder, audio_name(split, index)), samples, settings.sample_rate)
    return len(chunk)


def _follow_parent_and_render(job: tuple) -> None:
    follow_parent()
    _render_chunk(job)


def _in_parallel(settings: CorpusSettings, folder: Path, items: list[tuple[str, int]], workers: int) -> Iterator[int]:
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    return work_in_processes(_render_chunk, [(settings, str(folder), chunk, set()) for chunk in chunks], workers)


def _one_by_one(settings: CorpusSettings, folder: Path, items: list[tuple[str, int]]) -> None:
    """Renders a few utterances in a process of their own; one in which the synthesiser crashes is spoken calmly."""
    calm: set[tuple[str, int]] = set()
    while items := _missing(folder, items, settings.sample_rate):
        job = (settings, str(folder), items, calm)
        process = multiprocessing.get_context('spawn').Process(target=_follow_parent_and_render, args=(job,))
        process.start()
        try:
            process.join()
        finally:
            end_processes([process])
        if process.exitcode == 0:
            return
        culprit, *_ = _missing(folder, items, settings.sample_rate)
        if process.exitcode not in _CRASHES or culprit in calm:
            raise OSError(
                "a worker process was killed, perhaps for lack of memory: repeat the command with fewer --workers to continue"
            )
        calm.add(culprit)


def _results(settings: CorpusSettings, folder: Path, items: list[tuple[str, int]], workers: int) -> Iterator[int]:
    """Renders utterances and yields their numbers.

    eSpeak NG 1.52 crashed in one of 24 000 utterances tried, each time in the same one. All rendering is therefore done in other
    processes, and such an utterance is spoken in another way (`calm` of :func:`~nemo_oracle_kd.corpus.utterances.render`), which
    again depends on nothing but the utterance.
    """
    while items:
        told = 0
        try:
            for count in _in_parallel(settings, folder, items, workers):
                told += count
                yield count
            return
        except BrokenExecutor:
            left = _missing(folder, items, settings.sample_rate)
        suspects = left[: 2 * workers * _CHUNK]
        _one_by_one(settings, folder, suspects)
        yield len(items) - len(left) + len(suspects) - told
        items = left[len(suspects) :]


def _missing(folder: Path, items: list[tuple[str, int]], rate: int) -> list[tuple[str, int]]:
    return [item for item in items if _duration(folder / audio_name(*item), rate) is None]


def synthesize_corpus(
    folder: str | os.PathLike, settings: CorpusSettings, workers: int = 1, progress: bool = True
) -> dict[str, dict[str, float]]:
    """Makes the corpus, or what is missing of it after an interruption.

    Args:
        folder: where the corpus goes; new, empty, or a corpus with the same settings.
        settings: what to make.
        workers: number of processes; the bytes do not depend on it.
        progress: whether to show a progress bar.

    Returns:
        For every split ``utterances`` (number), ``seconds`` (of audio) and ``rendered`` (number made by this call).

    Raises:
        ConfigError: settings out of range, or the folder holds something else.
        OSError: the folder cannot be written.
        EspeakError: the synthesiser is missing.
    """
    settings = settings.check()
    if workers < 1:
        raise ConfigError(f"--workers must be at least 1, not {workers}")
    folder = Path(folder)
    synthesizer()  # a missing library is reported before anything is written
    claim_folder(folder, settings.record(), [f'audio/{split}' for split in SPLITS])
    plan = [(split, index) for split in SPLITS for index in range(getattr(settings, split))]
    missing = _missing(folder, plan, settings.sample_rate)
    done = len(plan) - len(missing)
    bar = tqdm(total=len(plan), initial=done, unit='utt', desc='synthesize', disable=not progress)
    # closing() ends the worker processes before the exception of an interrupted run goes on.
    with bar, contextlib.closing(_results(settings, folder, missing, workers)) as results:
        for count in results:
            bar.update(count)
    for leftover in folder.glob('audio/*/.*.tmp'):
        leftover.unlink(missing_ok=True)
    return {split: _finish(folder, settings, split, missing) for split in SPLITS}


def _finish(folder: Path, settings: CorpusSettings, split: str, rendered: list[tuple[str, int]]) -> dict[str, float]:
    rows = []
    for index in range(getattr(settings, split)):
        utterance, _ = draw_utterance(settings, split, index)
        name = audio_name(split, index)
        rows.append(
            {
                'audio_filepath': name,
                'duration': round(_duration(folder / name, settings.sample_rate), 4),
                'text': utterance.sentence.text,
                'speaker': utterance.voice,
                'kind': utterance.sentence.kind,
            }
        )
    finish_manifest(folder / f'{split}.jsonl', rows)
    return {
        'utterances': len(rows),
        'seconds': sum(row['duration'] for row in rows),
        'rendered': sum(item[0] == split for item in rendered),
    }

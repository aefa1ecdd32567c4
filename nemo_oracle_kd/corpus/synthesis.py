# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Makes a whole speech corpus: plans it, renders it in parallel, resumes it, writes its manifests last.

Every utterance is a function of (settings, split, index) alone: its random generator is seeded with them, and the
synthesiser keeps nothing between utterances (see :mod:`~nemo_oracle_kd.corpus.espeak`). The number of workers, their
order and an interruption therefore change no byte. Layout of a corpus folder::

    corpus.json                      the settings, written first; a second run must agree with them
    audio/<split>/<split>-00000.flac 16-bit mono, each file written whole or not at all
    train.jsonl dev.jsonl test.jsonl NeMo manifests, written when all audio is there
"""

import contextlib
import json
import multiprocessing
import os
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from nemo_oracle_kd.corpus import acoustics
from nemo_oracle_kd.corpus.espeak import Prosody, Synthesizer
from nemo_oracle_kd.corpus.manifest import write_manifest, write_text_atomically
from nemo_oracle_kd.corpus.texts import KINDS, SPLITS, Sentence, draw_sentence
from nemo_oracle_kd.corpus.voices import draw_voice
from nemo_oracle_kd.errors import ConfigError, unknown_name

# Raised whenever a change of this package changes the bytes of a corpus, so that old and new are never mixed.
FORMAT = 1
SETTINGS_FILE = 'corpus.json'

_BABBLE_TRACKS = 4
_BABBLE_VOICES = 6
_BABBLE_SECONDS = 8
_BABBLE_STREAM = 0xBABB1E
_CHUNK = 8


@dataclass(frozen=True)
class CorpusSettings:
    """Everything that the bytes of a corpus depend on.

    Attributes:
        train: number of training utterances.
        dev: number of validation utterances.
        test: number of test utterances.
        seed: of all random choices.
        kinds: subset of ``digits``, ``spelling``, ``dates``, ``commands``.
        sample_rate: Hz.
        plain: True for clean speech: no noise, no reverberation, one level, each voice's own speed and pitch.
        noise: share of the utterances with added noise.
        noise_snr: lowest and highest signal-to-noise ratio, dB.
        reverb: share of the utterances with reverberation.
        rate: slowest and fastest speech, words a minute.
    """

    train: int = 1200
    dev: int = 120
    test: int = 200
    seed: int = 0
    kinds: tuple[str, ...] = KINDS
    sample_rate: int = 16000
    plain: bool = False
    noise: float = 0.8
    noise_snr: tuple[float, float] = (5.0, 25.0)
    reverb: float = 0.4
    rate: tuple[int, int] = (110, 180)

    def check(self) -> 'CorpusSettings':
        """Returns the settings in canonical form.

        Raises:
            ConfigError: with one sentence for every value that is out of range.
        """
        problems = []
        for split in SPLITS:
            if getattr(self, split) < 1:
                problems.append(f"--{split} is {getattr(self, split)}: every part needs at least 1 utterance.")
        if self.seed < 0:
            problems.append(f"--seed is {self.seed}: give 0 or more.")
        problems += [unknown_name('kind of sentence', kind, KINDS) for kind in self.kinds if kind not in KINDS]
        if not self.kinds:
            problems.append(f"--kinds is empty: name at least one of {', '.join(KINDS)}.")
        if not 8000 <= self.sample_rate <= 48000:
            problems.append(f"--sample-rate is {self.sample_rate}: give 8000 to 48000 Hz.")
        for name, share in (('noise', self.noise), ('reverb', self.reverb)):
            if not 0.0 <= share <= 1.0:
                problems.append(f"--{name} is {share}: it is a share of the utterances, give 0 to 1.")
        for name, (low, high), least, most, unit in (
            ('noise-snr', self.noise_snr, -30.0, 100.0, 'dB'),
            ('rate', self.rate, 80, 450, 'words a minute'),
        ):
            if not least <= low <= high <= most:
                problems.append(f"--{name} is {low} {high}: give {least} <= LOW <= HIGH <= {most} {unit}.")
        ConfigError.raise_if_any(problems)
        return replace(self, kinds=tuple(kind for kind in KINDS if kind in self.kinds))

    def record(self) -> dict[str, Any]:
        """The settings as ``corpus.json`` holds them; equal records mean equal bytes."""
        return json.loads(json.dumps({'format': FORMAT, **asdict(self)}))


@dataclass(frozen=True)
class Utterance:
    """What is drawn for one utterance before any sound is made."""

    sentence: Sentence
    voice: str
    prosody: Prosody
    speech_seed: int


def audio_name(split: str, index: int) -> str:
    """Path of an utterance relative to the corpus folder, with forward slashes."""
    return f'audio/{split}/{split}-{index:05d}.flac'


def draw_utterance(settings: CorpusSettings, split: str, index: int) -> tuple[Utterance, np.random.Generator]:
    """Draws text, voice and prosody.

    Args:
        settings: checked settings.
        split: ``train``, ``dev`` or ``test``.
        index: number of the utterance in its split, from 0.

    Returns:
        The utterance, and its generator in the state from which :func:`render` goes on.
    """
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
    sentence = draw_sentence(rng, split, settings.kinds)
    voice = draw_voice(rng, split)
    prosody = Prosody(
        rate=int(rng.integers(settings.rate[0], settings.rate[1] + 1)),
        pitch=int(rng.integers(30, 71)),
        pitch_range=int(rng.integers(30, 81)),
        word_gap=int(rng.integers(0, 6)),
    )
    speech_seed = int(rng.integers(1, 2**31 - 1))
    return Utterance(sentence, voice, Prosody() if settings.plain else prosody, speech_seed), rng


@lru_cache(maxsize=1)
def _synthesizer() -> Synthesizer:
    return Synthesizer()


def _speak(settings: CorpusSettings, utterance: Utterance) -> np.ndarray:
    """Clean speech ``[N]`` at the corpus' sample rate, without leading or trailing silence."""
    synthesizer = _synthesizer()
    samples = synthesizer.speak(utterance.sentence.spoken, utterance.voice, utterance.prosody, utterance.speech_seed)
    samples = acoustics.trim(samples.astype(np.float64) / 32768.0)
    return acoustics.resample(samples, synthesizer.sample_rate, settings.sample_rate)


@lru_cache(maxsize=_BABBLE_TRACKS * len(SPLITS))
def _babble(settings: CorpusSettings, split: str, track: int) -> np.ndarray:
    """Several voices of the split talking at once, without a pause, as a loop of :data:`_BABBLE_SECONDS`."""
    length = _BABBLE_SECONDS * settings.sample_rate
    total = np.zeros(length)
    for talker in range(_BABBLE_VOICES):
        rng = np.random.default_rng([settings.seed, SPLITS.index(split), _BABBLE_STREAM, track, talker])
        voice, pieces = draw_voice(rng, split), []
        prosody = Prosody(rate=int(rng.integers(140, 200)), pitch=int(rng.integers(35, 66)))
        while sum(map(len, pieces)) < length:
            sentence = draw_sentence(rng, split)
            pieces.append(_speak(settings, Utterance(sentence, voice, prosody, int(rng.integers(1, 2**31 - 1)))))
        speech = np.concatenate(pieces)[:length]
        total += speech / acoustics.speech_rms(speech, settings.sample_rate)
    return total


def _noise(settings: CorpusSettings, split: str, length: int, rng: np.random.Generator) -> np.ndarray:
    colour = acoustics.NOISE_COLOURS[int(rng.integers(len(acoustics.NOISE_COLOURS)))]
    if colour != 'babble':
        return acoustics.coloured_noise(rng, length, colour)
    track = _babble(settings, split, int(rng.integers(_BABBLE_TRACKS)))
    start = int(rng.integers(len(track)))
    return np.take(track, np.arange(start, start + length), mode='wrap')


def render(settings: CorpusSettings, split: str, index: int) -> np.ndarray:
    """Makes the sound of one utterance.

    Args:
        settings: checked settings.
        split: ``train``, ``dev`` or ``test``.
        index: number of the utterance in its split.

    Returns:
        Samples ``[N]``, int16, at ``settings.sample_rate`` Hz.
    """
    utterance, rng = draw_utterance(settings, split, index)
    rate = settings.sample_rate
    pauses = (0.1, 0.1) if settings.plain else rng.uniform(0.05, 0.25, 2)
    samples = np.pad(_speak(settings, utterance), [int(pause * rate) for pause in pauses])
    level = -26.0
    if not settings.plain:
        if rng.random() < settings.reverb:
            rt60, ratio = rng.uniform(0.15, 0.5), rng.uniform(0.0, 12.0)
            samples = acoustics.reverberate(samples, acoustics.room_response(rng, rate, rt60, ratio))
        if rng.random() < settings.noise:
            snr = rng.uniform(*settings.noise_snr)
            samples = acoustics.mix(samples, _noise(settings, split, len(samples), rng), snr, rate)
        level = rng.uniform(-34.0, -16.0)
    return np.round(acoustics.set_level(samples, level, rate) * 32767.0).astype(np.int16)


def _write_audio(path: Path, samples: np.ndarray, rate: int) -> None:
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        soundfile.write(temporary, samples, rate, format='FLAC', subtype='PCM_16')
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _duration(path: Path, rate: int) -> float | None:
    """Seconds of a finished audio file; None where there is none that can be read."""
    try:
        info = soundfile.info(path)
    except (OSError, soundfile.LibsndfileError):
        return None
    return info.frames / rate if info.samplerate == rate and info.frames > 0 else None


def _render_chunk(job: tuple[CorpusSettings, str, list[tuple[str, int]]]) -> int:
    """Renders some utterances to their files; the unit of work that a worker process is given."""
    settings, folder, chunk = job
    for split, index in chunk:
        _write_audio(Path(folder, audio_name(split, index)), render(settings, split, index), settings.sample_rate)
    return len(chunk)


def _results(jobs: list, workers: int) -> Iterator[int]:
    if workers == 1:
        yield from map(_render_chunk, jobs)
        return
    # spawn, not fork: a fork of a process that has run torch or OpenMP threads can hang.
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=multiprocessing.get_context('spawn'))
    try:
        yield from pool.map(_render_chunk, jobs)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def synthesize_corpus(
    folder: str | os.PathLike, settings: CorpusSettings, workers: int = 1, progress: bool = True
) -> dict[str, dict[str, float]]:
    """Makes the corpus, or what is missing of it after an interruption.

    Args:
        folder: where the corpus goes; new, empty, or a corpus with the same settings.
        settings: what to make.
        workers: processes; the bytes do not depend on it.
        progress: show a progress bar.

    Returns:
        For every split ``utterances`` (number), ``seconds`` (of audio) and ``rendered`` (number made by this call).

    Raises:
        ConfigError: settings out of range, or the folder holds something else.
        OSError: the folder cannot be written.
        EspeakError: the synthesiser is missing.
    """
    settings = settings.check()
    if workers < 1:
        raise ConfigError([f"--workers is {workers}: give 1 or more."])
    folder = Path(folder)
    _synthesizer()
    _claim(folder, settings)
    plan = [(split, index) for split in SPLITS for index in range(getattr(settings, split))]
    missing = [item for item in plan if _duration(folder / audio_name(*item), settings.sample_rate) is None]
    chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]
    jobs = [(settings, str(folder), chunk) for chunk in chunks]
    done = len(plan) - len(missing)
    bar = tqdm(total=len(plan), initial=done, unit='utt', desc='synthesize', disable=not progress)
    # closing() ends the worker processes before the exception of an interrupted run goes on.
    with bar, contextlib.closing(_results(jobs, workers)) as results:
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
    write_manifest(folder / f'{split}.jsonl', rows)
    return {
        'utterances': len(rows),
        'seconds': sum(row['duration'] for row in rows),
        'rendered': sum(item[0] == split for item in rendered),
    }


def _claim(folder: Path, settings: CorpusSettings) -> None:
    """Makes the folders and writes ``corpus.json``, or checks that the one there agrees."""
    record, path = settings.record(), folder / SETTINGS_FILE
    if path.is_file():
        try:
            there = json.loads(path.read_text(encoding='utf-8'))
        except ValueError:
            raise ConfigError([f"{path} is damaged: delete {folder} or choose another folder."]) from None
        different = [key for key in record if there.get(key) != record[key]] if isinstance(there, dict) else ['format']
        if different:
            listed = ', '.join(
                f"{key.replace('_', '-')} {json.dumps(there.get(key))} there, {json.dumps(record[key])} now"
                for key in different
            )
            raise ConfigError(
                [f"{folder} holds a corpus made with other settings ({listed}): choose another folder or delete it."]
            )
    else:
        # A run that is killed while it writes its settings leaves no more than their temporary file.
        others = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        others = [name for name in others if not re.fullmatch(rf'\.{re.escape(SETTINGS_FILE)}\.\d+\.tmp', name)]
        if others:
            raise ConfigError([f"{folder} is not empty and holds no corpus ({others[0]}): choose another folder."])
    try:
        for split in SPLITS:
            (folder / 'audio' / split).mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f'.{SETTINGS_FILE}.*.tmp'):
            leftover.unlink(missing_ok=True)
        write_text_atomically(path, json.dumps(record, indent=1) + '\n')
    except OSError as error:
        raise type(error)(
            f"{folder} cannot be written ({error.strerror or error}): give a folder in which you may create files."
        ) from None

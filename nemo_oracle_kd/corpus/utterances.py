# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Draws and renders single utterances: each is a function of (settings, split, index) and of nothing else."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from nemo_oracle_kd.corpus import acoustics
from nemo_oracle_kd.corpus.espeak import Prosody, Synthesizer
from nemo_oracle_kd.corpus.sentences import rearranged
from nemo_oracle_kd.corpus.settings import CorpusSettings
from nemo_oracle_kd.corpus.texts import SENTENCES, SPLITS, Sentence, draw_sentence
from nemo_oracle_kd.corpus.voices import draw_voice

_BABBLE_TRACKS = 3
_BABBLE_VOICES = 5
_BABBLE_SECONDS = 6
_BABBLE_STREAM = 0xBABB1E
_PLAIN_LEVEL_DB = -26.0


@dataclass(frozen=True)
class Utterance:
    """What is drawn for one utterance before any sound is made."""

    sentence: Sentence
    voice: str
    prosody: Prosody
    speech_seed: int


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
    if settings.kinds == (SENTENCES,):
        sentence = rearranged(settings.texts, settings.seed).draw(rng, split, index, settings.train)
    else:
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
def synthesizer() -> Synthesizer:
    """The synthesiser of this process; the first call checks that its library is installed."""
    return Synthesizer()


def _speak(sample_rate: int, utterance: Utterance) -> np.ndarray:
    """Clean speech ``[N]`` at a sample rate in Hz, without leading or trailing silence."""
    voice = synthesizer()
    samples = voice.speak(utterance.sentence.spoken, utterance.voice, utterance.prosody, utterance.speech_seed)
    samples = acoustics.trim(samples.astype(np.float64) / 32768.0)
    return acoustics.resample(samples, voice.sample_rate, sample_rate)


@lru_cache(maxsize=_BABBLE_TRACKS * len(SPLITS))
def _babble(seed: int, sample_rate: int, split: str, track: int) -> np.ndarray:
    """Several voices of the split talking at once, without a pause, as a loop of :data:`_BABBLE_SECONDS`."""
    length = _BABBLE_SECONDS * sample_rate
    total = np.zeros(length)
    for talker in range(_BABBLE_VOICES):
        rng = np.random.default_rng([seed, SPLITS.index(split), _BABBLE_STREAM, track, talker])
        voice, pieces = draw_voice(rng, split), []
        prosody = Prosody(rate=int(rng.integers(140, 200)), pitch=int(rng.integers(35, 66)))
        while sum(map(len, pieces)) < length:
            sentence = draw_sentence(rng, split)
            pieces.append(_speak(sample_rate, Utterance(sentence, voice, prosody, int(rng.integers(1, 2**31 - 1)))))
        speech = np.concatenate(pieces)[:length]
        total += speech / acoustics.speech_rms(speech, sample_rate)
    return total


def _noise(settings: CorpusSettings, split: str, length: int, rng: np.random.Generator) -> np.ndarray:
    colour = acoustics.NOISE_COLOURS[int(rng.integers(len(acoustics.NOISE_COLOURS)))]
    if colour != 'babble':
        return acoustics.coloured_noise(rng, length, colour)
    track = _babble(settings.seed, settings.sample_rate, split, int(rng.integers(_BABBLE_TRACKS)))
    start = int(rng.integers(len(track)))
    return np.take(track, np.arange(start, start + length), mode='wrap')


def render(settings: CorpusSettings, split: str, index: int, calm: bool = False) -> np.ndarray:
    """Makes the sound of one utterance.

    Args:
        settings: checked settings.
        split: ``train``, ``dev`` or ``test``.
        index: number of the utterance in its split.
        calm: speak with the synthesiser's own rate and pitch, for an utterance in whose drawn ones it crashes.

    Returns:
        Samples ``[N]``, int16, at ``settings.sample_rate`` Hz.
    """
    utterance, rng = draw_utterance(settings, split, index)
    if calm:
        utterance = replace(utterance, prosody=Prosody())
    rate = settings.sample_rate
    pauses = (0.1, 0.1) if settings.plain else rng.uniform(0.05, 0.25, 2)
    samples = np.pad(_speak(rate, utterance), [int(pause * rate) for pause in pauses])
    level = _PLAIN_LEVEL_DB
    if not settings.plain:
        if rng.random() < settings.reverb:
            rt60, ratio = rng.uniform(0.15, 0.5), rng.uniform(0.0, 12.0)
            samples = acoustics.reverberate(samples, acoustics.room_response(rng, rate, rt60, ratio))
        if rng.random() < settings.noise:
            snr = rng.uniform(*settings.noise_snr)
            samples = acoustics.mix(samples, _noise(settings, split, len(samples), rng), snr, rate)
        level = rng.uniform(-34.0, -16.0)
    return acoustics.to_int16(acoustics.set_level(samples, level, rate), rng)

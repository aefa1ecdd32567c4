# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Room, noise and level: what turns the output of a synthesiser into something like a recording.

All functions take and give float64 waveforms ``[N]`` in the range -1 to 1 and draw from the generator they are given.
"""

from functools import lru_cache
from math import gcd

import numpy as np
from scipy.fft import next_fast_len
from scipy.signal import fftconvolve, firwin, resample_poly

NOISE_COLOURS = ('white', 'pink', 'brown', 'babble')
# Power spectral density ~ 1 / f**exponent.
_EXPONENTS = {'white': 0.0, 'pink': 1.0, 'brown': 2.0}


@lru_cache(maxsize=4)
def _resampling_filter(up: int, down: int) -> np.ndarray:
    """The filter that ``resample_poly`` would otherwise design in every call, which takes longer than applying it."""
    longest = max(up, down)
    return firwin(20 * longest + 1, 1.0 / longest, window=('kaiser', 5.0))


def resample(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Changes the sample rate with a polyphase filter.

    Args:
        samples: waveform ``[N]``.
        source_rate: Hz.
        target_rate: Hz.

    Returns:
        Waveform ``[ceil(N * target_rate / source_rate)]``.
    """
    divisor = gcd(source_rate, target_rate)
    up, down = target_rate // divisor, source_rate // divisor
    if up == down:
        return samples
    return resample_poly(samples, up, down, window=_resampling_filter(up, down))


def trim(samples: np.ndarray, threshold: float = 1e-3) -> np.ndarray:
    """Removes everything before the first and after the last sample above ``threshold`` times the peak."""
    loud = np.flatnonzero(np.abs(samples) > threshold * np.abs(samples).max(initial=0.0))
    return samples[loud[0] : loud[-1] + 1] if loud.size else samples


def speech_rms(samples: np.ndarray, rate: int) -> float:
    """Root mean square over the 20 ms frames that lie less than 40 dB below the loudest: pauses do not count."""
    size = max(1, min(rate // 50, len(samples)))
    count = len(samples) // size
    energy = np.square(samples[: count * size]).reshape(count, size).mean(axis=1)
    peak = energy.max(initial=0.0)
    return float(np.sqrt(energy[energy >= peak * 1e-4].mean())) if peak > 0 else 0.0


def room_response(rng: np.random.Generator, rate: int, rt60: float, direct_to_reverberant_db: float) -> np.ndarray:
    """A synthetic room impulse response: the direct path, then noise with exponentially falling energy.

    Args:
        rng: source of the noise.
        rate: Hz.
        rt60: time in seconds after which the energy of the tail is 60 dB lower.
        direct_to_reverberant_db: energy of the direct path over the energy of the tail, dB.

    Returns:
        Response ``[rt60 * rate]`` that starts with 1.
    """
    time = np.arange(max(2, int(rt60 * rate))) / rate
    tail = rng.standard_normal(len(time)) * 10.0 ** (-3.0 * time / rt60)
    # The first 2 ms belong to the direct path: no surface is nearer than 0.7 m.
    tail[: int(0.002 * rate) + 1] = 0.0
    tail *= np.sqrt(10.0 ** (-direct_to_reverberant_db / 10.0) / np.sum(np.square(tail)))
    tail[0] = 1.0
    return tail


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolves and keeps the length: the tail beyond the end of the recording is cut off."""
    return fftconvolve(samples, response)[: len(samples)]


def coloured_noise(rng: np.random.Generator, length: int, colour: str) -> np.ndarray:
    """Stationary Gaussian noise of unit power: ``white``, ``pink`` (1/f) or ``brown`` (1/f^2).

    Args:
        rng: source of the noise.
        length: samples.
        colour: name of the colour.

    Returns:
        Waveform ``[length]`` with mean 0 and mean square 1.
    """
    # A prime length would make the transform many times slower.
    size = next_fast_len(max(length, 2), real=True)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    bins = np.arange(len(spectrum), dtype=np.float64)
    bins[0] = np.inf if _EXPONENTS[colour] else 1.0
    noise = np.fft.irfft(spectrum * bins ** (-_EXPONENTS[colour] / 2.0), size)[:length]
    return noise / np.sqrt(np.mean(np.square(noise)))


def mix(speech: np.ndarray, noise: np.ndarray, snr_db: float, rate: int) -> np.ndarray:
    """Adds noise at a signal-to-noise ratio measured against the speech without its pauses.

    Args:
        speech: waveform ``[N]``.
        noise: waveform ``[N]``.
        snr_db: dB.
        rate: Hz.

    Returns:
        Waveform ``[N]``.
    """
    power = np.sqrt(np.mean(np.square(noise)))
    return speech + noise * (speech_rms(speech, rate) / power * 10.0 ** (-snr_db / 20.0))


def set_level(samples: np.ndarray, level_db: float, rate: int, ceiling: float = 0.98) -> np.ndarray:
    """Scales to a speech level in dB relative to full scale, lower where the peak would pass ``ceiling``."""
    scaled = samples * (10.0 ** (level_db / 20.0) / speech_rms(samples, rate))
    return scaled * min(1.0, ceiling / np.abs(scaled).max())


def to_int16(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Quantises to 16 bits with triangular dither of one step.

    Between its words eSpeak gives exact zeros. Without dither their log-spectrum would lie far below anything a
    microphone gives, and a model would see it at test time but, with NeMo's own training dither, not in training.

    Args:
        samples: waveform ``[N]`` within -1 to 1.
        rng: source of the dither.

    Returns:
        Samples ``[N]``, int16.
    """
    dither = rng.random(len(samples)) - rng.random(len(samples))
    return np.clip(np.round(samples * 32767.0 + dither), -32768, 32767).astype(np.int16)

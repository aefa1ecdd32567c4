# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Noise, room and level do what their numbers say, measured on the result."""

import numpy as np
import pytest

from nemo_oracle_kd.corpus import acoustics

pytestmark = pytest.mark.unit
RATE = 16000


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def burst(rng):
    """Half a second of sound between two pauses of half a second."""
    sound = np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)
    return np.pad(sound, RATE // 2)


def test_resampling_keeps_a_tone_and_removes_what_would_alias():
    time = np.arange(22050) / 22050
    for frequency, expected in ((1000, np.sqrt(0.5)), (10000, 0.0)):
        out = acoustics.resample(np.sin(2 * np.pi * frequency * time), 22050, RATE)
        assert len(out) == RATE
        assert np.sqrt(np.mean(out[1000:-1000] ** 2)) == pytest.approx(expected, abs=0.01)


def test_resampling_to_the_same_rate_changes_nothing(burst):
    assert np.array_equal(acoustics.resample(burst, RATE, RATE), burst)


def test_trim_cuts_silence_only(burst):
    assert abs(len(acoustics.trim(burst)) - RATE // 2) < 4
    assert len(acoustics.trim(np.zeros(10))) == 10


def test_pauses_do_not_count_for_the_speech_level(burst):
    assert acoustics.speech_rms(burst, RATE) == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert acoustics.speech_rms(np.zeros(100), RATE) == 0.0


@pytest.mark.parametrize('snr', [-5.0, 10.0])
def test_the_mixture_has_the_signal_to_noise_ratio_asked_for(rng, burst, snr):
    noise = acoustics.coloured_noise(rng, len(burst), 'pink') * 3.0
    added = acoustics.mix(burst, noise, snr, RATE) - burst
    measured = 20 * np.log10(acoustics.speech_rms(burst, RATE) / np.sqrt(np.mean(added**2)))
    assert measured == pytest.approx(snr, abs=0.01)


@pytest.mark.parametrize('colour, slope', [('white', 0.0), ('pink', -1.0), ('brown', -2.0)])
def test_coloured_noise_has_unit_power_and_its_spectral_slope(rng, colour, slope):
    noise = acoustics.coloured_noise(rng, 100003, colour)
    assert len(noise) == 100003
    assert np.mean(noise**2) == pytest.approx(1.0)
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.arange(len(power))
    bands = [(100 * 2**k, 200 * 2**k) for k in range(8)]
    levels = [np.log2(power[low:high].mean()) for low, high in bands]
    centres = [np.log2(frequency[low:high].mean()) for low, high in bands]
    assert np.polyfit(centres, levels, 1)[0] == pytest.approx(slope, abs=0.15)


def test_the_room_decays_by_60_db_in_rt60_and_keeps_its_direct_to_reverberant_ratio(rng):
    rt60, ratio = 0.4, 6.0
    response = acoustics.room_response(rng, RATE, rt60, ratio)
    tail = response[1:]
    assert response[0] == 1.0
    assert 10 * np.log10(1.0 / np.sum(tail**2)) == pytest.approx(ratio, abs=0.01)
    # Schroeder's backward integral falls along a straight line in dB.
    decay = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2))
    start, end = int(0.05 * rt60 * RATE), int(0.5 * rt60 * RATE)
    slope = np.polyfit(np.arange(start, end) / RATE, decay[start:end], 1)[0]
    assert -60.0 / slope == pytest.approx(rt60, rel=0.1)


def test_reverberation_keeps_the_length_and_rings_after_the_sound(rng, burst):
    wet = acoustics.reverberate(burst, acoustics.room_response(rng, RATE, 0.5, 0.0))
    assert len(wet) == len(burst)
    after = slice(RATE + 200, RATE + 2000)
    assert np.abs(burst[after]).max() == 0.0 and np.abs(wet[after]).max() > 0.01


def test_the_level_is_reached_unless_the_peak_would_clip(burst):
    quiet = acoustics.set_level(burst, -30.0, RATE)
    assert 20 * np.log10(acoustics.speech_rms(quiet, RATE)) == pytest.approx(-30.0, abs=0.01)
    assert np.abs(acoustics.set_level(burst, 6.0, RATE)).max() == pytest.approx(0.98)


def test_quantisation_dithers_silence_and_never_wraps(rng):
    silence = acoustics.to_int16(np.zeros(2000), rng)
    assert set(np.unique(silence)) == {-1, 0, 1}
    loud = acoustics.to_int16(np.array([1.0, -1.0] * 500), rng)
    assert loud[::2].min() >= 32766 and loud[1::2].max() <= -32766

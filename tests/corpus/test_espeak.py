# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The driver: an utterance depends on its own arguments alone, and a missing library is explained."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nemo_oracle_kd.corpus.espeak import EspeakError, Prosody, Synthesizer
from nemo_oracle_kd.corpus.voices import ACCENTS, MEN, WOMEN

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[2]
VARIANTS = sorted(name for group in (MEN, WOMEN) for names in group.values() for name in names)


@pytest.fixture(scope='module')
def synthesizer():
    return Synthesizer()


def _digest(samples):
    return hashlib.sha256(samples.tobytes()).hexdigest()


def test_an_utterance_alone_equals_the_same_utterance_in_any_sequence(synthesizer):
    # Reed and caleb draw from the C library's generator; the others from eSpeak's own and from its static state.
    jobs = [(f'en-us+{variant}', text) for variant in [*VARIANTS, 'caleb'] for text in ('go back', 's, m, i, t, h')]
    prosody = Prosody(rate=160, pitch=60)
    forwards = {job: _digest(synthesizer.speak(job[1], job[0], prosody)) for job in jobs}
    order = np.random.default_rng(0).permutation(len(jobs))
    shuffled = {jobs[i]: _digest(synthesizer.speak(jobs[i][1], jobs[i][0], prosody)) for i in order}
    assert forwards == shuffled
    assert len(set(forwards.values())) == len(jobs), "two voices sound the same"


def test_a_fresh_process_gives_the_same_samples(synthesizer):
    for voice in ('en-gb-x-rp+f4', 'en-us+Reed'):
        synthesizer.speak('something else before', 'en+m1')
        here = _digest(synthesizer.speak('april twenty first', voice, seed=5))
        code = (
            'import hashlib; from nemo_oracle_kd.corpus.espeak import Synthesizer; '
            f'x = Synthesizer().speak("april twenty first", "{voice}", seed=5); '
            'print(hashlib.sha256(x.tobytes()).hexdigest())'
        )
        there = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True)
        assert there.stdout.strip() == here


def test_rate_pitch_and_seed_change_the_sound(synthesizer):
    base = synthesizer.speak('one two three', 'en-us+Reed')
    slow = synthesizer.speak('one two three', 'en-us+Reed', Prosody(rate=100))
    high = synthesizer.speak('one two three', 'en-us+Reed', Prosody(pitch=80))
    other = synthesizer.speak('one two three', 'en-us+Reed', seed=2)
    assert len(slow) > 1.3 * len(base)
    assert len({_digest(samples) for samples in (base, slow, high, other)}) == 4


def test_every_voice_of_the_corpus_is_in_the_library(synthesizer):
    for accent in sorted({accent for names in ACCENTS.values() for accent in names}):
        samples = synthesizer.speak('yes', f'{accent}+f1')
        assert samples.dtype == np.int16 and np.abs(samples).max() > 1000
    import espeakng_loader

    there = {path.name for path in Path(espeakng_loader.get_data_path(), 'voices', '!v').iterdir()}
    assert set(VARIANTS) <= there


def test_an_unknown_voice_and_an_empty_text_are_refused(synthesizer):
    with pytest.raises(EspeakError, match="no voice 'xx-nowhere'"):
        synthesizer.speak('yes', 'xx-nowhere')
    with pytest.raises(EspeakError, match='gave no sound'):
        synthesizer.speak('', 'en-us')
    assert synthesizer.speak('yes', 'en-us').any()


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'espeakng_loader', None)
    with pytest.raises(EspeakError, match='pip install espeakng-loader'):
        Synthesizer()


def test_a_package_without_its_library_is_refused(monkeypatch, tmp_path):
    import espeakng_loader

    monkeypatch.setattr(espeakng_loader, 'get_library_path', lambda: str(tmp_path / 'libespeak-ng.so'))
    with pytest.raises(EspeakError, match='--force-reinstall espeakng-loader'):
        Synthesizer()


def test_a_file_that_is_no_library_is_refused(monkeypatch, tmp_path):
    import espeakng_loader

    (tmp_path / 'libespeak-ng.so').write_text('no library')
    monkeypatch.setattr(espeakng_loader, 'get_library_path', lambda: str(tmp_path / 'libespeak-ng.so'))
    with pytest.raises(EspeakError, match='cannot be loaded'):
        Synthesizer()


def test_a_library_that_someone_else_uses_in_this_process_is_refused():
    # In a process of its own: the library stays loaded there.
    code = (
        'import ctypes, espeakng_loader; from nemo_oracle_kd.corpus.espeak import Synthesizer; '
        'lib = ctypes.CDLL(espeakng_loader.get_library_path()); '
        'lib.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0x8000); Synthesizer()'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and 'already in use in this process' in done.stderr

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The corpus of the noisy-teacher recipe, from recordings that stand in for the Free Spoken Digit Dataset."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from load_script import load_script

from nemo_oracle_kd.corpus.manifest import read_manifest

SCRIPT = Path(__file__).resolve().parents[2] / 'examples' / 'noisy_teachers' / 'digits.py'
SPEAKERS = ('george', 'jackson', 'nicolas', 'theo', 'yweweler', 'lucas')


@pytest.fixture
def digits():
    return load_script('examples/noisy_teachers/digits.py')


@pytest.fixture
def recordings(tmp_path):
    """A recording of each digit on either side of the line between training and test, all of one pitch per speaker."""
    folder = tmp_path / 'recordings'
    folder.mkdir()
    time = np.arange(1600) / 8000
    for pitch, speaker in enumerate(SPEAKERS):
        for digit in range(10):
            for index in (0, 49):
                tone = 0.3 * np.sin(2 * np.pi * (300 + 100 * pitch) * time) * (time > 0.05)
                soundfile.write(folder / f'{digit}_{speaker}_{index}.wav', tone.astype('float32'), 8000)
    return folder


def run(digits, monkeypatch, recordings, out, *options):
    monkeypatch.setattr('sys.argv', ['digits.py', '--recordings', str(recordings), '--out', str(out), *options])
    digits.main()


def test_the_corpus_is_one_that_the_recipe_reads_and_is_the_same_again(digits, monkeypatch, recordings, tmp_path):
    options = ('--train', '8', '--dev', '2', '--test', '3', '--digits', '1', '2')
    for name in ('one', 'two'):
        run(digits, monkeypatch, recordings, tmp_path / name, *options)
    one = tmp_path / 'one'
    rows = {
        name: read_manifest(one / f'{name}.jsonl') for name in ('train', 'dev', 'test', 'test_seen', 'test_unseen')
    }
    assert {name: len(part) for name, part in rows.items()} == {
        'train': 8,
        'dev': 2,
        'test': 6,
        'test_seen': 3,
        'test_unseen': 3,
    }
    assert {row['speaker'] for row in rows['train']} == set(SPEAKERS[:4])
    assert {row['speaker'] for row in rows['dev'] + rows['test_unseen']} == set(SPEAKERS[4:])
    for row in rows['train']:
        assert 1 <= len(row['text'].split()) <= 2 and set(row['text'].split()) <= set(digits.WORDS)
        audio = soundfile.info(row['audio_filepath'])
        assert audio.samplerate == 16000 and audio.duration == pytest.approx(row['duration'], abs=1e-4)
    for file in sorted(one.rglob('*.*')):
        assert file.read_bytes() == (tmp_path / 'two' / file.relative_to(one)).read_bytes()


def test_the_silence_around_a_recording_is_cut_off(digits):
    word = np.concatenate([np.zeros(800), 0.3 * np.ones(800), np.zeros(800)]).astype('float32')
    assert digits.without_silence(word).tolist() == word[640:1760].tolist()


def test_a_recording_of_the_training_set_is_never_one_of_the_test_set(digits, monkeypatch, recordings, tmp_path):
    for path in recordings.glob('*_george_0.wav'):
        path.unlink()
    with pytest.raises(SystemExit, match='holds no recording 0_george_0.wav to _4.wav: give the folder `recordings`'):
        run(digits, monkeypatch, recordings, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()

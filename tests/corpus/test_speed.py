# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Copies at other speeds: durations, pitch, resumption, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.corpus.speed import write_speed_copies
from nemo_oracle_kd.errors import ConfigError

RATE = 16000


@pytest.fixture()
def manifest(tmp_path):
    time = np.arange(RATE) / RATE
    soundfile.write(tmp_path / 'tone.wav', 0.3 * np.sin(2 * np.pi * 1000 * time), RATE)
    rows = [
        {'audio_filepath': 'tone.wav', 'duration': 1.0, 'text': 'one', 'speaker': 'a'},
        {'audio_filepath': 'tone.wav', 'duration': 0.25, 'offset': 0.5, 'text': 'two'},
    ]
    path = tmp_path / 'train.jsonl'
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return path


def _frequency(path):
    signal, rate = soundfile.read(path)
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(signal.size)))
    return spectrum.argmax() * rate / signal.size


def test_a_faster_copy_is_shorter_and_higher(manifest, tmp_path):
    rows = write_speed_copies(manifest, tmp_path / 'out', [0.8, 1.0, 1.25], progress=False)
    assert [row['speed'] for row in rows] == [0.8, 0.8, 1.0, 1.0, 1.25, 1.25]
    assert [round(row['duration'], 3) for row in rows] == [1.25, 0.312, 1.0, 0.25, 0.8, 0.2]
    assert [round(_frequency(row['audio_filepath']), -1) for row in rows[::2]] == [800, 1000, 1250]
    assert rows[0]['speaker'] == 'a' and rows[4]['text'] == 'one' and 'offset' not in rows[3]
    assert read_manifest(tmp_path / 'out' / 'train.jsonl') == rows


def test_an_interrupted_run_goes_on_where_it_was(manifest, tmp_path):
    first = write_speed_copies(manifest, tmp_path / 'out', [0.9, 1.1], progress=False)
    kept, lost, empty, half = (Path(row['audio_filepath']) for row in first)
    before = kept.stat().st_mtime_ns
    lost.unlink()
    empty.write_bytes(b'')
    half.write_bytes(half.read_bytes()[:-200])
    assert write_speed_copies(manifest, tmp_path / 'out', [0.9, 1.1], progress=False) == first
    assert kept.stat().st_mtime_ns == before
    assert len({path.read_bytes() for path in (kept, lost, empty, half)}) == 4
    for path, row in zip((kept, lost, empty, half), first):
        assert len(soundfile.read(path)[0]) == round(row['duration'] * RATE) > 0


def _write(path, *rows):
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return path


def test_a_copy_is_never_taken_for_that_of_another_row_or_recording(tmp_path):
    time = np.arange(RATE) / RATE
    for name, frequency in (('a', 500), ('b', 2000), ('c', 1000)):
        soundfile.write(tmp_path / f'{name}.wav', 0.3 * np.sin(2 * np.pi * frequency * time), RATE)
    rows = [{'audio_filepath': f'{name}.wav', 'duration': 1.0, 'text': name} for name in 'abc']

    def heard(*wanted, **options):
        manifest = _write(tmp_path / 'train.jsonl', *wanted)
        written = write_speed_copies(manifest, tmp_path / 'out', [0.5], progress=False, **options)
        return [(row['text'], round(2 * _frequency(row['audio_filepath']), -2)) for row in written]

    assert heard(*rows) == [('a', 500), ('b', 2000), ('c', 1000)]
    with pytest.raises(ConfigError, match='exists already'):
        heard(*rows[1:])
    assert heard(*rows[1:], overwrite=True) == [('b', 2000), ('c', 1000)], 'a removed row shifts nothing'
    assert heard(rows[2], rows[0], overwrite=True) == [('c', 1000), ('a', 500)], 'nor does another order'
    soundfile.write(tmp_path / 'a.wav', 0.3 * np.sin(2 * np.pi * 700 * time), RATE)
    assert heard(rows[0], overwrite=True) == [('a', 700)], 'a replaced recording is read again'


def test_a_duration_shorter_than_the_file_cuts_it_with_and_without_an_offset_of_zero(manifest, tmp_path):
    bare = {'audio_filepath': 'tone.wav', 'duration': 0.5, 'text': 'half'}
    _write(manifest, bare, {**bare, 'offset': 0}, {**bare, 'duration': 0.998}, {**bare, 'offset': 0.75, 'duration': 9})
    rows = write_speed_copies(manifest, tmp_path / 'out', [1.0, 0.5], progress=False)
    assert [round(row['duration'], 3) for row in rows] == [0.5, 0.5, 0.998, 0.25, 1.0, 1.0, 2.0, 0.5]
    assert rows[2]['audio_filepath'] == str(tmp_path / 'tone.wav'), 'rounded: the recording itself'


@pytest.mark.parametrize(
    'content, row, sentence',
    [
        ([0.0] * 80, {'offset': 1.0}, 'cannot be read as audio|no audio at 1 s'),
        ([float('nan')] * 80, {}, 'samples that are not finite numbers'),
        ([], {}, 'no audio at 0 s'),
        (None, {}, 'cannot be read as audio'),
    ],
)
def test_a_row_without_audio_ends_in_a_sentence(content, row, sentence, tmp_path):
    if content is None:
        (tmp_path / 'odd.wav').write_bytes(b'RIFF')
    else:
        soundfile.write(tmp_path / 'odd.wav', np.array(content), RATE, subtype='FLOAT')
    manifest = _write(tmp_path / 'train.jsonl', {'audio_filepath': 'odd.wav', 'text': '', 'duration': 0.005, **row})
    with pytest.raises(ValueError, match=sentence):
        write_speed_copies(manifest, tmp_path / 'out', [1.1], progress=False)
    assert not (tmp_path / 'out').exists()


def test_the_command_reports_rows_and_hours(manifest, tmp_path, capsys):
    assert main(['perturb', '--manifest', str(manifest), '--output', str(tmp_path / 'out')]) == 0
    assert '6 rows' in capsys.readouterr().out
    assert main(['perturb', '--manifest', str(manifest), '--output', str(tmp_path / 'out')]) == 0
    (tmp_path / 'out' / 'train.jsonl').write_text('precious')
    assert main(['perturb', '--manifest', str(manifest), '--output', str(tmp_path / 'out')]) == 2
    assert 'exists already' in capsys.readouterr().err
    assert (tmp_path / 'out' / 'train.jsonl').read_text() == 'precious'
    (tmp_path / 'link').symlink_to(tmp_path)
    assert main(['perturb', '--manifest', str(manifest), '--output', str(tmp_path / 'link'), '--overwrite']) == 2
    assert 'is an input' in capsys.readouterr().err


def test_speeds_out_of_range_and_an_overwritten_manifest_are_refused(manifest, tmp_path):
    with pytest.raises(ConfigError, match='from 0.5 to 2'):
        write_speed_copies(manifest, tmp_path / 'out', [3.0], progress=False)
    with pytest.raises(ConfigError, match='at least one factor'):
        write_speed_copies(manifest, tmp_path / 'out', [], progress=False)
    with pytest.raises(ConfigError, match='is an input'):
        write_speed_copies(manifest, manifest.parent, [1.1], progress=False)

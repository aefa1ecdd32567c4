# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Copies at other speeds: durations, pitch, resumption, refusals."""

import json

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
    kept = tmp_path / 'out' / 'speed_0.9' / '000000.flac'
    (tmp_path / 'out' / 'speed_1.1' / '000001.flac').unlink()
    before = kept.stat().st_mtime_ns
    assert write_speed_copies(manifest, tmp_path / 'out', [0.9, 1.1], progress=False) == first
    assert kept.stat().st_mtime_ns == before


def test_the_command_reports_rows_and_hours(manifest, tmp_path, capsys):
    assert main(['perturb', '--manifest', str(manifest), '--output', str(tmp_path / 'out')]) == 0
    assert '6 rows' in capsys.readouterr().out


def test_speeds_out_of_range_and_an_overwritten_manifest_are_refused(manifest, tmp_path):
    with pytest.raises(ConfigError, match='between 0.5 and 2'):
        write_speed_copies(manifest, tmp_path / 'out', [3.0], progress=False)
    with pytest.raises(ConfigError, match='at least one factor'):
        write_speed_copies(manifest, tmp_path / 'out', [], progress=False)
    with pytest.raises(ConfigError, match='another folder'):
        write_speed_copies(manifest, manifest.parent, [1.1], progress=False)

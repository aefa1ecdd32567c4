# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`nemo-oracle-kd manifest`: a folder of recordings becomes a manifest, and what cannot be read is named."""

import numpy as np
import soundfile

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.manifest import read_manifest


def test_recordings_are_listed_with_their_durations_and_damaged_ones_are_left_out(tmp_path, capsys):
    (tmp_path / 'speech' / 'b').mkdir(parents=True)
    for name, seconds in (('b/2.FLAC', 0.5), ('1.wav', 1.25), ('empty.wav', 0.0)):
        soundfile.write(tmp_path / 'speech' / name, np.zeros(int(8000 * seconds)), 8000)
    (tmp_path / 'speech' / 'bad.wav').write_bytes(b'no audio')
    (tmp_path / 'speech' / 'notes.txt').write_text('none')
    output = tmp_path / 'out.jsonl'
    assert main(['manifest', str(tmp_path / 'speech'), '--output', str(output)]) == 0
    printed = capsys.readouterr().out
    assert 'bad.wav cannot be read' in printed and 'empty.wav holds no sound' in printed and '2 recordings' in printed
    rows = read_manifest(output, require_text=False)
    assert rows == [
        {'audio_filepath': str(tmp_path / 'speech' / name), 'duration': duration}
        for name, duration in (('1.wav', 1.25), ('b/2.FLAC', 0.5))
    ]


def test_folders_without_recordings_are_refused(tmp_path, capsys):
    output = str(tmp_path / 'out.jsonl')
    for folder, sentence in ((tmp_path / 'none', 'is not a folder'), (tmp_path, 'holds no recording')):
        assert main(['manifest', str(folder), '--output', output]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / 'out.jsonl').exists()

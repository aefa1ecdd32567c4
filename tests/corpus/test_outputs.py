# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The one rule for outputs: tried first, never an input, through links and devices, whole or not at all."""

import os
import threading

import numpy as np
import pytest
import soundfile

from nemo_oracle_kd.corpus import outputs
from nemo_oracle_kd.corpus.outputs import check_outputs, write_audio_atomically, write_text_atomically
from nemo_oracle_kd.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'model.nemo'
    path.write_text('precious')
    return path


def test_an_input_is_no_output_however_its_path_is_written(model, tmp_path):
    (tmp_path / 'link').symlink_to(model)
    os.link(model, tmp_path / 'hard')
    (tmp_path / 'folder').mkdir()
    for spelling in ('model.nemo', './model.nemo', 'folder/../model.nemo', str(model), 'link', 'hard'):
        for read in (model, 'model.nemo', 'link'):
            with pytest.raises(ConfigError, match=r'--output .* is an input .*of this command and would be lost'):
                check_outputs({'--output': spelling}, [None, 'pretrained_name', read], overwrite=True)


def test_an_existing_file_needs_overwrite_and_a_new_one_does_not(model, tmp_path):
    with pytest.raises(ConfigError, match='exists already: give another path, or use --overwrite'):
        check_outputs({'--json': 'model.nemo'}, overwrite=False)
    check_outputs({'--json': 'model.nemo'}, overwrite=True)
    check_outputs({'--json': 'new/folders/scores.json', '--output': None}, ['model.nemo'], overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ['model.nemo'], 'nothing is made by the check'


def test_places_that_cannot_be_written_and_two_outputs_of_one_name_are_refused_together(model, tmp_path):
    wanted = {'--a': tmp_path, '--b': 'model.nemo/x', '--c': '/proc/none/x', '--d': 'same', '--e': './same'}
    with pytest.raises(ConfigError) as error:
        check_outputs(wanted)
    parts = ['is a folder', 'is not a folder', '/proc', '--e and --d are the same file']
    assert len(error.value.messages) == 4
    assert all(part in message for part, message in zip(parts, error.value.messages))


def test_a_link_is_followed_and_stays_a_link(model, tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    for target in ('elsewhere/there.txt', 'elsewhere/new.txt'):
        link = tmp_path / f'link-{target[-7:]}'
        link.symlink_to(target)
        if 'there' in target:
            (tmp_path / target).write_text('old')
            with pytest.raises(ConfigError, match='exists already'):
                check_outputs({'--output': link}, overwrite=False)
        write_text_atomically(link, 'new')
        assert link.is_symlink() and (tmp_path / target).read_text() == 'new'


def test_a_device_and_a_pipe_are_written_through(tmp_path):
    check_outputs({'--output': '/dev/null', '--json': '/dev/null'}, ['/dev/null'], overwrite=False)
    before = os.stat('/dev/null')
    write_text_atomically('/dev/null', 'nothing')
    assert os.stat('/dev/null').st_rdev == before.st_rdev and os.stat('/dev/null').st_ino == before.st_ino
    pipe, read = tmp_path / 'pipe', []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text_atomically(pipe, 'größe\n')
    reader.join(5)
    assert read == ['größe\n'] and pipe.is_fifo()


def test_a_replaced_file_keeps_its_permissions_and_long_names_are_possible(tmp_path):
    path = tmp_path / ('n' * 250)
    path.write_text('old')
    path.chmod(0o640)
    write_text_atomically(path, 'a\u2028b\n')
    assert path.read_bytes() == 'a\u2028b\n'.encode() and path.stat().st_mode & 0o777 == 0o640


def test_a_full_disk_is_an_error_and_leaves_no_half_audio(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(28, 'No space left on device')

    samples = np.zeros(800, dtype='int16')
    path = tmp_path / 'a.flac'
    with monkeypatch.context() as patch:
        patch.setattr(outputs.os, 'fsync', no_space)
        with pytest.raises(OSError, match='a.flac cannot be written .*No space left.*free space'):
            write_audio_atomically(path, samples, 8000)
    assert list(tmp_path.iterdir()) == []
    write_audio_atomically(path, samples, 8000)
    assert soundfile.info(path).frames == 800 and soundfile.info(path).subtype == 'PCM_16'

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Manifests are read as NeMo reads them, refused with line numbers, and replaced whole."""

import json
import os

import pytest

from nemo_oracle_kd.corpus import ManifestError, read_manifest, write_manifest

pytestmark = pytest.mark.unit


def _manifest(folder, *lines):
    (folder / 'a.wav').write_bytes(b'x')
    path = folder / 'm.jsonl'
    path.write_text('\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines) + '\n')
    return path


GOOD = {'audio_filepath': 'a.wav', 'duration': 1.5, 'text': 'yes', 'speaker': 'x'}


def test_paths_become_absolute_and_other_keys_stay(tmp_path):
    rows = read_manifest(_manifest(tmp_path, GOOD, '', {**GOOD, 'audio_filepath': str(tmp_path / 'a.wav')}))
    assert rows == [{**GOOD, 'audio_filepath': str(tmp_path / 'a.wav')}] * 2


def test_audio_beside_the_manifest_comes_before_the_working_directory(tmp_path, monkeypatch):
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'a.wav').write_bytes(b'y')
    (other / 'b.wav').write_bytes(b'y')
    path = _manifest(tmp_path, GOOD, {**GOOD, 'audio_filepath': 'b.wav'})
    monkeypatch.chdir(other)
    names = [row['audio_filepath'] for row in read_manifest(path)]
    assert names == [str(tmp_path / 'a.wav'), str(other / 'b.wav')]


def test_paths_agree_with_nemo(tmp_path):
    from nemo.collections.common.parts.preprocessing.manifest import item_iter

    path = _manifest(tmp_path, GOOD)
    assert next(item_iter(str(path)))['audio_file'] == read_manifest(path)[0]['audio_filepath']


def test_transcripts_are_found_where_nemo_finds_them(tmp_path, monkeypatch):
    from nemo.collections.common.parts.preprocessing.manifest import item_iter

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'texts' / 'a.txt').write_text('yes \ngröße\r\nno\n', encoding='utf-8')
    bare = {'audio_filepath': 'a.wav', 'duration': 1.5}
    in_file, normalized = {'text_filepath': 'texts/a.txt'}, {'normalized_text': 'three'}
    lines = [
        {**bare, **in_file},
        {**bare, **normalized},
        {**bare, **in_file, **normalized},
        {**GOOD, **in_file, **normalized},
        {**GOOD, 'text': '', **normalized},
    ]
    path = _manifest(tmp_path, *lines)
    rows = read_manifest(path)
    assert [row['text'] for row in rows] == ['yes größeno', 'three', 'yes größeno', 'yes', '']
    assert [row['text'] for row in rows] == [item['text'] for item in item_iter(str(path))]
    assert read_manifest(path, require_text=False) == rows
    assert rows == [
        {**line, 'audio_filepath': row['audio_filepath'], 'text': row['text']} for line, row in zip(lines, rows)
    ]


@pytest.mark.parametrize(
    'line, message',
    [
        ('{"audio_filepath": "a.wav", ', 'line 2: not valid JSON'),
        ('["a.wav"]', r'line 2: .* is not a JSON object'),
        ({'text': 'yes'}, 'line 2: `audio_filepath` is missing'),
        ({'audio_filepath': 'a.wav'}, 'line 2: `text` is missing'),
        ({'audio_filepath': 'a.wav', 'text': 3}, 'line 2: `text` is missing or not a string'),
        ({'audio_filepath': 'a.wav', 'text': None}, 'line 2: `text` is missing or not a string'),
        ({'audio_filepath': 'a.wav', 'normalized_text': 3}, 'line 2: `text` is missing or not a string'),
        ({'audio_filepath': 'a.wav', 'text_filepath': 'none.txt'}, "line 2: there is no transcript at .*'none.txt'"),
        ({'audio_filepath': 'a.wav', 'text_filepath': 3}, 'line 2: there is no transcript at `text_filepath` 3'),
        ({'audio_filepath': 'none.wav', 'text': ''}, 'line 2: audio file .*none.wav does not exist'),
        ({**GOOD, 'duration': 0}, 'line 2: `duration` is 0'),
        ({**GOOD, 'duration': float('nan')}, 'line 2: `duration` is nan'),
        ({**GOOD, 'duration': '1'}, "line 2: `duration` is '1'"),
        ({**GOOD, 'duration': float('inf')}, 'line 2: `duration` is inf'),
        ({**GOOD, 'offset': -0.1}, 'line 2: `offset` is -0.1'),
        ({**GOOD, 'offset': float('nan')}, 'line 2: `offset` is nan'),
        ({**GOOD, 'offset': '0.5'}, "line 2: `offset` is '0.5'"),
        ({**GOOD, 'offset': [1]}, r'line 2: `offset` is \[1\]'),
        ({**GOOD, 'offset': True}, 'line 2: `offset` is True'),
        ({**GOOD, 'text': 'a\ud83d'}, r"line 2: holds '\\ud83d', which is half of a character"),
        ({**GOOD, 'note': {'a': ['\udc00']}}, 'line 2: .*lone surrogate'),
        ('[' * 100_000, 'line 2: the JSON is nested too deeply'),
        ('{"text": ' * 100_000, 'line 2: the JSON is nested too deeply'),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path, line, message):
    with pytest.raises(ManifestError, match=message):
        read_manifest(_manifest(tmp_path, GOOD, line))


def test_text_and_audio_checks_can_be_left_out(tmp_path):
    path = _manifest(tmp_path, {'audio_filepath': 'none.wav'})
    assert read_manifest(path, require_text=False, check_audio=False) == [
        {'audio_filepath': str(tmp_path / 'none.wav')}
    ]


def test_missing_empty_and_binary_manifests_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        read_manifest(tmp_path / 'none.jsonl')
    with pytest.raises(ManifestError, match='is empty'):
        read_manifest(_manifest(tmp_path, ''))
    (tmp_path / 'm.jsonl').write_bytes(b'RIFF\xff\xfe\x80')
    with pytest.raises(ManifestError, match='not UTF-8'):
        read_manifest(tmp_path / 'm.jsonl')


def test_a_folder_or_a_pipe_is_no_manifest(tmp_path):
    with pytest.raises(ManifestError, match='is a folder: give the path'):
        read_manifest(tmp_path)
    os.mkfifo(tmp_path / 'pipe')
    with pytest.raises(ManifestError, match='can be read only once'):
        read_manifest(tmp_path / 'pipe')


def test_a_byte_order_mark_pairs_of_surrogates_and_an_offset_of_null_are_read(tmp_path):
    path = _manifest(tmp_path, {**GOOD, 'offset': None, 'text': '\U0001f600'})
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    assert '\\ud83d\\ude00' in path.read_text('utf-8-sig')
    assert read_manifest(path)[0]['text'] == '\U0001f600'


def test_written_rows_are_read_back_even_with_line_separators_and_accents_in_the_text(tmp_path):
    _manifest(tmp_path, GOOD)
    rows = [{**GOOD, 'audio_filepath': str(tmp_path / 'a.wav'), 'text': text} for text in ('größe', 'a\u2028b', '')]
    write_manifest(tmp_path / 'new.jsonl', rows)
    assert read_manifest(tmp_path / 'new.jsonl') == rows


def test_a_failed_write_leaves_the_old_manifest_and_no_other_file(tmp_path):
    path = _manifest(tmp_path, GOOD)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_manifest(path, [GOOD, {'audio_filepath': object()}])
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ['a.wav', 'm.jsonl']

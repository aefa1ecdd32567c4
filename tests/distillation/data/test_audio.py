# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Training rows are looked at before the first step: what would fail later, or train on nothing, is refused now."""

import json

import pytest
import soundfile

from nemo_oracle_kd.distillation.data import audio
from nemo_oracle_kd.distillation.data.checks import DataNeeds, check_training_data, data_problems
from nemo_oracle_kd.errors import ConfigError

FILLED = DataNeeds(filled_text=True)


@pytest.fixture
def manifest(tmp_path):
    """Writes two rows, the second with changes."""

    def write(name='train.jsonl', **changes):
        soundfile.write(tmp_path / 'a.wav', [0.0] * 80, 8000)
        soundfile.write(tmp_path / 'empty.wav', [], 8000)
        row = {'audio_filepath': 'a.wav', 'duration': 0.01, 'text': 'a'}
        changed = {key: value for key, value in {**row, **changes}.items() if value is not ...}
        path = tmp_path / name
        path.write_text(json.dumps(row) + '\n' + json.dumps(changed) + '\n')
        return str(path)

    return write


def test_sound_data_and_no_data_pass(manifest):
    check_training_data({'manifest_filepath': manifest(), 'sample_rate': 8000}, FILLED, sample_rate=8000)
    check_training_data(None, FILLED, sample_rate=8000)
    check_training_data({'input_cfg': 'shars.yaml'}, FILLED, sample_rate=8000)


BAD = [
    ({'text': ...}, r'1 of 2 rows .*train.jsonl, line 2, a.wav\) have no `text`'),
    ({'text': None}, 'have no `text`, or one that is not a string: add the transcript'),
    ({'text': ' '}, '1 of 2 rows .* have an empty `text`.* remove these rows'),
    ({'duration': 0.0}, r'line 2, 0.0\) have a `duration` that is not a number of seconds above 0'),
    ({'duration': float('nan')}, r'line 2, nan\) have a `duration` that is not a number of seconds above 0'),
    ({'duration': True}, r'line 2, True\) have a `duration` that is not a number of seconds above 0'),
    ({'offset': -0.5}, r'line 2, -0.5\) have an `offset` that is not a number of seconds of at least 0'),
    ({'offset': '1'}, r"line 2, '1'\) have an `offset` that is not a number of seconds of at least 0"),
    ({'audio_filepath': 'gone.wav'}, r'line 2, gone.wav\) name an audio file that does not exist'),
    ({'audio_filepath': 'empty.wav'}, r'empty.wav\) name a file that holds no audio: remove the rows'),
    ({'audio_filepath': 7}, 'have no `audio_filepath` that is a string'),
]


@pytest.mark.parametrize('changes, sentence', BAD)
@pytest.mark.parametrize('lhotse', [False, True])
def test_a_bad_row_is_named_with_the_fix_whoever_reads_the_data(manifest, changes, sentence, lhotse):
    train_ds = {'manifest_filepath': manifest(**changes)}
    if lhotse:  # data of `input_cfg` were not looked at before
        train_ds = {'use_lhotse': True, 'input_cfg': [{'type': 'nemo', **train_ds}]}
    with pytest.raises(ConfigError, match=sentence) as error:
        check_training_data(train_ds, FILLED)
    assert len(error.value.messages) == 1


def test_all_that_is_wrong_is_said_at_once(manifest):
    train_ds = {
        'manifest_filepath': manifest(text='', duration=-1, audio_filepath='gone.wav'),
        'sample_rate': 16000,
    }
    with pytest.raises(ConfigError, match='4 mistakes') as error:
        check_training_data(train_ds, FILLED, sample_rate=8000)
    assert 'sample_rate is 16000 Hz, but the model reads 8000 Hz: set' in error.value.messages[0]


def test_an_empty_or_missing_text_is_refused_only_where_it_is_read(manifest):
    check_training_data({'manifest_filepath': manifest(text='')}, DataNeeds())
    check_training_data({'manifest_filepath': manifest(text=...)}, DataNeeds(text=False))
    with pytest.raises(ConfigError, match='have no `text`'):
        check_training_data({'manifest_filepath': manifest(text=..., supervised=True)}, DataNeeds(text=False))


def test_rows_that_the_loader_leaves_out_may_be_as_they_are(manifest):
    path = manifest(duration=40.0, audio_filepath='gone.wav', text=...)
    check_training_data({'manifest_filepath': path, 'max_duration': 20.0}, FILLED)
    path = manifest(duration=0.001, audio_filepath='gone.wav')
    check_training_data({'manifest_filepath': path, 'min_duration': 0.005}, FILLED)
    check_training_data({'manifest_filepath': manifest(text=..., _skipme=True), 'use_lhotse': True}, FILLED)


def test_transcripts_are_found_where_nemo_finds_them(manifest, tmp_path):
    (tmp_path / 'a.txt').write_text('b\nc')
    for keys in ({'text_filepath': str(tmp_path / 'a.txt')}, {'normalized_text': 'b'}):
        check_training_data({'manifest_filepath': manifest(text=..., **keys)}, FILLED)
    lhotse = {'use_lhotse': True, 'text_field': 'words'}
    path = manifest(words='a')
    with pytest.raises(ConfigError, match=r'1 of 2 rows .*line 1, a.wav\) have no `text`'):
        check_training_data({'manifest_filepath': path, **lhotse}, FILLED)
    path = manifest(text=..., words='a', name='second.jsonl')
    with open(path) as file:
        last = file.read().splitlines()[1]
    with open(path, 'w') as file:
        file.write(last)
    check_training_data({'manifest_filepath': path, **lhotse}, FILLED)
    with pytest.raises(ConfigError, match='name a `text_filepath` that cannot be read'):
        check_training_data({'manifest_filepath': manifest(text=..., text_filepath='nowhere.txt')}, FILLED)


def test_the_audio_of_tarred_data_is_left_alone_but_the_rows_are_read(manifest):
    tarred = {'manifest_filepath': manifest(audio_filepath='inside.wav'), 'is_tarred': True}
    check_training_data(tarred, FILLED)
    tarred['manifest_filepath'] = manifest(text=...)
    with pytest.raises(ConfigError, match='have no `text`'):
        check_training_data(tarred, FILLED)


def test_files_are_looked_at_by_one_process(manifest):
    path = manifest(audio_filepath='gone.wav', duration=0)
    problems = data_problems({'manifest_filepath': path}, FILLED, audio=False)
    assert len(problems) == 1 and '`duration`' in problems[0]


def test_of_many_files_a_sample_is_opened(manifest, monkeypatch):
    opened = []
    monkeypatch.setattr(audio, 'AUDIO_SAMPLE', 1)
    monkeypatch.setattr(soundfile, 'info', lambda path: opened.append(path) or type('Info', (), {'frames': 1}))
    check_training_data({'manifest_filepath': manifest()}, FILLED)
    assert len(opened) == 1


def test_every_manifest_of_a_list_is_looked_at(manifest):
    good, bad = manifest('good.jsonl'), manifest('bad.jsonl', text=...)
    for paths in ([good, bad], [[good], [bad]], f'{good},{bad}'):
        with pytest.raises(ConfigError, match='1 of 4 rows .*bad.jsonl, line 2'):
            check_training_data({'manifest_filepath': paths}, FILLED)


@pytest.mark.parametrize(
    'content, sentence',
    [
        (b'\xef\xbb\xbf{"audio_filepath": "a.wav", "duration": 1, "text": "a"}', 'begin with a byte order'),
        (b'\n{"audio_filepath": \n', 'are not valid JSON'),
        (b'[1]', 'are no JSON objects'),
        (b'{"text": "\xff"}', 'are not UTF-8 text'),
        (b'{"audio_filepath": "a.wav", "text": "a"}', 'have no `duration`'),
        (b'[' * 100000, 'are not valid JSON'),
    ],
)
def test_lines_that_cannot_be_read_are_counted(tmp_path, content, sentence):
    path = tmp_path / 'bad.jsonl'
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf'1 of the lines of .*bad.jsonl \(the first: line \d\) {sentence}'):
        check_training_data({'manifest_filepath': str(path)}, FILLED)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ConfigError, match='gone.jsonl cannot be read .No such file'):
        check_training_data({'manifest_filepath': str(tmp_path / 'gone.jsonl')}, FILLED)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Training manifests are looked at before the first step: what would fail later, or train on nothing, is refused now."""

import json

import pytest
import soundfile

from nemo_oracle_kd.distillation.data.audio import check_training_data, manifest_paths


@pytest.fixture
def manifest(tmp_path):
    """Writes two rows, the second with changes."""

    def write(name='train.jsonl', **changes):
        soundfile.write(tmp_path / 'a.wav', [0.0] * 80, 8000)
        soundfile.write(tmp_path / 'empty.wav', [], 8000)
        row = {'audio_filepath': 'a.wav', 'duration': 0.01, 'text': 'a'}
        changed = {key: value for key, value in {**row, **changes}.items() if value is not None}
        path = tmp_path / name
        path.write_text(json.dumps(row) + '\n' + json.dumps(changed) + '\n')
        return str(path)

    return write


def test_sound_data_and_no_data_pass(manifest):
    check_training_data({'manifest_filepath': manifest(), 'sample_rate': 8000}, needs_text=True, sample_rate=8000)
    check_training_data(None, needs_text=True, sample_rate=8000)
    check_training_data({'input_cfg': 'shars.yaml'}, needs_text=True, sample_rate=8000)


@pytest.mark.parametrize(
    'changes, sentence',
    [
        ({'text': None}, 'line 2: `text` is missing'),
        ({'text': ' '}, '1 of 2 rows .* have an empty `text` .* remove these rows'),
        ({'duration': 0.0}, 'line 2: `duration` is 0.0'),
        ({'audio_filepath': 'gone.wav'}, 'line 2: audio file .*gone.wav does not exist'),
        ({'audio_filepath': 'empty.wav'}, 'empty.wav .* holds no audio: remove the row'),
    ],
)
def test_a_bad_row_is_named_with_the_fix(manifest, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_training_data({'manifest_filepath': manifest(**changes)}, needs_text=True)


def test_an_empty_text_is_refused_only_where_the_transcript_is_read(manifest):
    check_training_data({'manifest_filepath': manifest(text='')}, needs_text=False)


def test_data_read_at_another_rate_than_the_models_are_refused(manifest):
    with pytest.raises(ValueError, match='sample_rate is 16000 Hz, but the model reads 8000 Hz: set'):
        check_training_data({'manifest_filepath': manifest(), 'sample_rate': 16000}, needs_text=True, sample_rate=8000)


def test_the_audio_of_tarred_data_is_left_alone_but_the_rows_are_read(manifest):
    tarred = {'manifest_filepath': manifest(audio_filepath='inside.wav'), 'is_tarred': True}
    check_training_data(tarred, needs_text=True)
    tarred['manifest_filepath'] = manifest(text=None)
    with pytest.raises(ValueError, match='`text` is missing'):
        check_training_data(tarred, needs_text=True)


def test_every_manifest_of_a_list_is_looked_at(manifest):
    good, bad = manifest('good.jsonl'), manifest('bad.jsonl', text=None)
    assert manifest_paths({'manifest_filepath': [[good], [bad]]}) == [good, bad]
    assert manifest_paths({'manifest_filepath': f'{good},{bad}'}) == [good, bad]
    with pytest.raises(ValueError, match='bad.jsonl, line 2'):
        check_training_data({'manifest_filepath': [good, bad]}, needs_text=True)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The hash of a scored row: equal for what is the same utterance and score, different for any other."""

import pytest

from nemo_oracle_kd.corpus.manifest import TEACHER_KEYS
from nemo_oracle_kd.labelling.format import ROW_KEY, Fingerprint, row_hash

ROW = {
    'audio_filepath': '/corpus/a.wav',
    'duration': 1.25,
    'text': 'a b',
    'teacher_log_prob': -2.5,
    'teacher_tokens': 3,
    'teacher_fingerprint': 'aaaaaaaa-bbbbbbbb-cccccccc',
}


def test_a_row_keeps_its_hash_when_the_corpus_moves_and_other_keys_change():
    moved = {**ROW, 'audio_filepath': 'elsewhere/a.wav', 'offset': 0, 'text': ' a  b', 'speaker': 'x', ROW_KEY: 'old'}
    assert row_hash(ROW) == row_hash(moved) and len(row_hash(ROW)) == 8
    assert row_hash({}) == row_hash({'text': ''})


@pytest.mark.parametrize(
    'change',
    [
        {'audio_filepath': '/corpus/b.wav'},
        {'duration': 1.3},
        {'duration': None},
        {'offset': 0.5},
        {'text': 'a c'},
        {'teacher_log_prob': -2.4},
        {'teacher_tokens': 4},
    ],
)
def test_another_utterance_text_or_score_has_another_hash(change):
    assert row_hash({**ROW, **change}) != row_hash(ROW)


def test_the_hash_is_the_teachers_and_a_fingerprint_may_leave_the_decoding_open():
    assert ROW_KEY in TEACHER_KEYS
    assert Fingerprint.parse('aaaaaaaa-bbbbbbbb').same_scores(Fingerprint.parse(ROW['teacher_fingerprint']))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Classes that labels of two vocabularies share."""

import pytest

from nemo_oracle_kd.bridge.label_classes import shared_classes


def _named(student, teacher, characters=(False, False)):
    """Label -> name of its class, on both sides, without the blank."""
    found = shared_classes(student, teacher, characters)
    assert found.student[-1] == found.teacher[-1] == found.blank == len(found.names) - 1
    sides = ((student, found.student), (teacher, found.teacher))
    return (*({label: found.names[c] for label, c in zip(labels, classes)} for labels, classes in sides), found.lost)


@pytest.mark.unit
def test_a_piece_and_its_beginnings_have_one_class():
    student, teacher, lost = _named(['▁t', '▁th', 'e', 't', '▁'], ['▁the', 'the', '▁t', '▁', 'e'])
    assert student == {'▁t': '▁t', '▁th': '▁t', 'e': 'e', 't': 't', '▁': 'blank'}
    assert teacher == {'▁the': '▁t', 'the': 't', '▁t': '▁t', '▁': 'blank', 'e': 'e'} and lost == ()


@pytest.mark.unit
def test_word_pieces_and_sentence_pieces_are_told_by_their_marks():
    student, teacher, _ = _named(['the', '##re', 't'], ['▁th', 're', '▁r'])
    assert student == {'the': '▁t', '##re': 'r', 't': '▁t'}
    assert teacher == {'▁th': '▁t', 're': 'r', '▁r': 'blank'}


@pytest.mark.unit
def test_characters_do_not_say_where_words_begin_and_their_space_counts_as_blank():
    student, teacher, _ = _named([' ', 'a', 'b'], ['▁ab', 'ab', '▁', 'b'], (True, False))
    assert student == {' ': 'blank', 'a': 'a', 'b': 'b'}
    assert teacher == {'▁ab': 'a', 'ab': 'a', '▁': 'blank', 'b': 'b'}


@pytest.mark.unit
def test_what_the_student_cannot_write_counts_as_blank_and_is_named():
    student, teacher, lost = _named(['<unk>', '▁a', 'b'], ['<unk>', '▁A', 'B', '.', '▁5'])
    assert teacher == {'<unk>': '<unk>', '▁A': '▁a', 'B': 'b', '.': 'blank', '▁5': 'blank'}
    assert student['▁a'] == '▁a' and lost == ('.', '▁5')

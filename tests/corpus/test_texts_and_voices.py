# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What is said and who says it: a small vocabulary, and parts that share no voice, accent or spelled name."""

import re
from collections import Counter

import numpy as np
import pytest

from nemo_oracle_kd.corpus.texts import ALPHABET, KINDS, SPLITS, draw_sentence, names_of, vocabulary
from nemo_oracle_kd.corpus.voices import ACCENTS, MEN, WOMEN, draw_voice

pytestmark = pytest.mark.unit
PAIRS = [('train', 'dev'), ('train', 'test'), ('dev', 'test')]


@pytest.fixture(scope='module')
def sentences():
    rng = np.random.default_rng(0)
    return {split: [draw_sentence(rng, split) for _ in range(3000)] for split in SPLITS}


def test_transcripts_use_the_alphabet_and_single_spaces(sentences):
    for sentence in sentences['train']:
        assert set(sentence.text) <= set(ALPHABET)
        assert sentence.text == ' '.join(sentence.text.split()) != ''


def test_the_vocabulary_is_small_and_all_of_it_is_used(sentences):
    words = {word for sentence in sentences['train'] for word in sentence.text.split()}
    assert words == vocabulary()
    assert 60 <= len(words) <= 130


def test_every_kind_is_drawn_about_equally_often(sentences):
    counts = Counter(sentence.kind for sentence in sentences['train'])
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 650


def test_only_the_kinds_asked_for_are_drawn():
    rng = np.random.default_rng(0)
    assert {draw_sentence(rng, 'dev', ('dates',)).kind for _ in range(50)} == {'dates'}


def test_dates_exist():
    rng = np.random.default_rng(0)
    days = {draw_sentence(rng, 'train', ('dates',)).text.split(' nineteen ')[0] for _ in range(20000)}
    ordinals = {day.split(maxsplit=1)[1] for day in days}
    assert len(ordinals) == 31
    assert {'twenty first', 'thirtieth', 'thirty first', 'twentieth', 'nineteenth'} <= ordinals


@pytest.mark.parametrize('one, other', PAIRS)
def test_two_parts_share_no_name_accent_or_variant(one, other):
    assert not set(names_of(one)) & set(names_of(other))
    assert not set(ACCENTS[one]) & set(ACCENTS[other])
    variants = {split: {*WOMEN[split], *MEN[split]} for split in SPLITS}
    assert not variants[one] & variants[other]
    # steph2 and mike2 are versions of steph and Mike; the numbers of f1 to f5, m1 to m8 are all the name they have.
    stems = {split: {re.sub(r'\d+$', '', name).lower() for name in variants[split]} - {'f', 'm'} for split in SPLITS}
    assert not stems[one] & stems[other]


def test_a_lone_a_is_spoken_as_the_name_of_the_letter():
    from nemo_oracle_kd.corpus.espeak import Synthesizer

    rng = np.random.default_rng(0)
    spoken = [draw_sentence(rng, 'train', ('spelling',)) for _ in range(200)]
    assert all(sentence.spoken.count("[['eI]]") == sentence.text.split().count('a') for sentence in spoken)
    synthesizer = Synthesizer()
    as_letter = synthesizer.speak("b, [['eI]], b", 'en-us+f1')
    as_word = synthesizer.speak('b, ay, b', 'en-us+f1')
    assert abs(len(as_letter) - len(as_word)) < 0.05 * len(as_word)


def test_voices_come_from_their_part_and_from_both_sexes():
    rng = np.random.default_rng(0)
    for split in SPLITS:
        drawn = [draw_voice(rng, split).split('+') for _ in range(400)]
        assert {accent for accent, _ in drawn} == set(ACCENTS[split])
        assert {variant for _, variant in drawn} <= {*WOMEN[split], *MEN[split]}
        assert 0.4 < np.mean([variant in WOMEN[split] for _, variant in drawn]) < 0.6

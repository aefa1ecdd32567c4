# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Sentences of the words of a manifest: every word occurs, orders are new, lengths are the manifest's."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nemo_oracle_kd.corpus.manifest import ManifestError
from nemo_oracle_kd.corpus.sentences import Rearranged, read_texts
from nemo_oracle_kd.corpus.settings import CorpusSettings
from nemo_oracle_kd.corpus.synthesis import synthesize_corpus
from nemo_oracle_kd.corpus.texts import ALPHABET
from nemo_oracle_kd.corpus.utterances import draw_utterance
from nemo_oracle_kd.errors import ConfigError

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures('forked_workers')]
TEXTS = (
    'we call it bear',
    'the bear ate a red apple',
    "it's a call",
    'the apple fell on the bear',
    'stop',
    'red light',
)
WORDS = {word for text in TEXTS for word in text.split()}
SMALL = CorpusSettings(train=20, dev=2, test=2, kinds=('sentences',), texts=TEXTS)


def manifest(folder, texts):
    """A manifest of texts whose recordings do not exist."""
    folder.mkdir(exist_ok=True)
    path = folder / 'words.jsonl'
    path.write_text(''.join(json.dumps({'audio_filepath': 'none.wav', 'text': text}) + '\n' for text in texts))
    return path


def drawn(settings, split='train'):
    """The texts of a part of a corpus, without its sound."""
    return [draw_utterance(settings, split, k)[0].sentence.text for k in range(getattr(settings, split))]


@pytest.mark.parametrize('train', [300, 20, 3])  # many more sentences than words, a few more, and fewer
def test_every_word_of_the_manifest_occurs_and_no_other(train):
    settings = replace(SMALL, train=train).check()
    assert {word for text in drawn(settings) for word in text.split()} == WORDS
    assert {word for text in drawn(settings, 'dev') for word in text.split()} <= WORDS


def test_sentences_are_as_long_as_the_texts_are_and_nearly_none_of_them_is_one_of_the_texts():
    texts = drawn(replace(SMALL, train=2000))
    lengths = Counter(len(text.split()) for text in texts)
    expected = Counter(len(text.split()) for text in TEXTS)
    assert set(lengths) == set(expected)
    for length, count in expected.items():
        assert lengths[length] / len(texts) == pytest.approx(count / len(TEXTS), abs=0.06)
    assert sum(text in TEXTS for text in texts) / len(texts) < 0.03
    assert len(set(texts)) > 500


def test_words_follow_one_another_mostly_as_in_the_texts_and_sometimes_freely():
    pairs = {pair for text in TEXTS for pair in zip(text.split(), text.split()[1:])}
    found = [
        pair in pairs for text in drawn(replace(SMALL, train=1000)) for pair in zip(text.split(), text.split()[1:])
    ]
    assert 0.5 < np.mean(found) < 0.95


def test_a_sentence_depends_on_its_number_and_the_seed_alone():
    one, other = Rearranged(TEXTS, 0), Rearranged(TEXTS, 0)
    alone = other.draw(np.random.default_rng(7), 'train', 3, 20)
    for index in range(3):
        one.draw(np.random.default_rng(index), 'train', index, 20)
    assert one.draw(np.random.default_rng(7), 'train', 3, 20) == alone
    assert alone.kind == 'sentences' and alone.spoken == alone.text and set(alone.text) <= set(ALPHABET)
    assert drawn(SMALL) == drawn(SMALL) != drawn(replace(SMALL, seed=1))


def test_the_corpus_has_the_same_bytes_whatever_the_workers_and_is_refused_for_other_texts(tmp_path):
    settings = replace(SMALL, train=9)
    for name, workers in (('one', 1), ('two', 2)):
        synthesize_corpus(tmp_path / name, settings, workers=workers, progress=False)
    files = sorted(path.relative_to(tmp_path / 'one') for path in (tmp_path / 'one').rglob('*') if path.is_file())
    assert len(files) == 9 + 2 + 2 + 4
    for path in files:
        assert (tmp_path / 'one' / path).read_bytes() == (tmp_path / 'two' / path).read_bytes()
    rows = [json.loads(line) for line in (tmp_path / 'one' / 'train.jsonl').read_text().splitlines()]
    assert {row['kind'] for row in rows} == {'sentences'} and rows[0]['text'] == drawn(settings)[0]
    with pytest.raises(ConfigError, match=r'other settings \(words "[0-9a-f]{64}" there, "[0-9a-f]{64}" now\)'):
        synthesize_corpus(tmp_path / 'one', replace(settings, texts=TEXTS[::-1]), progress=False)


def test_texts_are_read_with_single_spaces_without_empty_ones_and_without_recordings(tmp_path):
    assert read_texts(manifest(tmp_path, ['red  light ', '', "it's"])) == ('red light', "it's")


@pytest.mark.parametrize(
    'texts, message',
    [
        (
            ['red light', 'Mr x2', 'café noir'],
            r"other than a-z and the apostrophe \('Mr', 'x2', 'café'\): write them in",
        ),
        (['A', 'B', 'C', 'D', 'a'], r"\('A', 'B', 'C' and 1 more\)"),
        (['', ' '], 'has empty texts only'),
    ],
)
def test_texts_that_cannot_be_spoken_are_refused_in_one_sentence(tmp_path, texts, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        read_texts(manifest(tmp_path, texts))
    assert '\n' not in str(refusal.value)


def test_a_manifest_without_texts_is_refused_with_its_line(tmp_path):
    (tmp_path / 'words.jsonl').write_text('{"audio_filepath": "a.wav"}\n')
    with pytest.raises(ManifestError, match='words.jsonl, line 1: `text` is missing'):
        read_texts(tmp_path / 'words.jsonl')


@pytest.mark.parametrize(
    'change, message',
    [
        ({'texts': ()}, '--kinds sentences needs texts: name a manifest with --words'),
        ({'kinds': ('digits',)}, '--words has no effect on digits: add --kinds sentences'),
        ({'kinds': ('sentences', 'digits')}, '--kinds sentences goes with no other kind'),
        ({'train': 2}, 'at most 6 words cannot hold all 14 words of --words: give at least 3'),
        ({'kinds': ('sentence',)}, "Did you mean 'sentences'"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **change).check()

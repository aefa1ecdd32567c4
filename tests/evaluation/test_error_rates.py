# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the error counts, against hand counts and against jiwer's own corpus rates."""

import json

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_oracle_kd.evaluation.error_rates import ErrorCounts, pool_seeds, read_transcriptions, score

TEXTS = st.text(alphabet='ab ', max_size=12)


@pytest.mark.unit
def test_errors_of_each_utterance_equal_a_count_by_hand():
    result = score(['a b c', 'd', 'e f'], ['a x c y', '', 'e f'])
    assert result.words.substitutions.tolist() == [1, 0, 0]
    assert result.words.insertions.tolist() == [1, 0, 0]
    assert result.words.deletions.tolist() == [0, 1, 0]
    assert result.words.reference_lengths.tolist() == [3, 1, 2]
    assert result.wer == pytest.approx(100 * 3 / 6)
    assert result.characters.reference_lengths.tolist() == [5, 1, 3]


@pytest.mark.unit
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_corpus_rates_equal_those_of_jiwer(pairs):
    references = [' '.join(reference.split()) for reference, _ in pairs]
    hypotheses = [' '.join(hypothesis.split()) for _, hypothesis in pairs]
    if not any(references):
        with pytest.raises(ValueError, match='all references are empty'):
            assert score(references, hypotheses).wer is None
        return
    result = score([reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs])
    assert result.wer == pytest.approx(100 * jiwer.wer(references, hypotheses))
    assert result.cer == pytest.approx(100 * jiwer.cer(references, hypotheses))


@pytest.mark.unit
def test_an_empty_reference_can_only_add_insertions():
    result = score(['', 'a b'], ['x y', 'a b'])
    assert result.words.insertions.tolist() == [2, 0]
    assert result.words.reference_lengths.tolist() == [0, 2]
    assert result.wer == pytest.approx(100.0)


@pytest.mark.unit
def test_bad_input_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match='2 references but 1 hypotheses'):
        score(['a', 'b'], ['a'])
    with pytest.raises(ValueError, match='nothing to score'):
        score([], [])
    with pytest.raises(ValueError, match='hypothesis of utterance 1 is None'):
        score(['a', 'b'], ['a', None])
    with pytest.raises(ValueError, match='must not be a single string'):
        score('a', 'b')


@pytest.mark.unit
def test_rate_of_pooled_runs_is_the_mean_of_their_rates():
    references = ['a b', 'c d']
    runs = [score(references, ['a b', 'x y']), score(references, ['a', 'c d'])]
    pooled = pool_seeds([run.words for run in runs])
    assert pooled.rate == pytest.approx(np.mean([run.wer for run in runs]))
    assert len(pooled) == 2
    with pytest.raises(ValueError, match='same utterances'):
        pool_seeds([runs[0].words, score(['a'], ['a']).words])


@pytest.mark.unit
def test_grouping_adds_up_the_utterances_of_a_speaker():
    counts = score(['a b', 'c', 'd'], ['a', 'x', 'd']).words
    grouped = counts.grouped(['tom', 'ann', 'tom'])
    assert grouped.errors.tolist() == [1, 1]  # ann, tom
    assert grouped.reference_lengths.tolist() == [1, 3]
    assert grouped.rate == pytest.approx(counts.rate)


@pytest.mark.unit
def test_counts_of_unequal_length_are_refused():
    one, two = np.zeros(1, dtype=int), np.zeros(2, dtype=int)
    with pytest.raises(ValueError, match='have the lengths .* give counts of the same utterances'):
        ErrorCounts(one, one, one, two)


@pytest.mark.unit
def test_transcription_files_are_read_and_bad_lines_named(tmp_path):
    path = tmp_path / 'out.jsonl'
    path.write_text(json.dumps({'audio_filepath': 'x.wav', 'text': 'a b', 'pred_text': 'a'}) + '\n\n')
    rows, references, hypotheses = read_transcriptions(path)
    assert (rows[0]['audio_filepath'], references, hypotheses) == ('x.wav', ['a b'], ['a'])
    path.write_text('{"text": "a"}\n')
    with pytest.raises(ValueError, match="line 1 .* 'pred_text'"):
        read_transcriptions(path)
    path.write_bytes(b'\xef\xbb\xbf{"text": "a", "pred_text": "b"}\n')
    assert read_transcriptions(path)[1:] == (['a'], ['b']), 'a byte order mark is no part of the text'
    for content, sentence in (
        (b'nonsense\n', 'not JSON'),
        (b'[' * 100_000, 'not JSON'),
        (b'"text, pred_text"\n', 'not a JSON object'),
        (b'RIFF\xff\xfe\x80', 'not UTF-8 text'),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=sentence):
            read_transcriptions(path)
    with pytest.raises(FileNotFoundError, match='no transcription file'):
        read_transcriptions(tmp_path / 'absent.jsonl')

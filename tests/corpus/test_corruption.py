# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Transcripts with errors: the rate is the one asked for, the rows do not depend on one another, the truth is kept."""

import random
import time

import jiwer
import pytest

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.corruption import CorruptionSettings, corrupt_rows
from nemo_oracle_kd.corpus.manifest import read_manifest, write_manifest
from nemo_oracle_kd.errors import ConfigError

WORDS = 'one two three four five six seven eight nine zero alpha bravo charlie delta echo'.split()


def _rows(count=300, seed=0):
    generator = random.Random(seed)
    return [
        {
            'audio_filepath': f'/audio/{index}.wav',
            'duration': 1.0,
            'text': ' '.join(generator.choices(WORDS, k=generator.randint(1, 9))),
        }
        for index in range(count)
    ]


def _texts(rows, key='text'):
    return [row[key] for row in rows]


@pytest.mark.parametrize('rate', [0.05, 0.3, 0.8, 1.0])
def test_the_measured_word_error_rate_is_the_one_asked_for(rate):
    rows, report = corrupt_rows(_rows(), CorruptionSettings(rate, seed=1))
    measured = jiwer.wer(_texts(rows, 'reference_text'), _texts(rows))
    assert measured == pytest.approx(rate, abs=0.005) and report.wer == pytest.approx(measured)
    assert report.units == sum(len(row['text'].split()) for row in _rows())
    assert report.changed == sum(row['text'] != row['reference_text'] for row in rows)


def test_all_three_kinds_of_error_occur_in_the_shares_asked_for():
    _, report = corrupt_rows(_rows(600), CorruptionSettings(0.1, seed=1, shares=(2, 1, 1)))
    total = report.substitutions + report.deletions + report.insertions
    assert report.substitutions / total == pytest.approx(0.5, abs=0.08)
    assert report.deletions / total == pytest.approx(0.25, abs=0.08)
    assert report.insertions / total == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize(
    'shares, kind', [((1, 0, 0), 'substitutions'), ((0, 1, 0), 'deletions'), ((0, 0, 1), 'insertions')]
)
def test_one_kind_of_error_alone_can_be_asked_for(shares, kind):
    _, report = corrupt_rows(_rows(), CorruptionSettings(0.3, shares=shares))
    counts = {name: getattr(report, name) for name in ('substitutions', 'deletions', 'insertions')}
    made = counts.pop(kind)
    # an aligner may see two replaced words as a deletion and an insertion where a neighbour's word was drawn
    assert made > 100 and max(counts.values()) <= 0.03 * made


def test_characters_change_but_spaces_between_words_do_not():
    rows, report = corrupt_rows(_rows(), CorruptionSettings(0.1, unit='character', shares=(1, 0, 0)))
    assert report.cer == pytest.approx(0.1, abs=0.005) and report.wer > 0.2
    assert all(
        [len(word) for word in row['text'].split()] == [len(word) for word in row['reference_text'].split()]
        for row in rows
    )


def test_the_seed_alone_decides_and_other_rows_do_not_matter():
    first, _ = corrupt_rows(_rows(), CorruptionSettings(0.3, seed=1))
    again, _ = corrupt_rows(_rows(), CorruptionSettings(0.3, seed=1))
    other, _ = corrupt_rows(_rows(), CorruptionSettings(0.3, seed=2))
    assert first == again and _texts(first) != _texts(other)
    shuffled = _rows()
    random.Random(5).shuffle(shuffled)
    by_path = {
        row['audio_filepath']: row['text'] for row in corrupt_rows(shuffled, CorruptionSettings(0.3, seed=1))[0]
    }
    assert by_path == {row['audio_filepath']: row['text'] for row in first}
    moved = [{**row, 'audio_filepath': row['audio_filepath'].replace('/audio', '/elsewhere')} for row in _rows()]
    assert _texts(corrupt_rows(moved, CorruptionSettings(0.3, seed=1))[0]) == _texts(first)


def test_errors_of_a_lower_rate_are_among_those_of_a_higher_one():
    low, _ = corrupt_rows(_rows(), CorruptionSettings(0.1, seed=1))
    high, _ = corrupt_rows(_rows(), CorruptionSettings(0.3, seed=1))
    changed = [{row['audio_filepath'] for row in rows if row['text'] != row['reference_text']} for rows in (low, high)]
    assert changed[0] < changed[1]


def test_rate_zero_changes_nothing_and_other_keys_are_kept():
    rows, report = corrupt_rows([{**row, 'speaker': 's'} for row in _rows(5)], CorruptionSettings(0.0))
    assert report.wer == 0 and report.changed == 0
    assert all(row['text'] == row['reference_text'] and row['speaker'] == 's' for row in rows)


def test_rate_zero_needs_no_second_word():
    rows, report = corrupt_rows([{'audio_filepath': 'a.wav', 'text': 'one one'}], CorruptionSettings(0.0))
    assert (rows[0]['text'], report.wer) == ('one one', 0.0)


def test_scores_of_the_true_text_are_not_those_of_the_new_one():
    scores = {'teacher_log_prob': -1.0, 'teacher_tokens': 9, 'teacher_fingerprint': 'a', 'teacher_nbest': []}
    rows, _ = corrupt_rows([{**row, **scores, 'teacher_note': 'mine'} for row in _rows(30)], CorruptionSettings(0.5))
    kept = {'audio_filepath', 'duration', 'text', 'reference_text', 'teacher_note'}
    assert all(set(row) == kept for row in rows)


@pytest.mark.parametrize('unit', ['word', 'character'])
def test_a_long_text_is_corrupted_in_seconds_at_the_rate_asked_for(unit):
    generator = random.Random(5)
    text = ' '.join(generator.choice(WORDS) for _ in range(20_000 if unit == 'word' else 8_000))
    started = time.process_time()
    (row,), report = corrupt_rows([{'audio_filepath': 'long.wav', 'text': text}], CorruptionSettings(0.3, unit=unit))
    assert time.process_time() - started < 20
    measured = report.wer if unit == 'word' else report.cer
    assert measured == pytest.approx(0.3, abs=0.005) and row['reference_text'] == text
    whole = jiwer.wer(text, row['text']) if unit == 'word' else jiwer.cer(text, row['text'])
    assert whole == pytest.approx(measured, rel=0.01), 'the cuts of the measurement change next to nothing'


def test_a_text_without_spaces_is_cut_too():
    text = ''.join(random.Random(3).choices('abcdef', k=10_000))
    (row,), report = corrupt_rows(
        [{'audio_filepath': 'a.wav', 'text': text}], CorruptionSettings(0.2, unit='character')
    )
    assert report.cer == pytest.approx(0.2, abs=0.005) and ' ' not in row['text']


def test_what_cannot_be_done_is_said():
    for shares in ((float('nan'), 0, 0), (float('inf'), 1, 1), (0, 0, 0), (-1, 1, 1)):
        with pytest.raises(ConfigError, match='shares must be three numbers'):
            CorruptionSettings(0.3, shares=shares)
    with pytest.raises(ConfigError, match='0.3 for 30 %'):
        CorruptionSettings(30)
    with pytest.raises(ConfigError, match='cannot be reached'):
        corrupt_rows(_rows(20), CorruptionSettings(1.5, shares=(0, 1, 0)))
    with pytest.raises(ConfigError, match='all texts of the manifest are empty'):
        corrupt_rows([{'audio_filepath': 'a.wav', 'text': ' '}], CorruptionSettings(0.3))
    with pytest.raises(ConfigError, match='only one word'):
        corrupt_rows([{'audio_filepath': 'a.wav', 'text': 'yes'}], CorruptionSettings(0.3))
    corrupted, _ = corrupt_rows(_rows(5), CorruptionSettings(0.3))
    with pytest.raises(ConfigError, match='corrupt the original manifest'):
        corrupt_rows(corrupted, CorruptionSettings(0.3))


def test_the_command_writes_a_manifest_and_prints_what_it_measured(tmp_path, capsys):
    source, target = tmp_path / 'in.jsonl', tmp_path / 'new' / 'out.jsonl'
    write_manifest(source, _rows(100))
    options = ['--wer', '0.3', '--seed', '1']
    assert main(['corrupt', '--manifest', str(source), '--output', str(target), *options]) == 0
    printed = capsys.readouterr().out
    rows = read_manifest(target, check_audio=False)
    measured = jiwer.wer(_texts(rows, 'reference_text'), _texts(rows))
    assert f'word error rate {100 * measured:.2f} %' in printed and 'asked for 30.00 % of words' in printed
    assert main(['corrupt', '--manifest', str(source), '--output', str(source), *options]) == 2
    assert 'is an input' in capsys.readouterr().err
    before = target.read_bytes()
    assert main(['corrupt', '--manifest', str(source), '--output', str(target), *options]) == 2
    assert 'exists already' in capsys.readouterr().err and target.read_bytes() == before
    assert main(['corrupt', '--manifest', str(source), '--output', str(target), '--wer', '0', '--overwrite']) == 0
    assert target.read_bytes() != before

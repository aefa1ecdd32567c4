# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The commands `filter` and `combine`: what is kept and why, the page, stored measures, and that row hashes hold."""

import json
import math
import re

import pytest

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.labelling.files import dropped_path
from nemo_oracle_kd.labelling.format import read_header, row_hash
from nemo_oracle_kd.labelling.measures import Measures, repetition

#: text, truth, second teacher's text, -log P, tokens, confidence
LABELS = [
    ('one two', 'one two', 'one two', 0.2, 2, 0.9),
    ('three four', 'three four', 'three four', 0.8, 2, 0.8),
    ('five six', 'five sick', 'five six', 1.6, 2, 0.7),
    ('no no no no', 'no', 'no', 2.0, 4, 0.2),
    ('seven', 'eleven', 'elephant', 3.0, 1, 0.4),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory with two imported teachers, first.jsonl and second.jsonl; the second lacks the last row."""
    monkeypatch.chdir(tmp_path)
    speech, first, second = [], [], []
    for number, (text, truth, other, nll, tokens, confidence) in enumerate(LABELS):
        (tmp_path / f'{number}.wav').touch()
        speech.append({'audio_filepath': f'{number}.wav', 'duration': 1.0 + number, 'text': truth})
        nbest = [{'text': text, 'log_prob': -nll, 'tokens': tokens}]
        nbest += [{'text': other + ' x', 'log_prob': -nll - 1.0, 'tokens': tokens + 1}] if number else []
        first.append(
            {'id': str(number), 'nbest': nbest, 'confidence': confidence, 'language': 'en' if number else 'de'}
        )
        second.append({'id': str(number), 'text': other, 'log_prob': -0.5, 'tokens': 1})
    for name, rows in {'speech': speech, 'first-h': first, 'second-h': second[:-1]}.items():
        (tmp_path / f'{name}.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    for name in ('first', 'second'):
        words = [
            'import',
            f'{name}-h.jsonl',
            '--manifest',
            'speech.jsonl',
            '--output',
            f'{name}.jsonl',
            '--skip-missing',
        ]
        assert main([*words, '--score', 'sum', '--log-base', 'e', '--name', name]) == 0
    return tmp_path


def _filter(*options, output='kept.jsonl'):
    return main(['filter', 'first.jsonl', '--output', output, *options])


def _kept(expression, *options):
    assert _filter('--keep', expression, '--overwrite', *options) == 0
    return [int(re.search(r'(\d)\.wav', row['audio_filepath'])[1]) for row in read_manifest('kept.jsonl')]


SECOND = ['--other', 'second=second.jsonl']


@pytest.mark.parametrize(
    'expression, expected',
    [
        ('nll_per_token < 0.75', [0, 1, 3]),
        ('nll_per_token < quantile(0.4)', [0]),
        ('nll_per_token <= quantile(0.4)', [0, 1]),
        ('duration > 1.5 and duration < 4.5 and words == 2', [1, 2]),
        ('wer(second) < 0.1', [0, 1, 2]),
        ('wer(second) < 0.1 or nll > 2.5', [0, 1, 2, 4]),
        ('wer(reference) == 0', [0, 1]),
        ('wer(reference) < 0.6 and cer(reference) < 0.3', [0, 1, 2]),
        ('cer(second) > 0', [3]),
        ('margin > 0.5', [1, 2, 3, 4]),
        ('entropy < 0.1', [0]),
        ('repetition < 0.9', [0, 1, 2, 4]),
        ('confidence >= 0.7 and field(confidence) < 0.9', [1, 2]),
        ('language == "en"', [1, 2, 3, 4]),
        ('words_per_second > 1.5', [0]),
        ('characters_per_second < 2 and compression_ratio < 1', [4]),
        ('tokens * 1 >= 4 or characters == 7', [0, 3]),
    ],
)
def test_rows_are_kept_by_every_measure(expression, expected, folder):
    assert _kept(expression, *SECOND) == expected


def test_kept_rows_are_unchanged_and_dropped_ones_say_why(folder, capsys):
    _kept('wer(second) < 0.1 and nll_per_token < 0.5', *SECOND)
    before, after = read_manifest('first.jsonl'), read_manifest('kept.jsonl')
    assert after == before[:2] and all(row['teacher_row'] == row_hash(row) for row in after)
    dropped = read_manifest(dropped_path('kept.jsonl'))
    assert [row['dropped_because'] for row in dropped] == [
        'not nll_per_token < 0.5: nll_per_token = 0.8',
        'not wer(second) < 0.1: wer(second) = 3',
        'not wer(second) < 0.1: wer(second) = unknown',
    ]
    header = read_header('kept.jsonl')
    assert header['fingerprint'] == read_header('first.jsonl')['fingerprint'] and header['rows'] == 2
    assert header['filtered'][0]['keep'] == 'wer(second) < 0.1 and nll_per_token < 0.5'
    printed = capsys.readouterr().out
    assert re.search(r'kept +2 rows +0.00 h +20.0 % +WER 0.00 %', printed)
    assert re.search(r'dropped +3 rows .* WER 125.00 %', printed)
    assert 'dropped 2 rows: not wer(second) < 0.1' in printed
    # a filtered manifest can be filtered again
    assert main(['filter', 'kept.jsonl', '--keep', 'duration > 1', '--output', 'again.jsonl']) == 0
    assert len(read_header('again.jsonl')['filtered']) == 2


def test_the_page_is_self_contained_and_shows_examples_on_both_sides(folder):
    assert _filter('--keep', 'nll_per_token < 0.6 and wer(second) < 0.1', *SECOND, '--report', 'page.html') == 0
    page = (folder / 'page.html').read_text()
    assert page.count('<svg') == 4
    assert not re.search(r'(src|href)="(https?:)?//', page) and not re.search(r'url\((?!#)', page)
    assert '<script' not in page and 'nll_per_token &lt; 0.6' in page
    section = page[page.index('id="threshold0"') : page.index('id="threshold1"')]
    values = re.findall(r'<th scope="row">([\d.]+)</th><td>(kept|dropped)</td><td>([^<]*)</td>', section)
    assert values == [
        ('0.1', 'kept', 'one two'),
        ('0.4', 'kept', 'three four'),
        ('0.5', 'dropped', 'no no no no'),
        ('0.8', 'dropped', 'five six'),
        ('3', 'dropped', 'seven'),
    ]


def test_a_measure_is_stored_as_a_weight_and_the_hash_of_the_row_holds(folder):
    assert _filter(*SECOND, '--store', 'agreement=1 - wer(second) / 4', '--keep', 'wer(second) >= 0') == 0
    rows = read_manifest('kept.jsonl')
    assert [row['teacher_fields']['agreement'] for row in rows] == [1.0, 1.0, 1.0, 0.25]
    assert rows[0]['teacher_fields']['confidence'] == 0.9
    assert all(row['teacher_row'] == row_hash(row) for row in rows)
    assert _filter('--store', 'doubt=nll_per_token', output='all.jsonl') == 0 and len(read_manifest('all.jsonl')) == 5


@pytest.mark.parametrize(
    'options, sentence',
    [
        ([], '--keep is missing'),
        (['--keep', 'nll < 0'], 'keeps none of the 5 rows: loosen it'),
        (['--keep', 'no_speech_prob < 0.5'], 'no row has a value of no_speech_prob: import a file that holds it'),
        (['--keep', 'field(x) < 0.5 or nll > 0'], 'no row has a value of field(x): import it with --fields'),
        (['--keep', 'wer(second) < 0.1'], "Unknown argument of wer 'second'"),
        (['--keep', 'nll > 0', '--other', 'second'], '--other second is not NAME=...'),
        (['--keep', 'nll > 0', '--other', 'reference=second.jsonl'], 'is taken'),
        (['--keep', 'nll > 0', *SECOND, *SECOND], '--other names second twice'),
        (
            ['--store', 'x=wer(second)', *SECOND],
            '1 of 5 kept rows have no value of `wer(second)`: drop them with --keep',
        ),
        (['--store', 'x=nll > 1'], 'is a truth and not a number: write a number'),
        (['--keep', 'nll > 0', '--other', 'other=other.jsonl'], '`other` has none of these utterances'),
        (['--keep', 'nll > 0', '--other', 'twice=twice.jsonl'], '1 rows of `twice` repeat an utterance'),
        (['--keep', 'nll > 0', '--report', 'first.jsonl'], 'is an input'),
    ],
)
def test_what_cannot_be_filtered_is_refused_with_the_fix(options, sentence, folder, capsys):
    (folder / 'other.jsonl').write_text('{"audio_filepath": "x.wav", "text": "x"}\n')
    (folder / 'twice.jsonl').write_text('{"audio_filepath": "0.wav", "text": "x"}\n' * 2)
    capsys.readouterr()
    assert _filter(*options) == 2
    error = capsys.readouterr().err
    assert sentence in error and 'Traceback' not in error and not (folder / 'kept.jsonl').exists()


def test_changed_or_headerless_scores_are_refused(folder, capsys):
    changed = (folder / 'first.jsonl').read_text().replace('"seven"', '"eight"')
    (folder / 'first.jsonl').write_text(changed)
    assert _filter('--keep', 'nll > 0') == 2
    assert 'was changed after it was scored' in capsys.readouterr().err
    assert main(['filter', 'speech.jsonl', '--keep', 'words > 0', '--output', 'x.jsonl']) == 2
    assert 'has no header speech.jsonl.header.json' in capsys.readouterr().err


@pytest.mark.parametrize(
    'text, expected',
    [
        ('', 0.0),
        ('one two three', 0.0),
        ('thank you thank you thank you', 1.0),
        ('no no', 1.0),
        ('a b a', 2 / 3),
        ('well thank you thank you', 0.8),
        ('x x x', 1.0),
        ('a b c d a b c', 6 / 7),
    ],
)
def test_repetition_by_hand(text, expected):
    assert repetition(text) == pytest.approx(expected)


def test_entropy_and_margin_by_hand():
    row = {'text': 'x', 'teacher_nbest': [{'log_prob': math.log(value)} for value in (0.3, 0.1)]}
    measures = Measures([row])
    assert measures.values('entropy') == [pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))]
    assert measures.values('margin') == [pytest.approx(math.log(3))]
    assert measures.values('nll_per_token') == [None]


def _combine(*options):
    return main(['combine', 'first.jsonl', 'second.jsonl', '--output', 'out.jsonl', *options])


def test_the_best_scored_text_keeps_its_score_and_its_list(folder, capsys):
    assert _combine('--how', 'best') == 0
    rows = read_manifest('out.jsonl')
    assert [row['teacher_fields']['teacher'] for row in rows] == [0, 0, 1, 0]
    assert [row['text'] for row in rows] == ['one two', 'three four', 'five six', 'no no no no']
    assert rows[1]['teacher_log_prob'] == -0.8 and len(rows[1]['teacher_nbest']) == 2
    assert all(row['teacher_row'] == row_hash(row) and 'reference_text' in row for row in rows)
    assert len({row['teacher_fingerprint'] for row in rows}) == 1
    assert read_header('out.jsonl')['dropped'] == {'not labelled by every teacher': 1}
    assert '1 texts of second.jsonl' in capsys.readouterr().out


def test_rovers_texts_have_an_agreement_and_no_score(folder):
    (folder / 'third.jsonl').write_bytes((folder / 'second.jsonl').read_bytes())
    (folder / 'third.jsonl.header.json').write_bytes((folder / 'second.jsonl.header.json').read_bytes())
    words = ['combine', 'first.jsonl', 'second.jsonl', 'third.jsonl', '--output', 'out.jsonl', '--how', 'rover']
    assert main(words) == 0
    rows = read_manifest('out.jsonl')
    assert [row['text'] for row in rows] == ['one two', 'three four', 'five six', 'no']
    assert [row['teacher_fields']['agreement'] for row in rows] == [1.0, 1.0, 1.0, 0.75]
    assert not any('teacher_log_prob' in row for row in rows)
    assert main([*words, '--votes', 'probability', '--overwrite']) == 0


@pytest.mark.parametrize(
    'words, sentence',
    [
        (['first.jsonl', '--how', 'best'], 'two or more teachers'),
        (['first.jsonl', 'second.jsonl', '--how', 'best', '--votes', 'probability'], '--votes belongs to --how rover'),
        (['first.jsonl', 'texts.jsonl', '--how', 'best'], 'rows of texts.jsonl have no score to compare'),
        (['first.jsonl', 'moved.jsonl', '--how', 'rover'], 'no utterance is in all manifests'),
    ],
)
def test_what_cannot_be_combined_is_refused(words, sentence, folder, capsys):
    for name in ('texts', 'moved'):
        (folder / f'{name}.jsonl').write_text(
            '{"audio_filepath": "%s.wav", "text": "x"}\n' % (0 if name == 'texts' else 9)
        )
        (folder / f'{name}.jsonl.header.json').write_text('{}')
    assert main(['combine', *words, '--output', 'out.jsonl']) == 2
    assert sentence in capsys.readouterr().err and not (folder / 'out.jsonl').exists()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The command `import`: every format, scores against an independent sum, what is refused, and that it survives a kill."""

import json
import math
import multiprocessing
import os
import signal
from importlib.util import find_spec

import pytest
import soundfile
import tiny

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.labelling import imports
from nemo_oracle_kd.labelling.files import dropped_path, journal_path
from nemo_oracle_kd.labelling.format import Fingerprint, header_path, read_header, row_hash
from nemo_oracle_kd.labelling.normalisation import Alphabet, Normaliser

IDS = ('a', 'b', 'c')
STATED = ['--score', 'sum', '--log-base', 'e']
LETTERS = "abcdefghijklmnopqrstuvwxyz' "


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a manifest of three utterances; the second has a true text, the third no duration."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for name in IDS:
        soundfile.write(tmp_path / f'{name}.wav', [0.0] * 8000, 8000)
        rows.append({'audio_filepath': f'{name}.wav', 'duration': 1.0, 'speaker': name})
    rows[1]['text'] = 'the truth'
    del rows[2]['duration']
    _write('speech.jsonl', rows)
    return tmp_path


def _write(name, content):
    with open(name, 'w', encoding='utf-8') as file:
        file.write(content if isinstance(content, str) else ''.join(json.dumps(row) + '\n' for row in content))


def _import(name='hyp.jsonl', *options, output='out.jsonl'):
    return main(['import', name, '--manifest', 'speech.jsonl', '--output', output, *options])


def _rows(path='out.jsonl'):
    return read_manifest(path)


def _plain(**changes):
    """One row of our own JSON lines for each utterance."""
    return [{'id': name, 'text': 'Hello, there!', 'log_prob': -3.5, 'tokens': 4, **changes} for name in IDS]


def test_rows_are_written_as_score_writes_them(folder, capsys):
    hypotheses = _plain()
    hypotheses[1] = {
        'audio_filepath': str(folder / 'b.wav'),
        'confidence': 0.75,
        'speed': 2,
        'nbest': [
            {'text': 'Second one', 'log_prob': -5.0, 'tokens': [7, 8, 9]},
            {'text': "Don\u2019t  STOP.", 'log_prob': -2.0, 'tokens': [7, 8]},
            {'text': "don't stop", 'log_prob': -3.0, 'tokens': 5},
        ],
    }
    _write('hyp.jsonl', hypotheses)
    assert _import('hyp.jsonl', *STATED, '--fields', 'speed', '--alphabet', LETTERS) == 0
    first, second, third = _rows()
    both = round(math.log(math.exp(-2.0) + math.exp(-3.0)), 6)
    assert second['teacher_nbest'] == [
        {'text': "don't stop", 'log_prob': both},
        {'text': 'second one', 'log_prob': -5.0},
    ]
    assert (second['text'], second['teacher_log_prob'], second['teacher_tokens']) == ("don't stop", both, 2)
    assert second['reference_text'] == 'the truth' and second['speaker'] == 'b'
    assert second['teacher_fields'] == {'confidence': 0.75, 'speed': 2}
    assert first['text'] == 'hello there' and 'reference_text' not in first and 'teacher_fields' not in first
    assert third['duration'] == pytest.approx(1.0)
    assert all(row['teacher_row'] == row_hash(row) for row in (first, second, third))
    header = read_header('out.jsonl')
    assert {str(Fingerprint.parse(row['teacher_fingerprint'])) for row in _rows()} == {header['fingerprint']}
    assert header['rows'] == 3 and header['import']['score']['base'] == 'e'
    printed = capsys.readouterr().out
    assert '3 changed' in printed and "',' 2" in printed and "'Hello, there!' -> 'hello there'" in printed
    # a finished import returns at once; another one needs --overwrite
    before = (folder / 'out.jsonl').read_bytes()
    assert _import('hyp.jsonl', *STATED, '--fields', 'speed', '--alphabet', LETTERS) == 0
    assert _import('hyp.jsonl', '--score', 'sum', '--log-base', '2') == 2
    error = capsys.readouterr().err
    assert 'made by a different run' in error and '--overwrite' in error
    assert (folder / 'out.jsonl').read_bytes() == before


TOKENS = [[-0.5, -1.25, -0.125], [-0.7, -2.1], [-3.0, -0.01, -0.6, -0.33]]


@pytest.mark.parametrize('base, nats', [('e', 1.0), ('10', math.log(10)), ('2', math.log(2))])
@pytest.mark.parametrize('written', ['list', 'sum', 'mean', 'mean with the end', 'costs'])
def test_scores_are_the_sum_over_the_tokens_in_nats(written, base, nats, folder):
    rows = []
    for name, values in zip(IDS, TOKENS):
        values = [value / nats for value in values]
        row = {'id': name, 'text': 'x', 'tokens': list(range(len(values)))}
        if written == 'list':
            row['token_log_probs'] = values
        elif written == 'sum':
            row['log_prob'] = sum(values)
        elif written == 'costs':
            row['cost'] = -sum(values)
        elif written == 'mean':
            row['log_prob'] = sum(values) / len(values)
        else:
            row.update(log_prob=sum(values) / len(values), tokens=len(values) - 1)
        rows.append(row)
    _write('hyp.jsonl', rows)
    kind = ['--score', 'mean', '--length'] if 'mean' in written else ['--score', 'sum']
    kind += ['tokens+1' if 'end' in written else 'tokens'] if 'mean' in written else []
    kind += ['--costs', '--score-key', 'cost'] if written == 'costs' else []
    assert _import('hyp.jsonl', *kind, '--log-base', base) == 0
    for row, values in zip(_rows(), TOKENS):
        assert row['teacher_log_prob'] == pytest.approx(sum(values), rel=1e-4)
        assert row['teacher_tokens'] == len(values)


def _whisper_segments():
    """Two windows, as faster-whisper writes them; the first has two segments, which share its mean."""
    first, second = [-0.1, -0.2, -0.3, -0.05, -0.6, -0.4], [-1.0, -0.5, -0.25]  # with the end of each text
    means = [sum(values) / len(values) for values in (first, second)]
    common = {'no_speech_prob': 0.01, 'compression_ratio': 1.2, 'temperature': 0.0}
    word = {'start': 0.0, 'end': 1.0}
    return sum(first) + sum(second), [
        {'seek': 0, 'text': ' Hello,', 'tokens': [1, 2], 'avg_logprob': means[0], **common}
        | {'words': [{'word': 'Hello,', 'probability': 0.5, **word}]},
        {'seek': 0, 'text': ' there.', 'tokens': [3, 4, 5], 'avg_logprob': means[0], **common}
        | {'words': [{'word': 'there.', 'probability': 1.0, **word}]},
        {'seek': 3000, 'text': ' Bye!', 'tokens': [6, 7], 'avg_logprob': means[1], **common, 'no_speech_prob': 0.4}
        | {'words': [{'word': 'Bye!', 'probability': 0.75, **word}]},
    ]


@pytest.mark.parametrize('as_folder', [False, True])
def test_whispers_segments_are_summed_over_windows_with_the_end_of_each(as_folder, folder):
    total, segments = _whisper_segments()
    rows = [{'id': name, 'language': 'en', 'segments': segments} for name in IDS]
    if as_folder:
        (folder / 'json').mkdir()
        for row in rows:
            _write(f"json/{row.pop('id')}.json", json.dumps(row))
    else:
        _write('hyp.jsonl', rows)
    assert _import('json' if as_folder else 'hyp.jsonl', '--name', 'whisper tiny') == 0
    for row in _rows():
        assert row['text'] == 'hello there bye'
        assert row['teacher_log_prob'] == pytest.approx(total, rel=1e-4) and row['teacher_tokens'] == 7
        assert row['teacher_fields'] == {
            'confidence': round(math.exp(total / 9), 4),
            'no_speech_prob': 0.4,
            'compression_ratio': 1.2,
            'temperature': 0.0,
            'language': 'en',
        }
    assert read_header('out.jsonl')['teacher'] == {'class': 'ImportedTexts', 'name': 'whisper tiny'}


def test_the_output_of_a_hugging_face_pipeline_has_texts_alone(folder):
    _write(
        'hyp.jsonl',
        [{'id': f'{n}.wav', 'text': ' Yes.', 'chunks': [{'text': ' Yes.', 'timestamp': [0, 1]}]} for n in IDS],
    )
    assert _import() == 2 and not (folder / 'out.jsonl').exists()
    assert _import('hyp.jsonl', '--texts-only') == 0
    assert [row['text'] for row in _rows()] == ['yes'] * 3 and not any('teacher_log_prob' in row for row in _rows())


def test_kaldis_texts_have_their_scores_in_a_second_file(folder):
    _write('text', 'a-1 hello there\na-2 hello bear\nb-1 yes\nc-1 no no\n')
    _write('score', 'a-1 -2\na-2 -1\nb-1 -3\nc-1 -4\n')
    options = ['--scores-file', 'score', '--nbest-ids', '--score', 'mean', '--log-base', '10', '--length', 'words']
    assert _import('text', *options) == 0
    first, second, third = _rows()
    assert [entry['text'] for entry in first['teacher_nbest']] == ['hello bear', 'hello there']
    found = [row['teacher_log_prob'] for row in (first, second, third)]
    assert found == pytest.approx([-2 * math.log(10), -3 * math.log(10), -8 * math.log(10)], rel=1e-6)
    assert [row['teacher_tokens'] for row in (first, second, third)] == [2, 1, 2]


CTM = ';; comment\na 1 0.0 0.3 hello 0.5\na 1 0.3 0.2 there 0.8\nb 1 0.1 0.2 yes 0.25\nc 1 0 1 no 1.0\n'


def test_a_ctm_has_the_confidences_of_words(folder):
    _write('hyp.ctm', CTM)
    assert _import('hyp.ctm', '--score', 'confidence') == 0
    rows = _rows()
    assert [row['text'] for row in rows] == ['hello there', 'yes', 'no']
    assert [row['teacher_log_prob'] for row in rows] == pytest.approx([math.log(0.4), math.log(0.25), 0.0], rel=1e-5)
    assert [row['teacher_fields']['confidence'] for row in rows] == [0.65, 0.25, 1.0]


def _changed(place, **changes):
    rows = _plain()
    rows[place] = {key: value for key, value in {**rows[place], **changes}.items() if value != 'remove'}
    return rows


#: name -> (file, content, options, what the sentence says)
BAD = {
    'no meaning stated': ('h.jsonl', _plain(), [], '--score sum, --score mean or --score confidence'),
    'no base stated': ('h.jsonl', _plain(), ['--score', 'sum'], '--log-base e, --log-base 10 or --log-base 2'),
    'no divisor stated': ('h.jsonl', _plain(), ['--score', 'mean', '--log-base', 'e'], 'by what a mean was divided'),
    'no score': ('h.jsonl', _changed(1, log_prob='remove'), STATED, 'have no log-probability: name its key'),
    'a probability': ('h.jsonl', _changed(1, log_prob=0.7), STATED, 'above 0: say --costs'),
    'a positive token': ('h.jsonl', _changed(1, log_prob='remove', token_log_probs=[-5, 1, -1, 0]), STATED, 'above 0'),
    'not a number': ('h.jsonl', _changed(2, log_prob=math.nan), STATED, 'is not a finite number'),
    'infinite': ('h.jsonl', _changed(2, log_prob=-math.inf), STATED, 'is not a finite number'),
    'a text as score': ('h.jsonl', _changed(2, log_prob='-3'), STATED, 'is not a finite number'),
    'a list of another length': (
        'h.jsonl',
        _changed(0, log_prob='remove', token_log_probs=[-1, -2], tokens=[3, 4, 5]),
        STATED,
        'as long as `tokens`: give one number for each token',
    ),
    'a mean of a list': (
        'h.jsonl',
        _changed(0, log_prob=[-1.0]),
        ['--score', 'mean', '--log-base', 'e', '--length', 'tokens'],
        'say --score sum',
    ),
    'no count of tokens': ('h.jsonl', _changed(0, tokens='remove'), STATED, 'say --length words'),
    'an id twice': ('h.jsonl', [*_plain(), *_plain()[:1]], STATED, 'there already: keep one'),
    'a row by two names': (
        'h.jsonl',
        [*_plain(), {**_plain()[0], 'id': 'a.wav'}],
        STATED,
        'another of them names too',
    ),
    'an unknown id': ('h.jsonl', [*_plain(), {**_plain()[0], 'id': 'd'}], STATED, "'d') name no row of speech.jsonl"),
    'a missing id': ('h.jsonl', _plain()[:2], STATED, 'have no text in h.jsonl'),
    'no id': ('h.jsonl', _changed(0, id='remove'), STATED, 'another key with --id-key'),
    'no text': ('h.jsonl', _changed(0, text=None), STATED, 'another key with --text-key'),
    'half a character': ('h.jsonl', _changed(0, text='\ud800'), STATED, 'have no `text` that is a string'),
    'an empty text': ('h.jsonl', _changed(1, text=' . '), STATED, 'drop these rows with --skip-empty'),
    'outside the alphabet': (
        'h.jsonl',
        _changed(1, text='21'),
        [*STATED, '--alphabet', 'abc'],
        "(the first: line 1, 'a', 'hello there') have a text outside the alphabet: give another --alphabet",
    ),
    'an N-best list of strings': ('h.jsonl', _changed(1, nbest=['x']), STATED, 'is not a list of objects with `text`'),
    'a confidence of 2': ('h.jsonl', _changed(1, confidence=2), STATED, 'not a number from 0 to 1'),
    'broken JSON': ('h.jsonl', '{"id": "a", \n', STATED, 'h.jsonl, line 1: not valid JSON'),
    'a list': ('h.jsonl', '[1, 2]\n', STATED, 'are not JSON objects'),
    'not text': ('h.jsonl', b'\xff\xfe\x00', STATED, 'is not UTF-8 text'),
    'nothing': ('h.jsonl', '\n', STATED, 'holds no text'),
    'no file': (None, '', STATED, 'does not exist: give the file that the recogniser wrote'),
    'whisper without tokens': ('h.jsonl', [{'id': 'a', 'segments': [{'text': 'x'}]}], [], 'have no `segments`'),
    'whisper explained': (
        'h.jsonl',
        [{'id': 'a', 'segments': []}],
        STATED,
        'say what their scores mean: leave --score',
    ),
    'a CTM out of order': (
        'h.ctm',
        CTM.replace('a 1 0.3', 'a 1 0.9').replace('a 1 0.0 0.3', 'a 1 0.95 0.3'),
        ['--score', 'confidence'],
        'sort the file',
    ),
    'a negative time': (
        'h.ctm',
        CTM.replace('a 1 0.0', 'a 1 -1'),
        ['--score', 'confidence'],
        'at least 0: correct these times',
    ),
    'two channels': ('h.ctm', CTM.replace('a 1 0.3', 'a 2 0.3'), ['--score', 'confidence'], 'one id per channel'),
    'four columns': ('h.ctm', 'a 1 0.0 hello\n', ['--score', 'confidence'], 'the columns of CTM'),
    'a confidence of 0': (
        'h.ctm',
        CTM.replace('0.25', '0.0'),
        ['--score', 'confidence'],
        'no confidence above 0 for every word',
    ),
    'no scores of Kaldi': ('h', 'a x\nb x\nc x\n', STATED, 'name their file with --scores-file'),
    'one line twice': ('h', 'a x\na y\nb x\nc x\n', ['--texts-only'], 'there already: keep one'),
    'an unnumbered text': ('h', 'a x\nb x\nc x\n', ['--texts-only', '--nbest-ids'], 'leave --nbest-ids out'),
    'scores for texts alone': ('h.jsonl', _plain(), ['--texts-only', '--log-base', '2'], 'leave --log-base out'),
    'an empty alphabet': ('h.jsonl', _plain(), [*STATED, '--alphabet', ' '], '--alphabet is empty'),
}


@pytest.mark.parametrize('name', BAD)
def test_a_bad_input_is_refused_with_one_sentence_and_nothing_is_written(name, folder, capsys):
    file, content, options, sentence = BAD[name]
    if file is None:
        file = 'nowhere.jsonl'
    elif isinstance(content, bytes):
        (folder / file).write_bytes(content)
    else:
        _write(file, content)
    before = sorted(path.name for path in folder.iterdir())
    assert _import(file, *options) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line and not line.startswith('importing')]
    assert sentence in error
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.skipif(find_spec('nemo_text_processing') is not None, reason='nemo_text_processing is installed')
def test_rules_whose_package_is_missing_are_refused(folder, capsys):
    _write('hyp.jsonl', _plain())
    assert _import('hyp.jsonl', *STATED, '--normalizer', 'nemo') == 2
    assert '--normalizer nemo needs the package nemo_text_processing' in capsys.readouterr().err


def test_what_may_be_skipped_is_dropped_with_its_reason(folder):
    rows = [*_changed(0, text='...')[:1], {**_plain()[1], 'text': '42'}, {**_plain()[0], 'id': 'stranger'}]
    _write('hyp.jsonl', rows)
    skip = [f'--skip-{kind}' for kind in ('missing', 'unknown', 'empty', 'unwritable')]
    assert _import('hyp.jsonl', *STATED, '--alphabet', LETTERS, *skip) == 0
    dropped = [json.loads(line) for line in dropped_path('out.jsonl').read_text().splitlines()]
    reasons = [row['dropped_because'] for row in dropped]
    assert reasons == ['empty text', 'outside the alphabet: 42', 'no hypothesis']
    assert read_header('out.jsonl')['dropped'] == {'empty text': 1, 'no hypothesis': 1, 'outside the alphabet': 1}


def test_an_import_that_was_killed_continues_and_ends_with_the_same_bytes(folder, monkeypatch):
    rows = [{'audio_filepath': f'{number}.wav', 'duration': 1.0} for number in range(40)]
    for row in rows:
        (folder / row['audio_filepath']).touch()
    _write('speech.jsonl', rows)
    _write('hyp.jsonl', [{'id': str(n), 'text': f'Text {n}.', 'log_prob': -n / 3, 'tokens': n} for n in range(40)])
    assert _import('hyp.jsonl', *STATED, output='whole.jsonl') == 0
    monkeypatch.setattr(imports, '_BLOCK', 3)
    normalised, whole = [], Normaliser.__call__

    def killed(self, text):
        normalised.append(text)
        if len(normalised) == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, text)

    monkeypatch.setattr(Normaliser, '__call__', killed)
    process = multiprocessing.get_context('fork').Process(target=_import, args=('hyp.jsonl', *STATED))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert journal_path('out.jsonl').exists() and not (folder / 'out.jsonl').exists()
    with journal_path('out.jsonl').open('ab') as file:  # the line that a kill cuts in two
        file.write(b'[[18, {"text": "ab')
    monkeypatch.setattr(Normaliser, '__call__', lambda self, text: normalised.append(text) or whole(self, text))
    assert _import('hyp.jsonl', *STATED) == 0
    assert len(normalised) == 40 - 18
    for of in (lambda name: folder / name, header_path):
        assert of('out.jsonl').read_bytes() == of('whole.jsonl').read_bytes()
    assert not journal_path('out.jsonl').exists()


def test_texts_are_brought_into_the_alphabet_and_case_of_a_student(folder, tmp_path):
    path = tmp_path / 'student.nemo'
    tiny.ctc_model(tiny.ctc_config(hidden=4)).save_to(str(path))
    alphabet = Alphabet(str(path))
    assert alphabet.case == 'lower' and Normaliser(alphabet=alphabet)('Dab, BAD!') == 'dab bad'
    assert alphabet.can_write('dab bad') and not alphabet.can_write('dog')
    upper = Normaliser(alphabet=Alphabet('ABCDEFGHIJKLMNOPQRSTUVWXYZ'))
    assert upper('Don\u2019t, caf\u00e9 [noise]') == 'DON T CAFE'
    assert Normaliser(alphabet=Alphabet(LETTERS))('Don\u2019t, caf\u00e9') == "don't cafe"
    assert Normaliser()('Caf\u00e9, it\u2019s') == "caf\u00e9 it's"
    assert Normaliser('whisper-english')("It's twenty one colours") == 'it is 21 colors'
    assert Normaliser('none', Alphabet('AB'))('a  b') == 'A B'

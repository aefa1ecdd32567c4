# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The command ``synthesize``: what it prints, and how it refuses."""

import sys

import pytest

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.corpus import read_manifest

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures('forked_workers')]
SIZES = ['--train', '3', '--dev', '1', '--test', '2', '--workers', '1']


def test_it_makes_a_corpus_says_what_is_in_it_and_notices_that_it_is_complete(tmp_path, capsys):
    out = tmp_path / 'corpus'
    assert main(['synthesize', str(out), *SIZES]) == 0
    printed = capsys.readouterr()
    assert f'{out}/train.jsonl: 3 utterances' in printed.out
    assert 'times faster than real time' in printed.out
    assert 'synthesize' in printed.err and '6/6' in printed.err
    assert [len(read_manifest(out / f'{split}.jsonl')) for split in ('train', 'dev', 'test')] == [3, 1, 2]
    assert main(['synthesize', str(out), *SIZES]) == 0
    assert 'complete already' in capsys.readouterr().out


def test_options_reach_the_corpus(tmp_path, capsys):
    out = tmp_path / 'corpus'
    options = [
        '--kinds',
        'spelling',
        '--sample-rate',
        '8000',
        '--noise-snr',
        '0',
        '10',
        '--reverb',
        '1',
        '--seed',
        '9',
    ]
    assert main(['synthesize', str(out), *SIZES, *options, '--rate', '150', '160', '--noise', '0.5']) == 0
    capsys.readouterr()
    assert {row['kind'] for row in read_manifest(out / 'train.jsonl')} == {'spelling'}
    assert main(['synthesize', str(out), *SIZES]) == 2
    sentence = capsys.readouterr().err
    for part in ('sample-rate 8000', 'noise-snr [0.0, 10.0]', 'reverb 1.0', 'seed 9', 'rate [150, 160]', 'noise 0.5'):
        assert part in sentence


@pytest.mark.parametrize(
    'options, sentence',
    [
        (['--train', '0'], '--train must be at least 1, not 0'),
        (['--kinds', 'names'], "Unknown kind of sentence 'names'."),
        (['--workers', '0'], '--workers must be at least 1, not 0'),
    ],
)
def test_bad_values_end_with_one_sentence_and_code_2(tmp_path, capsys, options, sentence):
    assert main(['synthesize', str(tmp_path / 'out'), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_sentences_are_made_of_the_words_of_a_manifest(tmp_path, capsys):
    words, out = tmp_path / 'words.jsonl', tmp_path / 'corpus'
    words.write_text(
        '{"audio_filepath": "a.wav", "text": "green tea"}\n{"audio_filepath": "b.wav", "text": "no sugar"}\n'
    )
    options = [str(out), *SIZES, '--kinds', 'sentences', '--words', str(words)]
    assert main(['synthesize', *options]) == 0
    spoken = {word for row in read_manifest(out / 'train.jsonl') for word in row['text'].split()}
    assert spoken == {'green', 'tea', 'no', 'sugar'}
    words.write_text('{"audio_filepath": "a.wav", "text": "green tea"}\n')
    capsys.readouterr()
    assert main(['synthesize', *options]) == 2
    assert 'holds a corpus made with other settings (words "' in capsys.readouterr().err
    words.write_text('{"audio_filepath": "a.wav", "text": "Green Tea"}\n')
    assert main(['synthesize', *options]) == 2
    assert "characters other than a-z and the apostrophe ('Green', 'Tea')" in capsys.readouterr().err


def test_a_missing_library_ends_with_the_command_that_installs_it(tmp_path, capsys, monkeypatch):
    from nemo_oracle_kd.corpus.utterances import synthesizer

    monkeypatch.setitem(sys.modules, 'espeakng_loader', None)
    synthesizer.cache_clear()
    assert main(['synthesize', str(tmp_path / 'out'), *SIZES]) == 2
    assert 'pip install espeakng-loader' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_path_that_cannot_be_written_ends_with_code_2(tmp_path, capsys):
    (tmp_path / 'file').write_text('x')
    assert main(['synthesize', str(tmp_path / 'file'), *SIZES]) == 2
    assert 'cannot be written' in capsys.readouterr().err


def test_the_help_shows_examples_and_defaults(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['synthesize', '--help'])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert 'examples:' in text and '--noise-snr 0 10' in text and 'default: 1200' in text


def test_the_defaults_of_the_command_are_those_of_the_library():
    from nemo_oracle_kd.cli.main import make_parser
    from nemo_oracle_kd.corpus.settings import CorpusSettings

    args = make_parser('synthesize').parse_args(['synthesize', 'out'])
    settings = CorpusSettings()
    for name in ('train', 'dev', 'test', 'seed', 'sample_rate', 'plain', 'noise', 'reverb'):
        assert getattr(args, name) == getattr(settings, name)
    for name in ('kinds', 'noise_snr', 'rate'):
        assert tuple(getattr(args, name)) == getattr(settings, name)

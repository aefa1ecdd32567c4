# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Rendered words: same seed, same bytes, whatever happens on the way; nothing else is replaced."""

import hashlib
import json

import pytest
from PIL import Image

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.scene_text.pictures import recognised_form
from nemo_oracle_kd.scene_text.synthesis import WordSettings, picture_name, synthesize_words

pytestmark = pytest.mark.usefixtures('forked_workers')
SMALL = WordSettings(train=120, dev=3, test=2, seed=5)


def _hashes(folder):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope='module')
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp('words')
    assert synthesize_words(folder, SMALL, progress=False) == {'train': 120, 'dev': 3, 'test': 2, 'rendered': 125}
    return folder


def test_two_workers_and_a_run_that_was_cut_short_give_the_same_bytes(words, tmp_path):
    synthesize_words(tmp_path, SMALL, workers=2, progress=False)
    assert _hashes(tmp_path) == _hashes(words) and len(_hashes(words)) == 125 + 3 + 1
    (tmp_path / 'train.jsonl').unlink()
    for index in (7, 119):
        (tmp_path / picture_name('train', index)).unlink()
    assert synthesize_words(tmp_path, SMALL, progress=False)['rendered'] == 2
    assert _hashes(tmp_path) == _hashes(words)


def test_every_row_has_a_picture_with_a_word_that_can_be_written(words):
    rows = [json.loads(line) for line in (words / 'train.jsonl').read_text().splitlines()]
    assert len(rows) == 120 and len({row['text'] for row in rows}) > 100
    for row in rows:
        assert recognised_form(row['text'], '0123456789abcdefghijklmnopqrstuvwxyz') == row['text'].lower()
        with Image.open(words / row['image']) as picture:
            assert (
                picture.format == 'JPEG' and 16 <= picture.height < 40 and picture.convert('L').getextrema()[0] < 250
            )


def test_the_words_of_a_manifest_are_rendered_and_another_seed_gives_other_pictures(words, tmp_path, capsys):
    manifest = tmp_path / 'm.jsonl'
    manifest.write_text(
        '{"image": "x.png", "text": "Rescue mission!"}\n{"audio_filepath": "x.wav", "text": "mission"}\n'
    )
    command = ['synthesize', str(tmp_path / 'out'), '--images', '--train', '40', '--dev', '1', '--test', '1']
    assert main([*command, '--words', str(manifest), '--workers', '1']) == 0
    rows = [json.loads(line) for line in (tmp_path / 'out' / 'train.jsonl').read_text().splitlines()]
    assert 10 < sum(row['text'].lower() in ('rescue', 'mission') for row in rows) < 40
    assert '40 pictures' in capsys.readouterr().out
    assert not set(_hashes(words).values()) & set(_hashes(tmp_path / 'out').values())


def test_other_settings_need_overwrite_which_removes_a_corpus_and_nothing_else(words, tmp_path, capsys):
    small = WordSettings(train=2, dev=1, test=1)
    synthesize_words(tmp_path / 'out', small, progress=False)
    (tmp_path / 'out' / 'notes.txt').write_text('mine')
    with pytest.raises(ConfigError, match='made with other settings .seed 0 there, 1 now.'):
        synthesize_words(tmp_path / 'out', WordSettings(2, 1, 1, 1), progress=False)
    assert (
        main(['synthesize', str(tmp_path / 'out'), '--images', *'--train 1 --dev 1 --test 1 --overwrite'.split()]) == 0
    )
    assert len(list((tmp_path / 'out').rglob('*.jpg'))) == 3 and (tmp_path / 'out' / 'notes.txt').is_file()
    (tmp_path / 'foreign').mkdir()
    (tmp_path / 'foreign' / 'thesis.tex').write_text('mine')
    with pytest.raises(ConfigError, match='is not empty and holds no corpus'):
        synthesize_words(tmp_path / 'foreign', small, progress=False, overwrite=True)
    assert (tmp_path / 'foreign' / 'thesis.tex').is_file()


@pytest.mark.parametrize(
    'options, sentence',
    [
        (['--images', '--plain'], '--plain has no effect on pictures'),
        (['--overwrite'], '--overwrite goes with --images only'),
        (['--images', '--train', '0'], '--train must be at least 1, not 0'),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(options, sentence, tmp_path, capsys):
    assert main(['synthesize', str(tmp_path / 'out'), *options]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / 'out').exists()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Students and teachers with one tokenizer per language (`tokenizer.type: agg`), in every family of objectives."""

import math

import pytest
import tiny
from nemo.collections.asr.models import EncDecCTCModelBPE, EncDecHybridRNNTCTCBPEModel
from omegaconf import open_dict
from tiny_scores import distillation, read_rows, transducer_config, write_rows

from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.bridge.vocabulary import TextCodec, UnwritableText
from nemo_oracle_kd.cli.main import main

LANGUAGES = ('en', 'de')


@pytest.fixture(scope='module')
def tokenizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tokenizers')
    return {name: tiny.train_tokenizer(folder / name, seed=3 * n) for n, name in enumerate(LANGUAGES)}


@pytest.fixture(scope='module')
def corpus(tone_corpus, tmp_path_factory):
    """The corpus with languages by turns."""
    rows = read_rows(tone_corpus)
    for number, row in enumerate(rows):
        row['lang'] = LANGUAGES[number % 2]
    return write_rows(rows, tmp_path_factory.mktemp('corpus') / 'train.jsonl')


def _multilingual(config, tokenizers):
    config = tiny.with_tokenizer(config, tokenizers['en'])
    config.tokenizer = {
        'type': 'agg',
        'langs': {name: {'dir': str(folder), 'type': 'bpe'} for name, folder in tokenizers.items()},
    }
    return config


@pytest.fixture(scope='module')
def ctc_teacher(tokenizers, tmp_path_factory):
    path = tmp_path_factory.mktemp('ctc') / 'teacher.nemo'
    config = _multilingual(tiny.ctc_config(hidden=24), tokenizers)
    tiny.ctc_model(config, cls=EncDecCTCModelBPE, seed=2).save_to(str(path))
    return path


def _fit(config, callback, cls=EncDecCTCModelBPE, steps=1):
    """Trains a student; returns the last step's metrics.

    No step is written to the log, because NeMo 3.0 would compute the word error rate of it, which it cannot with a CTC head and
    several tokenizers.
    """
    trainer = tiny.trainer(steps, callbacks=[callback], log_every_n_steps=1000)
    trainer.fit((tiny.ctc_model if 'joint' not in config else tiny.rnnt_model)(config, trainer, cls))
    return {name.removeprefix('train/kd/'): float(value) for name, value in trainer.callback_metrics.items()}


def _ctc_student(manifest, tokenizers):
    return _multilingual(tiny.ctc_config(manifest, hidden=16), tokenizers)


@pytest.mark.integration
def test_frames_and_texts_of_a_ctc_model(corpus, ctc_teacher, tokenizers):
    objectives = dict.fromkeys(['frame_kl', 'softmax_l2', 'guided_ctc', 'occupancy', 'full_sum'])
    student = _ctc_student(corpus, tokenizers)
    with open_dict(student):  # the native loader reads the language in the other tests
        student.train_ds.update(use_lhotse=True, force_finite=True)
    logged = _fit(student, distillation(objectives, {'restore_from': str(ctc_teacher)}), steps=2)
    assert all(math.isfinite(logged[name]) and logged[name] != 0 for name in objectives)


@pytest.mark.integration
def test_lattices_frames_and_texts_of_a_hybrid_model(corpus, tokenizers, tmp_path):
    path = tmp_path / 'hybrid.nemo'
    config = _multilingual(tiny.rnnt_config(hybrid=True, hidden=16, stride=4), tokenizers)
    tiny.rnnt_model(config, cls=EncDecHybridRNNTCTCBPEModel, seed=2).save_to(str(path))
    objectives = dict.fromkeys(['lattice', 'lattice_topk', 'one_best_path', 'encoder', 'frame_kl', 'full_sum'])
    config = _multilingual(transducer_config(corpus, hybrid=True), tokenizers)
    callback = distillation(objectives, {'restore_from': str(path)})
    logged = _fit(config, callback, EncDecHybridRNNTCTCBPEModel)
    assert all(logged[name] > 0 for name in objectives if name != 'full_sum') and logged['full_sum_ctc'] > 0


@pytest.mark.integration
def test_speech_is_scored_and_learned_in_the_language_of_each_row(corpus, ctc_teacher, tokenizers, tmp_path, capsys):
    output, lost = tmp_path / 'scored.jsonl', tmp_path / 'lost.jsonl'
    score = ['score', '--teacher', str(ctc_teacher), '--reference', '--output', str(output), '--manifest']
    assert main([*score, str(corpus)]) == 0
    rows, model = read_rows(output), restore_frozen(str(ctc_teacher))
    codec = TextCodec(model, tuple(model.decoder.vocabulary))
    for row in rows:
        labels = codec.encode(row['text'], row['lang'])
        assert len(labels) == row['teacher_tokens'] and codec.language(labels) == row['lang']
        assert codec.decode(labels) == row['text'] and codec.encode(row['text'], 'de') == model.tokenizer.text_to_ids(
            row['text'], 'de'
        )
    assert {row['lang'] for row in rows} == set(LANGUAGES)
    logged = _fit(_ctc_student(output, tokenizers), distillation({'full_sum': {}}))
    assert logged['full_sum'] > 0
    check = ['check', str(ctc_teacher), str(ctc_teacher), '--objectives', 'full_sum', '--manifest']
    assert main([*check, str(output)]) == 0
    write_rows([{key: value for key, value in row.items() if key != 'lang'} for row in read_rows(corpus)], lost)
    capsys.readouterr()
    assert main([*check, str(lost)]) == 1
    assert 'add `lang` to the rows' in capsys.readouterr().out
    assert main([*score, str(lost), '--overwrite']) == 2
    assert "one tokenizer per language (en, de) and the row's `lang` is None" in capsys.readouterr().err
    with pytest.raises(UnwritableText, match='one tokenizer per language'):
        codec.encode('ab', 'fr')


@pytest.mark.integration
def test_searched_texts_of_each_row_are_learned_as_a_list(corpus, ctc_teacher, tokenizers, tmp_path):
    output = tmp_path / 'scored.jsonl'
    words = ['--teacher', str(ctc_teacher), '--manifest', str(corpus), '--output', str(output), '--nbest', '3']
    assert main(['score', *words]) == 0
    rows = read_rows(output)
    assert rows and any(len(row['teacher_nbest']) > 1 for row in rows)
    callback = distillation({'full_sum_norm': {'nbest': 3}, 'hard': {}})
    logged = _fit(_ctc_student(output, tokenizers), callback)
    assert logged['hard'] > 0 and 'full_sum_norm' in logged

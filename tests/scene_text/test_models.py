# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Teachers, objectives, diagnosis and evaluation of speech serve a CTC model of word pictures, by the same names."""

import json
import re
from pathlib import Path

import pytest
import tiny
import tiny_pictures
import torch
from built_once import built_once
from nemo.collections.asr.models import ASRModel
from omegaconf import OmegaConf

from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.evaluation.error_rates import score
from nemo_oracle_kd.evaluation.report_panels import model_panels
from nemo_oracle_kd.experiments.train import model_class

ROOT = Path(__file__).parents[2]
PRESETS = ['frame_kl', 'softmax_l2', 'guided_ctc', 'occupancy', 'oracle_self']


def _fit(config, steps, **options):
    trainer = tiny.trainer(steps, **options)
    torch.manual_seed(0)
    model = model_class(config)(cfg=config, trainer=trainer)
    trainer.fit(model)
    return model


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pictures')
    return tiny_pictures.write_words(folder, 'train', 48), tiny_pictures.write_words(folder, 'dev', 12, seed=1)


@pytest.fixture(scope='module')
def models(corpus, tmp_path_factory):
    """An oracle teacher that has learned the words and a student that has not, as files."""

    def build(folder):
        config = tiny_pictures.config(corpus[0], name='oracle_residual_crnn_ctc')
        config.spec_augment = None
        config.oracle.update(audio_only_steps=100, label_corruption={'masking_ratio': 0.2, 'dropout': 0.1})
        _fit(config, 220, log_every_n_steps=220).save_to(str(folder / 'oracle.nemo'))
        _fit(tiny_pictures.config(corpus[0]), 2).save_to(str(folder / 'student.nemo'))

    return built_once(tmp_path_factory, 'picture_models', build)


@pytest.mark.parametrize('preset', PRESETS)
def test_every_preset_distils_a_recogniser_of_pictures(preset, corpus, models):
    settings = OmegaConf.load(ROOT / 'conf' / 'oracle_kd' / f'{preset}.yaml')
    if preset == 'oracle_self':
        settings.teacher.update(start_below=None, teach_below=None, ramp=0, label_encoder={'n_heads': 2})
        settings.teacher.fusion.n_heads = 2
    else:
        settings.teacher.restore_from = str(models / 'oracle.nemo')
    logged = {}
    callback = KnowledgeDistillation(**OmegaConf.to_container(settings))
    callback.on_train_batch_end = lambda *_: logged.update(callback.distiller.metrics())
    _fit(tiny_pictures.config(corpus[0]), 2, callbacks=[callback])
    (objective,) = settings.objectives
    assert logged[objective] != 0 and bool(torch.isfinite(logged['loss']))


def test_a_saved_model_is_restored_and_transcribes_files_of_pictures(corpus, models):
    student = ASRModel.restore_from(str(models / 'student.nemo'), map_location='cpu')
    assert type(student).__name__ == 'EncDecPictureCTCModel' and student.list_available_models() == []
    paths = sorted(map(str, (corpus[1].parent / 'dev').glob('*.png')))[:3]
    answers = student.transcribe(paths, batch_size=2, verbose=False)
    assert len(answers) == 3 and all(set(answer.text) <= set(tiny_pictures.LABELS) for answer in answers)
    oracle = ASRModel.restore_from(str(models / 'oracle.nemo'), map_location='cpu')
    words = [json.loads(line)['text'] for line in corpus[1].read_text().splitlines()][:3]
    told = oracle.transcribe(paths, transcripts=words, verbose=False)
    assert score([word.lower().strip('!') for word in words], [answer.text for answer in told]).cer < 25


def test_evaluate_prints_word_accuracy_of_words_however_they_are_written(corpus, models, tmp_path, capsys):
    command = ['evaluate', str(models / 'oracle.nemo'), str(models / 'student.nemo'), '--manifest', str(corpus[1])]
    assert main([*command, '--output-dir', str(tmp_path), '--json', str(tmp_path / 'scores.json')]) == 0
    lines = capsys.readouterr().out.splitlines()
    header, oracle, student = lines[lines.index(next(line for line in lines if line.startswith('system'))) :][:3]
    assert header.split() == ['system', 'WER', 'CER', 'words', 'right']
    scores = json.loads((tmp_path / 'scores.json').read_text())['systems']
    assert scores['oracle']['wer'] < 25 and float(oracle.split()[-1]) == pytest.approx(
        100 - scores['oracle']['wer'], abs=0.1
    )
    rows = [json.loads(line) for line in (tmp_path / 'oracle.jsonl').read_text().splitlines()]
    assert all(set(row['text']) <= set(tiny_pictures.LABELS) for row in rows)


def test_diagnose_says_of_an_oracle_that_it_looks_in_words_about_pictures(corpus, models, tmp_path, capsys):
    command = ['diagnose', str(models / 'oracle.nemo'), '--manifest', str(corpus[0]), '--output', str(tmp_path)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert json.loads((tmp_path / 'diagnosis.json').read_text())['verdict'] == 'listens', said
    assert "another word's picture" in said and 'true text, blank picture' in said and 'seen share' in said
    assert not re.search('audio|silence|utterance|hear', said)


def test_the_report_draws_pictures_with_posteriors_and_cross_attention(corpus, models):
    shown = {name: models / f'{name}.nemo' for name in ('oracle', 'student')}
    (alignment,), (attention,) = model_panels(shown, corpus[1])
    axes = alignment.figure.axes
    drawn = axes[0].images[0].get_array()
    assert drawn.shape[0] == tiny_pictures.HEIGHT and len(axes) == 3
    # the letters stand on a base line: more ink in the middle than above
    assert axes[0].get_ylabel() == 'rows' and axes[-1].get_xlabel() == 'columns / 100'
    assert 'audio' not in alignment.caption + attention.caption


def test_wrong_rows_are_reported_before_a_teacher_is_trained(corpus, tmp_path):
    manifest = tiny_pictures.write_words(tmp_path, count=4)
    manifest.write_text(manifest.read_text() + json.dumps({'image': 'train/000.png', 'text': ' '}) + '\n')
    with pytest.raises(ConfigError, match=f'{manifest}, line 5'):
        _fit(tiny_pictures.config(manifest, name='oracle_residual_crnn_ctc'), 1)


def test_data_that_are_set_up_late_are_checked_as_pictures_too(corpus, models):
    callback = KnowledgeDistillation({'restore_from': str(models / 'oracle.nemo')}, {'frame_kl': {}})
    config = tiny_pictures.config(corpus[0])
    config.train_ds.defer_setup = True
    _fit(config, 1, callbacks=[callback])
    student = model_class(config)(cfg=tiny_pictures.config())
    student.setup_training_data({'manifest_filepath': str(corpus[0]), 'batch_size': 8, 'shuffle': True})
    assert next(iter(student.train_dataloader()))[0].shape[0] == 8
    assert 'image' in student.cfg.train_ds.file_fields


def test_a_config_may_name_no_class_but_the_admitted_ones():
    config = tiny_pictures.config()
    config.target = 'nemo_oracle_kd.scene_text.dataset.WordPictures'
    with pytest.raises(ConfigError, match='model.target is .*Unknown class'):
        model_class(config)


def test_a_preprocessor_of_speech_is_refused_with_the_name_of_the_right_one(corpus):
    config = tiny_pictures.config(corpus[0])
    config.preprocessor = tiny.ctc_config().preprocessor
    with pytest.raises(ConfigError, match='reads no pictures: use nemo_oracle_kd.scene_text.preprocessor'):
        model_class(config)(cfg=config)


def test_the_bridge_knows_nothing_of_pictures():
    for path in (ROOT / 'nemo_oracle_kd' / 'bridge').rglob('*.py'):
        if path.name != 'targets.py':  # which lists the classes of every folder
            assert not re.search('image|picture|scene_text', path.read_text()), path

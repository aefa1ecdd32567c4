# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""CTC teachers of other sub-words, or of characters, whose frames are compared in classes of labels."""

from dataclasses import replace

import pytest
import tiny
from nemo.collections.asr.models import EncDecCTCModelBPE
from tiny_scores import fit

from nemo_oracle_kd.bridge.model import describe
from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.distillation.compatibility import compare
from nemo_oracle_kd.errors import ConfigError

OBJECTIVES = {
    'frame_kl': {'weight': 1.0, 'temperature': 1.0},
    'softmax_l2': {'weight': 0.1},
    'guided_ctc': {'weight': 0.1},
}


@pytest.fixture(scope='module')
def tokenizers(tmp_path_factory):
    """Two tokenizers that cut the same texts differently."""
    folder = tmp_path_factory.mktemp('tokenizers')
    return tiny.train_tokenizer(folder / 'few', 12), tiny.train_tokenizer(folder / 'many', 30, seed=1)


@pytest.fixture(scope='module')
def sub_word_teacher(tokenizers, tmp_path_factory):
    path = tmp_path_factory.mktemp('sub_words') / 'teacher.nemo'
    config = tiny.with_tokenizer(tiny.ctc_config(hidden=16), tokenizers[1])
    tiny.ctc_model(config, cls=EncDecCTCModelBPE, seed=5).save_to(str(path))
    return path


def _student(manifest, tokenizer, **options):
    config = tiny.ctc_config(manifest, hidden=32, **options)
    return tiny.with_tokenizer(config, tokenizer) if tokenizer is not None else config


def _callback(teacher, objectives=OBJECTIVES, **options):
    return KnowledgeDistillation(
        {'restore_from': str(teacher), 'vocabulary': 'map', **options}, objectives, {'weight': 0}
    )


@pytest.mark.integration
def test_a_student_of_sub_words_learns_the_spikes_of_a_teacher_of_characters(tone_corpus, tone_teacher, tokenizers):
    first, last = (
        fit(
            tone_corpus,
            _callback(tone_teacher, {'frame_kl': {'weight': 1.0, 'temperature': 1.0}}),
            steps,
            config=_student(tone_corpus, tokenizers[0], batch_size=8),
            cls=EncDecCTCModelBPE,
        )[0]
        for steps in (1, 30)
    )
    assert last['frame_kl'] < 0.5 * first['frame_kl'] and last['agreement'] > first['agreement'] + 0.1


@pytest.mark.integration
@pytest.mark.parametrize('of_characters', [False, True])
def test_all_objectives_of_frames_reach_every_label_of_the_student(
    of_characters, tone_corpus, sub_word_teacher, tokenizers
):
    config = _student(tone_corpus, None if of_characters else tokenizers[0])
    cls = None if of_characters else EncDecCTCModelBPE
    logged, _, gradients = fit(tone_corpus, _callback(sub_word_teacher), 1, config=config, cls=cls)
    assert logged['frame_kl'] > 0 and logged['softmax_l2'] > 0 and logged['guided_ctc'] < 0
    of_labels = gradients['decoder.decoder_layers.0.bias']
    assert bool(of_labels.isfinite().all()) and bool((of_labels != 0).all())
    assert abs(float(of_labels.sum())) < 1e-5, 'the posteriors of a frame sum to 1'


@pytest.mark.integration
def test_check_says_what_can_be_compared_and_what_cannot(
    tone_corpus, tone_teacher, sub_word_teacher, tokenizers, tmp_path, capsys
):
    student = str(tmp_path / 'student.nemo')
    tiny.ctc_model(_student(None, tokenizers[0]), cls=EncDecCTCModelBPE).save_to(student)
    command = ['check', student, str(sub_word_teacher), '--preset']
    assert main([*command, 'frame_kl']) == 1
    assert 'or compare classes of labels by teacher.vocabulary=map' in capsys.readouterr().out
    assert main([*command, 'frame_kl', 'softmax_l2', 'guided_ctc', 'teacher.vocabulary=map']) == 0
    assert 'of 30 labels without one' in capsys.readouterr().out
    learner, guide = (describe(restore_frozen(path)) for path in (student, str(sub_word_teacher)))
    foreign = replace(guide, vocabulary=('x', 'y'))
    for teacher, objectives, sentence in (
        (guide, ['frame_kl', 'occupancy'], 'occupancy compares classes one by one'),
        (guide, ['full_sum'], 'for frame objectives that read no transcript'),
        (learner, ['frame_kl'], 'they have the same labels: leave it out'),
        (foreign, ['frame_kl'], 'a teacher that writes the same alphabet'),
        (replace(guide, reads_transcript=True), ['frame_kl'], "gets the transcript in the student's labels"),
    ):
        (problem,) = compare(learner, teacher, objectives, map_labels=True).problems
        assert sentence in problem
    with pytest.raises(ConfigError, match='which two vocabularies do not have'):
        _callback(sub_word_teacher, delay={'mode': 'estimate'})

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What distillation by sequence probability refuses before the first step, and with which fix."""

import pytest
import tiny
from tiny_scores import distillation, fit, read_rows, transducer_config, write_rows

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import row_hash


def _refused(manifest, callback, sentence, error=ConfigError, **options):
    with pytest.raises(error, match=sentence):
        fit(manifest, callback, 1, **options)


def test_texts_in_another_case_are_refused_with_the_fix(scored_tones, tmp_path):
    rows = read_rows(scored_tones / 'reference.jsonl')
    for row in rows[:2]:
        row['text'] = row['text'].upper()
        row['teacher_nbest'][0]['text'] = row['text']
    manifest = write_rows(rows, tmp_path / 'upper.jsonl')
    _refused(manifest, distillation({'full_sum': {}}), '2 of 16 .* labels of the student .* in lower case')


def test_lists_of_which_the_student_can_write_one_text_are_refused(scored_tones, tmp_path):
    rows = read_rows(scored_tones / 'decode.jsonl')
    for row in rows:
        row['teacher_nbest'] = [row['teacher_nbest'][0], {'text': 'ZZZ', 'log_prob': -50.0}]
    manifest = write_rows(rows, tmp_path / 'alone.jsonl')
    sentence = 'the student can write at most one text of each of 16 N-best lists'
    _refused(manifest, distillation({'full_sum_norm': {}}), sentence)


def test_a_teacher_that_cannot_write_the_texts_is_refused_with_the_fix(tone_corpus, tmp_path):
    teacher = tmp_path / 'upper.nemo'
    tiny.ctc_model(tiny.ctc_config(labels=[' ', 'A', 'B', 'C', 'D'], hidden=16)).save_to(str(teacher))
    callback = distillation({'full_sum': {}}, {'restore_from': str(teacher)})
    _refused(tone_corpus, callback, '16 of 16 .* labels of the teacher .* in upper case')


@pytest.mark.parametrize(
    'kind, options, sentence',
    [
        ('tdt', {'fastemit_lambda': 0.01}, 'gradient of log P, which fastemit_lambda=0.01 .* set fastemit_lambda=0'),
        ('tdt', {'clamp': 1.0}, 'which clamp=1 .* set clamp=-1'),
        ('tdt', {'sigma': 0.05}, "model's own loss for -log P, but with sigma=0.05 it is another value: set sigma=0"),
        ('multiblank_rnnt', {'sigma': 0.05}, 'with sigma=0.05'),
    ],
)
def test_a_regularised_transducer_loss_is_refused(scored_tones, kind, options, sentence):
    config = transducer_config(scored_tones / 'reference.jsonl', kind)
    config.loss[f'{kind}_kwargs'].update(options)
    _refused(None, distillation({'full_sum': {}}), sentence, config=config)


def test_scores_of_another_teacher_than_the_one_named_are_refused(scored_tones, tone_teacher, tmp_path):
    callback = distillation({'full_sum': {}}, {'scores': 'manifest', 'restore_from': str(tone_teacher)})
    logged, _, _ = fit(scored_tones / 'reference.jsonl', callback, 1)
    assert logged['full_sum'] > 0 and callback.distiller.teacher is None
    tiny.ctc_model(tiny.ctc_config(hidden=16)).save_to(str(tmp_path / 'other.nemo'))
    for teacher in ({'restore_from': str(tmp_path / 'other.nemo')}, {'fingerprint': '01234567-89abcdef'}):
        callback = distillation({'full_sum': {}}, {'scores': 'manifest', **teacher})
        _refused(scored_tones / 'reference.jsonl', callback, '16 of 16 rows .* scored by another teacher')


def test_a_manifest_without_scores_is_refused_and_leaves_the_student_as_it_was(tone_corpus):
    students = []
    _refused(tone_corpus, distillation({'full_sum': {}}), 'have no `teacher_log_prob`', before=students.append)
    assert type(students[0].loss).__name__ == 'RNNTLoss' and not students[0].joint._forward_pre_hooks


def test_an_oracle_teacher_has_no_score_worth_learning(tone_corpus, tmp_path):
    import tiny_oracle

    from nemo_oracle_kd.models import EncDecOracleCTCModel

    oracle = tiny.ctc_model(tiny_oracle.oracle_config(), cls=EncDecOracleCTCModel)
    oracle.save_to(str(tmp_path / 'oracle.nemo'))
    callback = distillation({'full_sum': {}}, {'restore_from': str(tmp_path / 'oracle.nemo')})
    _refused(tone_corpus, callback, 'about 0 nats for a EncDecOracleCTCModel, because it has read it')


def test_nothing_to_train_on_is_refused(tone_corpus):
    options = {'label_loss': {'weight': 1.0, 'on': 'supervised'}}
    _refused(
        tone_corpus,
        distillation({'hard': {'weight': 0.0}}, **options),
        'no row of model.train_ds is marked .*nothing would',
    )


def test_stored_scores_of_an_oracle_are_refused_as_far_as_the_header_tells(scored_tones, tmp_path):
    rows = read_rows(scored_tones / 'reference.jsonl')
    manifest = write_rows(rows, tmp_path / 'oracle.jsonl', 'EncDecOracleCTCModel')
    _refused(manifest, distillation({'full_sum': {}}), 'those of a EncDecOracleCTCModel, which has read the texts')
    assert fit(manifest, distillation({'hard': {}}), 1)[0]['hard'] > 0


def test_scores_without_a_header_are_refused_where_an_oracles_would_do_harm(scored_tones, tone_teacher, tmp_path):
    """Shards joined by `cat`, say: the rows alone do not tell whether the teacher had read the texts."""
    rows = read_rows(scored_tones / 'decode.jsonl')
    manifest = write_rows(rows, tmp_path / 'joined.jsonl', teacher_class=None)
    for objective in ('full_sum', 'full_sum_norm'):
        _refused(
            manifest,
            distillation({objective: {}}),
            f'no header joined.jsonl.header.json .* whose scores teach {objective} nothing: .*--merge',
        )
    assert fit(manifest, distillation({'hard': {}}), 1)[0]['hard'] > 0
    named = {'scores': 'manifest', 'restore_from': str(tone_teacher)}  # the model itself tells as well
    assert fit(manifest, distillation({'full_sum': {}}, named), 1)[0]['full_sum'] > 0
    (tmp_path / 'joined.jsonl.header.json').write_text('{"teacher": {}}')
    _refused(manifest, distillation({'full_sum': {}}), 'that names the teacher')
    (tmp_path / 'joined.jsonl.header.json').write_text('{"teacher')
    _refused(manifest, distillation({'full_sum': {}}), 'joined.jsonl.header.json is damaged')


def test_rows_that_changed_since_they_were_scored_are_refused(scored_tones, tmp_path):
    rows = read_rows(scored_tones / 'reference.jsonl')
    for row in rows:
        row['teacher_row'] = row_hash(row)
    assert fit(write_rows(rows, tmp_path / 'as_scored.jsonl'), distillation({'full_sum': {}}), 1)[0]['full_sum'] > 0
    rows[2]['duration'] += 0.25
    rows[5]['audio_filepath'] = rows[6]['audio_filepath']
    manifest = write_rows(rows, tmp_path / 'changed.jsonl')
    sentence = '2 of 16 rows .*changed.jsonl, line 3, .* that changed after scoring .*--overwrite'
    _refused(manifest, distillation({'full_sum': {}}), sentence)


def test_everything_that_is_wrong_with_the_data_is_said_at_once(scored_tones, tmp_path):
    rows = read_rows(scored_tones / 'reference.jsonl')
    rows[1].pop('teacher_log_prob')
    rows[2]['audio_filepath'] = 'gone.wav'
    rows[3]['text'] = rows[3]['teacher_nbest'][0]['text'] = 'ABC'
    manifest = write_rows(rows, tmp_path / 'bad.jsonl', 'EncDecOracleCTCModel')
    callback = distillation({'full_sum': {}})
    with pytest.raises(ConfigError, match='5 mistakes') as error:
        fit(manifest, callback, 1)
    told = ('does not exist', 'have no `teacher_log_prob`', '`teacher_row`', 'has read the texts', 'in lower case')
    assert [sum(part in message for message in error.value.messages) for part in told] == [1] * 5


def test_a_label_loss_of_no_row_is_told(tone_corpus, tone_teacher, monkeypatch):
    from nemo.utils import logging

    told = []
    monkeypatch.setattr(logging, 'warning', lambda message, *args, **options: told.append(message))
    teacher, options = {'restore_from': str(tone_teacher)}, {'label_loss': {'weight': 1.0, 'on': 'supervised'}}
    logged, _, _ = fit(tone_corpus, distillation({'full_sum': {}}, teacher, **options), 1)
    assert logged['label_loss'] == 0
    assert sum("NeMo's own loss is 0 on all rows: mark rows" in str(message) for message in told) == 1


def test_labels_that_are_not_those_of_the_text_are_refused_at_the_first_batch(scored_tones):
    config = transducer_config(scored_tones / 'reference.jsonl')
    config.train_ds.labels = [' ', 'b', 'a', 'c', 'd']  # what a data set that changes texts does
    _refused(None, distillation({'full_sum': {}}), 'but the student is trained on', error=ValueError, config=config)


def test_supervised_rows_may_hold_what_the_student_cannot_write(scored_tones, tmp_path):
    rows = read_rows(scored_tones / 'reference.jsonl')
    rows[0].update(text=rows[0]['text'] + '!', supervised=True)
    logged, _, _ = fit(write_rows(rows, tmp_path / 'mixed.jsonl'), distillation({'full_sum': {}}), 1)
    assert logged['full_sum'] > 0

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Stored scores: what the objectives get of a batch, and manifests that cannot be used, each refused in one sentence."""

import json
import math

import pytest
import torch

from nemo_oracle_kd.distillation.data.checks import DataChecks, DataNeeds
from nemo_oracle_kd.distillation.data.score_check import ScoreRules, ScoringTeacher
from nemo_oracle_kd.distillation.data.stored_scores import StoredScores
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import Fingerprint

TEACHER = 'aaaaaaaa-bbbbbbbb-cccccccc'
OTHER = 'dddddddd-bbbbbbbb-cccccccc'


def scored(number=0, text='a b', log_prob=-2.5, others=(('a', -4.0), ('', -9.5)), **keys):
    row = {
        'audio_filepath': f'/audio/{number}.wav',
        'duration': 1.0 + number,
        'text': text,
        'teacher_log_prob': log_prob,
        'teacher_tokens': len(text),
        'teacher_nbest': [{'text': text, 'log_prob': log_prob}]
        + [{'text': other, 'log_prob': value} for other, value in others],
        'teacher_fingerprint': TEACHER,
    }
    row.update(keys)
    return {key: value for key, value in row.items() if value is not ...}


def labelled(number=0, **keys):
    return {'audio_filepath': f'/true/{number}.wav', 'duration': 2.0, 'text': 'c d', 'supervised': True, **keys}


def read_scores(train_ds, fingerprint=None, needs_nbest=True, needs_scores=True, likelihood=()):
    """What a training makes of scores: the check of all rows, and what it hands out per batch."""
    teacher = None if fingerprint is None else ScoringTeacher(Fingerprint.parse(fingerprint))
    nbest = 8 if needs_nbest else 0
    needs = DataNeeds(flags=True, scores=needs_scores, nbest=nbest, likelihood=likelihood, teacher=teacher)
    checks = DataChecks(train_ds, needs, audio=False)
    ConfigError.raise_if_any(checks.read() + checks.problems())
    stored = StoredScores(checks.rules, checks.manifests.complete, checks.scores.supervised_rows > 0)
    stored.check = checks.scores
    return stored


@pytest.fixture
def make(tmp_path):
    """Writes rows to a manifest and reads their scores."""

    def make(rows, fingerprint=None, needs_nbest=True, needs_scores=True, **config):
        path = tmp_path / f'{len(list(tmp_path.iterdir()))}.jsonl'
        path.write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')
        return read_scores({'manifest_filepath': str(path), **config}, fingerprint, needs_nbest, needs_scores)

    return make


def test_a_batch_gets_scores_tokens_and_hypotheses_of_its_rows(make):
    rows = [scored(0), labelled(0), scored(1, text='', log_prob=0.0, others=[('b', -3.25)])]
    scores = make(rows, TEACHER)
    assert (scores.check.rows, scores.check.supervised_rows, scores.any_supervised) == (3, 1, True)
    assert scores.supervised(rows).tolist() == [False, True, False]
    nll, tokens = scores.nll(rows)
    assert nll.dtype == torch.float64 and nll.tolist() == [2.5, math.inf, 0.0] and math.copysign(1.0, nll[2]) == 1.0
    assert tokens.tolist() == [3, 0, 0]
    texts, nll, mask = scores.nbest(rows, most=2)
    assert texts == [['a b', 'a'], ['c d'], ['', 'b']]
    assert nll.tolist() == [[2.5, 4.0], [math.inf, math.inf], [0.0, 3.25]]
    assert mask.tolist() == [[True, True], [False, False], [True, True]]
    assert scores.nbest(rows, most=8)[1].shape == (3, 3)
    assert scores.nbest(rows[1:2], most=8)[2].tolist() == [[False]]


def test_the_teacher_is_told_by_the_first_two_parts_of_the_fingerprint(make):
    rows = [scored(0), scored(1, teacher_fingerprint='aaaaaaaa-bbbbbbbb-eeeeeeee')]
    assert str(make(rows).check.fingerprint).startswith('aaaaaaaa-bbbbbbbb')
    make(rows, TEACHER), make(rows, 'aaaaaaaa-bbbbbbbb')
    with pytest.raises(
        ConfigError, match='^2 of 2 rows .* were scored by another teacher or vocabulary than dddddddd'
    ):
        make(rows, OTHER)
    with pytest.raises(ConfigError, match='scored by different teachers, .*aaaaaaaa-bbbbbbbb .2 rows.* --rescore'):
        make(rows + [scored(2, teacher_fingerprint=OTHER)])
    with pytest.raises(ConfigError, match="'nonsense' is not a teacher fingerprint"):
        make(rows, 'nonsense')


@pytest.mark.parametrize(
    'keys, sentence',
    [
        ({'teacher_log_prob': ...}, 'have no `teacher_log_prob`: score the manifest .* or mark rows'),
        ({'teacher_log_prob': 0.5}, 'not a log-probability .a finite number, at most 0.'),
        ({'teacher_log_prob': math.nan}, 'not a log-probability'),
        ({'teacher_log_prob': -math.inf}, 'not a log-probability'),
        ({'teacher_log_prob': True}, 'not a log-probability'),
        ({'teacher_log_prob': '-1'}, 'not a log-probability'),
        ({'teacher_tokens': ...}, 'have no valid `teacher_tokens`'),
        ({'teacher_tokens': -1}, 'have no valid `teacher_tokens`'),
        ({'teacher_fingerprint': ...}, 'without a valid `teacher_fingerprint`'),
        ({'teacher_fingerprint': 'x-y'}, 'without a valid `teacher_fingerprint`'),
        (
            {'teacher_nbest': [{'text': 'other words', 'log_prob': -2.5}]},
            'not the first of their `teacher_nbest`.* score --reference',
        ),
        ({'teacher_log_prob': -2.4}, 'differs from that of the first'),
        ({'teacher_nbest': ...}, 'have no `teacher_nbest`.*--nbest 2'),
        ({'teacher_nbest': []}, 'is not a list of'),
        ({'teacher_nbest': [{'text': 'a b', 'log_prob': 1.0}]}, 'is not a list of'),
        ({'teacher_nbest': [{'text': 'a b', 'log_prob': -2.5}, {'log_prob': -3.0}]}, 'is not a list of'),
        ({'teacher_nbest': 2 * [{'text': 'a b', 'log_prob': -2.5}]}, 'have the same text twice'),
        ({'supervised': 'yes'}, 'have a `supervised` that is neither true nor false'),
        ({'supervised': 1}, 'have a `supervised` that is neither true nor false'),
    ],
)
def test_a_row_with_a_mistake_is_refused_with_count_place_and_fix(make, keys, sentence):
    rows = [scored(0), scored(1, **keys), scored(2), scored(3, **keys), labelled(4)]
    with pytest.raises(ConfigError, match=sentence) as error:
        make(rows, TEACHER)
    assert str(error.value).startswith('2 of 4 rows of model.train_ds (the first: ')
    assert '.jsonl, line 2, /audio/1.wav, text' in str(error.value)
    assert len(error.value.messages) == 1


def test_several_kinds_of_mistakes_are_reported_together(make):
    rows = [scored(0, teacher_log_prob=...), scored(1, teacher_tokens=None), scored(2)]
    with pytest.raises(ConfigError, match='2 mistakes'):
        make(rows)


def test_spaces_and_rounding_do_not_make_a_text_or_score_another(make):
    make([scored(0, text='a  b '), scored(1, teacher_log_prob=-2.501)])


def test_only_what_is_needed_is_asked_for(make):
    plain = [{'audio_filepath': '/a.wav', 'duration': 1.0, 'text': 'a'}]
    scores = make(plain, needs_nbest=False, needs_scores=False)
    assert not scores.any_supervised and scores.supervised(plain).tolist() == [False]
    with pytest.raises(ConfigError, match='neither true nor false'):
        make([{**plain[0], 'supervised': 'no'}], needs_nbest=False, needs_scores=False)
    reference = [scored(0, teacher_nbest=...)]
    assert make(reference, needs_nbest=False).nll(reference)[0].tolist() == [2.5]


def test_one_hypothesis_each_is_refused_for_n_best_objectives_and_some_are_told(make, caplog):
    alone = [scored(n, others=()) for n in range(3)]
    make(alone, needs_nbest=False)
    with pytest.raises(
        ConfigError, match='all 3 scored rows .* a single hypothesis.* --nbest 8`, or train with full_sum'
    ):
        make(alone + [labelled()])
    scores = make(alone + [scored(3)])
    assert scores.nbest([alone[0], scored(3)], 8)[2].tolist() == [[True, False, False], [True, True, True]]


def test_supervised_rows_alone_leave_nothing_to_distil(make):
    with pytest.raises(ConfigError, match='all 2 rows .* nothing to distil'):
        make([labelled(0), labelled(1)])
    assert make([labelled(0)], needs_nbest=False, needs_scores=False).any_supervised


def test_supervised_rows_need_no_score_and_what_they_have_is_not_used(make):
    rows = [scored(0), labelled(1, teacher_log_prob=5.0, teacher_nbest='?')]
    scores = make(rows)
    assert scores.nll(rows)[0].tolist() == [2.5, math.inf]
    assert scores.nbest(rows, 1)[0] == [['a b'], ['c d']]


def test_rows_that_the_loader_leaves_out_are_not_asked_for_scores(make):
    long, short = scored(9, teacher_log_prob=...), scored(0, teacher_log_prob=..., duration=0.1)
    scores = make([scored(0), long, short], max_duration=5.0, min_duration=0.2)
    assert scores.check.rows == 1
    with pytest.raises(ConfigError, match='2 of 3 rows'):
        make([scored(0), long, short])
    with pytest.raises(ConfigError, match='loads no row: .* from min_duration to max_duration'):
        make([long], max_duration=5.0)
    make([scored(0), scored(1, teacher_log_prob=..., _skipme=True)], use_lhotse=True)


def test_another_text_field_of_lhotse_is_refused(make, tmp_path):
    with pytest.raises(ConfigError, match='model.train_ds.text_field is .noisy., but the scores are those of `text`'):
        make([scored(0)], use_lhotse=True, text_field='noisy')
    sources = [{'type': 'nemo', 'manifest_filepath': str(tmp_path / '0.jsonl'), 'text_field': 'other'}]
    with pytest.raises(ConfigError, match='model.train_ds.text_field is .other.'):
        read_scores({'use_lhotse': True, 'input_cfg': sources}, None, False, True)


def test_tags_of_lhotse_may_mark_a_source_as_supervised(tmp_path):
    plain, rows = tmp_path / 'true.jsonl', tmp_path / 'scored.jsonl'
    plain.write_text(json.dumps({key: value for key, value in labelled().items() if key != 'supervised'}))
    rows.write_text(json.dumps(scored(1)))
    sources = [
        {'type': 'nemo', 'manifest_filepath': str(plain), 'weight': 0.1, 'tags': {'supervised': True}},
        {'type': 'nemo', 'manifest_filepath': str(rows), 'weight': 0.9},
    ]
    scores = read_scores({'use_lhotse': True, 'input_cfg': sources}, TEACHER, True, True)
    assert (scores.check.rows, scores.check.supervised_rows) == (2, 1)
    del sources[0]['tags']
    with pytest.raises(ConfigError, match='1 of 2 rows .* have no `teacher_log_prob`'):
        read_scores({'use_lhotse': True, 'input_cfg': sources}, TEACHER, True, True)


def test_rows_are_weighted_by_a_field_that_all_of_them_have(tmp_path):
    def problems(share, *rows):
        path = tmp_path / 'rows.jsonl'
        path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
        checks = DataChecks(
            {'manifest_filepath': str(path)}, DataNeeds(flags=True, fields={'doubt': share}), audio=False
        )
        return checks, checks.read() + checks.problems()

    rows = [scored(n, teacher_log_prob=..., teacher_fields={'doubt': n + 0.5}) for n in range(2)]
    checks, found = problems(False, *rows, labelled(2))
    assert found == []
    assert StoredScores(checks.rules, True, True).field([*rows, labelled(2)], 'doubt').tolist() == [0.5, 1.5, 0.0]
    assert '1 of 2 rows' in problems(True, *rows, labelled(2))[1][0]  # 1.5 is no weight
    for fields in ({}, {'doubt': None}, {'doubt': 'x'}, {'doubt': math.nan}, 0.5, None):
        (sentence,) = problems(False, rows[0], scored(1, teacher_fields=fields))[1]
        assert 'have no number doubt in `teacher_fields`' in sentence and 'filter --store' in sentence
    with pytest.raises(ConfigError, match='have no number doubt'):
        StoredScores(checks.rules, False, True).field([scored(1)], 'doubt')


def test_data_without_a_manifest_are_checked_batch_by_batch():
    checks = DataChecks({'use_lhotse': True, 'shar_path': 'somewhere'}, DataNeeds(scores=True, nbest=8))
    assert checks.read() == checks.problems() == [] and not checks.manifests.complete
    scores = StoredScores(ScoreRules(scores=True, nbest=True), checked=False, any_supervised=True)
    assert scores.nll([scored(0), labelled(1)])[0].tolist() == [2.5, math.inf]
    with pytest.raises(ConfigError, match='such as /audio/1.wav .* not the first of their `teacher_nbest`'):
        scores.nll([scored(0), scored(1, text='x', teacher_nbest=[{'text': 'y', 'log_prob': -1.0}])])
    with pytest.raises(ConfigError, match='scored by another teacher'):
        scores.nbest([scored(2, teacher_fingerprint=OTHER)], 2)
    with pytest.raises(ConfigError, match='neither true nor false'):
        scores.supervised([scored(3, supervised=1)])

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distillation configs: strict keys, all problems at once."""

import pytest

from nemo_oracle_kd.distillation.settings import DistillationConfig
from nemo_oracle_kd.errors import ConfigError


def test_a_config_becomes_dataclasses_with_defaults():
    config = DistillationConfig.from_mapping(
        {'teacher': {'restore_from': 't.nemo'}, 'objectives': {'frame_kl': {'weight': 0.1}, 'guided_ctc': None}}
    )
    assert config.teacher.restore_from == 't.nemo' and config.teacher.time_resampling == 'none'
    assert config.objectives['frame_kl'].weight.value == 0.1
    assert config.objectives['guided_ctc'].weight.value == 1.0
    assert config.label_loss.weight.value == 1.0


@pytest.mark.parametrize(
    'values, sentence',
    [
        ({'objectives': {'frame_kl': {}}}, 'teacher` is missing'),
        ({'teacher': {}, 'objectives': {'frame_kl': {}}}, 'restore_from` is missing'),
        ({'teacher': {'restore_from': 't.nemo'}}, 'objectives` is empty: name at least one of frame_kl'),
        ({'teacher': {'restore_from': 't.nemo'}, 'objectives': ['frame_kl']}, 'objectives` must be a mapping, as in'),
        ({'teacher': 't.nemo', 'objectives': {'frame_kl': {}}}, 'teacher` must be a mapping of options'),
        ({'teacher': {'restore_from': 't.nemo'}, 'objectives': {'framekl': {}}}, "Did you mean 'frame_kl'"),
        ({'teacher': {'restor_from': 't.nemo'}, 'objectives': {'frame_kl': {}}}, "Did you mean 'restore_from'"),
        ({'techer': {}, 'objectives': {'frame_kl': {}}}, "Did you mean 'teacher'"),
        (
            {'teacher': {'restore_from': 't.nemo', 'time_resampling': 'cubic'}, 'objectives': {'frame_kl': {}}},
            'choose one of none, nearest, linear',
        ),
        (
            {'teacher': {'restore_from': 't.nemo'}, 'objectives': {'frame_kl': {}}, 'label_loss': {'wieght': 1}},
            "Did you mean 'weight'",
        ),
        (
            {'teacher': {'restore_from': 't.nemo'}, 'objectives': {'frame_kl': 0, 'guided_ctc': {'weight': 0}}},
            'frame_kl` must be a mapping',
        ),
        (
            {
                'teacher': {'restore_from': 't.nemo'},
                'objectives': {'full_sum': {'weight': {'value': 0, 'schedule': 'warmup', 'steps': 9}}},
                'label_loss': {'weight': 0},
            },
            'of every objective are 0, so nothing would be trained',
        ),
        (
            {'teacher': {'restore_from': 't.nemo'}, 'objectives': {'hard': {}}},
            'hard learns from .* `nemo-oracle-kd score`',
        ),
        (
            {'teacher': {'restore_from': 't.nemo'}, 'objectives': {'full_sum_norm': {}}},
            'full_sum_norm learns from the teacher.s own texts: label the training data once',
        ),
        (
            {'teacher': {'scores': 'manifest'}, 'objectives': {'frame_kl': {}, 'full_sum': {}}},
            'frame_kl compares what both models emit, for which stored scores are not enough',
        ),
        ({'teacher': {'scores': 'rows'}, 'objectives': {'hard': {}}}, "scores` is 'rows': choose manifest"),
        (
            {'teacher': {'restore_from': 't.nemo', 'fingerprint': 'a-b-c'}, 'objectives': {'full_sum': {}}},
            'fingerprint` needs stored scores',
        ),
        (
            {'teacher': {'scores': 'manifest', 'memory_mb': 5}, 'objectives': {'full_sum': {}}},
            'memory_mb` needs a teacher beside the student',
        ),
        (
            {'teacher': {'restore_from': 't.nemo', 'head': 'tdt'}, 'objectives': {'full_sum': {}}},
            'choose one of auto, ctc, rnnt',
        ),
        (
            {'teacher': {'restore_from': 't.nemo'}, 'objectives': {'full_sum': {'distance': 'l2'}}},
            'choose one of l1, mse, huber',
        ),
        (
            {'teacher': {'restore_from': 't.nemo'}, 'objectives': {'full_sum': {'normalization': 'nbest'}}},
            'or the objective full_sum_norm to normalise over the N-best list',
        ),
        (
            {'teacher': {'scores': 'manifest'}, 'objectives': {'full_sum_norm': {'nbest': 1}}},
            'a single text always has posterior 1',
        ),
        (
            {'teacher': {'scores': 'manifest'}, 'objectives': {'hard': {'confidence': {'mode': 'prob'}}}},
            'choose one of constant, probability, sigmoid',
        ),
        (
            {
                'teacher': {'restore_from': 't.nemo'},
                'objectives': {'full_sum': {'confidence': {'mode': 'value', 'field': 'agreement'}}},
            },
            'is read from rows with stored scores',
        ),
        (
            {'teacher': {'scores': 'manifest'}, 'objectives': {'hard': {}}, 'label_loss': {'on': 'marked'}},
            'choose one of all, supervised',
        ),
        (
            {'teacher': {'scores': 'manifest'}, 'objectives': {'hard': {}}, 'supervised_share': 10},
            'must be a number between 0 and 1, such as 0.1, not 10',
        ),
    ],
)
def test_a_wrong_config_is_refused_with_the_fix(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        DistillationConfig.from_mapping(values)


def test_every_mistake_of_a_config_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        DistillationConfig.from_mapping(
            {'techer': {}, 'objectives': {'framekl': {}, 'softmax_l2': {'temperature': -1}}}
        )
    text = str(caught.value)
    assert 'techer' in text and 'framekl' in text and 'temperature' in text and 'teacher` is missing' in text


def test_on_is_read_from_yaml_without_quotes_and_an_override_wins():
    from omegaconf import OmegaConf

    text = 'teacher: {scores: manifest}\nobjectives: {hard: {}}\nlabel_loss: {on: supervised}\n'
    values = OmegaConf.create(text)
    assert DistillationConfig.from_mapping(OmegaConf.to_container(values)).label_loss.on == 'supervised'
    values = OmegaConf.merge(values, OmegaConf.from_dotlist(['label_loss.on=all']))
    assert DistillationConfig.from_mapping(OmegaConf.to_container(values)).label_loss.on == 'all'


def test_a_confidence_may_be_given_by_its_mode_alone():
    config = DistillationConfig.from_mapping(
        {'teacher': {'scores': 'manifest'}, 'objectives': {'full_sum': {'confidence': 'sigmoid'}}}
    )
    assert config.objectives['full_sum'].confidence.mode == 'sigmoid' and not config.beside

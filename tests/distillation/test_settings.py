# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
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

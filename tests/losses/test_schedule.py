# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Weight schedules."""

import pytest

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.losses.schedule import WeightSchedule
from nemo_oracle_kd.strict_config import build_or_raise


def test_a_bare_number_is_a_constant_schedule():
    schedule = build_or_raise(WeightSchedule, 0.3, 'weight')
    assert [schedule.at(step) for step in (0, 10, 10**6)] == [0.3, 0.3, 0.3]


def test_yaml_reads_scientific_notation_without_a_dot_as_a_string_and_it_still_works():
    assert build_or_raise(WeightSchedule, '1e-3', 'weight').at(0) == 0.001


def test_warmup_is_a_straight_line_to_the_value():
    schedule = WeightSchedule(1.0, 'warmup', start=10, steps=20, initial=0.2)
    assert schedule.at(0) == schedule.at(10) == 0.2
    assert schedule.at(20) == pytest.approx(0.6)
    assert schedule.at(30) == schedule.at(99) == 1.0


@pytest.mark.parametrize('name', ['linear_decay', 'cosine_decay'])
def test_decay_keeps_the_value_then_falls_to_the_final_one(name):
    schedule = WeightSchedule(0.8, name, start=100, steps=100, final=0.2)
    assert schedule.at(0) == schedule.at(100) == 0.8
    assert schedule.at(150) == pytest.approx(0.5)
    assert schedule.at(200) == pytest.approx(0.2) and schedule.at(1000) == pytest.approx(0.2)
    values = [schedule.at(step) for step in range(0, 300, 7)]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    'values, sentence',
    [
        ({'value': 1.0, 'schedule': 'sine'}, 'choose one of constant'),
        ({'value': 1.0, 'schedule': 'warmup'}, 'steps` must be at least 1'),
        ({'value': 1.0, 'steps': 5}, 'constant schedule'),
        ({'value': -1.0}, 'at least 0'),
        ({'value': float('nan')}, 'finite'),
        ({'schedule': 'warmup', 'steps': 4}, 'value` is missing'),
        ({'value': 1.0, 'shedule': 'warmup'}, "Did you mean 'schedule'"),
        ('fast', 'fast'),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_with_the_fix(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_or_raise(WeightSchedule, values, 'objectives.frame_kl.weight')

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The headline is computed: who is compared, and that "better" is never said of what may be noise."""

import numpy as np
import pytest

from nemo_oracle_kd.evaluation.error_rates import ErrorCounts, pool_seeds
from nemo_oracle_kd.evaluation.headline import find_headline
from nemo_oracle_kd.evaluation.significance import compare

pytestmark = pytest.mark.unit

LABELS = {'student': 'student of the oracle', 'weak': 'student alone', 'strong': 'student of the other'}


def counts(rate, seed, utterances=60, words=10):
    errors = np.random.default_rng(seed).binomial(words, rate, utterances)
    zeros = np.zeros(utterances, dtype=np.int64)
    return ErrorCounts(errors, zeros, zeros, np.full(utterances, words))


def results(student, strong, weak=0.5, seeds=3):
    """A comparison of errors drawn with these rates, made as a real one is: pooled seeds, paired tests."""
    rates = {'weak': weak, 'strong': strong, 'student': student, 'oracle_teacher': 0.05}
    drawn = {
        name: [counts(rate, 1000 * k + 10 + seed) for seed in range(seeds)]
        for k, (name, rate) in enumerate(rates.items())
    }
    pooled = {name: pool_seeds(of_seed) for name, of_seed in drawn.items()}
    return {
        'systems': {name: {'wer': [one.rate for one in of_seed]} for name, of_seed in drawn.items()},
        'paired': [
            {'baseline': name, 'system': 'student', **compare(pooled[name], pooled['student']).as_dict()}
            for name in ('weak', 'strong', 'oracle_teacher')
        ],
    }


@pytest.mark.parametrize(
    'student, strong, outcome, words',
    [
        (0.20, 0.35, 'better', 'is better than'),
        (0.30, 0.30, 'level', 'is level within the noise with'),
        (0.29, 0.30, 'level', 'is level within the noise with'),  # ahead on the mean, and that is all
        (0.42, 0.30, 'worse', 'is worse than'),
    ],
)
def test_a_win_noise_and_a_loss_are_told_apart_against_the_strongest_control(student, strong, outcome, words):
    found = find_headline(results(student, strong), 'student', ['oracle_teacher'])
    assert (found.control, found.outcome) == ('strong', outcome)
    assert (found.pair['low'] <= 0 <= found.pair['high']) == (outcome == 'level')
    sentence = found.sentence(LABELS)
    assert sentence.startswith(f'“student of the oracle” {words} its strongest control, “student of the other”: ')
    assert ('better' in sentence) == (outcome == 'better')
    difference = f"{found.pair['difference']:+.1f}".replace('-', '\u2212')
    assert f'{difference} points of WER (95 % interval ' in sentence and 'p = ' in sentence or 'p < 0.001' in sentence
    assert f'mean of 3 seeds, ahead in {found.wins} of them.' in sentence


def test_the_strongest_control_is_that_of_the_lowest_error_and_no_teacher_that_reads():
    assert find_headline(results(0.3, 0.5, weak=0.35), 'student', ['oracle_teacher']).control == 'weak'
    assert find_headline(results(0.3, 0.5), 'student').control == 'oracle_teacher'  # unless nobody says that it reads


def test_one_seed_says_nothing_about_the_luck_of_a_training():
    sentence = find_headline(results(0.2, 0.4, seeds=1), 'student', ['oracle_teacher']).sentence(LABELS)
    assert 'one seed' in sentence and 'not the variation between trainings' in sentence


def test_without_a_comparison_there_is_no_headline():
    alone = {**results(0.2, 0.4), 'paired': []}
    assert find_headline(alone, 'student') is None and find_headline(results(0.2, 0.4), 'unknown') is None


def test_an_interval_beside_zero_with_a_large_p_is_no_win():
    found = results(0.2, 0.4)
    found['paired'][1].update(difference=-0.5, low=-1.0, high=-0.1, p_permutation=0.124)  # three utterances differ
    assert find_headline(found, 'student', ['oracle_teacher']).outcome == 'level'

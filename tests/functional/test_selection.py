# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which layers, channels and heads stay when a network is cut."""

import pytest
import torch

from nemo_oracle_kd.functional.selection import (
    evenly_spaced,
    largest,
    largest_in_heads,
    magnitudes,
    nearest_frequencies,
    take,
)


@pytest.mark.parametrize(
    'count, keep, expected', [(12, 4, [0, 4, 7, 11]), (17, 9, list(range(0, 17, 2))), (5, 1, [0])]
)
def test_evenly_spaced_indices_keep_the_first_and_the_last(count, keep, expected):
    assert evenly_spaced(count, keep) == expected


def test_evenly_spaced_indices_are_distinct_whatever_is_asked():
    for count in range(2, 40):
        for keep in range(2, count + 1):
            found = evenly_spaced(count, keep)
            assert len(set(found)) == keep and found == sorted(found) and (found[0], found[-1]) == (0, count - 1)


def test_a_channel_counts_by_what_produces_it_and_by_what_reads_it():
    weights = {'up': torch.ones(6, 4), 'bias': torch.full((6,), 9.0), 'down': torch.ones(4, 3)}
    weights['up'][1] = weights['up'][4] = 0.0  # both halves of unit 1: nothing produces it
    weights['down'][:, 2] = 0.0  # nothing reads unit 2
    axes = {'up': {0: 'unit', 1: 'stream'}, 'bias': {0: 'unit'}, 'down': {0: 'stream', 1: 'unit'}}
    sizes = {'unit': 3, 'stream': 4}
    found = magnitudes(weights, axes, sizes)
    assert found['unit'].tolist() == [8.0 * 4.0, 0.0, 0.0]
    cut = take(weights, axes, sizes, {'unit': largest(found['unit'], 2)})
    assert [tuple(weight.shape) for weight in cut.values()] == [(4, 4), (4,), (4, 2)]
    assert torch.equal(cut['up'], weights['up'][[0, 1, 3, 4]]) and cut['bias'].sum() == 36.0


def test_heads_are_chosen_before_their_channels():
    magnitude = torch.tensor([1.0, 1.0, 9.0, 0.0, 2.0, 3.0])
    assert largest_in_heads(magnitude, heads=3, keep_heads=2, keep_width=2).tolist() == [2, 3, 4, 5]
    assert largest_in_heads(magnitude, heads=3, keep_heads=3, keep_width=1).tolist() == [0, 2, 5]


def test_every_frequency_goes_to_the_nearest_that_is_left():
    matrix = nearest_frequencies(16, 8)
    assert matrix.sum(1).tolist() == [1.0] * 16
    for pair in range(4):
        assert matrix[4 * pair, 2 * pair] == matrix[4 * pair + 1, 2 * pair + 1] == 1.0
    assert torch.equal(nearest_frequencies(8, 8), torch.eye(8))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Weights of blank frames, by examples worked out by hand."""

import math

import pytest
import torch

from nemo_oracle_kd.functional import blank_frame_weights

# Spikes in frames 2 and 7 of the first utterance; the second ends after four frames and has garbage beyond.
LABELS = torch.tensor([[0, 0, 1, 0, 0, 0, 0, 2, 0], [0, 0, 0, 0, 1, 1, 1, 1, 1]])
LENGTHS = torch.tensor([9, 4])


def teacher():
    log_probs = torch.nn.functional.one_hot(LABELS, 3).float()
    log_probs[1, 5:] = math.nan
    return log_probs


@pytest.mark.parametrize(
    'arguments, first',
    [
        ({'mode': 'keep'}, [1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ({'mode': 'drop'}, [0, 0, 1, 0, 0, 0, 0, 1, 0]),
        ({'mode': 'window', 'window': 0}, [0, 0, 1, 0, 0, 0, 0, 1, 0]),
        ({'mode': 'window', 'window': 1}, [0, 1, 1, 1, 0, 0, 1, 1, 1]),
        ({'mode': 'window', 'window': 2}, [1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ({'mode': 'window', 'window': 20}, [1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ({'mode': 'weight', 'weight': 0.25}, [0.25, 0.25, 1, 0.25, 0.25, 0.25, 0.25, 1, 0.25]),
    ],
)
def test_each_mode_gives_the_weights_worked_out_by_hand(arguments, first):
    weights = blank_frame_weights(teacher(), LENGTHS, 0, **arguments)
    alone = {'keep': 1.0, 'weight': arguments.get('weight')}.get(arguments['mode'], 0.0)
    assert weights.tolist() == [first, [alone] * 4 + [0.0] * 5]


def test_the_default_keeps_every_valid_frame():
    assert blank_frame_weights(teacher(), LENGTHS, 0).sum(dim=1).tolist() == [9, 4]


def test_a_spike_in_the_padding_opens_no_window():
    assert blank_frame_weights(teacher(), LENGTHS, 0, 'window', window=3)[1].sum() == 0


def test_the_blank_may_have_any_id_and_float64_is_kept():
    weights = blank_frame_weights(teacher().double(), LENGTHS, 1, 'drop')
    assert weights.dtype == torch.float64
    assert weights[0].tolist() == [1, 1, 0, 1, 1, 1, 1, 1, 1]


def test_empty_batches_are_defined():
    assert blank_frame_weights(torch.zeros(2, 0, 3), torch.tensor([0, 0]), 0, 'window', window=2).shape == (2, 0)


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        ({'mode': 'skip'}, "Unknown blank mode 'skip'; choose one of keep, drop, window, weight"),
        ({'mode': 'window', 'window': -1}, 'must not be negative'),
        ({'mode': 'weight', 'weight': -0.5}, 'must not be negative'),
        ({'lengths': torch.tensor([9])}, r'lengths \[B\]'),
    ],
)
def test_bad_arguments_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        blank_frame_weights(**({'teacher_log_probs': teacher(), 'lengths': LENGTHS, 'blank': 0} | arguments))

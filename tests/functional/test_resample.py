# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Resampling of frame posteriors."""

import math

import pytest
import torch

from nemo_oracle_kd.functional import fill_padding, resample_frames, shift_frames


def posteriors(batch=2, frames=6, vocabulary=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, vocabulary, dtype=torch.float64, generator=g).log_softmax(dim=2)


@pytest.mark.parametrize('mode', ['nearest', 'linear'])
def test_equal_lengths_change_nothing_but_the_padding(mode):
    x, lengths = posteriors(), torch.tensor([6, 4])
    assert torch.allclose(resample_frames(x, lengths, lengths, mode), fill_padding(x, lengths), atol=1e-14)


def test_nearest_repeats_frames_on_the_way_up_and_drops_them_on_the_way_down():
    x = torch.arange(4.0).view(1, 4, 1)
    lengths = torch.tensor([4])
    assert resample_frames(x, lengths, torch.tensor([8])).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert resample_frames(x, lengths, torch.tensor([2])).flatten().tolist() == [1, 3]
    assert resample_frames(x, lengths, torch.tensor([1])).flatten().tolist() == [2]


def test_linear_mixes_probabilities_by_hand():
    probs = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    lengths, wanted = torch.tensor([2]), torch.tensor([4])
    as_probs = resample_frames(probs, lengths, wanted, 'linear', are_log_probs=False)
    assert torch.allclose(as_probs[0], torch.tensor(expected, dtype=torch.float64))
    soft = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]], dtype=torch.float64)
    as_logs = resample_frames(soft.log(), lengths, wanted, 'linear')
    mixed = resample_frames(soft, lengths, wanted, 'linear', are_log_probs=False)
    assert torch.allclose(as_logs.exp(), mixed) and mixed[0, 1, 0] == pytest.approx(0.9 * 0.75 + 0.2 * 0.25)


@pytest.mark.parametrize('mode', ['nearest', 'linear'])
def test_utterances_are_stretched_one_by_one_whatever_the_padding_holds(mode):
    x, lengths, wanted = posteriors(), torch.tensor([6, 3]), torch.tensor([4, 7])
    x[1, 3:] = math.nan
    result = resample_frames(x, lengths, wanted, mode)
    assert result.shape == (2, 7, 3)
    for row in range(2):
        alone = resample_frames(x[row : row + 1, : lengths[row]], lengths[row : row + 1], wanted[row : row + 1], mode)
        assert torch.equal(result[row, : wanted[row]], alone[0])
        assert torch.allclose(alone.exp().sum(dim=2), torch.ones(1, int(wanted[row])).double())
    assert torch.equal(result[0, 4:], torch.zeros(3, 3).double())


def test_the_padded_length_can_be_given():
    x = posteriors()
    lengths = torch.tensor([6, 6])
    assert resample_frames(x, lengths, torch.tensor([2, 3]), max_target_length=5).shape == (2, 5, 3)
    assert resample_frames(x[:, :0], torch.tensor([0, 0]), torch.tensor([0, 0])).shape == (2, 0, 3)
    with pytest.raises(ValueError, match='smaller than the longest'):
        resample_frames(x, lengths, torch.tensor([2, 3]), max_target_length=2)


def test_gradients_flow_and_narrow_types_stay_finite():
    x = posteriors().requires_grad_()
    resample_frames(x, torch.tensor([6, 5]), torch.tensor([9, 3]), 'linear').sum().backward()
    assert torch.isfinite(x.grad).all() and torch.equal(x.grad[1, 5:], torch.zeros(1, 3).double())
    narrow = resample_frames(posteriors().half(), torch.tensor([6, 5]), torch.tensor([9, 3]), 'linear')
    assert narrow.dtype == torch.float32 and torch.isfinite(narrow).all()


def test_bad_arguments_are_refused():
    x, lengths = posteriors(), torch.tensor([6, 6])
    with pytest.raises(ValueError, match="Unknown resampling mode 'cubic'; choose one of nearest, linear"):
        resample_frames(x, lengths, lengths, 'cubic')
    with pytest.raises(ValueError, match='leave empty utterances out'):
        resample_frames(x, torch.tensor([6, 0]), lengths)
    with pytest.raises(ValueError, match='target_lengths'):
        resample_frames(x, lengths, torch.tensor([3]))


def test_frames_are_moved_later_or_earlier_within_their_utterance():
    x = torch.arange(1.0, 11.0).view(2, 5, 1)  # 1 to 5, and 6 to 10 of which two are padding
    lengths = torch.tensor([5, 3])
    assert shift_frames(x, lengths, 2).squeeze(2).tolist() == [[1, 1, 1, 2, 3], [6, 6, 6, 0, 0]]
    assert shift_frames(x, lengths, -1).squeeze(2).tolist() == [[2, 3, 4, 5, 5], [7, 8, 8, 0, 0]]
    assert shift_frames(x, lengths, 9).squeeze(2).tolist() == [[1] * 5, [6, 6, 6, 0, 0]]
    assert shift_frames(x, lengths, 0) is x


def test_what_is_in_the_padding_is_never_moved_into_an_utterance():
    x, lengths = posteriors(), torch.tensor([6, 4])
    garbage = x.clone()
    garbage[1, 4:] = float('nan')
    for shift in (-3, -1, 1, 3):
        assert torch.equal(shift_frames(garbage, lengths, shift), shift_frames(x, lengths, shift))
    with pytest.raises(ValueError, match=r'must have shape \[B, T, V\]'):
        shift_frames(x[:, :, 0], lengths, 1)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Greedy path, spike times and the CTC mapping."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_oracle_kd.functional import collapse_path, ctc_best_path, ctc_greedy_path, spike_times


def test_spikes_are_the_first_frames_of_the_emitted_labels():
    path = torch.tensor([[0, 3, 3, 0, 3, 2], [1, 1, 2, 0, -1, -1], [0, 0, -1, -1, -1, -1], [-1] * 6])
    frames, counts = spike_times(path, blank=0)
    labels, same_counts = collapse_path(path, blank=0)
    assert counts.tolist() == same_counts.tolist() == [3, 2, 0, 0]
    assert frames.tolist() == [[1, 4, 5], [0, 2, -1], [-1, -1, -1], [-1, -1, -1]]
    assert labels.tolist() == [[3, 3, 2], [1, 2, -1], [-1, -1, -1], [-1, -1, -1]]


def test_the_blank_may_have_any_id():
    frames, counts = spike_times(torch.tensor([[4, 0, 0, 4, 0]]), blank=4)
    assert frames.tolist() == [[1, 4]] and counts.tolist() == [2]


def test_paths_without_labels_or_frames_have_no_spikes():
    assert spike_times(torch.zeros(2, 3, dtype=torch.long), blank=0)[0].shape == (2, 0)
    assert spike_times(torch.zeros(2, 0, dtype=torch.long), blank=0)[1].tolist() == [0, 0]
    assert collapse_path(torch.zeros(0, 3, dtype=torch.long), blank=0)[0].shape == (0, 0)


def test_the_greedy_path_ignores_garbage_in_the_padding():
    log_probs = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    log_probs[1, 2:] = math.nan
    path = ctc_greedy_path(log_probs, torch.tensor([4, 2]))
    assert path[0].tolist() == log_probs[0].argmax(dim=1).tolist()
    assert path[1].tolist() == log_probs[1, :2].argmax(dim=1).tolist() + [-1, -1]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 3), max_size=12))
def test_collapsing_agrees_with_the_definition_label_by_label(path):
    expected, starts, previous = [], [], None
    for t, label in enumerate(path):
        if label not in (0, previous):
            expected.append(label)
            starts.append(t)
        previous = label
    tensor = torch.tensor([path], dtype=torch.long)
    assert collapse_path(tensor, 0)[0].tolist() == [expected]
    assert spike_times(tensor, 0)[0].tolist() == [starts]


def test_the_best_path_of_sharp_posteriors_is_their_greedy_path():
    wanted = torch.tensor([[0, 2, 2, 0, 2, 1, 1, 0]])
    log_probs = torch.nn.functional.one_hot(wanted, 4).float() * 9
    labels, counts = collapse_path(wanted, 0)
    path = ctc_best_path(log_probs, labels, torch.tensor([8]), counts, 0)
    assert torch.equal(path, wanted) and torch.equal(path, ctc_greedy_path(log_probs, torch.tensor([8])))


def test_among_equal_alignments_labels_come_early_and_the_blank_last():
    labels, lengths = torch.tensor([[1, 2]]), torch.tensor([5])
    assert ctc_best_path(torch.zeros(1, 5, 3), labels, lengths, torch.tensor([2]), 0).tolist() == [[1, 2, 0, 0, 0]]


def test_a_path_of_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r'shape \[B, T\]'):
        spike_times(torch.zeros(3, dtype=torch.long), 0)

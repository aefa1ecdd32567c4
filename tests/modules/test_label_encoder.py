# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The label encoder: padding, empty transcripts, and transcripts it refuses."""

import pytest
import torch

from nemo_oracle_kd.modules import LabelEncoder, LabelEncoderConfig


def _encoder(**config):
    return LabelEncoder(6, 8, LabelEncoderConfig(**{'n_heads': 2, 'dropout': 0.0, **config})).eval()


def test_anything_may_stand_in_the_padding():
    encoder = _encoder(n_layers=2)
    lengths = torch.tensor([4, 2])
    clean, mask = encoder(torch.tensor([[1, 2, 3, 4], [5, 0, 0, 0]]), lengths)
    spoiled, _ = encoder(torch.tensor([[1, 2, 3, 4], [5, 0, -7, 999]]), lengths)
    assert mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    torch.testing.assert_close(clean[mask], spoiled[mask])


def test_splitting_the_batch_changes_nothing():
    encoder = _encoder(n_layers=2)
    labels, lengths = torch.tensor([[1, 2, 3, 4], [5, 1, 0, 0]]), torch.tensor([4, 2])
    together, _ = encoder(labels, lengths)
    alone, _ = encoder(labels[1:, :2], lengths[1:])
    torch.testing.assert_close(together[1, :3], alone[0])


def test_positions_tell_equal_labels_apart():
    memory, _ = _encoder(n_layers=0)(torch.tensor([[3, 3]]), torch.tensor([2]))
    assert (memory[0, 1] - memory[0, 2]).abs().max() > 0.1


def test_an_empty_transcript_is_the_learned_vector_no_text():
    encoder = _encoder()
    memory, mask = encoder(torch.zeros(3, 0, dtype=torch.long), torch.zeros(3, dtype=torch.long))
    assert memory.shape == (3, 1, 8) and mask.all()
    torch.testing.assert_close(memory, encoder.no_text.expand(3, 1, 8))


def test_an_empty_transcript_beside_a_full_one_has_only_no_text_to_show():
    memory, mask = _encoder()(torch.tensor([[1, 2], [3, 4]]), torch.tensor([2, 0]))
    assert mask[1].tolist() == [True, False, False] and torch.isfinite(memory).all()


def test_no_text_does_not_depend_on_the_labels():
    encoder = _encoder()
    memory, _ = encoder(torch.tensor([[1, 2], [3, 4]]), torch.tensor([2, 2]))
    assert torch.equal(memory[0, 0], memory[1, 0])


def test_a_transcript_beyond_the_maximum_positions_is_refused():
    with pytest.raises(ValueError, match='raise encoder.label_encoder.max_positions'):
        _encoder(max_positions=3)(torch.ones(1, 4, dtype=torch.long), torch.tensor([4]))


@pytest.mark.parametrize('label', [7, -1])
def test_a_label_outside_the_vocabulary_is_refused(label):
    with pytest.raises(ValueError, match='the tokenizer of this model'):
        _encoder()(torch.tensor([[1, label]]), torch.tensor([2]))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Label corruption: what it changes, how often, and when."""

import pytest
import torch

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.modules import LabelCorruption, LabelCorruptionConfig
from nemo_oracle_kd.strict_config import build_or_raise

LABELS, MASK = 10, 10


def _corrupt(training=True, rows=200, **config):
    corruption = LabelCorruption(
        LabelCorruptionConfig(**{'masking_ratio': 0.0, 'substitution_ratio': 0.0, 'dropout': 0.0, **config})
    )
    corruption.train(training)
    labels = torch.arange(rows * 20).view(rows, 20) % LABELS
    lengths = torch.full((rows,), 20)
    return labels, lengths, *corruption(labels, lengths, LABELS, MASK)


def test_eval_mode_applies_no_corruption():
    labels, lengths, corrupted, new_lengths = _corrupt(
        training=False, masking_ratio=0.5, substitution_ratio=0.5, dropout=1.0
    )
    assert torch.equal(labels, corrupted) and torch.equal(lengths, new_lengths)


def test_masking_replaces_the_configured_share_by_the_mask_label():
    labels, lengths, corrupted, new_lengths = _corrupt(masking_ratio=0.3)
    assert (corrupted == MASK).float().mean() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(corrupted[corrupted != MASK], labels[corrupted != MASK])
    assert torch.equal(lengths, new_lengths)


def test_substitutes_are_labels_and_no_masks():
    labels, _, corrupted, _ = _corrupt(substitution_ratio=0.5)
    assert corrupted.min() >= 0 and corrupted.max() < LABELS
    # One substitute in ten is the label itself.
    assert (corrupted != labels).float().mean() == pytest.approx(0.45, abs=0.03)


def test_masking_and_substitution_exclude_each_other():
    labels, _, corrupted, _ = _corrupt(masking_ratio=0.5, substitution_ratio=0.5)
    assert (corrupted == MASK).float().mean() == pytest.approx(0.5, abs=0.03)
    assert ((corrupted != MASK) & (corrupted == labels)).float().mean() == pytest.approx(0.05, abs=0.02)


def test_dropout_empties_whole_transcripts():
    _, lengths, _, new_lengths = _corrupt(dropout=0.25, rows=1000)
    assert set(new_lengths.tolist()) == {0, 20}
    assert (new_lengths == 0).float().mean() == pytest.approx(0.25, abs=0.05)


def test_the_torch_seed_fixes_the_corruption():
    torch.manual_seed(3)
    first = _corrupt(masking_ratio=0.3, substitution_ratio=0.2, dropout=0.3)
    torch.manual_seed(3)
    second = _corrupt(masking_ratio=0.3, substitution_ratio=0.2, dropout=0.3)
    third = _corrupt(masking_ratio=0.3, substitution_ratio=0.2, dropout=0.3)
    assert torch.equal(first[2], second[2]) and torch.equal(first[3], second[3])
    assert not torch.equal(first[2], third[2])


def test_the_input_is_not_changed_in_place():
    labels, _, corrupted, _ = _corrupt(masking_ratio=1.0)
    assert (corrupted == MASK).all() and labels.max() < LABELS


@pytest.mark.parametrize(
    'config, sentence',
    [
        ({'masking_ratio': 1.5}, 'must be a probability between 0 and 1, not 1.5'),
        ({'masking_ratio': 0.7, 'substitution_ratio': 0.4}, 'choose ratios whose sum is at most 1'),
        ({'droput': 0.1}, 'dropout'),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(config, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_or_raise(LabelCorruptionConfig, config, 'oracle.label_corruption')

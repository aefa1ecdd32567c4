# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Errors that name the fix."""

import pickle

import pytest

from nemo_oracle_kd.errors import ConfigError, nearest, unknown_name


def test_one_mistake_is_one_sentence_and_several_are_numbered():
    assert str(ConfigError("The weight is negative.")) == "The weight is negative."
    several = str(ConfigError(["First.", "Second."]))
    assert several == "2 mistakes in the configuration:\n1. First.\n2. Second."


def test_a_config_error_is_a_value_error_and_survives_pickling_with_its_messages():
    error = pickle.loads(pickle.dumps(ConfigError(["First.", "Second."])))
    assert isinstance(error, ValueError) and error.messages == ["First.", "Second."]


def test_nothing_is_raised_without_messages_and_an_error_without_messages_is_refused():
    ConfigError.raise_if_any([])
    with pytest.raises(ConfigError, match="Wrong."):
        ConfigError.raise_if_any(message for message in ["Wrong."])
    with pytest.raises(ValueError, match="at least one message"):
        ConfigError([])


@pytest.mark.parametrize(
    'typed, meant',
    [('frame_kd', 'frame_kl'), ('Frame-KL', 'frame_kl'), ('guided', 'guided_ctc'), ('zzz', None), ('', None)],
)
def test_the_nearest_name_is_the_one_a_person_meant(typed, meant):
    assert nearest(typed, ['frame_kl', 'guided_ctc', 'softmax_l2']) == meant


def test_an_unknown_name_is_answered_with_the_nearest_and_all_valid_names():
    assert unknown_name('objective', 'frame_k', ['softmax_l2', 'frame_kl']) == (
        "Unknown objective 'frame_k'. Did you mean 'frame_kl'? Valid: frame_kl, softmax_l2."
    )
    assert unknown_name('preset', 'x', []) == "Unknown preset 'x'. Valid: none."

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The teachers that are diagnosed; a test file says in `TEACHER` of which kind: `(config of it, class)`."""

import pytest
import tiny
import tiny_oracle


@pytest.fixture(scope='module')
def held_out(tmp_path_factory):
    """Manifest of tones that no teacher was trained on."""
    return tiny.write_tone_corpus(tmp_path_factory.mktemp('held_out'), 'dev', 12, seed=5)


@pytest.fixture(scope='module')
def listener(request, tmp_path_factory):
    """Trained on tones, with guards stronger than the defaults and a stage of audio alone: the steps are few."""
    return tiny_oracle.train_listener(tmp_path_factory.mktemp('tones'), *request.module.TEACHER)


@pytest.fixture(scope='module')
def copier(request, tmp_path_factory):
    """Trained on noise that says nothing, without guards, and told the absolute frame number: it can only copy."""
    return tiny_oracle.train_copier(tmp_path_factory.mktemp('noise'), *request.module.TEACHER)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The teachers that are diagnosed; a test file says in `HEAD` of which kind: a key of `oracle_teachers.HEADS`."""

import oracle_teachers
import pytest
import tiny


@pytest.fixture(scope='session')
def held_out(tmp_path_factory):
    """Manifest of tones that no teacher was trained on."""
    return tiny.write_tone_corpus(tmp_path_factory.mktemp('held_out'), 'dev', 12, seed=5)


@pytest.fixture(scope='module')
def listener_file(request, tmp_path_factory):
    """`.nemo` file of the teacher that listens."""
    return oracle_teachers.listener(tmp_path_factory, request.module.HEAD) / 'oracle.nemo'


@pytest.fixture(scope='module')
def listener(request, listener_file):
    """Trained on tones: it listens."""
    return oracle_teachers.restored(listener_file.parent, request.module.HEAD)


@pytest.fixture(scope='module')
def copier(request, tmp_path_factory):
    """Trained on noise: it copies."""
    head = request.module.HEAD
    return oracle_teachers.restored(oracle_teachers.copier(tmp_path_factory, head), head)

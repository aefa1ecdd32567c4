# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Alignments of a joint's lattice, made of a few frames at a time, against those of the whole lattice."""

import pytest
import torch
from lattice_cases import BLANK, batch, joint

from nemo_oracle_kd.functional import RNNT, TDT, MultiBlank, transducer_best_path, transducer_occupancy
from nemo_oracle_kd.functional.transducer import alignment


@pytest.mark.parametrize('frames_at_a_time', ['one', 'all'])
@pytest.mark.parametrize(
    'transducer', [RNNT(BLANK), MultiBlank(BLANK, (2, 3)), TDT(BLANK - 3, (0, 1, 2))], ids=lambda t: t.kind
)
def test_path_and_occupancy_of_a_joint_are_those_of_its_logits(transducer, frames_at_a_time, monkeypatch):
    if frames_at_a_time == 'one':
        monkeypatch.setattr(alignment, 'CPU_NUMBERS', 1)
    model = joint(1, 4, gradient=True, dropout=0.5)  # dropout plays no part in an alignment
    rest = batch(classes=min(transducer.blanks) + 1)
    logits = joint(1, 4).logits()

    path, expected = (transducer_best_path(transducer, lattice, *rest) for lattice in (model, logits))
    assert torch.allclose(path.score, expected.score, rtol=1e-12) and torch.isfinite(path.score).all()
    for name in ('label_frames', 'step_frames', 'step_labels', 'step_durations'):
        assert torch.equal(getattr(path, name), getattr(expected, name)), name
    gamma, expected = (transducer_occupancy(transducer, lattice, *rest) for lattice in (model, logits))
    for name in ('node', 'label', 'blank'):
        ours, wanted = getattr(gamma, name), getattr(expected, name)
        assert torch.allclose(ours, wanted, rtol=1e-10, atol=1e-14) and not ours.requires_grad

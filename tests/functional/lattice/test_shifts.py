# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The search over shifts, whatever divergence is searched."""

import pytest
import torch
from lattice_cases import BLANK, FRAMES, LABELS, batch, joint

from nemo_oracle_kd.functional import (
    best_shift,
    lattice_cell_divergence,
    lattice_divergence,
    teacher_frame_map,
    windowed_lattice_divergence,
)


@pytest.mark.unit
@pytest.mark.parametrize('mode', ['minimum', 'soft'])
def test_a_search_over_any_divergence_is_the_window_of_the_lattice(mode):
    student, teacher = joint(0, 4, gradient=True), joint(1, 5)
    targets, frames, labels = batch()
    arguments = (student, teacher, targets, frames, labels, BLANK)
    maps = [teacher_frame_map(frames, frames, FRAMES, shift) for shift in (0, 1)]
    common = (torch.stack(maps) >= 0).all(0).unsqueeze(2)
    weights = common.expand(-1, -1, LABELS + 1).double() * torch.tensor([1.0, 2.0, 0.5]).view(-1, 1, 1)
    # only cells of the utterance are worth anything
    inside = torch.arange(LABELS + 1) <= labels.unsqueeze(1)
    weights = weights * inside.unsqueeze(1)
    found = best_shift(
        lambda w, m: lattice_cell_divergence(*arguments, weights=w, teacher_frames=m),
        lambda w, m: lattice_divergence(*arguments, weights=w, teacher_frames=m),
        [(shift, each, weights) for shift, each in enumerate(maps)],
        mode=mode,
    )
    expected = windowed_lattice_divergence(
        student, teacher, targets, frames, frames, labels, BLANK, [1, 0], mode=mode, weights=weights
    )
    assert torch.allclose(found.loss, expected.loss, rtol=1e-12)
    assert torch.allclose(found.shift, expected.shift, rtol=1e-12)
    ours, theirs = (torch.autograd.grad(x.loss.sum(), student.weight)[0] for x in (found, expected))
    assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.unit
def test_a_mask_of_cells_may_weigh_a_soft_window():
    student, teacher = joint(0, 4), joint(1, 5)
    targets, frames, labels = batch()
    mask = torch.ones(3, FRAMES, LABELS + 1, dtype=torch.bool)
    arguments = (student, teacher, targets, frames, frames, labels, BLANK, [0, 1])
    masked = windowed_lattice_divergence(*arguments, mode='soft', weights=mask)
    assert torch.allclose(masked.loss, windowed_lattice_divergence(*arguments, mode='soft').loss, rtol=1e-12)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Alignments of a joint's lattice, made of a few frames at a time, against those of the whole lattice."""

import pytest
import torch
from lattice_cases import BLANK, FRAMES, LABELS, batch, joint

from nemo_oracle_kd.functional import (
    TransducerOutputs,
    best_shift,
    joint_best_path,
    joint_occupancy,
    lattice_cell_divergence,
    lattice_divergence,
    multiblank_best_path,
    multiblank_occupancy,
    rnnt_best_path,
    rnnt_occupancy,
    tdt_best_path,
    tdt_occupancy,
    teacher_frame_map,
    windowed_lattice_divergence,
)
from nemo_oracle_kd.functional.lattice import outputs as lattice_outputs

CASES = {
    'rnnt': (TransducerOutputs('rnnt', BLANK), rnnt_best_path, rnnt_occupancy),
    'multiblank': (TransducerOutputs('multiblank', BLANK, (2, 3)), multiblank_best_path, multiblank_occupancy),
    'tdt': (TransducerOutputs('tdt', BLANK - 3, (0, 1, 2)), tdt_best_path, tdt_occupancy),
}


@pytest.mark.unit
@pytest.mark.parametrize('frames_at_a_time', ['one', 'all'])
@pytest.mark.parametrize('kind', CASES)
def test_path_and_occupancy_are_those_of_the_whole_lattice(kind, frames_at_a_time, monkeypatch):
    outputs, best_path, occupancy = CASES[kind]
    if frames_at_a_time == 'one':
        monkeypatch.setattr(lattice_outputs, 'CPU_NUMBERS', 1)
    model = joint(1, 4, gradient=True, dropout=0.5)  # dropout plays no part in an alignment
    targets, frames, labels = batch(classes=min(outputs.softmaxes[0].blanks) + 1)
    logits = joint(1, 4).logits()
    parts = logits.split([outputs.blank + 1, 3], -1) if kind == 'tdt' else (logits,)
    durations = (outputs.durations,) if outputs.durations else ()
    arguments = (*parts, targets, frames, labels, outputs.blank, *durations)

    path = joint_best_path(model, outputs, targets, frames, labels)
    expected = best_path(*arguments)
    assert torch.allclose(path.score, expected.score, rtol=1e-12) and torch.isfinite(path.score).all()
    for name in ('label_frames', 'step_frames', 'step_labels', 'step_durations'):
        assert torch.equal(getattr(path, name), getattr(expected, name)), name
    gamma = joint_occupancy(model, outputs, targets, frames, labels)
    assert torch.allclose(gamma, occupancy(*arguments).node, rtol=1e-10, atol=1e-14) and not gamma.requires_grad


@pytest.mark.unit
def test_the_softmaxes_of_a_joint_hold_its_blanks():
    rnnt, multiblank, tdt = (CASES[kind][0] for kind in ('rnnt', 'multiblank', 'tdt'))
    assert [(s.start, s.stop, s.blanks) for s in rnnt.softmaxes] == [(0, 7, (6,))]
    assert [(s.start, s.stop, s.blanks) for s in multiblank.softmaxes] == [(0, 7, (6, 5, 4))]
    assert [(s.start, s.stop, s.blanks) for s in tdt.softmaxes] == [(0, 4, (3,)), (4, 7, ())]
    with pytest.raises(ValueError, match="Unknown transducer 'ctc'"):
        TransducerOutputs('ctc', 3)
    with pytest.raises(ValueError, match='does not exist'):
        TransducerOutputs('tdt', 3)


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

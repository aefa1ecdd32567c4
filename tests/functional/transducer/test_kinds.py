# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What a kind of transducer knows of its outputs and steps."""

import pytest
import torch
from transducers import TRANSDUCERS, batch

from nemo_oracle_kd.functional import RNNT, TDT
from nemo_oracle_kd.functional import TRANSDUCERS as KINDS
from nemo_oracle_kd.functional import MultiBlank, make_transducer, transducer_full_sum


def test_the_softmaxes_of_a_joint_hold_its_blanks():
    rnnt, multiblank, tdt = RNNT(6), MultiBlank(6, (2, 3)), TDT(3, (0, 1, 2))
    assert [(s.start, s.stop, s.blanks) for s in rnnt.softmaxes] == [(0, 7, (6,))]
    assert [(s.start, s.stop, s.blanks) for s in multiblank.softmaxes] == [(0, 7, (6, 5, 4))]
    assert [(s.start, s.stop, s.blanks) for s in tdt.softmaxes] == [(0, 4, (3,)), (4, 7, ())]
    assert [one.sums_on_tree for one in (rnnt, multiblank, tdt, MultiBlank(6))] == [True, False, False, True]


def test_a_transducer_is_made_by_the_name_of_its_kind():
    assert {kind: type(make_transducer(kind, 3, (2,) if kind != 'rnnt' else ())) for kind in KINDS} == KINDS
    assert make_transducer('tdt', 3, [0, 1]) == TDT(3, (0, 1)) != TDT(3, (0, 2))
    assert MultiBlank(3) != RNNT(3)
    with pytest.raises(ValueError, match="Unknown transducer 'ctc'; choose one of rnnt, multiblank, tdt"):
        make_transducer('ctc', 3)
    with pytest.raises(ValueError, match='An RNN-T has no durations'):
        make_transducer('rnnt', 3, (1, 2))


@pytest.mark.parametrize('case', TRANSDUCERS, ids=lambda case: case.name)
def test_arc_scores_are_made_of_the_selected_log_probabilities(case):
    transducer = case.transducer
    acts, targets, frames, labels = batch(case, [(4, 2), (4, 2)])
    next_label = torch.nn.functional.pad(targets, (0, 1), value=transducer.blank)
    classes = torch.stack([next_label, *(torch.full_like(next_label, blank) for blank in transducer.blanks)], -1)
    selected = transducer.select(acts, classes.unsqueeze(1), frames, labels)
    assert selected.shape[-1] == 1 + len(transducer.blanks) + transducer.duration_outputs
    columns = selected.movedim(-1, 0)
    scores = transducer.arc_scores(acts, targets, frames, labels)
    assert len(transducer.arcs) == len(scores) and torch.equal(transducer.combine(columns[0], columns[1:]), scores)


@pytest.mark.parametrize('case', TRANSDUCERS, ids=lambda case: case.name)
def test_every_blank_is_refused_as_a_target_but_not_in_the_padding(case):
    acts, targets, frames, labels = batch(case, [(4, 2), (4, 1)])
    expected = transducer_full_sum(case.transducer, acts, targets, frames, labels)
    for blank in case.transducer.blanks:
        padded = targets.clone()
        padded[1, 1] = blank
        assert torch.equal(transducer_full_sum(case.transducer, acts, padded, frames, labels), expected)
        padded[0, 1] = blank
        with pytest.raises(ValueError, match='targets contain a blank'):
            transducer_full_sum(case.transducer, acts, padded, frames, labels)


def test_duration_logits_must_be_those_of_the_durations():
    acts, targets, frames, labels = torch.zeros(1, 4, 3, 6), torch.zeros(1, 2).long(), *torch.tensor([[4], [2]])
    pair = acts.split([4, 2], -1)
    assert transducer_full_sum(TDT(3, (0, 1)), pair, targets, frames, labels).isfinite()
    with pytest.raises(ValueError, match='3 durations and logits of shape'):
        transducer_full_sum(TDT(3, (0, 1, 2)), pair, targets, frames, labels)
    with pytest.raises(ValueError, match='TDT logits with 3 durations must have shape'):
        transducer_full_sum(TDT(3, (0, 1, 2)), acts[..., :3], targets, frames, labels)

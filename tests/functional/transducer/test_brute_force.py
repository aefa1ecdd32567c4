# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The fast transducer losses against the sum over a list of all alignments."""

import math

import pytest
import torch
from transducers import TRANSDUCERS, batch

from nemo_oracle_kd.functional import (
    RNNT,
    multiblank_full_sum,
    rnnt_full_sum,
    tdt_full_sum,
    transducer_forward_backward,
)
from nemo_oracle_kd.functional.reference.transducer import (
    brute_force_full_sum,
    enumerate_alignments,
    rnnt_steps,
    transducer_reference,
)

LENGTHS = [
    pytest.param([(4, 3)], id='one utterance'),
    pytest.param([(1, 3)], id='one frame'),
    pytest.param([(3, 0)], id='no labels'),
    pytest.param([(1, 0)], id='one frame, no labels'),
    pytest.param([(5, 1), (2, 3), (4, 0), (1, 2), (3, 3)], id='ragged batch'),
]
each_transducer = pytest.mark.parametrize('transducer', TRANSDUCERS, ids=lambda t: t.name)


def by_brute_force(transducer, acts, targets, frames, labels):
    """`[B]` by listing all alignments."""
    sums = []
    for b in range(len(frames)):
        steps = transducer.utterance_steps(acts, targets, frames, labels, b)
        sums.append(brute_force_full_sum(steps, int(frames[b]), int(labels[b])))
    return torch.stack(sums)


@each_transducer
@pytest.mark.parametrize('lengths', LENGTHS)
def test_value_and_gradient_equal_the_sum_over_all_alignments(transducer, lengths):
    acts, targets, frames, labels = batch(transducer, lengths)
    acts.requires_grad_()
    nll = transducer.nll(acts, targets, frames, labels)
    expected = by_brute_force(transducer, acts, targets, frames, labels)
    torch.testing.assert_close(nll, expected, rtol=1e-12, atol=1e-12)
    weights = torch.linspace(-1.0, 2.0, len(lengths), dtype=torch.float64)
    possible = expected.isfinite()
    if not possible.any():
        (gradient,) = torch.autograd.grad((nll * weights).nan_to_num(posinf=0.0).sum(), acts)
        assert (gradient == 0).all()
        return
    (expected_gradient,) = torch.autograd.grad((expected[possible] * weights[possible]).sum(), acts)
    (gradient,) = torch.autograd.grad((nll[possible] * weights[possible]).sum(), acts)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-12)


@each_transducer
@pytest.mark.parametrize('lengths', LENGTHS)
def test_the_walk_over_the_nodes_equals_the_sum_over_all_alignments(transducer, lengths):
    acts, targets, frames, labels = batch(transducer, lengths, seed=1)
    expected = by_brute_force(transducer, acts, targets, frames, labels)
    for b, (t, u) in enumerate(lengths):
        walked = transducer_reference(transducer.utterance_steps(acts, targets, frames, labels, b), t, u)
        torch.testing.assert_close(walked, expected[b], rtol=1e-12, atol=1e-12)


def test_a_transcript_of_one_label_three_times_is_counted_completely():
    # With uniform probabilities every alignment has probability V^-(T+U), and there are C(T-1+U, U) of them.
    frames, labels, classes = 5, 3, 4
    nll = rnnt_full_sum(
        torch.zeros(1, frames, labels + 1, classes, dtype=torch.float64),
        torch.ones(1, labels, dtype=torch.long),
        torch.tensor([frames]),
        torch.tensor([labels]),
        blank=0,
    )
    expected = (frames + labels) * math.log(classes) - math.log(math.comb(frames - 1 + labels, labels))
    assert nll.item() == pytest.approx(expected, abs=1e-12)


@each_transducer
def test_gradients_pass_gradcheck(transducer):
    acts, targets, frames, labels = batch(transducer, [(3, 2), (2, 1)], seed=2)
    acts.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: transducer.nll(x, targets, frames, labels), (acts,))


@each_transducer
def test_occupancies_equal_the_share_of_alignments_through_every_arc(transducer):
    lengths = [(4, 2), (2, 1), (3, 0)]
    acts, targets, frames, labels = batch(transducer, lengths, seed=3)
    found = transducer.occupancy(acts, targets, frames, labels)
    node, label, blank = (torch.zeros_like(x) for x in (found.node, found.label, found.blank))
    for b, (t, u) in enumerate(lengths):
        paths = list(enumerate_alignments(transducer.utterance_steps(acts, targets, frames, labels, b), t, u))
        shares = torch.stack([score for _, score in paths]).softmax(0)
        for (path, _), share in zip(paths, shares):
            for name, frame, position in path:
                cell = (b, frame, position)
                node[cell] += share
                kind = label if name.startswith('label') else blank
                if kind.dim() == 3:
                    kind[cell] += share
                else:
                    kind[cell][_column(transducer, name)] += share
    torch.testing.assert_close(found.label, label, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.blank, blank, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.node, node, rtol=0, atol=1e-12)


def _column(transducer, name):
    """Where the occupancy of the step called `name` lies in the last axis."""
    duration = int(name.removeprefix('label').removeprefix('blank') or 1)
    if transducer.transducer.duration_outputs:
        return transducer.transducer.durations.index(duration)
    return [1, 2, 3].index(duration)


@each_transducer
def test_the_best_path_is_the_best_of_all_alignments(transducer):
    lengths = [(4, 3), (5, 1), (3, 0), (4, 2)]
    acts, targets, frames, labels = batch(transducer, lengths, seed=4)
    found = transducer.best_path(acts, targets, frames, labels)
    for b, (t, u) in enumerate(lengths):
        steps = transducer.utterance_steps(acts, targets, frames, labels, b)
        alignments = list(enumerate_alignments(steps, t, u))
        path, score = max(alignments, key=lambda item: item[1].item())
        assert found.score[b].item() == pytest.approx(score.item(), abs=1e-12)
        assert found.step_frames[b, : len(path)].tolist() == [frame for _, frame, _ in path]
        assert found.step_labels[b, : len(path)].tolist() == [int(name.startswith('label')) for name, _, _ in path]
        assert (found.step_frames[b, len(path) :] == -1).all() and (found.step_labels[b, len(path) :] == -1).all()
        assert found.step_durations[b, : len(path)].sum() == t
        emissions = [frame for name, frame, _ in path if name.startswith('label')]
        assert found.label_frames[b].tolist() == emissions + [-1] * (3 - u)
        durations = [int(name.removeprefix('label') or 0) for name, _, _ in path if name.startswith('label')]
        assert found.label_durations[b].tolist() == durations + [-1] * (3 - u)


def test_forward_and_backward_scores_agree_at_every_anti_diagonal():
    acts, targets, frames, labels = batch(TRANSDUCERS[0], [(5, 3), (3, 2)], seed=5)
    lattice = transducer_forward_backward(RNNT(3), acts, targets, frames, labels)
    through = lattice.alpha + lattice.beta
    for b in range(2):
        for n in range(int(frames[b] + labels[b]) + 1):
            nodes = [through[b, t, n - t] for t in range(int(frames[b]) + 1) if 0 <= n - t <= int(labels[b])]
            total = torch.logsumexp(torch.stack(nodes), 0)
            assert total.item() == pytest.approx(lattice.log_prob[b].item(), abs=1e-11)


@each_transducer
def test_an_utterance_without_frames_gives_inf_with_gradient_zero(transducer):
    acts, targets, frames, labels = batch(transducer, [(3, 2), (3, 0), (3, 2)], seed=6)
    frames[1:] = 0
    acts.requires_grad_()
    nll = transducer.nll(acts, targets, frames, labels)
    assert nll[1:].tolist() == [math.inf, math.inf]
    nll.backward(torch.ones_like(nll))
    assert (acts.grad[1:] == 0).all() and acts.grad.isfinite().all() and acts.grad[0].abs().sum() > 0
    path = transducer.best_path(acts, targets, frames, labels)
    assert path.score[1:].tolist() == [-math.inf, -math.inf] and (path.label_frames[1:] == -1).all()
    occupancy = transducer.occupancy(acts, targets, frames, labels)
    assert (occupancy.node[1:] == 0).all()


def test_labels_of_probability_zero_give_inf_with_gradient_zero():
    acts, targets, frames, labels = batch(TRANSDUCERS[0], [(3, 2)], seed=7)
    acts[..., int(targets[0, 1])] = -math.inf
    acts.requires_grad_()
    nll = rnnt_full_sum(acts, targets, frames, labels, blank=3)
    nll.sum().backward()
    assert nll.item() == math.inf and (acts.grad == 0).all()


def test_a_tdt_without_duration_zero_fits_at_most_one_label_less_than_frames():
    acts, targets, frames, labels = batch(TRANSDUCERS[5], [(4, 3), (3, 3)], seed=8)
    nll = TRANSDUCERS[5].nll(acts, targets, frames, labels)
    assert nll[0].isfinite() and nll[1].item() == math.inf


def test_a_tdt_that_only_moves_by_two_reaches_even_lengths_only():
    logits, durations = torch.randn(2, 4, 1, 4), torch.randn(2, 4, 1, 2)
    none = torch.zeros(2, 0, dtype=torch.long)
    nll = tdt_full_sum((logits, durations), none, torch.tensor([4, 3]), torch.tensor([0, 0]), 3, [0, 2])
    assert nll[0].isfinite() and nll[1].item() == math.inf


def test_scores_beyond_a_thousand_nats_stay_exact():
    transducer = TRANSDUCERS[3]
    acts, targets, frames, labels = batch(transducer, [(6, 3)], seed=9, scale=2000.0)
    expected = by_brute_force(transducer, acts, targets, frames, labels)
    assert expected.item() > 2000
    torch.testing.assert_close(transducer.nll(acts, targets, frames, labels), expected, rtol=1e-12, atol=0)


def test_multi_blank_without_big_blanks_is_rnnt():
    acts, targets, frames, labels = batch(TRANSDUCERS[0], [(4, 2), (3, 3)], seed=10)
    plain = rnnt_full_sum(acts, targets, frames, labels, 3)
    torch.testing.assert_close(multiblank_full_sum(acts, targets, frames, labels, 3, []), plain, rtol=0, atol=0)


def test_big_blanks_longer_than_the_utterance_are_not_taken():
    acts, targets, frames, labels = batch(TRANSDUCERS[1], [(2, 2)], seed=11)
    long_blanks = multiblank_full_sum(acts, targets, frames, labels, 5, [7, 9])
    expected = brute_force_full_sum(rnnt_steps(acts[0], targets[0].tolist(), 5), 2, 2)
    assert long_blanks.item() == pytest.approx(expected.item(), abs=1e-12)


def test_fastemit_multiplies_the_gradient_of_the_labels_and_leaves_the_value():
    acts, targets, frames, labels = batch(TRANSDUCERS[0], [(4, 2)], seed=12)
    acts.requires_grad_()
    plain = rnnt_full_sum(acts, targets, frames, labels, 3)
    fast = rnnt_full_sum(acts, targets, frames, labels, 3, fastemit_lambda=0.5)
    occupancy = TRANSDUCERS[0].occupancy(acts.detach(), targets, frames, labels)
    (gradient,) = torch.autograd.grad(fast.sum(), acts)
    (plain_gradient,) = torch.autograd.grad(plain.sum(), acts)
    extra = 0.5 * occupancy.label.unsqueeze(-1) * acts.detach().softmax(-1)
    columns = torch.nn.functional.pad(targets, (0, 1), value=3)[0]
    for u in range(2):
        extra[0, :, u, columns[u]] -= 0.5 * occupancy.label[0, :, u]
    assert fast.item() == plain.item()
    torch.testing.assert_close(gradient, plain_gradient + extra, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda a: a.update(logits=torch.zeros(3, 4, 3)), 'must have shape'),
        (lambda a: a.update(targets=torch.zeros(2, 5, dtype=torch.long)), 'one position more'),
        (lambda a: a.update(logit_lengths=torch.tensor([5, 1])), 'between 0 and T = 4'),
        (lambda a: a.update(target_lengths=torch.tensor([3, 1])), 'between 0 and U = 2'),
        (lambda a: a.update(target_lengths=torch.tensor([1])), 'Lengths must have shape'),
        (lambda a: a.update(targets=torch.full((2, 2), 9)), 'class ids between 0 and 3'),
        (lambda a: a.update(blank=4), 'do not exist among the 4 classes'),
        (lambda a: a['targets'].fill_(3), 'targets contain a blank'),
        (lambda a: a.update(logit_lengths=torch.tensor([4.0, 3.0])), 'must hold integers'),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_a_sentence(change, message):
    arguments = {
        'logits': torch.zeros(2, 4, 3, 4),
        'targets': torch.zeros(2, 2, dtype=torch.long),
        'logit_lengths': torch.tensor([4, 3]),
        'target_lengths': torch.tensor([2, 1]),
        'blank': 3,
    }
    assert rnnt_full_sum(**arguments).isfinite().all()
    change(arguments)
    with pytest.raises(ValueError, match=message):
        rnnt_full_sum(**arguments)


@pytest.mark.parametrize('durations', [[], [0], [1, 1], [-1, 2]])
def test_impossible_tdt_durations_are_refused(durations):
    with pytest.raises(ValueError, match='must be distinct and at least 0, and one must be positive'):
        tdt_full_sum(
            (torch.zeros(1, 2, 1, 3), torch.zeros(1, 2, 1, len(durations))),
            torch.zeros(1, 0, dtype=torch.long),
            torch.tensor([2]),
            torch.tensor([0]),
            2,
            durations,
        )


def test_a_big_blank_of_one_frame_is_refused():
    with pytest.raises(ValueError, match='two frames or more'):
        multiblank_full_sum(
            torch.zeros(1, 2, 1, 4),
            torch.zeros(1, 0, dtype=torch.long),
            torch.tensor([2]),
            torch.tensor([0]),
            3,
            [1],
        )

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The prefix tree of an N-best list, and the full sums on it: equal to separate lattices and to brute force."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nbest_trees import rnnt_tree_full_sum, rnnt_tree_scores

from nemo_oracle_kd.functional import (
    build_nbest_tree,
    full_sum_norm_distance,
    rnnt_full_sum,
    tree_full_sum,
)
from nemo_oracle_kd.functional.reference.transducer import brute_force_full_sum, rnnt_steps

BLANK = 3
nbest_lists = st.lists(
    st.lists(st.lists(st.integers(0, 2), max_size=4), min_size=1, max_size=4), min_size=1, max_size=3
)


def pad_lists(lists, garbage=-5):
    """Labels `[B, N, U]`, lengths and mask `[B, N]` of nested lists of labels; None is a padding hypothesis."""
    count = max(len(hypotheses) for hypotheses in lists)
    longest = max((len(h) for hypotheses in lists for h in hypotheses if h), default=0)
    labels = torch.full((len(lists), count, longest), garbage)
    lengths, mask = torch.full((len(lists), count), -9), torch.zeros(len(lists), count, dtype=torch.bool)
    for b, hypotheses in enumerate(lists):
        for n, hypothesis in enumerate(hypotheses):
            if hypothesis is not None:
                labels[b, n, : len(hypothesis)] = torch.tensor(hypothesis, dtype=torch.long)
                lengths[b, n], mask[b, n] = len(hypothesis), True
    return labels, lengths, mask


def case(lists, frames, seed=0, classes=4, dtype=torch.float64):
    """Tree, random packed logits `[nodes, T, V]` and lengths of nested lists of labels."""
    tree = build_nbest_tree(*pad_lists(lists))
    generator = torch.Generator().manual_seed(seed)
    shape = (tree.nodes, max(frames), classes)
    return tree, torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype), torch.tensor(frames)


def separate(logits, tree, lists, frames):
    """`[B, N]` from N calls of the plain loss, with the logits of the tree."""
    labels, lengths, mask = pad_lists(lists, garbage=0)
    logits = tree.spread(logits).transpose(2, 3)  # [B, N, T, U+1, V]
    columns = []
    for n in range(labels.shape[1]):
        nll = rnnt_full_sum(logits[:, n], labels[:, n], frames, lengths[:, n].clamp(min=0), BLANK)
        columns.append(torch.where(mask[:, n], nll, math.inf))
    return torch.stack(columns, 1)


def weighted_gradient(nll, weights, x):
    finite = nll.isfinite()
    if not finite.any():
        return torch.zeros_like(x)
    return torch.autograd.grad((nll[finite] * weights[finite]).sum(), x)[0]


LISTS = [[[0, 1, 2], [0, 1], [0, 1, 2], [], [0, 2, 2]], [[1, 1, 1, 1], [2], [1, 1, 0, 1], None, None], [[], None]]


def test_the_tree_holds_every_distinct_prefix_once_in_order_of_depth():
    tree = build_nbest_tree(*pad_lists(LISTS))
    found = []
    for node in range(tree.nodes):
        prefix, up = [], node
        while tree.parent[up] >= 0:
            prefix.insert(0, int(tree.label[up]))
            up = int(tree.parent[up])
        assert up == tree.utterance[node] and len(prefix) == tree.depth[node]
        found.append((int(tree.utterance[node]), tuple(prefix)))
    expected = {
        (b, tuple(h[:u])) for b, hyps in enumerate(LISTS) for h in hyps if h is not None for u in range(len(h) + 1)
    }
    assert len(found) == len(set(found)) and set(found) == expected
    assert (tree.depth.diff() >= 0).all() and (tree.parent.diff() >= 0).all()
    assert tree.starts == (0, 3, 6, 9, 13, 15) and tree.max_depth == 4 and tree.max_children == 2
    for b, hyps in enumerate(LISTS):
        for n, h in enumerate(hyps):
            if h is None:
                assert tree.end[b, n] == -1 and (tree.node[b, n] == -1).all()
                continue
            assert [found[i] for i in tree.node[b, n, : len(h) + 1]] == [(b, tuple(h[:u])) for u in range(len(h) + 1)]
            assert tree.end[b, n] == tree.node[b, n, len(h)] and (tree.node[b, n, len(h) + 1 :] == -1).all()
    assert tree.sizes.tolist() == [6, 8, 1]


def test_both_layouts_hold_the_same_values_and_gradients_return_to_the_first_hypothesis():
    tree = build_nbest_tree(*pad_lists(LISTS))
    x = torch.arange(tree.node.numel() * 2, dtype=torch.float64).view(*tree.node.shape, 2).requires_grad_()
    packed, padded = tree.gather(x, padded=False), tree.gather(x)
    assert padded.shape == (3, 8, 2) and torch.equal(padded, tree.pad(packed))
    assert torch.equal(padded[tree.utterance, tree.slot], packed)
    assert (padded[tree.packed < 0] == 0).all() and (tree.packed[:, 0] == torch.arange(3)).all()
    assert torch.equal(tree.gather(tree.spread(packed), padded=False), packed)
    (gradient,) = torch.autograd.grad(padded.sum(), x)
    assert gradient.sum() == tree.nodes * 2 and set(gradient.unique().tolist()) == {0.0, 1.0}
    assert (gradient[0, 2] == 0).all(), 'the third hypothesis repeats the first'


@settings(max_examples=25, deadline=None)
@given(lists=nbest_lists, seed=st.integers(0, 999), data=st.data())
def test_values_and_gradients_are_those_of_separate_lattices(lists, seed, data):
    frames = data.draw(st.lists(st.integers(0, 5), min_size=len(lists), max_size=len(lists)))
    frames[0] = max(frames[0], 1)
    tree, logits, frames = case(lists, frames, seed)
    logits.requires_grad_()
    fast, slow = rnnt_tree_full_sum(logits, tree, frames, BLANK), separate(logits, tree, lists, frames)
    assert torch.allclose(fast, slow, atol=1e-10, rtol=0) and fast.isfinite().any()
    weights = torch.randn(fast.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found, expected = weighted_gradient(fast, weights, logits), weighted_gradient(slow, weights, logits)
    assert torch.allclose(found, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize('seed', range(3))
def test_values_are_those_of_listing_every_alignment(seed):
    lists = [[[0, 1], [0, 2], [], [1]], [[2, 2], [2], [2, 1], [0]]]
    tree, logits, frames = case(lists, [3, 2], seed)
    nll = rnnt_tree_full_sum(logits, tree, frames, BLANK)
    for b, hypotheses in enumerate(lists):
        for n, hypothesis in enumerate(hypotheses):
            cells = logits[tree.node[b, n, : len(hypothesis) + 1], : int(frames[b])].transpose(0, 1)
            expected = brute_force_full_sum(rnnt_steps(cells, hypothesis, BLANK), int(frames[b]), len(hypothesis))
            assert nll[b, n].item() == pytest.approx(float(expected), abs=1e-10)


def test_the_probabilities_of_all_texts_of_up_to_two_labels_add_up():
    texts = [[]] + [[a] for a in range(3)] + [[a, b] for a in range(3) for b in range(3)]
    tree, logits, frames = case([texts], [2])
    logits = logits.clone()
    logits[tree.depth == 2, :, :BLANK] = -math.inf  # no third label: these texts are all there are
    nll = rnnt_tree_full_sum(logits, tree, frames, BLANK)
    assert (-nll).exp().sum().item() == pytest.approx(1.0, abs=1e-12)


def test_gradients_agree_with_finite_differences():
    tree, logits, frames = case([[[0, 1], [0, 2], []], [[1], [1, 1], None]], [3, 2])
    logits.requires_grad_()
    mask = tree.end >= 0
    assert torch.autograd.gradcheck(lambda x: rnnt_tree_full_sum(x, tree, frames, BLANK)[mask], logits)
    scores = rnnt_tree_scores(logits, tree, frames, BLANK).detach()
    scores = scores.masked_fill(scores.isinf(), 0.0).requires_grad_()  # the roots' missing arcs are ignored
    assert torch.autograd.gradcheck(lambda x: tree_full_sum(x, tree, frames)[mask], scores)


def test_padded_logits_give_what_packed_logits_give():
    frames = [4, 3, 2]
    tree, packed, frames = case(LISTS, frames)
    packed.requires_grad_()
    padded = tree.pad(packed).transpose(1, 2)
    assert padded.shape == (3, 4, 8, 4)
    one, other = (rnnt_tree_full_sum(x, tree, frames, BLANK) for x in (packed, padded))
    assert torch.equal(one, other)
    weights = torch.randn(one.shape, dtype=torch.float64)
    assert torch.equal(weighted_gradient(one, weights, packed), weighted_gradient(other, weights, packed))


@pytest.mark.parametrize('garbage', [math.nan, math.inf, 7.0])
@pytest.mark.parametrize('layout', ['packed', 'padded'])
def test_garbage_in_the_padding_changes_nothing(garbage, layout):
    tree, logits, frames = case(LISTS, [4, 3, 2])
    inside = torch.arange(5) < frames[tree.utterance].unsqueeze(1)
    longer = torch.nn.functional.pad(logits, (0, 0, 0, 1))
    if layout == 'padded':
        longer, valid = tree.pad(longer).transpose(1, 2), tree.pad(inside).transpose(1, 2)
        logits = tree.pad(logits).transpose(1, 2).contiguous()
    else:
        valid = inside
    results = []
    for x in (logits, longer.masked_fill(~valid.unsqueeze(-1), garbage).contiguous()):
        x.requires_grad_()
        nll = rnnt_tree_full_sum(x, tree, frames, BLANK)
        results.append((nll, weighted_gradient(nll, torch.linspace(-1, 1, 15).view(3, 5), x)))
    (expected, expected_gradient), (found, gradient) = results
    assert torch.equal(found, expected) and (gradient[~valid] == 0).all()
    assert torch.equal(gradient[:, :4], expected_gradient)


def test_the_garbage_in_scores_of_padding_changes_nothing():
    tree, logits, frames = case(LISTS, [4, 3, 2])
    scores = rnnt_tree_scores(logits, tree, frames, BLANK)
    inside = torch.arange(4) < frames[tree.utterance].unsqueeze(1)
    broken = scores.masked_fill(~inside, math.nan).requires_grad_()
    found = tree_full_sum(broken, tree, frames)
    assert torch.equal(found, tree_full_sum(scores, tree, frames))
    (gradient,) = torch.autograd.grad(found[found.isfinite()].sum(), broken)
    assert gradient.isfinite().all() and (gradient[:, ~inside] == 0).all()


def test_padding_hypotheses_and_impossible_ones_are_infinite_without_gradient():
    tree, logits, frames = case([[[0, 1], [2]], [[0], None], [[1], []]], [3, 2, 0])
    logits = logits.clone()
    logits[tree.node[0, 0, 1], :, 1] = -math.inf  # after 0, the label 1 is impossible
    logits.requires_grad_()
    nll = rnnt_tree_full_sum(logits, tree, frames, BLANK)
    assert nll.isfinite().tolist() == [[False, True], [True, False], [False, False]]
    (gradient,) = torch.autograd.grad(nll.sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[tree.node[0, 0, 1:3]] == 0).all() and (gradient[tree.utterance == 2] == 0).all()
    assert gradient[tree.end[0, 1]].abs().max() > 0


@pytest.mark.parametrize('lists', [[[[]]], [[[], None], [[], []]]])
def test_lists_of_empty_hypotheses_are_the_blanks(lists):
    tree, logits, frames = case(lists, [3] * len(lists))
    logits.requires_grad_()
    nll = rnnt_tree_full_sum(logits, tree, frames, BLANK)
    expected = -logits.log_softmax(-1)[..., BLANK].sum(1)
    assert torch.allclose(nll[:, 0], expected)
    assert torch.autograd.grad(nll[:, 0].sum(), logits)[0].abs().max() > 0
    none = torch.zeros_like(frames)
    assert (rnnt_tree_full_sum(logits[:, :0], tree, none, BLANK) == math.inf).all()


def test_scores_of_pieces_of_time_are_those_of_the_whole():
    tree, logits, frames = case(LISTS, [4, 3, 2])
    whole = rnnt_tree_scores(logits, tree, frames, BLANK)
    pieces = [rnnt_tree_scores(logits[:, t : t + 2], tree, (frames - t).clamp(0, 2), BLANK) for t in range(0, 4, 2)]
    assert torch.equal(torch.cat(pieces, -1), whole)


def test_narrow_types_are_computed_in_float32():
    for dtype in (torch.float32, torch.bfloat16):
        tree, logits, frames = case(LISTS, [4, 3, 2], dtype=dtype)
        logits.requires_grad_()
        nll = rnnt_tree_full_sum(logits, tree, frames, BLANK)
        assert nll.dtype == torch.float32
        wide = rnnt_tree_full_sum(logits.detach().double(), tree, frames, BLANK)
        assert torch.allclose(nll.double(), wide, atol=1e-5)
        (gradient,) = torch.autograd.grad(nll[nll.isfinite()].sum(), logits)
        assert gradient.dtype == dtype and gradient.isfinite().all()


def test_long_and_unlikely_hypotheses_keep_their_gradient():
    torch.manual_seed(0)
    shared = torch.randint(0, 3, (20,)).tolist()
    lists = [[shared + [0] * 5, shared + [1, 2], shared[:-1]]]
    tree, logits, frames = case(lists, [60])
    logits = (logits * 40).requires_grad_()  # sums of thousands of nats
    fast, slow = rnnt_tree_full_sum(logits, tree, frames, BLANK), separate(logits, tree, lists, frames)
    assert fast.min() > 1000 and torch.allclose(fast, slow, rtol=1e-12)
    weights = torch.tensor([[1.0, -0.7, -0.3]], dtype=torch.float64)
    found, expected = weighted_gradient(fast, weights, logits), weighted_gradient(slow, weights, logits)
    assert torch.allclose(found, expected, atol=1e-10, rtol=0) and expected.abs().max() > 0.1


def test_the_normalised_distance_has_the_loss_and_gradient_of_separate_lattices():
    lists = [[[0, 1, 2, 0], [0, 1, 2], [0, 1, 1, 0], []], [[2, 1], [2, 1, 1], [2], None]]
    teacher = torch.rand(2, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 5
    tree, logits, frames = case(lists, [6, 4])
    logits.requires_grad_()
    results = []
    for nll in (rnnt_tree_full_sum(logits, tree, frames, BLANK), separate(logits, tree, lists, frames)):
        loss = full_sum_norm_distance(nll, teacher, tree.end >= 0, over='all').sum()
        results.append((loss, torch.autograd.grad(loss, logits)[0]))
    (loss, gradient), (expected, expected_gradient) = results
    assert abs(loss - expected) < 1e-10 and loss > 0
    assert torch.allclose(gradient, expected_gradient, atol=1e-10, rtol=0)


def test_the_graph_can_be_walked_twice():
    tree, logits, frames = case(LISTS, [4, 3, 2])
    logits.requires_grad_()
    nll = rnnt_tree_full_sum(logits, tree, frames, BLANK)
    total = nll[nll.isfinite()].sum()
    once = torch.autograd.grad(total, logits, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(total, logits)[0], once) and once.abs().max() > 0


def test_cells_are_counted_with_and_without_padding():
    tree = build_nbest_tree(*pad_lists([[[0, 1, 2], [0, 1, 1]], [[0], None]]))
    cells = tree.cells(torch.tensor([10, 4]))
    assert (cells.tree, cells.separate) == (10 * 5 + 4 * 2, 10 * 8 + 4 * 2)
    assert (cells.padded_tree, cells.padded_separate) == (2 * 10 * 5, 2 * 2 * 10 * 4)
    assert cells.ratio == pytest.approx(58 / 88) and cells.padded_ratio == pytest.approx(100 / 160)
    assert tree.cells(torch.tensor([0, 0])).ratio == 1.0


def test_bad_input_is_named():
    labels, lengths, mask = pad_lists([[[0, 1], [2]]], garbage=0)
    tree = build_nbest_tree(labels, lengths, mask)
    for call, message in (
        (lambda: build_nbest_tree(labels[0], lengths, mask), 'needs labels'),
        (lambda: build_nbest_tree(labels, lengths + 5), 'between 0 and U'),
        (lambda: build_nbest_tree(labels - 1, lengths), 'negative'),
        (lambda: tree.cells(torch.tensor([1, 2])), 'Lengths'),
        (lambda: tree.gather(torch.zeros(1, 2, 2)), 'per hypothesis and position'),
    ):
        with pytest.raises(ValueError, match=message):
            call()

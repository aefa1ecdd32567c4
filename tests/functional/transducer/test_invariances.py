# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What must not change a transducer loss: padding, the batch, a constant in the logits, the float type."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transducers import TRANSDUCERS, batch

from nemo_oracle_kd.functional import select_log_probs
from nemo_oracle_kd.functional.transducer import log_probs as cell_log_probs
from nemo_oracle_kd.functional.transducer import recursion as transducer_lattice

each_transducer = pytest.mark.parametrize('transducer', TRANSDUCERS, ids=lambda t: t.name)
transducers = st.sampled_from(TRANSDUCERS)
utterances = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4)), min_size=1, max_size=4)


def value_and_gradient(transducer, acts, targets, frames, labels):
    acts = acts.detach().clone().requires_grad_()
    nll = transducer.nll(acts, targets, frames, labels)
    finite = nll[nll.isfinite()]
    if not finite.numel():
        return nll.detach(), torch.zeros_like(acts)
    (gradient,) = torch.autograd.grad(finite.sum(), acts)
    return nll.detach(), gradient


@settings(max_examples=40, deadline=None)
@given(
    transducer=transducers, lengths=utterances, seed=st.integers(0, 99), garbage=st.sampled_from(['nan', 'inf', '9'])
)
def test_garbage_in_the_padding_changes_nothing(transducer, lengths, seed, garbage):
    acts, targets, frames, labels = batch(transducer, lengths, seed=seed)
    expected, expected_gradient = value_and_gradient(transducer, acts, targets, frames, labels)
    acts = torch.nn.functional.pad(acts, (0, 0, 0, 2, 0, 1))
    targets = torch.nn.functional.pad(targets, (0, 2))
    valid = torch.zeros(acts.shape, dtype=torch.bool)
    for b, (t, u) in enumerate(lengths):
        valid[b, :t, : u + 1] = True
        targets[b, u:] = -7
    nll, gradient = value_and_gradient(transducer, acts.masked_fill(~valid, float(garbage)), targets, frames, labels)
    assert torch.equal(nll, expected)
    assert (gradient[~valid] == 0).all()
    assert torch.equal(gradient[:, : frames.max(), : labels.max() + 1], expected_gradient)


@settings(max_examples=30, deadline=None)
@given(transducer=transducers, lengths=utterances, seed=st.integers(0, 99))
def test_splitting_the_batch_changes_nothing(transducer, lengths, seed):
    acts, targets, frames, labels = batch(transducer, lengths, seed=seed)
    nll, gradient = value_and_gradient(transducer, acts, targets, frames, labels)
    for b, (t, u) in enumerate(lengths):
        alone, alone_gradient = value_and_gradient(
            transducer, acts[b : b + 1, :t, : u + 1], targets[b : b + 1, :u], frames[b : b + 1], labels[b : b + 1]
        )
        torch.testing.assert_close(nll[b : b + 1], alone, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(gradient[b : b + 1, :t, : u + 1], alone_gradient, rtol=1e-11, atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(transducer=transducers, lengths=utterances, seed=st.integers(0, 99), size=st.sampled_from([1.0, 1e3]))
def test_a_constant_added_to_a_cell_changes_nothing(transducer, lengths, seed, size):
    acts, targets, frames, labels = batch(transducer, lengths, seed=seed)
    expected, expected_gradient = value_and_gradient(transducer, acts, targets, frames, labels)
    offset = torch.randn(*acts.shape[:3], 1, dtype=acts.dtype) * size
    nll, gradient = value_and_gradient(transducer, acts + offset, targets, frames, labels)
    torch.testing.assert_close(nll, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-10)
    # A constant per cell is a direction without slope.
    torch.testing.assert_close(
        gradient.sum(-1), torch.zeros(gradient.shape[:3], dtype=gradient.dtype), atol=1e-12, rtol=0
    )


@each_transducer
@pytest.mark.parametrize(
    'dtype, tolerance', [(torch.float32, 2e-6), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)], ids=str
)
def test_narrow_types_stay_near_float64_and_get_gradients_of_their_own_type(transducer, dtype, tolerance):
    acts, targets, frames, labels = batch(transducer, [(6, 3), (4, 2), (5, 0)], dtype=dtype)
    expected, expected_gradient = value_and_gradient(transducer, acts.double(), targets, frames, labels)
    nll, gradient = value_and_gradient(transducer, acts, targets, frames, labels)
    assert nll.dtype == torch.float32 and gradient.dtype == dtype
    # The value is computed in float32 from what the narrow type holds; only the gradient is rounded to it.
    torch.testing.assert_close(nll.double(), expected, rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=tolerance, atol=tolerance)


@each_transducer
def test_a_second_backward_gives_the_same_gradient_again(transducer):
    acts, targets, frames, labels = batch(transducer, [(5, 2), (3, 1)], dtype=torch.float32)
    acts.requires_grad_()
    loss = transducer.nll(acts, targets, frames, labels).sum()
    (first,) = torch.autograd.grad(loss, acts, retain_graph=True)
    kept = first.clone()
    first.mul_(3.0)  # the caller owns what it was given
    (second,) = torch.autograd.grad(loss, acts, retain_graph=True)
    (third,) = torch.autograd.grad(-2.0 * loss, acts)
    assert torch.equal(second, kept)
    torch.testing.assert_close(third, -2.0 * kept)


@each_transducer
def test_inputs_are_not_modified_and_layouts_do_not_matter(transducer):
    acts, targets, frames, labels = batch(transducer, [(5, 2), (3, 1)])
    before = copy.deepcopy((acts, targets, frames, labels))
    expected, expected_gradient = value_and_gradient(transducer, acts, targets, frames, labels)
    assert all(torch.equal(x, y) for x, y in zip(before, (acts, targets, frames, labels)))
    transposed = acts.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    nll, gradient = value_and_gradient(transducer, transposed, targets, frames.int(), labels.int())
    assert torch.equal(nll, expected) and torch.equal(gradient, expected_gradient)


def test_the_size_of_the_tiles_changes_nothing(monkeypatch):
    acts, targets, frames, labels = batch(TRANSDUCERS[0], [(6, 3), (4, 2)], dtype=torch.float32)
    expected = value_and_gradient(TRANSDUCERS[0], acts, targets, frames, labels)
    monkeypatch.setattr(cell_log_probs, 'CPU_TILE', 20)
    tiled = value_and_gradient(TRANSDUCERS[0], acts, targets, frames, labels)
    assert torch.equal(tiled[0], expected[0]) and torch.equal(tiled[1], expected[1])


def test_selected_log_probs_and_their_gradient_are_those_of_log_softmax():
    acts = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    classes = torch.randint(0, 6, (2, 3, 4, 3))  # a class may be wanted twice
    full = torch.full((2,), 3)
    assert torch.autograd.gradcheck(lambda x: select_log_probs(x, classes, full, full), (acts,))
    expected = acts.log_softmax(-1).gather(-1, classes)
    torch.testing.assert_close(select_log_probs(acts, classes, full, full), expected)


def test_without_gradients_no_backward_scores_are_computed(monkeypatch):
    asked = []
    original = transducer_lattice.forward_backward
    monkeypatch.setattr(
        transducer_lattice,
        'forward_backward',
        lambda *args, **kwargs: asked.append(kwargs['backward']) or original(*args, **kwargs),
    )
    acts, targets, frames, labels = batch(TRANSDUCERS[0], [(4, 2)])
    with torch.no_grad():
        scored = TRANSDUCERS[0].nll(acts.requires_grad_(), targets, frames, labels)
    trained = TRANSDUCERS[0].nll(acts, targets, frames, labels)
    assert asked == [False, True] and torch.equal(scored, trained.detach())

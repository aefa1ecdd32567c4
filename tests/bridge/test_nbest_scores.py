# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""N-best scores of a student in training: equal, with all gradients, to one lattice per hypothesis by NeMo's own modules."""

import dataclasses
import functools
import math
import unittest.mock
from dataclasses import astuple

import pytest
import tiny
import torch
from transducers import Monotonic

from nemo_oracle_kd.bridge.audio import audio_batch
from nemo_oracle_kd.bridge.joint import joint_tensors
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.nbest_scores import label_context, nbest_scores
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses
from nemo_oracle_kd.bridge.signals import StudentStep, Transcripts
from nemo_oracle_kd.functional import ctc_full_sum, transducer_best_path, transducer_full_sum, transducer_occupancy

TRANSDUCERS = ('rnnt', 'stateless', 'tdt', 'multiblank')
# duplicates, an empty one, a prefix of another, lists of different lengths, an utterance without hypotheses
LISTS = [
    [[1, 2, 3, 1], [], [3, 3, 4, 1], [1, 2, 3, 1], [1, 2], [1, 2, 4, 3, 1]],
    [[4, 4], [2, 2, 2, 2], [4, 2]],
    [[0, 1, 2, 3, 4, 1], [0, 1, 2, 2, 4, 1]],
    [],
]
LENGTHS = (9, 7, 12, 4)
TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-10}


def nbest_nll(*arguments, **options):
    return nbest_scores(*arguments, **options).nll


@functools.lru_cache(maxsize=None)
def make_model(kind, context=2, dropout=0.0, hybrid=False, durations=(0, 1, 2)):
    if kind == 'ctc':
        return tiny.ctc_model(tiny.ctc_config(hidden=8, stride=4)).eval()
    name = {'stateless': 'rnnt', 'multiblank': 'multiblank_rnnt'}.get(kind, kind)
    config = tiny.rnnt_config(kind=name, hidden=8, stride=4, joint_hidden=6, durations=durations, hybrid=hybrid)
    config.joint.jointnet.dropout = config.decoder.prednet.dropout = dropout
    if kind == 'stateless':
        target = 'nemo.collections.asr.modules.StatelessTransducerDecoder'
        prednet = {'pred_hidden': 6, 'dropout': dropout}
        config.decoder = {'_target_': target, 'context_size': context, 'normalization_mode': None, 'prednet': prednet}
    return tiny.rnnt_model(config).eval()


def make_step(source, lengths, kind='transducer'):
    """The step of a student as its hook shows it."""
    return StudentStep(
        head='ctc' if kind == 'ctc' else 'transducer',
        label_losses=torch.zeros(len(lengths)),
        transcripts=Transcripts(torch.zeros(len(lengths), 1).long(), torch.ones(len(lengths)).long()),
        lengths=torch.as_tensor(lengths),
        reduce=lambda losses, target_lengths: losses.mean(),
        **{'log_probs' if kind == 'ctc' else 'encoded': source},
    )


def random_source(kind, lengths=LENGTHS, dtype=torch.float64, seed=0):
    """Encoder output or frame posteriors of the tiny models; NaN beyond the lengths, the batch a frame too long."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths) + 1
    padding = torch.arange(longest) >= torch.as_tensor(lengths).unsqueeze(1)
    if kind == 'ctc':
        logits = torch.randn(len(lengths), longest, 6, generator=generator, dtype=dtype)
        return logits.log_softmax(-1).masked_fill(padding.unsqueeze(2), math.nan).requires_grad_()
    encoded = torch.randn(len(lengths), 8, longest, generator=generator, dtype=dtype)
    return encoded.masked_fill(padding.unsqueeze(1), math.nan).requires_grad_()


def separate_nll(model, head, source, lengths, lists):
    """One lattice per hypothesis, from the stock modules: `[B, N]`."""
    rows = []
    for b, hypotheses in enumerate(lists):
        row = []
        for labels in hypotheses:
            targets, size = torch.tensor([labels]).long(), torch.tensor([len(labels)])
            frames = torch.tensor([lengths[b]])
            if head.transducer is None:
                row.append(ctc_full_sum(source[b : b + 1, : lengths[b]], targets, frames, size, head.blank)[0])
                continue
            predicted, _, _ = model.decoder(targets=targets, target_length=size)
            encoded = source[b : b + 1, :, : lengths[b]].transpose(1, 2)
            logits = model.joint.joint(encoded, predicted.transpose(1, 2))
            row.append(transducer_full_sum(head.transducer, logits, targets, frames, size)[0])
        rows.append(row)
    most = max(map(len, rows))
    absent = source.new_full((), math.inf)
    return torch.stack([torch.stack(row + [absent] * (most - len(row))) for row in rows])


def head_parameters(model, head):
    return [] if head.transducer is None else [*model.decoder.parameters(), *model.joint.parameters()]


def gradients(nll, inputs):
    """Of a weighted sum, with weights of both signs."""
    weights = torch.linspace(-1.0, 1.3, nll.numel(), dtype=nll.dtype).view_as(nll)
    finite = nll.isfinite()
    return torch.autograd.grad((nll[finite] * weights[finite]).sum(), inputs, allow_unused=True)


def assert_same(ours, theirs, tolerance):
    """Relative to the largest entry."""
    for got, expected in zip(ours, theirs, strict=True):
        assert (got is None) == (expected is None)
        if got is not None:
            finite = expected.isfinite()
            assert torch.equal(got.isfinite(), finite)
            scale = float(expected[finite].abs().amax()) if finite.any() else 0.0
            assert float((got[finite] - expected[finite]).norm(math.inf)) <= tolerance * scale


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('kind', [*TRANSDUCERS, 'ctc'])
def test_scores_and_all_gradients_equal_those_of_one_lattice_per_hypothesis(kind, dtype):
    model = make_model(kind).to(dtype)
    head = find_head(model)
    source, hypotheses = random_source(kind, dtype=dtype), Hypotheses.from_lists(LISTS)
    inputs = [source, *head_parameters(model, head)]
    expected = separate_nll(model, head, source, LENGTHS, LISTS)
    expected_gradients = gradients(expected, inputs)
    assert expected.isfinite().sum() == 11
    for max_cells in (10**6, 100, 40, 1):  # at once; some computed again; cut along time; frame by frame
        nll = nbest_nll(model, head, make_step(source, LENGTHS, kind), hypotheses, max_cells)
        assert nll.shape == (4, 6) and nll.dtype == dtype
        assert_same([nll], [expected], TOLERANCES[dtype])
        ours = gradients(nll, inputs)
        assert_same(ours, expected_gradients, TOLERANCES[dtype])
        assert all(torch.isfinite(gradient).all() for gradient in ours if gradient is not None)
    model.float()


@pytest.mark.parametrize('max_cells', [10**6, 40])
@pytest.mark.parametrize('kind', TRANSDUCERS)
def test_a_prediction_network_that_has_run_is_not_run_again_and_the_arcs_give_the_joints_best_path(kind, max_cells):
    model = make_model(kind).double()
    head = find_head(model)
    source, texts = random_source(kind), [[1, 2, 3, 1], [], [0, 1, 2, 3, 4, 1], [4, 4]]
    hypotheses = Hypotheses.from_lists([[text] for text in texts])
    labels, sizes = hypotheses.labels[:, 0], hypotheses.lengths[:, 0]
    inside = torch.arange(labels.shape[1]) < sizes.unsqueeze(1)
    predicted, _, _ = model.decoder(targets=torch.where(inside, labels, 0).long(), target_length=sizes)
    inputs = [source, *head_parameters(model, head)]
    expected = nbest_scores(model, head, make_step(source, LENGTHS, kind), hypotheses)
    read = make_step(source, LENGTHS, kind)
    with unittest.mock.patch.object(model.decoder, 'predict', side_effect=AssertionError('it ran')):
        ours = nbest_scores(model, head, read, hypotheses, max_cells, predicted=predicted, keep_arcs=True)
        with pytest.raises(AssertionError, match='it ran'):
            nbest_scores(model, head, read, hypotheses)
    assert expected.arcs is None and not any(arc.requires_grad for arc in ours.arcs)
    assert_same([ours.nll], [expected.nll], 1e-10)
    assert_same(gradients(ours.nll, inputs), gradients(expected.nll, inputs), 1e-10)

    plain = joint_tensors(model, source.detach().nan_to_num(), predicted.detach())
    known, arguments = dataclasses.replace(plain, arcs=ours.arcs), (labels, torch.tensor(LENGTHS), sizes)
    silenced = dataclasses.replace(known, weight=known.weight * 0)  # the joint is not asked
    for joint in (known.detach(), silenced):
        for function in (transducer_best_path, transducer_occupancy):
            for got, wanted in zip(
                astuple(function(head.transducer, joint, *arguments)),
                astuple(function(head.transducer, plain, *arguments)),
            ):
                torch.testing.assert_close(got, wanted)
    backwards = torch.arange(source.shape[2]).flip(0).expand(len(LENGTHS), -1)
    for got, arc in zip(known.pick_frames(backwards).arcs, ours.arcs):
        torch.testing.assert_close(got, arc.flip(-2), equal_nan=True)
    assert known.head(0, 2).arcs is None
    model.float()


def test_arcs_are_kept_of_one_hypothesis_of_a_transducer_only():
    for kind, lists in (('rnnt', LISTS), ('ctc', [[[1]]] * 4)):
        model, step = make_model(kind), make_step(random_source(kind, dtype=torch.float32), LENGTHS, kind)
        with pytest.raises(ValueError, match='set keep_arcs=False'):
            nbest_scores(model, find_head(model), step, Hypotheses.from_lists(lists), keep_arcs=True)


def test_a_kind_of_transducer_that_only_says_its_arcs_is_scored_with_gradients():
    model = make_model('rnnt').double()
    head = dataclasses.replace(find_head(model), transducer=Monotonic(find_head(model).blank))
    source, hypotheses = random_source('rnnt'), Hypotheses.from_lists(LISTS)
    inputs = [source, *head_parameters(model, head)]
    expected = separate_nll(model, head, source, LENGTHS, LISTS)
    other = separate_nll(model, find_head(model), source, LENGTHS, LISTS)
    assert (expected.isfinite() & ((expected - other).abs() > 0.1)).sum() > 3
    expected_gradients = gradients(expected, inputs)
    for max_cells in (10**6, 40):
        nll = nbest_nll(model, head, make_step(source, LENGTHS, 'rnnt'), hypotheses, max_cells)
        assert_same([nll], [expected], 1e-10)
        assert_same(gradients(nll, inputs), expected_gradients, 1e-10)
    model.float()


@pytest.mark.parametrize('context', [1, 3])
def test_lists_that_differ_in_the_middle_share_their_ends_under_a_stateless_prediction_network(context):
    lists = [[[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 1, 3, 4, 0, 1, 2], [0, 1, 2, 3, 4, 4, 1, 2]], [[2, 2, 2, 2], [2, 2]]]
    model = make_model('stateless', context=context).double()
    head, lengths = find_head(model), (6, 5)
    assert label_context(model) == context and label_context(make_model('rnnt')) is None
    source = random_source('stateless', lengths)
    scores = nbest_scores(model, head, make_step(source, lengths), Hypotheses.from_lists(lists))
    expected = separate_nll(model, head, source, lengths, lists)
    assert_same([scores.nll], [expected], 1e-10)
    inputs = [source, *head_parameters(model, head)]
    assert_same(gradients(scores.nll, inputs), gradients(expected, inputs), 1e-10)
    # of the first utterance: the contexts of its three hypotheses, found by hand
    contexts = [{tuple(h[max(0, u - context) : u]) for h in of_one for u in range(len(h) + 1)} for of_one in lists]
    assert scores.cells.evaluated == sum(len(c) * t for c, t in zip(contexts, lengths)) < scores.cells.tree
    assert scores.cells.separate == 27 * 6 + 8 * 5


def test_every_weight_of_a_real_model_gets_the_gradient_of_the_separate_evaluation():
    model = make_model('rnnt').float()
    head = find_head(model)
    lists = LISTS[:3]
    generator = torch.Generator().manual_seed(3)
    batch = audio_batch([0.1 * torch.randn(count, generator=generator) for count in (2600, 1800, 900)])
    found = []
    for ours in (True, False):
        model.zero_grad()
        encoded, lengths = model.forward(input_signal=batch.signal, input_signal_length=batch.lengths)
        if ours:
            nll = nbest_nll(model, head, make_step(encoded, lengths), Hypotheses.from_lists(lists), max_cells=50)
        else:
            nll = separate_nll(model, head, encoded, lengths.tolist(), lists)
        (nll[nll.isfinite()] ** 2).mean().backward()
        found.append([nll.detach(), *(p.grad.clone() for p in model.parameters() if p.requires_grad)])
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any(name.startswith('encoder') for name in names) and len(names) == len(found[0]) - 1
    # normalisation over the frames makes some gradients of the encoder differences of large numbers
    for name, ours, theirs in zip(['nll', *names], *found):
        assert torch.allclose(
            ours, theirs, rtol=1e-5, atol=1e-6 * max(1.0, float(theirs[theirs.isfinite()].abs().max()))
        ), name


@pytest.mark.parametrize('kind', ['tdt', 'ctc', 'rnnt'])
def test_hypotheses_without_any_alignment_are_infinitely_unlikely_and_have_no_gradient(kind):
    model = make_model(kind, **({'durations': (1, 2)} if kind == 'tdt' else {})).float()
    head = find_head(model)
    lengths = (2, 0 if kind == 'rnnt' else 3)
    source = random_source(kind, lengths, torch.float32)
    hypotheses = Hypotheses.from_lists([[[1] * 9, [2]], [[1, 2] * 4, [1] * 7]])
    nll = nbest_nll(model, head, make_step(source, lengths, kind), hypotheses)
    if kind == 'rnnt':  # any number of labels fits into a frame, but no label where there is no frame
        assert nll.isfinite().tolist() == [[True, True], [False, False]]
    else:
        assert nll.isfinite().tolist() == [[False, True], [False, False]]
    assert (nll[~nll.isfinite()] == math.inf).all()
    (gradient,) = torch.autograd.grad(nll[1].sum() if kind != 'ctc' else nll[1].sum(), source)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize('kind', [*TRANSDUCERS, 'ctc'])
def test_a_batch_without_hypotheses_has_no_scores(kind):
    model = make_model(kind).float()
    step = make_step(random_source(kind, dtype=torch.float32), LENGTHS, kind)
    for lists in ([[], [], [], []], [[], [[]], [], []]):
        scores = nbest_scores(model, find_head(model), step, Hypotheses.from_lists(lists))
        assert scores.nll.shape == (4, max(map(len, lists)))
        assert scores.nll.isfinite().sum() == sum(map(len, lists)), "the empty hypothesis is as likely as blanks alone"


@pytest.mark.parametrize('kind', ['rnnt', 'stateless', 'tdt'])
def test_dropout_is_drawn_once_per_context_and_again_the_same_in_the_backward_pass(kind):
    model = make_model(kind, dropout=0.5).float()
    head, lists = find_head(model), LISTS[:3]
    source = random_source(kind, LENGTHS[:3], torch.float32)
    step, hypotheses = make_step(source, LENGTHS[:3]), Hypotheses.from_lists(lists)
    inputs = [source, *head_parameters(model, head)]
    largest = max(
        len({tuple(h[:u]) for h in of_one for u in range(len(h) + 1)}) * t for of_one, t in zip(lists, LENGTHS)
    )
    model.train()
    found = []
    for max_cells in (10**6, largest):  # the same portions, all kept or all but the last computed again
        torch.manual_seed(7)
        nll = nbest_nll(model, head, step, hypotheses, max_cells)
        found.append([nll, *gradients(nll, inputs)])
    again = nbest_nll(model, head, step, hypotheses)
    model.eval()
    assert_same(found[1], found[0], 1e-6)
    assert not torch.equal(again[0], found[0][0][0])
    assert again[0, 0] == again[0, 3], "equal hypotheses have one mask"


def test_the_joint_computes_the_reported_cells_in_portions_of_at_most_the_given_size():
    model = make_model('rnnt').float()
    head, source = find_head(model), random_source('rnnt', dtype=torch.float32)
    sizes = []
    handle = model.joint.joint_net.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0][..., 0].numel()))
    try:
        for max_cells in (10**6, 100, 30):
            sizes.clear()
            scores = nbest_scores(
                model, head, make_step(source, LENGTHS), Hypotheses.from_lists(LISTS), max_cells=max_cells
            )
            forward = list(sizes)
            assert sum(forward) == scores.cells.evaluated and max(forward) <= max_cells
            scores.nll[scores.nll.isfinite()].sum().backward()
            again = sizes[len(forward) :]
            assert sorted(again) == sorted(forward[: len(again)])
            assert sum(forward[len(again) :]) <= max_cells, "what is kept for the backward pass"
            assert bool(again) == (scores.cells.evaluated > max_cells)
    finally:
        handle.remove()
    nodes = [len({tuple(h[:u]) for h in of_one for u in range(len(h) + 1)}) for of_one in LISTS]
    separate = [sum(len(h) + 1 for h in of_one) for of_one in LISTS]
    assert scores.cells.evaluated == scores.cells.tree == sum(n * t for n, t in zip(nodes, LENGTHS))
    assert scores.cells.separate == sum(n * t for n, t in zip(separate, LENGTHS))
    assert scores.cells.ratio == scores.cells.evaluated / scores.cells.separate < 0.75
    with torch.no_grad():
        nll = nbest_nll(model, head, make_step(source, LENGTHS), Hypotheses.from_lists(LISTS), 30)
    assert_same([nll], [scores.nll.detach()], 1e-6)


def test_both_heads_of_a_hybrid_student_are_scored():
    model = make_model('tdt', hybrid=True).double()
    for name, kind in (('rnnt', 'tdt'), ('ctc', 'ctc')):
        head, source = find_head(model, name), random_source(kind)
        nll = nbest_nll(model, head, make_step(source, LENGTHS, kind), Hypotheses.from_lists(LISTS))
        assert_same([nll], [separate_nll(model, head, source, LENGTHS, LISTS)], 1e-10)


def test_labels_of_another_vocabulary_and_impossible_bounds_are_refused():
    model = make_model('rnnt').float()
    head, step = find_head(model), make_step(random_source('rnnt', (4,), torch.float32), (4,))
    with pytest.raises(ValueError, match="student has 5 labels: encode the texts with the student's tokenizer"):
        nbest_nll(model, head, step, Hypotheses.from_lists([[[1, 5]]]))
    with pytest.raises(ValueError, match='max_cells must be positive'):
        nbest_nll(model, head, step, Hypotheses.from_lists([[[1]]]), max_cells=0)
    padded = Hypotheses(torch.tensor([[[1, 99], [99, 99]]]), torch.tensor([[1, -1]]))
    nll = nbest_nll(model, head, dataclasses.replace(step), padded)
    assert nll.isfinite().tolist() == [[True, False]], "what lies beyond a hypothesis is not read"


@pytest.mark.parametrize('kind', ['rnnt', 'tdt'])
def test_under_mixed_precision_the_joint_is_rounded_and_the_sums_are_not(kind):
    model = make_model(kind).float()
    head, source = find_head(model), random_source(kind, dtype=torch.float32)
    step, hypotheses = make_step(source, LENGTHS), Hypotheses.from_lists(LISTS)
    exact = nbest_nll(model, head, step, hypotheses)
    with torch.autocast('cpu', torch.bfloat16):
        rounded = nbest_nll(model, head, step, hypotheses, max_cells=100)
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    finite = exact.isfinite()
    torch.testing.assert_close(rounded[finite], exact[finite], rtol=0.02, atol=0.0)
    assert torch.equal(rounded.isfinite(), finite)
    for ours, theirs in zip(gradients(rounded, [source]), gradients(exact, [source])):
        inside = theirs.isfinite()
        assert (ours - theirs)[inside].norm() < 0.05 * theirs[inside].norm()

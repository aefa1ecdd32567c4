# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""On a GPU: the same losses and gradients as on the CPU. Skipped without CUDA."""

import warnings

import pytest
import torch
from lattice_cases import BLANK, batch, joint, loss_and_gradients, pair, relative_error

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.functional.lattice import triton as lattice_triton
from nemo_oracle_kd.functional.lattice.distances import full_divergence, work_buffers

pytestmark = [pytest.mark.gpu, pytest.mark.unit]
DEVICE = torch.device('cuda', 0)
FRAMES, LABELS, CLASSES = 13, 4, 9
TARGETS = torch.tensor([[1, 0, 2, 2], [3, 1, 0, 0], [0, 0, 0, 0]])
FRAME_LENGTHS, LABEL_LENGTHS = torch.tensor([13, 9, 6]), torch.tensor([4, 2, 0])
LOGITS = (3, FRAMES, LABELS + 1, CLASSES)


def on_gpu(x):
    return x.detach().to(DEVICE).requires_grad_(x.requires_grad)


def assert_same_on_gpu(function, inputs, constants=(), rtol=1e-4):
    """Compares values and gradients of `function(*inputs, *constants)`; the inputs are float32 leaves."""
    inputs = [x.requires_grad_() for x in inputs]
    results = []
    for move in (lambda x: x, on_gpu):
        own = [move(x) for x in inputs]
        values = function(*own, *(move(x) for x in constants))
        assert values.device == own[0].device and values.dtype == torch.float32
        results.append([values, *torch.autograd.grad(values.sum(), own)])
    for expected, ours in zip(*results):
        assert ours.is_cuda
        torch.testing.assert_close(ours.cpu(), expected, rtol=rtol, atol=1e-5)


def lengths():
    return TARGETS, FRAME_LENGTHS, LABEL_LENGTHS


def test_ctc_full_sum():
    log_probs = torch.randn(3, FRAMES, CLASSES).log_softmax(-1)
    assert_same_on_gpu(lambda x, *rest: F.ctc_full_sum(x, *rest, CLASSES - 1), [log_probs], lengths())


def test_frame_kl():
    student, teacher = torch.randn(2, 3, FRAMES, CLASSES).log_softmax(-1)
    assert_same_on_gpu(F.frame_kl, [student.clone()], (teacher, FRAME_LENGTHS))


def test_rnnt_full_sum():
    assert_same_on_gpu(lambda x, *rest: F.rnnt_full_sum(x, *rest, CLASSES - 1), [torch.randn(LOGITS)], lengths())


def test_multiblank_full_sum():
    def nll(x, *rest):
        return F.multiblank_full_sum(x, *rest, CLASSES - 1, [2, 4], sigma=0.05)

    assert_same_on_gpu(nll, [torch.randn(LOGITS)], lengths())


def test_tdt_full_sum():
    def nll(x, durations, *rest):
        return F.tdt_full_sum((x, durations), *rest, CLASSES - 1, [0, 1, 2, 4], sigma=0.05)

    assert_same_on_gpu(nll, [torch.randn(LOGITS), torch.randn(3, FRAMES, LABELS + 1, 4)], lengths())


@pytest.mark.parametrize('distance', F.FULL_SUM_DISTANCES)
def test_full_sum_distances(distance):
    def compare(student, teacher, tokens):
        return F.full_sum_distance(student, teacher, distance, normalization='token', target_lengths=tokens)

    student, teacher = 10.0 * torch.rand(2, 3)
    assert_same_on_gpu(compare, [student.clone()], (teacher, LABEL_LENGTHS))


def of_rnnt(function):
    return lambda logits, *lattice: function(F.RNNT(CLASSES - 1), logits, *lattice)


def of_ctc(function):
    return lambda log_probs, *lattice: function(log_probs, *lattice, CLASSES - 1)


@pytest.mark.parametrize(
    'function, shape',
    [
        (of_rnnt(F.transducer_occupancy), LOGITS),
        (of_rnnt(F.transducer_best_path), LOGITS),
        (of_ctc(F.ctc_occupancy), (3, FRAMES, CLASSES)),
        (of_ctc(F.ctc_best_path), (3, FRAMES, CLASSES)),
    ],
)
def test_occupancies_and_best_paths(function, shape):
    x = torch.randn(shape).log_softmax(-1)
    expected = function(x, *lengths())
    ours = function(on_gpu(x), *(on_gpu(y) for y in lengths()))
    pairs = [(ours, expected)] if isinstance(ours, torch.Tensor) else zip(vars(ours).values(), vars(expected).values())
    for own, other in pairs:
        if isinstance(own, torch.Tensor):
            torch.testing.assert_close(own.cpu(), other, rtol=1e-4, atol=1e-5)


def lattice_on(device, **options):
    """Loss and gradients of the small lattice of the other tests, as on the CPU."""
    student, teacher = pair(dtype=torch.float32)
    student, teacher = (moved(model, device) for model in (student, teacher))
    arguments = [x.to(device) for x in batch()]
    return loss_and_gradients(F.lattice_divergence, student, teacher, *arguments, BLANK, **options)


def moved(model, device):
    tensors = (model.encoder, model.prediction, model.weight, model.bias)
    return F.JointTensors(
        *(x.detach().to(device).requires_grad_(x.requires_grad) for x in tensors), activation=model.activation
    )


@pytest.mark.parametrize('bins', F.LATTICE_BINS)
@pytest.mark.parametrize('divergence', F.LATTICE_DIVERGENCES)
@pytest.mark.parametrize('backend', ['auto', 'torch'])
def test_the_lattice_divergence(bins, divergence, backend):
    options = {'bins': bins, 'divergence': divergence, 'top_k': 2, 'temperature': 2.0}
    expected = lattice_on('cpu', **options)
    for own, other in zip(lattice_on(DEVICE, backend=backend, **options), expected):
        assert own.is_cuda and relative_error(own.cpu(), other) <= 1e-5


@pytest.mark.parametrize('backend', ['auto', 'torch'])
def test_the_lattice_divergence_of_unequal_utterances_and_of_chosen_cells(backend):
    weights = torch.rand(3, 5, 4)
    factors = torch.tensor([1.0, 2.0, 3.0])
    expected = lattice_on('cpu', weights=weights, factors=factors, tile_cells=7)
    ours = lattice_on(DEVICE, weights=weights.to(DEVICE), factors=factors.to(DEVICE), tile_cells=7, backend=backend)
    for own, other in zip(ours, expected):
        assert relative_error(own.cpu(), other) <= 1e-5


@pytest.mark.parametrize('backend', ['auto', 'torch'])
@pytest.mark.parametrize('dtype, rounding', [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_the_lattice_divergence_with_half_precision_products(dtype, rounding, backend):
    expected = lattice_on('cpu')
    for own, other in zip(lattice_on(DEVICE, matmul_dtype=dtype, backend=backend), expected):
        assert own.isfinite().all() and relative_error(own.cpu(), other) <= 10 * rounding


def test_a_search_over_shifts():
    def run(device):
        student, teacher = (moved(model, device) for model in pair(dtype=torch.float32))
        targets, frames, labels = (x.to(device) for x in batch())
        result = F.windowed_lattice_divergence(
            student, teacher, targets, frames, frames, labels, BLANK, shifts=range(2), unit='frame'
        )
        return result.loss.detach().cpu(), result.shift.cpu()

    for own, other in zip(run(DEVICE), run('cpu')):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', F.LATTICE_DIVERGENCES)
@pytest.mark.parametrize('classes', [7, 1025, 5000])
@pytest.mark.parametrize('dtype, rounding', [(torch.float32, 1e-5), (torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_the_triton_kernel(name, classes, dtype, rounding):
    pytest.importorskip('triton')
    student, teacher = (3.0 * torch.randn(2, 33, classes, device=DEVICE)).to(dtype)
    expected_gradient, logits = student.double(), teacher.double()
    expected = full_divergence(name, expected_gradient, logits, work_buffers(tuple(logits.shape), logits))
    value = lattice_triton.fused_divergence(name, student, teacher, None, None, 1.0, True)
    torch.testing.assert_close(value.double(), expected, rtol=2e-5, atol=1e-5)
    torch.testing.assert_close(student.double(), expected_gradient, rtol=2 * rounding, atol=1e-5)


def test_the_triton_kernel_is_taken_of_itself_where_it_is_installed(monkeypatch):
    pytest.importorskip('triton')
    monkeypatch.delenv(lattice_triton.TRITON_SWITCH, raising=False)
    lattice_triton._passes_trial.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter('error', RuntimeWarning)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            choice = lattice_triton.choose_backend('auto', 'full', 'kl', 1025, torch.float32, dtype, DEVICE)
            assert choice == 'triton'


@pytest.mark.parametrize('backend', ['auto', 'torch'])
def test_memory_is_that_of_tiles_and_not_of_the_lattice(backend):
    shape = {'frames': 100, 'labels': 40, 'batch': 4, 'classes': 1025, 'dtype': torch.float32}
    student = moved(joint(0, 64, gradient=True, **shape), DEVICE)
    teacher = moved(joint(1, 64, **shape), DEVICE)
    targets = torch.randint(0, 1024, (4, 40), device=DEVICE)
    arguments = (teacher, targets, torch.full((4,), 100, device=DEVICE), torch.full((4,), 40, device=DEVICE), 1024)
    F.lattice_divergence(student, *arguments, tile_cells=256, backend=backend).sum().backward()  # loads libraries
    torch.cuda.reset_peak_memory_stats(DEVICE)
    before = torch.cuda.memory_allocated(DEVICE)
    F.lattice_divergence(student, *arguments, tile_cells=256, backend=backend).sum().backward()
    grown = torch.cuda.max_memory_allocated(DEVICE) - before
    # Three tiles of 1 MB and a few MB of gradients; one lattice of logits alone is 67 MB.
    assert grown < 20e6


def test_nemos_tdt_loss_and_ours_agree():
    from numba import cuda

    if not cuda.is_available():
        pytest.skip("numba does not find CUDA; NeMo's kernels need it (extra cu12 or cu13 of NeMo)")
    from nemo.collections.asr.parts.numba.rnnt_loss.rnnt_pytorch import TDTLossNumba

    acts = torch.randn(*LOGITS[:3], CLASSES + 3, device=DEVICE, requires_grad=True)
    # NeMo wants int64, and its lengths to fill the tensors.
    targets, frames, labels = (x.to(DEVICE) for x in lengths())
    theirs = TDTLossNumba(CLASSES - 1, durations=[0, 1, 2], reduction='none')(acts, targets, frames, labels)
    (their_gradient,) = torch.autograd.grad(theirs.sum(), acts)
    ours = F.tdt_full_sum(acts, targets, frames, labels, CLASSES - 1, [0, 1, 2])
    (our_gradient,) = torch.autograd.grad(ours.sum(), acts)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-3, atol=1e-4)

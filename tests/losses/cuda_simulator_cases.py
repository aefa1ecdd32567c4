# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""NeMo's CUDA kernels of the transducer losses against our recursions, in numba's CUDA simulator.

Run by `test_nemo_cuda_kernels.py` in a process of its own with NUMBA_ENABLE_CUDASIM=1, which has to be set before numba
is imported. The kernels of alphas, betas, gradients and costs run as NeMo wrote them, driven by NeMo's own classes.
Three things of theirs the simulator lacks (numba 0.68), and they are done here:

* `cuda.as_cuda_array`, `default_stream` and `external_stream`, with which NeMo takes memory and stream from PyTorch: the
  arrays are NumPy's, and the constructor, which does nothing else with them, is ours;
* `cuda.shfl_down_sync`, with which NeMo reduces the sum of the softmax within a warp: the denominators are PyTorch's.
"""

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import cuda

from nemo_oracle_kd.functional import multiblank_full_sum, rnnt_full_sum, tdt_full_sum

KERNELS = 'nemo.collections.asr.parts.numba.rnnt_loss.utils.cuda_utils'
BATCH, FRAMES, LABELS, CLASSES, BLANK = 2, 5, 2, 6, 5
TARGETS = torch.tensor([[1, 0], [2, 0]])
FRAME_LENGTHS, LABEL_LENGTHS = torch.tensor([5, 4]), torch.tensor([2, 1])


def load_kernels():
    """NeMo's `gpu_rnnt` and `gpu_rnnt_kernel` without `nemo.collections.asr.__init__`, which imports every model."""
    import nemo

    for name in ('nemo.collections', 'nemo.collections.asr'):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(Path(nemo.__file__).parent.joinpath(*name.split('.')[1:]))]
            sys.modules[name] = package
    kernels = importlib.import_module(f'{KERNELS}.gpu_rnnt_kernel')
    # 256 threads per cell are 256 Python threads. The kernels step through the classes by this number; the durations of
    # a TDT need a thread each.
    kernels.GPU_RNNT_THREAD_SIZE = 5
    return importlib.import_module(f'{KERNELS}.gpu_rnnt')


GPU_RNNT = load_kernels()


def simulated(name, **attributes):
    """An object of NeMo's class `name` whose constructor and softmax do without what the simulator lacks."""

    class Simulated(getattr(GPU_RNNT, name)):
        def __init__(self):
            self.minibatch_, self.maxT_, self.maxU_, self.alphabet_size_ = BATCH, FRAMES, LABELS + 1, CLASSES
            self.gpu_workspace = np.zeros(BATCH * (3 * FRAMES * (LABELS + 1) + 2), dtype=np.float32)
            self.blank_, self.fastemit_lambda_, self.clamp_ = BLANK, attributes.pop('fastemit', 0.0), 0.0
            self.stream_ = cuda.stream()
            self.__dict__.update(attributes)

        def log_softmax(self, acts, denom):
            denom[:] = -torch.from_numpy(acts).view(-1, CLASSES).logsumexp(-1).numpy()

    return Simulated()


def flat(x):
    return x.detach().float().contiguous().view(-1).numpy()


def run(kernels, *logits):
    """Costs `[B]` and the gradients with respect to the given tensors, by NeMo's kernels."""
    gradients = [np.zeros(x.numel(), dtype=np.float32) for x in logits]
    costs = np.zeros(BATCH, dtype=np.float32)
    lengths = LABEL_LENGTHS.numpy(), FRAME_LENGTHS.numpy()
    kernels.cost_and_grad(*map(flat, logits), *gradients, costs, TARGETS.numpy(), *lengths)
    return torch.from_numpy(costs), [torch.from_numpy(g).view(x.shape) for g, x in zip(gradients, logits)]


def random_logits(size, scale=2.0):
    logits = scale * torch.randn(BATCH, FRAMES, LABELS + 1, size, dtype=torch.float64)
    return logits.float().double().requires_grad_()


def assert_same(ours, *pairs, fastemit=0.0):
    """NeMo multiplies the value, too, by one plus the weight of FastEmit; the gradients are comparable as they are."""
    costs, nll = ours
    torch.testing.assert_close(costs.double(), nll * (1.0 + fastemit), rtol=1e-5, atol=1e-5)
    for gradient, expected in pairs:
        assert expected.abs().max() > 0.05
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('fastemit', [0.0, 0.1])
def test_rnnt(fastemit):
    logits = random_logits(CLASSES)
    nll = rnnt_full_sum(logits, TARGETS, FRAME_LENGTHS, LABEL_LENGTHS, BLANK, fastemit)
    (expected,) = torch.autograd.grad(nll.sum(), logits)
    costs, (gradient,) = run(simulated('GPURNNT', fastemit=fastemit), logits)
    assert_same((costs, nll.detach()), (gradient, expected), fastemit=fastemit)


@pytest.mark.parametrize('sigma, fastemit', [(0.0, 0.0), (0.05, 0.0), (0.0, 0.1)])
def test_multiblank(sigma, fastemit):
    logits, durations = random_logits(CLASSES), [2, 4]
    nll = multiblank_full_sum(logits, TARGETS, FRAME_LENGTHS, LABEL_LENGTHS, BLANK, durations, sigma, fastemit)
    (expected,) = torch.autograd.grad(nll.sum(), logits)
    options = {'sigma': sigma, 'num_big_blanks': len(durations), 'big_blank_workspace': np.array(durations)}
    costs, (gradient,) = run(simulated('MultiblankGPURNNT', fastemit=fastemit, **options), logits)
    assert_same((costs, nll.detach()), (gradient, expected), fastemit=fastemit)


@pytest.mark.parametrize('durations', [[0, 1, 2], [0, 1, 2, 3, 4], [1, 2]])
@pytest.mark.parametrize('sigma, fastemit', [(0.0, 0.0), (0.05, 0.0), (0.0, 0.1)])
def test_tdt(durations, sigma, fastemit):
    logits, duration_logits = random_logits(CLASSES), random_logits(len(durations))
    arguments = (TARGETS, FRAME_LENGTHS, LABEL_LENGTHS, BLANK, durations, sigma, fastemit)
    nll = tdt_full_sum((logits, duration_logits), *arguments)
    expected = torch.autograd.grad(nll.sum(), (logits, duration_logits))
    options = {'sigma': sigma, 'omega': 0.0, 'num_durations': len(durations), 'tdt_workspace': np.array(durations)}
    # NeMo normalises the durations outside of the kernel, whose gradient goes through that softmax.
    log_probs = duration_logits.log_softmax(-1)
    costs, (gradient, duration_gradient) = run(simulated('GPUTDT', fastemit=fastemit, **options), logits, log_probs)
    (through,) = torch.autograd.grad(log_probs, duration_logits, duration_gradient.double())
    assert_same((costs, nll.detach()), (gradient, expected[0]), (through, expected[1]), fastemit=fastemit)


def test_a_transcript_that_no_tdt_path_fits_costs_ten_thousand_nats_in_the_kernel_and_infinity_here():
    """Without duration 0, two labels and the closing blank need three frames; NeMo's sums start at -10000."""
    logits, duration_logits = random_logits(CLASSES), random_logits(2)
    lengths = torch.tensor([2, 2]), torch.tensor([2, 2])
    nll = tdt_full_sum((logits, duration_logits), TARGETS, *lengths, BLANK, [1, 2])
    assert torch.equal(nll, torch.full((2,), float('inf'), dtype=torch.float64))
    options = {'sigma': 0.0, 'omega': 0.0, 'num_durations': 2, 'tdt_workspace': np.array([1, 2])}
    costs = np.zeros(BATCH, dtype=np.float32)
    arrays = (flat(logits), flat(duration_logits.log_softmax(-1)), costs, TARGETS.numpy())
    simulated('GPUTDT', **options).score_forward(*arrays, lengths[1].numpy(), lengths[0].numpy())
    assert (costs >= 9000).all() and np.isfinite(costs).all()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Our transducer losses inside NeMo's `RNNTLoss`, against NeMo's own implementations. Tiny shapes: those are slow."""

import random

import pytest
import torch
from nemo.collections.asr.losses import rnnt as nemo_rnnt
from nemo.collections.asr.losses.rnnt import RNNTLoss
from nemo.collections.asr.losses.rnnt_pytorch import TDTLossPytorch

from nemo_oracle_kd.bridge.register.transducer_losses import register_transducer_losses
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional import rnnt_full_sum, tdt_full_sum
from nemo_oracle_kd.losses.rnnt_modules import (
    MultiblankFullSumLoss,
    NumbaOrFullSumLoss,
    RNNTFullSumLoss,
    TDTFullSumLoss,
)

LABELS = 4
FRAMES = torch.tensor([6, 4, 5])
LENGTHS = torch.tensor([3, 2, 0])
TARGETS = torch.tensor([[0, 1, 1], [3, 2, 0], [0, 0, 0]])


def loss_and_gradient(name, extra=1, options=None, reduction=None, dtype=torch.float32):
    """Value and gradient of NeMo's `RNNTLoss`; `extra` counts blanks and durations."""
    torch.manual_seed(3)
    acts = torch.randn(3, 6, 4, LABELS + extra).to(dtype).requires_grad_()
    durations = (options or {}).get('durations', [])
    loss = RNNTLoss(
        num_classes=LABELS + extra - 1 - len(durations),
        loss_name=name,
        loss_kwargs=dict(options or {}),
        reduction=reduction,
    )
    value = loss(log_probs=acts, targets=TARGETS, input_lengths=FRAMES, target_lengths=LENGTHS)
    value.sum().backward()
    return value.detach(), acts.grad


@pytest.mark.parametrize('peer', ['pytorch', 'warprnnt_numba', 'default'])
@pytest.mark.parametrize('reduction', [None, 'mean_batch', 'mean_volume', 'sum'])
def test_rnnt_equals_nemo(peer, reduction):
    expected, expected_gradient = loss_and_gradient(peer, reduction=reduction)
    value, gradient = loss_and_gradient('oracle_kd_rnnt', reduction=reduction)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    'options', [{'fastemit_lambda': 0.3}, {'clamp': 0.05}, {'fastemit_lambda': 0.1, 'clamp': 0.2}]
)
def test_fastemit_and_clamp_mean_what_they_mean_in_nemo(options):
    expected, expected_gradient = loss_and_gradient('warprnnt_numba', options=options)
    value, gradient = loss_and_gradient('oracle_kd_rnnt', options=options)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize('sigma', [0.0, 0.05])
def test_multi_blank_works_on_a_cpu_and_equals_nemos_pytorch_definition(sigma):
    options = {'big_blank_durations': [2, 4], 'sigma': sigma}
    expected, expected_gradient = loss_and_gradient('multiblank_rnnt_pytorch', extra=3, options=options)
    value, gradient = loss_and_gradient('multiblank_rnnt', extra=3, options=options)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize('durations', [[0, 1, 2], [1, 2], [0, 1, 2, 3, 4]], ids=str)
@pytest.mark.parametrize('sigma', [0.0, 0.05])
def test_tdt_works_on_a_cpu_and_equals_nemos_pytorch_definition(monkeypatch, durations, sigma):
    # NeMo's reference moves its scores to CUDA whatever the device is; on a CPU it runs when that move is left out.
    monkeypatch.setattr(torch.Tensor, 'cuda', lambda tensor: tensor)
    torch.manual_seed(3)
    acts = torch.randn(3, 6, 4, LABELS + 1 + len(durations), requires_grad=True)
    reference = TDTLossPytorch(blank=LABELS, durations=durations, reduction=None, sigma=sigma)
    expected = reference(acts=acts, labels=TARGETS, act_lens=FRAMES, label_lens=LENGTHS)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), acts)
    value, gradient = loss_and_gradient(
        'tdt', extra=1 + len(durations), options={'durations': durations, 'sigma': sigma}
    )
    torch.testing.assert_close(value, expected.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=2e-6)


def test_omega_is_the_probability_of_the_plain_rnnt_loss():
    torch.manual_seed(0)
    acts = torch.randn(1, 4, 3, LABELS + 4, dtype=torch.float64)
    arguments = (torch.tensor([[1, 1]]), torch.tensor([4]), torch.tensor([2]))
    plain = rnnt_full_sum(acts[..., : LABELS + 1], *arguments, LABELS)
    timed = tdt_full_sum(acts, *arguments, LABELS, [0, 1, 2], 0.1)
    loss = TDTFullSumLoss(LABELS, [0, 1, 2], sigma=0.1, omega=0.3)
    random.seed(0)
    values = [loss(acts, *arguments).item() for _ in range(300)]
    assert set(values) == {plain.item(), timed.item()}
    assert 0.2 < values.count(plain.item()) / 300 < 0.4
    always = TDTFullSumLoss(LABELS, [0, 1, 2], omega=1.0)
    assert always(acts, *arguments).item() == plain.item()


def test_half_precision_reaches_the_loss_without_a_float32_copy():
    assert nemo_rnnt.RNNT_LOSS_RESOLVER['oracle_kd_rnnt'].force_float32 is False
    value, gradient = loss_and_gradient('oracle_kd_rnnt', dtype=torch.bfloat16)
    expected, _ = loss_and_gradient('oracle_kd_rnnt')
    assert value.dtype == torch.float32 and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(value, expected, rtol=2e-2, atol=2e-2)


def test_an_unknown_option_is_refused_with_the_valid_ones():
    with pytest.raises(ConfigError, match='fastemit_lamda.*Did you mean .fastemit_lambda'):
        loss_and_gradient('oracle_kd_rnnt', options={'fastemit_lamda': 0.1})


def test_registering_twice_wraps_once():
    before = nemo_rnnt.resolve_rnnt_loss
    register_transducer_losses()
    assert nemo_rnnt.resolve_rnnt_loss is before
    kernel = nemo_rnnt.resolve_rnnt_loss('tdt', 4, {'durations': [0, 1]})
    assert isinstance(kernel, NumbaOrFullSumLoss) and not isinstance(kernel.numba, NumbaOrFullSumLoss)


def test_the_kernel_for_both_devices_passes_on_what_nemo_sets():
    kernel = nemo_rnnt.resolve_rnnt_loss('tdt', 4, {'durations': [0, 1], 'sigma': 0.1, 'omega': 0.2})
    kernel.reduction, kernel.blank = 'sum', 0
    assert kernel.reduction == kernel.numba.reduction == kernel.full_sum.reduction == 'sum'
    assert kernel.blank == kernel.numba.blank == kernel.full_sum.blank == 0
    assert (kernel.full_sum.sigma, kernel.full_sum.omega, kernel.full_sum.durations) == (0.1, 0.2, [0, 1])
    assert not kernel.state_dict()
    with pytest.raises(ValueError, match='every device'):
        NumbaOrFullSumLoss(nemo_rnnt.resolve_rnnt_loss('warprnnt_numba', 4))


def test_modules_reduce_as_nemo_does():
    torch.manual_seed(0)
    acts = torch.randn(3, 6, 4, LABELS + 1, dtype=torch.float64)
    each = RNNTFullSumLoss(LABELS)(acts, TARGETS, FRAMES, LENGTHS)
    reduced = {
        name: RNNTFullSumLoss(LABELS, reduction=name)(acts, TARGETS, FRAMES, LENGTHS).item()
        for name in ('mean_batch', 'mean_volume', 'sum')
    }
    assert reduced == pytest.approx(
        {'mean_batch': each.mean().item(), 'mean_volume': each.sum().item() / 5, 'sum': each.sum().item()}
    )
    two = slice(0, 2)  # the mean per label has no value for an utterance without labels
    mean = RNNTFullSumLoss(LABELS, reduction='mean')(acts[two], TARGETS[two], FRAMES[two], LENGTHS[two])
    assert mean.item() == pytest.approx((each[two] / LENGTHS[two]).mean().item())


def test_logits_longer_than_the_labels_are_accepted():
    torch.manual_seed(0)
    acts = torch.randn(2, 5, 6, LABELS + 1, dtype=torch.float64)
    loss = RNNTFullSumLoss(LABELS)
    arguments = (TARGETS[:2], torch.tensor([5, 4]), LENGTHS[:2])
    assert torch.equal(loss(acts, *arguments), loss(acts[:, :, :4], *arguments))


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda: RNNTFullSumLoss(4, reduction='average'), "`reduction` is 'average': choose one of"),
        (lambda: RNNTFullSumLoss(4, fastemit_lambda=-0.1), '`fastemit_lambda` must be at least 0, not -0.1'),
        (lambda: TDTFullSumLoss(4, []), 'one must be positive'),
        (lambda: TDTFullSumLoss(4, [0, 1], omega=2.0), 'must be a probability between 0 and 1, not 2.0'),
        (lambda: MultiblankFullSumLoss(4, [1]), 'two frames or more'),
    ],
)
def test_impossible_options_are_refused_when_the_loss_is_built(make, message):
    with pytest.raises(ValueError, match=message):
        make()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Tiny real NeMo transducer models that train with our losses, selected by `model.loss.loss_name` alone."""

import tarfile

import pytest
import tiny
import torch
from nemo.collections.asr.losses.rnnt import RNNTLoss
from nemo.collections.asr.models import EncDecHybridRNNTCTCModel, EncDecRNNTBPEModel, EncDecRNNTModel
from nemo.collections.asr.parts.numba.rnnt_loss import RNNTLossNumba
from omegaconf import OmegaConf, open_dict

from nemo_oracle_kd.bridge.register.transducer_losses import restore_configured_loss
from nemo_oracle_kd.losses.rnnt_modules import NumbaOrFullSumLoss, RNNTFullSumLoss

TDT = {'durations': [0, 1, 2], 'sigma': 0.02, 'omega': 0.0, 'fastemit_lambda': 0.0}
MULTI_BLANK = {'big_blank_durations': [2, 4], 'sigma': 0.02}


def rnnt_config(train=None, loss_name='oracle_kd_rnnt', options=None, fused=False):
    """As NeMo's transducer recipes write it, on the encoder of the tiny CTC model."""
    config = OmegaConf.to_container(tiny.ctc_config(train))
    extra = {'tdt': len(TDT['durations']), 'multiblank_rnnt': len(MULTI_BLANK['big_blank_durations'])}.get(
        loss_name, 0
    )
    config['model_defaults'] = {'enc_hidden': 32, 'pred_hidden': 16, 'joint_hidden': 16}
    config['decoder'] = {
        '_target_': 'nemo.collections.asr.modules.RNNTDecoder',
        'normalization_mode': None,
        'random_state_sampling': False,
        'blank_as_pad': True,
        'vocab_size': len(tiny.LABELS),
        'prednet': {'pred_hidden': 16, 'pred_rnn_layers': 1, 't_max': None, 'dropout': 0.0},
    }
    config['joint'] = {
        '_target_': 'nemo.collections.asr.modules.RNNTJoint',
        'log_softmax': None,
        'preserve_memory': False,
        'fuse_loss_wer': fused,
        'fused_batch_size': 3,
        'num_classes': len(tiny.LABELS),
        'vocabulary': list(tiny.LABELS),
        'num_extra_outputs': extra,
        'jointnet': {'joint_hidden': 16, 'activation': 'relu', 'dropout': 0.0},
    }
    config['decoding'] = {'strategy': 'greedy', 'greedy': {'max_symbols': 3}}
    config['loss'] = {'loss_name': loss_name, f'{loss_name}_kwargs': options or {}}
    if loss_name == 'tdt':
        config['decoding'].update(model_type='tdt', durations=TDT['durations'])
    if loss_name == 'multiblank_rnnt':
        config['decoding'].update(model_type='multiblank', big_blank_durations=MULTI_BLANK['big_blank_durations'])
    return OmegaConf.create(config)


def rnnt_model(config, trainer=None):
    torch.manual_seed(0)
    return EncDecRNNTModel(cfg=config, trainer=trainer)


def one_training_loss(model, batch):
    """Loss of a training step, and the gradients of all weights, without a trainer."""
    model.train()
    model._optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    model.log_dict = lambda *args, **kwargs: None
    model._trainer = type('Trainer', (), {'log_every_n_steps': 1000, 'global_step': 0})()
    torch.manual_seed(1)
    loss = model.training_step(batch, 0)
    loss = loss['loss']
    model.zero_grad()
    loss.backward()
    return loss.item(), {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
    }


@pytest.fixture(scope='module')
def audio():
    torch.manual_seed(0)
    lengths = torch.tensor([4000, 3200, 2000, 3600])
    texts = torch.tensor([[1, 2, 2, 3], [4, 0, 0, 0], [2, 3, 0, 0], [1, 0, 1, 0]])
    return torch.randn(4, 4000) * 0.1, lengths, texts, torch.tensor([4, 1, 2, 3])


@pytest.mark.integration
@pytest.mark.parametrize('fused', [False, True], ids=['plain joint', 'fused joint'])
def test_a_training_step_equals_that_of_warprnnt_numba(audio, fused):
    expected, expected_gradients = one_training_loss(
        rnnt_model(rnnt_config(None, 'warprnnt_numba', fused=fused)), audio
    )
    model = rnnt_model(rnnt_config(None, 'oracle_kd_rnnt', fused=fused))
    assert isinstance(model.loss._loss, RNNTFullSumLoss)
    loss, gradients = one_training_loss(model, audio)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected_gradients[name], rtol=1e-3, atol=2e-4, msg=lambda m, n=name: f'{n}: {m}'
        )


@pytest.mark.integration
@pytest.mark.parametrize(
    'loss_name, options, fused',
    [
        ('oracle_kd_rnnt', {}, True),
        ('tdt', TDT, False),
        ('tdt', TDT, True),
        ('multiblank_rnnt', MULTI_BLANK, False),
    ],
    ids=['rnnt, fused joint', 'tdt', 'tdt, fused joint', 'multi-blank'],
)
def test_a_model_trains_on_a_cpu(tone_corpus, loss_name, options, fused):
    trainer = tiny.trainer(12, log_every_n_steps=1000)
    model = rnnt_model(rnnt_config(tone_corpus, loss_name, options, fused), trainer)
    losses = []
    step = model.training_step
    model.training_step = lambda *args: losses.append(step(*args)) or losses[-1]
    trainer.fit(model)
    values = [float(output['loss'].detach()) for output in losses]
    assert len(values) == 12 and all(value == value for value in values)
    assert sum(values[-3:]) < 0.8 * sum(values[:3])


@pytest.mark.integration
def test_a_hybrid_model_uses_the_loss_too(audio):
    config = rnnt_config(None, 'oracle_kd_rnnt')
    with open_dict(config):
        config.aux_ctc = {
            'ctc_loss_weight': 0.3,
            'decoder': tiny.ctc_config().decoder,
            'decoding': {'strategy': 'greedy'},
        }
    torch.manual_seed(0)
    model = EncDecHybridRNNTCTCModel(cfg=config)
    assert isinstance(model.loss._loss, RNNTFullSumLoss)
    loss, gradients = one_training_loss(model, audio)
    assert loss > 0 and any(name.startswith('joint') for name in gradients)


@pytest.mark.integration
def test_a_saved_model_is_a_stock_model_with_nemos_own_loss(audio, tmp_path):
    options = {'fastemit_lambda': 0.1, 'clamp': 0.5}
    model = rnnt_model(rnnt_config(None, 'oracle_kd_rnnt', options, fused=True))
    expected, _ = one_training_loss(model, audio)
    model.save_to(str(tmp_path / 'model.nemo'))
    assert model.cfg.loss.loss_name == 'oracle_kd_rnnt'
    with tarfile.open(tmp_path / 'model.nemo') as archive:
        member = next(name for name in archive.getnames() if name.endswith('model_config.yaml'))
        text = archive.extractfile(member).read().decode()
    assert 'oracle_kd' not in text
    restored = EncDecRNNTModel.restore_from(str(tmp_path / 'model.nemo'))
    assert type(restored) is EncDecRNNTModel and isinstance(restored.joint.loss._loss, RNNTLossNumba)
    assert restored.cfg.loss.warprnnt_numba_kwargs == options
    assert one_training_loss(restored, audio)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.integration
def test_a_saved_tdt_keeps_its_loss(audio, tmp_path):
    model = rnnt_model(rnnt_config(None, 'tdt', TDT))
    expected, _ = one_training_loss(model, audio)
    model.save_to(str(tmp_path / 'model.nemo'))
    restored = EncDecRNNTModel.restore_from(str(tmp_path / 'model.nemo'))
    assert restored.cfg.loss.loss_name == 'tdt' and isinstance(restored.loss._loss, NumbaOrFullSumLoss)
    assert one_training_loss(restored, audio)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize('loss_name, options', [('oracle_kd_rnnt', {}), ('tdt', TDT)], ids=['rnnt', 'tdt'])
def test_a_new_vocabulary_keeps_the_configured_loss(tone_corpus, audio, loss_name, options):
    config = rnnt_config(tone_corpus, loss_name, options, fused=True)
    config.rnnt_reduction = 'mean_volume'
    model = rnnt_model(config)
    model.change_vocabulary([*tiny.LABELS, 'e', 'f'])
    assert model.loss.reduction == 'mean_volume' and model.joint.loss is model.loss
    assert isinstance(model.loss._loss, RNNTFullSumLoss if loss_name == 'oracle_kd_rnnt' else NumbaOrFullSumLoss)
    assert model.loss._loss.blank == len(tiny.LABELS) + 2
    loss, _ = one_training_loss(model, audio)
    assert loss > 0


@pytest.mark.integration
def test_a_loss_of_nemos_own_is_left_alone(audio):
    model = rnnt_model(rnnt_config(None, 'warprnnt_numba'))
    before = model.loss
    assert restore_configured_loss(model) is False and model.loss is before
    assert isinstance(before._loss, RNNTLossNumba)


def test_nemos_bpe_models_forget_the_loss_and_we_put_it_back():
    # What NeMo's BPE models do at the end of change_vocabulary, on a model with the same attributes.
    model = rnnt_model(rnnt_config(None, 'oracle_kd_rnnt', fused=True))
    model.loss = RNNTLoss(num_classes=model.joint.num_classes_with_blank - 1)
    assert restore_configured_loss(model)
    assert isinstance(model.loss._loss, RNNTFullSumLoss) and model.joint.loss is model.loss
    assert hasattr(EncDecRNNTBPEModel.change_vocabulary, '__wrapped__')

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The hooks around NeMo's losses, on real models: per utterance, fused or not, hybrid, and gone without a trace."""

import copy

import pytest
import tiny
import torch
from nemo.collections.asr.losses.ctc import CTCLoss
from nemo.collections.asr.losses.rnnt import RNNTLoss

from nemo_oracle_kd.bridge.hooks.student import DistilledCTCLoss, LossHooks
from nemo_oracle_kd.bridge.hooks.transducer import DistilledTransducerLoss, loss_modifiers


def _ctc_arguments():
    torch.manual_seed(1)
    logits = torch.randn(4, 9, 6, requires_grad=True)
    return logits, {
        'log_probs': logits.log_softmax(-1),
        'targets': torch.tensor([[1, 2, 3, 0], [2, 2, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]),
        'input_lengths': torch.tensor([9, 4, 7, 6]),
        'target_lengths': torch.tensor([3, 2, 0, 4]),  # the last needs 7 frames and has 6
    }


@pytest.mark.parametrize('reduction', ['mean_batch', 'mean_volume', 'mean', 'sum'])
def test_the_ctc_losses_per_utterance_reduce_to_what_nemo_says_with_the_same_gradient(reduction):
    inner = CTCLoss(num_classes=5, zero_infinity=True, reduction=reduction)
    seen = []

    def step_loss(step):
        seen.append(step)
        return step.reduce(step.label_losses.masked_fill(step.label_losses.isinf(), 0.0), step.transcripts.lengths)

    gradients, values = [], []
    for hook in (inner, DistilledCTCLoss(inner, step_loss)):
        logits, arguments = _ctc_arguments()
        if hook is not inner:
            hook.arm()
        values.append(hook(**arguments))
        values[-1].backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1])
    (step,) = seen
    assert step.head == 'ctc' and step.label_losses.shape == (4,) and step.log_probs.shape == (4, 9, 6)
    assert step.label_losses.isinf().tolist() == [False, False, False, True]
    assert inner.config_reduction == reduction and inner(**_ctc_arguments()[1]).shape == ()


def test_labels_without_an_alignment_are_infinite_with_gradient_zero():
    hook = DistilledCTCLoss(CTCLoss(5, zero_infinity=True), lambda step: step.label_losses[3])
    logits, arguments = _ctc_arguments()
    hook.arm()
    loss = hook(**arguments)
    loss.backward()
    assert loss.isinf() and not logits.grad.any()


def test_without_an_announcement_or_without_gradients_the_loss_is_nemos():
    inner = CTCLoss(5, zero_infinity=True)
    hook = DistilledCTCLoss(inner, lambda step: step.label_losses.sum() * torch.nan)
    arguments = _ctc_arguments()[1]
    assert torch.equal(hook(**arguments), inner(**arguments))
    hook.arm()
    with torch.no_grad():
        assert torch.equal(hook(**arguments), inner(**arguments))
    assert hook(**arguments).isnan() and torch.equal(hook(**arguments), inner(**arguments))


def _transducer(train, kind, fused, hybrid=False):
    # few frames, because NeMo's own losses are slow on a CPU
    config = tiny.rnnt_config(train, kind=kind, hybrid=hybrid, hidden=16, stride=8, rnnt_loss='default')
    config.joint.fuse_loss_wer, config.joint.fused_batch_size = fused, 2
    config.preprocessor.dither = 0.0
    return tiny.rnnt_model(config)


def _step(model, step_loss, batch):
    """Encoder, prediction network, joint and loss as NeMo's training steps call them."""
    hooks = LossHooks(model, step_loss)
    hooks.arm()
    signal, signal_lengths, labels, label_lengths = batch
    encoded, lengths = model(input_signal=signal, input_signal_length=signal_lengths)
    predicted, target_lengths, _ = model.decoder(targets=labels, target_length=label_lengths)
    if model.joint.fuse_loss_wer:
        loss, *_ = model.joint(
            encoder_outputs=encoded,
            decoder_outputs=predicted,
            encoder_lengths=lengths,
            transcripts=labels,
            transcript_lengths=label_lengths,
            compute_wer=False,
        )
    else:
        joint = model.joint(encoder_outputs=encoded, decoder_outputs=predicted)
        loss = model.loss(log_probs=joint, targets=labels, input_lengths=lengths, target_lengths=target_lengths)
    pending = hooks.pending
    hooks.detach(model)
    return loss, pending


def _first_batch(model):
    return next(iter(model._train_dl))


@pytest.mark.parametrize('kind', ['rnnt', 'tdt', 'multiblank_rnnt'])
def test_the_fused_joint_gives_the_same_step_loss_and_gradients(tone_corpus, kind):
    def weighted(step):  # something no reduction of NeMo's could give
        seen.append(step)
        return step.reduce(step.label_losses * torch.tensor([1.0, -2.0, 0.0, 0.5]), step.transcripts.lengths)

    results, batch = [], None
    for fused in (False, True):
        seen = []
        model = _transducer(tone_corpus, kind, fused)
        batch = batch or _first_batch(model)
        loss, pending = _step(model, weighted, batch)
        loss.backward()
        (step,) = seen
        assert not pending and step.head == 'transducer' and model.loss.reduction == 'mean_batch'
        assert type(model.loss) is RNNTLoss and (not fused or model.joint.loss is model.loss)
        results.append((step, loss, {name: value.grad for name, value in model.named_parameters()}))
    (plain, plain_loss, plain_gradients), (fused, fused_loss, fused_gradients) = results
    torch.testing.assert_close(plain_loss, fused_loss)
    for field in ('label_losses', 'lengths', 'encoded', 'predicted'):
        torch.testing.assert_close(getattr(plain, field), getattr(fused, field), msg=field)
    assert torch.equal(plain.transcripts.lengths, fused.transcripts.lengths)
    assert plain.encoded.shape[1] == 16 and plain.predicted.shape[2] == plain.transcripts.labels.shape[1] + 1
    for name, gradient in plain_gradients.items():
        torch.testing.assert_close(gradient, fused_gradients[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize('fused', [False, True])
def test_the_reduced_losses_are_nemos_own_loss(tone_corpus, fused):
    model = _transducer(tone_corpus, 'rnnt', fused)
    model.eval()  # batch statistics and dropout aside, both calls see the same model
    batch, losses = _first_batch(model), []
    for reduction in ('mean_batch', 'mean_volume', 'mean', 'sum'):
        model.loss.reduction = reduction
        loss, _ = _step(model, lambda step: step.reduce(step.label_losses, step.transcripts.lengths), batch)
        plain, _ = _step_without_hooks(model, batch)
        torch.testing.assert_close(loss, plain, msg=reduction)
        losses.append(float(loss.detach()))
    assert len(set(losses)) == 4  # the utterances differ in length, so no reduction passes for another


def _step_without_hooks(model, batch):
    signal, signal_lengths, labels, label_lengths = batch
    encoded, lengths = model(input_signal=signal, input_signal_length=signal_lengths)
    predicted, _, _ = model.decoder(targets=labels, target_length=label_lengths)
    whole = tiny_joint(model, encoded, predicted)
    return model.loss(log_probs=whole, targets=labels, input_lengths=lengths, target_lengths=label_lengths), batch


def tiny_joint(model, encoded, predicted):
    """The joint over the whole batch, also of a model that fuses it with the loss."""
    return model.joint.joint(encoded.transpose(1, 2), predicted.transpose(1, 2))


@pytest.mark.parametrize('fused', [False, True])
def test_the_state_dict_is_the_same_and_a_copy_does_not_distil(tone_corpus, fused):
    model = _transducer(tone_corpus, 'rnnt', fused, hybrid=True)
    keys = list(model.state_dict())
    hooks = LossHooks(model, lambda step: step.label_losses.sum() * torch.nan)
    assert hooks.heads == ['transducer', 'ctc'] and list(model.state_dict()) == keys
    assert type(model.loss) is DistilledTransducerLoss and type(model.ctc_loss) is DistilledCTCLoss
    hooks.arm()
    double = copy.deepcopy({name: getattr(model, name) for name in ('joint', 'loss', 'ctc_loss', 'decoder')})
    assert type(double['loss']) is RNNTLoss and type(double['ctc_loss']) is CTCLoss
    assert not fused or double['joint'].loss is double['loss']
    seen = torch.zeros(1, 16, 5), torch.zeros(1, 24, 1)
    if not fused:
        assert double['joint'](encoder_outputs=seen[0], decoder_outputs=seen[1]).isfinite().all()
    assert hooks.pending and model.loss._watch.seen is None
    hooks.detach(model)
    assert type(model.loss) is RNNTLoss and type(model.ctc_loss) is CTCLoss and not model.joint._forward_pre_hooks
    assert not fused or model.joint.loss is model.loss


def test_a_second_hook_is_refused_and_leaves_the_first(tone_corpus):
    model = _transducer(tone_corpus, 'rnnt', False, hybrid=True)
    LossHooks(model, lambda step: step.label_losses.sum())
    before = model.loss, model.ctc_loss
    with pytest.raises(ValueError, match='already has a distillation'):
        LossHooks(model, lambda step: step.label_losses.sum())
    assert (model.loss, model.ctc_loss) == before


def test_the_ctc_head_of_a_hybrid_model_is_hooked_only_where_it_is_trained(tone_corpus):
    model = _transducer(tone_corpus, 'rnnt', False, hybrid=True)
    model.ctc_loss_weight = 0.0
    assert LossHooks(model, lambda step: step.label_losses.sum()).heads == ['transducer']


def test_a_loss_without_reduction_is_refused(tone_corpus):
    model = _transducer(tone_corpus, 'rnnt', False)
    model.loss.reduction = None
    with pytest.raises(ValueError, match='rnnt_reduction` is null'):
        LossHooks(model, lambda step: step.label_losses.sum())


def test_a_sampled_joint_still_reaches_the_kernel_of_its_loss(tone_corpus):
    config = tiny.rnnt_config(tone_corpus, hidden=16, stride=8, rnnt_loss='default')
    config.joint.update(_target_='nemo.collections.asr.modules.SampledRNNTJoint', n_samples=3)
    config.joint.update(fuse_loss_wer=True, fused_batch_size=2)
    model = tiny.rnnt_model(config)
    blank = model.loss._loss.blank
    loss, pending = _step(model, lambda step: step.label_losses.max(), _first_batch(model))
    assert loss.isfinite() and not pending and model.loss._loss.blank == blank


def test_the_options_that_change_a_transducer_loss_are_found():
    config = tiny.rnnt_config(kind='tdt')
    config.loss.tdt_kwargs.update(omega=0.1, fastemit_lambda=0.005)
    model = tiny.rnnt_model(config)
    assert loss_modifiers(model) == pytest.approx({'sigma': 0.05, 'omega': 0.1, 'fastemit_lambda': 0.005})
    assert loss_modifiers(tiny.rnnt_model(tiny.rnnt_config())) == {}
    assert loss_modifiers(tiny.ctc_model(tiny.ctc_config())) == {}

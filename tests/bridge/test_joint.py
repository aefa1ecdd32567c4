# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The joint of a real NeMo transducer as tensors: the lattice losses are those of what `model.joint` computes."""

import functools

import pytest
import tiny
import torch
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.encode import encode_audio, predict_labels
from nemo_oracle_kd.bridge.joint import (
    joint_dropout,
    joint_problems,
    joint_tensors,
)
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.signals import AudioBatch, Transcripts
from nemo_oracle_kd.functional import valid_cells
from nemo_oracle_kd.losses.lattice import LATTICE_OBJECTIVES
from nemo_oracle_kd.losses.transducer_side import TransducerSide

BATCH, FRAMES, LABELS = 3, 7, 4


@functools.cache
def model(kind='rnnt', seed=0, **options):
    """A tiny transducer in double precision, its weights larger than at the start so that posteriors differ; no test changes it."""
    config = tiny.rnnt_config(kind=kind, **options)
    built = tiny.rnnt_model(config, seed=seed).double().eval()
    with torch.no_grad():
        for name, weight in built.named_parameters():
            if name.startswith(('joint', 'decoder')):
                weight.mul_(3.0)
    return built


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(tiny.LABELS), (BATCH, LABELS), generator=generator)
    return labels, torch.tensor([FRAMES, FRAMES - 3, FRAMES - 1]), torch.tensor([LABELS, LABELS - 1, 0])


def inputs(of, seed, labels, label_lengths):
    """Random encoder output `[B, D, T]`, with gradient, and the output of the prediction network."""
    dtype = next(of.joint.parameters()).dtype
    generator = torch.Generator().manual_seed(seed)
    width = of.joint.encoder_hidden
    encoded = torch.randn(BATCH, width, FRAMES, generator=generator).to(dtype).requires_grad_()
    predicted, _, _ = of.decoder(targets=labels, target_length=label_lengths)
    return encoded, predicted


def side(of, encoded, predicted, lengths, **options):
    return TransducerSide(joint_tensors(of, encoded, predicted, **options), encoded.transpose(1, 2), lengths)


def build(name, head, **options):
    config, loss = LATTICE_OBJECTIVES[name]
    return loss(config(**options), head.transducer, name)


def materialised(student, teacher, head, labels, lengths, label_lengths, divergence):
    """`[B]`, from the lattices that NeMo's joint makes."""
    ours, theirs = (of.joint(encoder_outputs=e, decoder_outputs=p) for of, e, p in (student, teacher))
    cells = valid_cells(lengths, label_lengths, FRAMES, LABELS + 1)
    total = 0.0
    for softmax in head.transducer.softmaxes:
        p, q = (x[..., softmax.start : softmax.stop].log_softmax(-1) for x in (theirs.detach(), ours))
        if divergence == 'reverse_kl':
            p, q = q, p
        total = total + (p.exp() * (p - q)).sum(-1)
    return torch.where(cells, total, 0.0).sum((1, 2))


def gradients(of, encoded, loss):
    """Of the encoder output, the prediction network and the joint: all that a lattice teaches."""
    weights = [*of.decoder.parameters(), *of.joint.parameters()]
    return torch.autograd.grad(loss, [encoded, *weights], retain_graph=True)


@pytest.mark.unit
@pytest.mark.parametrize('divergence', ['kl', 'reverse_kl'])
@pytest.mark.parametrize('kind, joint_hidden', [('rnnt', 24), ('rnnt', 16), ('tdt', 24), ('multiblank_rnnt', 24)])
def test_the_lattice_loss_is_that_of_the_joints_own_outputs(kind, joint_hidden, divergence):
    student, teacher = model(kind), model(kind, seed=1, joint_hidden=joint_hidden)
    head = find_head(student)
    labels, lengths, label_lengths = batch()
    given = inputs(student, 2, labels, label_lengths)
    theirs = inputs(teacher, 3, labels, label_lengths)
    loss = build('lattice', head, divergence=divergence)
    ours = loss(side(student, *given, lengths), side(teacher, *theirs, lengths), labels, label_lengths)
    expected = materialised((student, *given), (teacher, *theirs), head, labels, lengths, label_lengths, divergence)
    assert (expected > 0.1).all() and torch.allclose(ours, expected, rtol=1e-10)
    got, wanted = (gradients(student, given[0], x.sum()) for x in (ours, expected))
    assert all(torch.allclose(a, b, rtol=1e-8, atol=1e-10 * b.abs().max()) for a, b in zip(got, wanted))
    assert all(b.abs().max() > 0 for b in wanted)


@pytest.mark.unit
def test_single_precision_agrees_with_the_joint_to_six_digits():
    student, teacher = (model.__wrapped__(seed=seed).float() for seed in (0, 1))  # not those of the other tests
    head = find_head(student)
    labels, lengths, label_lengths = batch()
    given, theirs = (inputs(of, seed, labels, label_lengths) for of, seed in ((student, 2), (teacher, 3)))
    ours = build('lattice', head)(
        side(student, *given, lengths), side(teacher, *theirs, lengths), labels, label_lengths
    )
    expected = materialised((student, *given), (teacher, *theirs), head, labels, lengths, label_lengths, 'kl')
    assert torch.allclose(ours, expected, rtol=1e-6)
    got, wanted = (gradients(student, given[0], x.sum()) for x in (ours, expected))
    assert all(float((a - b).abs().max() / b.abs().max()) < 1e-5 for a, b in zip(got, wanted))


@pytest.mark.unit
@pytest.mark.parametrize('kind', ['rnnt', 'tdt', 'multiblank_rnnt'])
@pytest.mark.parametrize('name', LATTICE_OBJECTIVES)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name, kind):
    one = model(kind)
    labels, lengths, label_lengths = batch()
    encoded, predicted = inputs(one, 2, labels, label_lengths)
    of_it = side(one, encoded, predicted, lengths)
    loss = build(name, find_head(one))(of_it, of_it, labels, label_lengths)
    assert loss.shape == (BATCH,) and loss.abs().max() < 1e-10
    reached = torch.autograd.grad(loss.sum(), [encoded, *one.joint.parameters()], allow_unused=True)
    assert all(g is None or g.abs().max() < 1e-10 for g in reached) and reached[0] is not None


@pytest.mark.unit
def test_the_joints_dropout_is_used_in_training_alone_and_can_be_left_out():
    config = tiny.rnnt_config()
    config.joint.jointnet.dropout = 0.25
    of = tiny.rnnt_model(config)
    labels, _, label_lengths = batch()
    predicted, _, _ = of.decoder(targets=labels, target_length=label_lengths)
    encoded = torch.randn(BATCH, 32, FRAMES)
    assert joint_dropout(of) == 0.25
    assert joint_tensors(of.train(), encoded, predicted).dropout == 0.25
    assert joint_tensors(of, encoded, predicted, dropout=False).dropout == 0.0
    assert joint_tensors(of.eval(), encoded, predicted).dropout == 0.0


@pytest.mark.unit
def test_a_frozen_transducer_is_run_as_nemo_runs_it():
    of = model.__wrapped__().float()
    signal = torch.randn(2, 4000) * 0.1
    audio = AudioBatch(signal, torch.tensor([4000, 3000]), Transcripts(batch()[0][:2], torch.tensor([4, 3])))
    with torch.no_grad():
        heard, said = encode_audio(of, audio), predict_labels(of, audio.transcripts)
    encoded, lengths = of.forward(input_signal=signal.clone(), input_signal_length=audio.lengths)
    assert torch.equal(heard.lengths, lengths) and heard.lengths.dtype == torch.long
    assert torch.allclose(heard.encoded, encoded, atol=1e-3) and heard.log_probs is None
    predicted, _, _ = of.decoder(targets=audio.transcripts.labels, target_length=audio.transcripts.lengths)
    assert torch.allclose(said, predicted, atol=1e-6) and said.shape[2] == 5 and not said.requires_grad


@pytest.mark.unit
def test_joints_that_compute_something_else_are_refused_with_the_fix():
    stock = tiny.rnnt_model(tiny.rnnt_config())
    assert list(joint_problems(stock, 'student', training=True)) == []

    stock.joint.temperature = 2.0
    (problem,) = joint_problems(stock, 'teacher', training=False)
    assert "the teacher's joint divides its logits by a temperature of 2" in problem and 'back to 1' in problem
    stock.joint.temperature = 1.0

    config = tiny.rnnt_config()
    config.joint.masking_prob = 0.3
    masked = tiny.rnnt_model(config)
    (problem,) = joint_problems(masked, 'student', training=True)
    assert 'masking_prob=-1' in problem and list(joint_problems(masked, 'teacher', training=False)) == []

    for target in ('SampledRNNTJoint', 'HATJoint'):
        config = tiny.rnnt_config()
        module = 'hybrid_autoregressive_transducer.' if target == 'HATJoint' else ''
        config.joint['_target_'] = f'nemo.collections.asr.modules.{module}{target}'
        if target == 'SampledRNNTJoint':
            config.joint.n_samples = 3
        (problem,) = joint_problems(tiny.rnnt_model(config), 'student', training=True)
        assert target in problem and 'modules.RNNTJoint' in problem

    adapter = {'_target_': 'nemo.collections.common.parts.adapter_modules.LinearAdapter', 'in_features': 24, 'dim': 4}
    stock.joint.add_adapter('extra', OmegaConf.create(adapter))
    (problem,) = joint_problems(stock, 'student', training=True)
    assert 'adapters' in problem and 'set_enabled_adapters(enabled=False)' in problem
    stock.joint.set_enabled_adapters(enabled=False)
    assert list(joint_problems(stock, 'student', training=True)) == []

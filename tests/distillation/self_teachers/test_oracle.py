# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The label branch of a student that teaches itself: its loss, whom it teaches, when it starts."""

import pytest
import tiny
import torch
from tiny_self import CALM_ORACLE, callback, calm_config, fit, gradients_of, logged, streaming_config, watch_step

from nemo_oracle_kd.bridge.audio_path import AudioPath
from nemo_oracle_kd.bridge.hooks.guest import GUEST
from nemo_oracle_kd.errors import ConfigError


def _first_step(distillation, config):
    """The student's step, the branch's posteriors and the terms of the first step."""
    seen = watch_step(distillation)
    trainer, _ = fit(distillation, config, 1)
    return seen, logged(trainer)


def _ctc(log_probs, step):
    """torch's own loss, `[B]`."""
    texts = step.transcripts
    arguments = (texts.labels, step.lengths, texts.lengths)
    return torch.nn.functional.ctc_loss(log_probs.detach().transpose(0, 1), *arguments, blank=5, reduction='none')


@pytest.mark.parametrize('gradients', ['student', 'both'])
def test_the_terms_of_a_step_are_those_computed_by_hand(tone_corpus, gradients):
    teacher = {**CALM_ORACLE, 'gradients': gradients, 'loss_weight': 0.5}
    distillation = callback(teacher, {'softmax_l2': {'weight': 2.0}})
    seen, terms = _first_step(distillation, calm_config(tone_corpus))
    step, heard = seen['step'], seen['heard']
    mask = torch.arange(heard.log_probs.shape[1]) < step.lengths[:, None]
    distance = ((heard.log_probs.exp() - step.log_probs.exp()).square().sum(2) * mask).sum(1).mean()
    label, oracle = _ctc(step.log_probs, step).mean(), _ctc(heard.log_probs, step).mean()
    assert terms['label_loss'] == pytest.approx(float(label), rel=1e-4)
    assert terms['oracle_loss'] == pytest.approx(float(oracle), rel=1e-4)
    assert terms['softmax_l2'] == pytest.approx(float(distance.detach()), rel=1e-4)
    total = label + 0.5 * oracle + 2.0 * distance * (2 if gradients == 'both' else 1)
    assert terms['loss'] == pytest.approx(float(total.detach()), rel=1e-4)
    assert ('softmax_l2_back' in terms) == (gradients == 'both')


def test_two_views_beside_the_branch_add_the_terms_of_cr_ctc_computed_by_hand(tone_corpus, monkeypatch):
    heard, forward = [], AudioPath.forward

    def hear(path, batch, augment):
        heard.append(forward(path, batch, augment))
        return heard[-1]

    monkeypatch.setattr(AudioPath, 'forward', hear)
    teacher = {**CALM_ORACLE, 'view_weight': 0.2, 'loss_weight': 0.5, 'held_out_batches': 0}
    distillation = callback(teacher, {'softmax_l2': {'weight': 2.0}})
    seen, terms = _first_step(distillation, calm_config(tone_corpus, augment=True))
    step, (view,) = seen['step'], heard
    a, b = step.log_probs.detach(), view.log_probs.detach()
    mask = torch.arange(a.shape[1]) < step.lengths[:, None]
    between = (((a.exp() - b.exp()) * (a - b)).sum(2) * mask).sum(1).mean() / 2
    labels = (_ctc(a, step).mean() + _ctc(b, step).mean()) / 2
    assert not torch.allclose(a, b, atol=1e-3), "two draws of SpecAugment"
    assert terms['view_kl'] == pytest.approx(float(between), rel=1e-3)
    taught = 0.5 * terms['oracle_loss'] + 2.0 * terms['softmax_l2']
    assert terms['loss'] == pytest.approx(float(labels + 0.2 * between) + taught, rel=1e-4)


def test_both_views_beside_the_branch_give_gradient(tone_corpus):
    def gradients(weight):
        teacher = {**CALM_ORACLE, 'view_weight': weight, 'loss_weight': 1e-9, 'encoder_gradient': False}
        options = {'label_loss': {'weight': 1e-9}}
        return gradients_of(
            callback(teacher, {'softmax_l2': {'weight': 0.0}}, **options), calm_config(tone_corpus, augment=True)
        )

    one, two = gradients(0.2), gradients(0.4)
    name = 'decoder.decoder_layers.0.weight'
    assert float(one[name].abs().max()) > 0
    assert torch.allclose(two[name], 2 * one[name], rtol=1e-4, atol=1e-7)


def _difference(tone_corpus, teacher, **objective):
    """Gradients of the objective alone: those with it minus those without, per side."""
    config = calm_config(tone_corpus)
    with_it = gradients_of(callback(teacher, {'softmax_l2': {'weight': 3.0, **objective}}), config)
    without = gradients_of(callback(teacher, {'softmax_l2': {'weight': 0.0}}), config)
    return {
        side: max(float((with_it[name] - without[name]).abs().max()) for name in with_it if name.startswith(prefix))
        for side, prefix in {'branch': GUEST, 'decoder': 'decoder', 'encoder': 'encoder'}.items()
    }


def test_the_objective_teaches_the_student_alone_or_both(tone_corpus):
    alone = _difference(tone_corpus, CALM_ORACLE)
    assert alone['branch'] == 0 and alone['decoder'] > 1e-4 and alone['encoder'] > 1e-4
    both = _difference(tone_corpus, {**CALM_ORACLE, 'gradients': 'both'})
    assert both['branch'] > 1e-4 and both['decoder'] == pytest.approx(alone['decoder'], rel=1e-3)


def test_the_loss_of_the_branch_trains_the_encoder_or_not(tone_corpus):
    config, none = calm_config(tone_corpus), {'softmax_l2': {'weight': 0.0}}
    plain = gradients_of(None, config)
    detached = gradients_of(callback({**CALM_ORACLE, 'encoder_gradient': False}, none), config)
    joint = gradients_of(callback(CALM_ORACLE, none), config)
    names = [name for name in plain if name.startswith('encoder') and plain[name] is not None]
    assert all(torch.allclose(detached[name], plain[name], atol=1e-6) for name in names)
    assert any(not torch.allclose(joint[name], plain[name], atol=1e-4) for name in names)
    assert all(joint[name] is not None for name in joint if name.startswith(GUEST))


def test_the_branch_waits_for_the_students_own_loss_then_for_its_own_and_listens(tone_corpus):
    states = []

    def look(trainer, student):
        teacher = distillation.distiller.teacher
        trained = any(parameter.grad is not None for parameter in teacher.parameters())
        states.append((teacher.start.since, teacher.teaches_since, teacher.readiness, trained))

    # the student's own weights learn more slowly than the branch, so that the branch can catch up with them
    config = calm_config(tone_corpus, hidden=32)
    config.optim_param_groups = {'encoder': {'lr': 0.003}, 'decoder': {'lr': 0.003}}
    teacher = {'self': 'oracle', 'start_below': 3.0, 'teach_below': 2.0, 'ramp': 4, 'encoder_gradient': False}
    distillation = callback(teacher)
    trainer, _ = fit(distillation, config, 120, look, log_every_n_steps=120)
    begun = next(index for index, state in enumerate(states) if state[0] is not None)
    taught = next(index for index, state in enumerate(states) if state[1] is not None)
    assert 0 < begun < taught
    assert not any(state[3] for state in states[:begun])
    assert all(state[2] == 0 for state in states[:taught])
    assert [state[2] for state in states[taught : taught + 5]] == [0.25, 0.5, 0.75, 1.0, 1.0]
    terms = logged(trainer)
    assert terms['oracle_own'] < terms['oracle_wrong'] and terms['oracle_heard_share'] > 0.25


def test_while_the_branch_waits_the_updates_are_those_of_nemo_itself(tone_corpus):
    config = calm_config(tone_corpus)
    _, waiting = fit(callback({'self': 'oracle', 'start_below': 1e-3}), config, 4)
    _, plain = fit(None, config, 4)
    for (name, left), right in zip(waiting.state_dict().items(), plain.state_dict().values()):
        torch.testing.assert_close(left, right, msg=name)


def test_the_ctc_head_of_a_hybrid_student_is_taught(tone_corpus):
    config = tiny.rnnt_config(tone_corpus, hybrid=True, hidden=16)
    trainer = tiny.trainer(2, callbacks=[callback(CALM_ORACLE)], log_every_n_steps=1)
    student = tiny.rnnt_model(config, trainer)
    trainer.fit(student)
    terms = logged(trainer)
    assert terms['oracle_loss'] > 0 and terms['softmax_l2_weighted'] > 0 and not hasattr(student, GUEST)


def test_the_outputs_of_a_causal_student_see_no_future_with_the_branch_attached(tone_corpus):
    def outputs(student, signal):
        student.eval()
        with torch.no_grad():
            log_probs, _, _ = student(input_signal=signal, input_signal_length=torch.tensor([8000]))
        student.train()
        return log_probs[0]

    differences = []

    def look(trainer, student):
        torch.manual_seed(0)
        signal = 0.1 * torch.randn(1, 8000)
        changed = signal.clone()
        changed[:, 5600:] += torch.randn(1, 2400)  # from 0.7 s, frame 17.5, chunk 16..17, on
        assert hasattr(student, GUEST)
        differences.append((outputs(student, signal) - outputs(student, changed)).abs().max(1).values)

    trainer, _ = fit(callback(CALM_ORACLE), streaming_config(tone_corpus), 3, look)
    assert logged(trainer)['softmax_l2_weighted'] > 0
    for difference in differences:
        assert float(difference[:16].max()) < 1e-5 < 1e-3 < float(difference[18:].max())


@pytest.mark.parametrize(
    'options, sentence',
    [
        ({'gradients': 'teacher'}, 'gradients` is .teacher.: choose one of student, both'),
        ({'loss_weight': 0}, 'the branch would learn nothing'),
        ({'width': 30}, r'width` \(30\) must be a multiple of `.*fusion.n_heads` \(4\)'),
        ({'view_weight': -0.2}, 'view_weight` must be a finite number of at least 0'),
        ({'teach_below': 0}, 'teach_below` must be a number above 0'),
        ({'listen_every': -1}, 'listen_every` must be at least 0'),
        ({'start_below': -1}, 'start_below` must be a number of nats above 0'),
        ({'time_resampling': 'linear'}, 'this teacher is the student itself: remove them'),
        ({'decay': 0.9}, "Unknown key 'decay'"),
    ],
)
def test_options_that_cannot_work_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        callback({'self': 'oracle', **options})


def test_students_and_objectives_that_cannot_work_are_refused_before_the_first_step(tone_corpus):
    config = tiny.rnnt_config(tone_corpus, hidden=16)
    trainer = tiny.trainer(1, callbacks=[callback({'self': 'oracle'})])
    with pytest.raises(ConfigError, match='is not trained with a CTC head'):
        trainer.fit(tiny.rnnt_model(config, trainer))
    with pytest.raises(ConfigError, match='full_sum compares scores of texts, which a self-teacher does not give'):
        fit(callback({'self': 'oracle'}, {'full_sum': {}}), calm_config(tone_corpus), 1)
    with pytest.raises(ConfigError, match='view_weight compares two draws of SpecAugment, and this student has none'):
        fit(callback({**CALM_ORACLE, 'view_weight': 0.2}), calm_config(tone_corpus), 1)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Frame objectives of a student that emits later than its teacher: given and estimated shifts."""

import pytest
import tiny
import torch

from nemo_oracle_kd.bridge.signals import EncodedAudio, StudentStep, Transcripts
from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.distillation.families.context import StepContext
from nemo_oracle_kd.distillation.families.frame import FrameFamily
from nemo_oracle_kd.distillation.settings import DistillationConfig
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.losses.objectives import OBJECTIVES

BLANK = 2
LABELS, COUNTS, LENGTHS = torch.tensor([[0, 1], [1, 0]]), torch.tensor([2, 1]), torch.tensor([12, 9])
ALL = {'frame_kl': None, 'softmax_l2': None, 'guided_ctc': None, 'occupancy': None}


def spiky(times):
    """Log-posteriors `[B, 12, 3]` that are sure of blank but at the given frames of the labels."""
    logits = torch.zeros(len(times), 12, 3, dtype=torch.float64)
    logits[..., BLANK] = 8.0
    for row, of_row in enumerate(times):
        for frame, label in zip(of_row, LABELS[row]):
            logits[row, frame, label] = 16.0
    return logits.log_softmax(-1)


TEACHER = spiky([[2, 5], [3]])


class Heard(StepContext):
    """A training step whose teacher gives `TEACHER`."""

    def hear(self):
        return EncodedAudio(LENGTHS, TEACHER)


def family(teacher_options, objectives=None):
    values = {'teacher': {'restore_from': 't.nemo', **teacher_options}, 'objectives': objectives or ALL}
    config = DistillationConfig.from_mapping(values)
    losses = {name: OBJECTIVES[name].loss(config.objectives[name], BLANK) for name in config.objectives}
    return FrameFamily(losses, config.teacher)


def student_step(log_probs):
    return StudentStep('ctc', torch.zeros(2), Transcripts(LABELS, COUNTS), LENGTHS, None, log_probs=log_probs)


@pytest.mark.unit
@pytest.mark.parametrize('delay', [3, -2])
def test_a_student_that_does_the_same_later_loses_nothing_with_the_right_shift_and_much_without(delay):
    late = student_step(spiky([[2 + delay, 5 + delay], [3 + delay]]))
    right, wrong = (family({'shift': shift}).losses(late, Heard(step=0)) for shift in (delay, 0))
    for name in ('frame_kl', 'softmax_l2', 'occupancy'):
        assert right[name].max() < 1e-2 < 1 < wrong[name].min()
    assert right['guided_ctc'].max() < -0.9 < -0.1 < wrong['guided_ctc'].min()  # minus the probability of the labels


@pytest.mark.unit
def test_a_shift_is_estimated_once_then_used_and_kept_in_the_state():
    one = family({'delay': {'mode': 'estimate', 'batches': 2, 'from_step': 1}})
    log_probs = spiky([[5, 8], [6]]).requires_grad_()
    for step in (0, 1):  # before from_step, and the first of two batches
        context = Heard(step=step)
        waiting = one.losses(student_step(log_probs), context)
        assert set(waiting) == set(ALL) and all(value.tolist() == [0.0, 0.0] for value in waiting.values())
        assert torch.autograd.grad(sum(waiting.values()).sum(), log_probs)[0].abs().max() == 0
        assert one.state() == {} and 'teacher_shift' not in context.metrics
    context = Heard(step=2)
    assert one.losses(student_step(log_probs), context)['frame_kl'].max() < 1e-2
    assert context.metrics['teacher_shift'] == 3 and one.state() == {'teacher': 3}
    resumed = family({'delay': 'estimate'})
    resumed.load_state({'teacher': 3})
    assert resumed.losses(student_step(log_probs), Heard(step=9))['frame_kl'].max() < 1e-2
    given = family({'shift': 1})
    given.load_state({'teacher': 3})  # of a training that estimated it; this one is given another
    assert given.state() == {} and given.losses(student_step(log_probs), Heard(step=9))['frame_kl'].min() > 1


@pytest.mark.unit
def test_an_estimate_that_scatters_is_made_again(monkeypatch):
    warnings = []
    monkeypatch.setattr('nemo_oracle_kd.losses.delay.logging.warning', warnings.append)
    scattered, certain = spiky([[2, 11], [3]]), spiky([[5, 8], [6]])
    one = family({'delay': {'mode': 'estimate', 'batches': 1, 'max_spread': 2.0}})
    waiting = one.losses(student_step(scattered), Heard(step=0))
    assert all(value.tolist() == [0.0, 0.0] for value in waiting.values()) and one.state() == {}
    assert 'quartiles +0.0 to +3.0' in warnings[0] and 'more than delay.max_spread = 2 frames apart' in warnings[0]
    assert (
        one.losses(student_step(certain), Heard(step=1))['frame_kl'].max() < 1e-2
    ), 'the scattered batch is forgotten'
    assert one.state() == {'teacher': 3} and len(warnings) == 1
    careless = family({'delay': {'mode': 'estimate', 'batches': 1, 'max_spread': None}})
    careless.losses(student_step(scattered), Heard(step=0))
    assert careless.state() == {'teacher': 0}


@pytest.mark.unit
@pytest.mark.parametrize(
    'teacher, objectives, message',
    [
        ({'shift': 2, 'delay': 'estimate'}, ALL, '`d.teacher.shift` is 2 and `d.teacher.delay` estimates it'),
        ({'delay': {'mode': 'guess'}}, ALL, "`d.teacher.delay.mode` is 'guess': choose one of given, estimate"),
        ({'delay': {'mode': 'estimate', 'batches': 0}}, ALL, 'needs `batches` of at least 1'),
        ({'delay': {'max_spread': 0}}, ALL, 'max_spread` must be a number of frames above 0, or null'),
        ({'shift': 1.5}, ALL, '`d.teacher.shift` must be a whole number'),
        ({'shift': 2}, {'full_sum': None}, 'move the frames of frame objectives, and there is none'),
        ({'delay': 'estimate'}, {'lattice': None}, 'move the frames of frame objectives, and there is none'),
    ],
)
def test_contradictions_are_refused(teacher, objectives, message):
    with pytest.raises(ConfigError, match=message):
        DistillationConfig.from_mapping(
            {'teacher': {'restore_from': 't.nemo', **teacher}, 'objectives': objectives}, 'd'
        )


@pytest.mark.integration
def test_a_training_estimates_the_shift_and_saves_it_with_the_checkpoint(tone_corpus, tone_teacher):
    options = {'restore_from': str(tone_teacher), 'delay': {'mode': 'estimate', 'batches': 2, 'max_spread': None}}
    callback = KnowledgeDistillation(teacher=options, objectives={'frame_kl': {'weight': 0.1}})
    trainer = tiny.trainer(3, callbacks=[callback])
    trainer.fit(tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer))
    shift = float(trainer.callback_metrics['train/kd/teacher_shift'])
    assert shift == round(shift) and float(trainer.callback_metrics['train/kd/frame_kl']) > 0
    checkpoint = {}
    callback.on_save_checkpoint(trainer, trainer.lightning_module, checkpoint)
    assert checkpoint['nemo_oracle_kd']['delays'] == {'teacher': shift}

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The NeMo shells of the frame objectives: types, configs, and that each computes what its functional does."""

import pytest
import torch

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.losses.frame import FRAME_OBJECTIVES, FrameKLConfig, OccupancyConfig
from nemo_oracle_kd.strict_config import build_or_raise

BLANK = 4
#: the objectives, and those with an option that changes what is computed of a teacher
CASES = [*((name, {}) for name in sorted(FRAME_OBJECTIVES)), ('occupancy', {'prior_scale': 0.3})]


def _case(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(2, 3, 9, 5, generator=generator, dtype=dtype).log_softmax(-1)
    return {
        'student_log_probs': student.requires_grad_(),
        'teacher_log_probs': teacher.requires_grad_(),
        'input_lengths': torch.tensor([9, 7, 4]),
        'targets': torch.tensor([[0, 1, 1], [2, 3, 0], [1, 0, 0]]),
        'target_lengths': torch.tensor([3, 2, 1]),
    }


def _loss(name, **options):
    config, loss = FRAME_OBJECTIVES[name]
    return loss(build_or_raise(config, options, name), BLANK)


@pytest.mark.parametrize('name, options', CASES)
def test_every_objective_gives_one_value_per_utterance_and_no_gradient_to_the_teacher(name, options):
    case = _case()
    losses = _loss(name, **options)(**case)
    assert losses.shape == (3,) and torch.isfinite(losses).all()
    losses.sum().backward()
    assert case['student_log_probs'].grad.abs().sum() > 0
    assert case['teacher_log_probs'].grad is None


def test_the_shells_equal_their_functional_forms():
    case = _case()
    student, teacher, lengths = case['student_log_probs'], case['teacher_log_probs'].detach(), case['input_lengths']
    gamma = F.ctc_occupancy(teacher, case['targets'], lengths, case['target_lengths'], BLANK)
    window = F.blank_frame_weights(teacher, lengths, BLANK, mode='window', window=1)
    expected = {
        ('frame_kl', 'keep'): F.frame_kl(student, teacher, lengths, temperature=2.0),
        ('frame_kl', 'window'): F.frame_kl(student, teacher, lengths, temperature=2.0, frame_weights=window),
        ('softmax_l2', 'keep'): F.softmax_l2(student, teacher, lengths, temperature=2.0),
        ('softmax_l2', 'window'): F.softmax_l2(student, teacher, lengths, temperature=2.0, frame_weights=window),
    }
    for (name, mode), value in expected.items():
        torch.testing.assert_close(_loss(name, temperature=2.0, blank=mode)(**case), value)
    torch.testing.assert_close(_loss('guided_ctc')(**case), F.guided_ctc(student, teacher, lengths, BLANK))
    torch.testing.assert_close(_loss('occupancy')(**case), F.occupancy_kl(student, gamma, lengths))
    fairer = teacher - 0.3 * F.label_log_prior(teacher, lengths).unsqueeze(1)
    gamma = F.ctc_occupancy(fairer, case['targets'], lengths, case['target_lengths'], BLANK)
    torch.testing.assert_close(_loss('occupancy', prior_scale=0.3)(**case), F.occupancy_kl(student, gamma, lengths))


@pytest.mark.parametrize('name', ['frame_kl', 'softmax_l2'])
def test_identical_teacher_and_student_give_zero_loss_and_zero_gradient(name):
    case = _case()
    case['teacher_log_probs'] = case['student_log_probs'].detach().clone()
    losses = _loss(name)(**case)
    losses.sum().backward()
    assert losses.abs().max() < 1e-12
    assert case['student_log_probs'].grad.abs().max() < 1e-12


@pytest.mark.parametrize('name, options', CASES)
def test_a_constant_on_the_logits_of_either_side_changes_nothing(name, options):
    case = _case()
    shifted = dict(case)
    shifted['student_log_probs'] = case['student_log_probs'] + 3.0
    shifted['teacher_log_probs'] = case['teacher_log_probs'] - 5.0
    torch.testing.assert_close(_loss(name, **options)(**shifted), _loss(name, **options)(**case))


@pytest.mark.parametrize('name, options', CASES)
def test_nan_in_the_padding_of_either_side_changes_neither_loss_nor_gradient(name, options):
    def run(spoil):
        case = _case()
        student, teacher = case['student_log_probs'].detach().clone(), case['teacher_log_probs'].detach().clone()
        targets = case['targets'].clone()
        if spoil:
            for row, length in enumerate(case['input_lengths']):
                student[row, length:] = teacher[row, length:] = float('nan')
                targets[row, case['target_lengths'][row] :] = 77
        student.requires_grad_()
        case.update(student_log_probs=student, teacher_log_probs=teacher, targets=targets)
        losses = _loss(name, **options)(**case)
        losses.sum().backward()
        return losses.detach(), student.grad

    for clean, spoiled in zip(run(False), run(True)):
        torch.testing.assert_close(clean, spoiled)


@pytest.mark.parametrize('name, options', CASES)
def test_splitting_a_batch_changes_no_utterance(name, options):
    case = _case()
    whole = _loss(name, **options)(**case)
    parts = [_loss(name, **options)(**{key: value[row : row + 1] for key, value in case.items()}) for row in range(3)]
    torch.testing.assert_close(whole, torch.cat(parts))


def test_an_utterance_too_short_for_its_labels_has_no_occupancy_term():
    case = _case()
    case['input_lengths'] = torch.tensor([9, 7, 2])
    case['target_lengths'] = torch.tensor([3, 2, 3])
    losses = _loss('occupancy')(**case)
    assert losses[2] == 0 and losses[0] > 0


@pytest.mark.parametrize(
    'options, sentence',
    [
        ({'temprature': 2}, "Did you mean 'temperature'"),
        ({'temperature': 0}, 'greater than 0'),
        ({'temperature': 1e300}, 'from 0.001 to 1000'),
        ({'temperature': float('nan')}, 'greater than 0'),
        ({'blank': {'mode': 'delete'}}, 'choose one of keep'),
        ({'blank': {'mode': 'window', 'window': -1}}, 'at least 0 frames'),
        ({'weight': 'heavy'}, 'heavy'),
        ({'temperature': [1]}, 'must be a number'),
        ({'temperature': None}, 'give it a value'),
        (5, 'must be a mapping'),
    ],
)
def test_wrong_options_are_refused_with_the_fix(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_or_raise(FrameKLConfig, options, 'objectives.frame_kl')


@pytest.mark.parametrize('scale', [-0.1, 1.5, float('nan')])
def test_a_prior_scale_is_a_share(scale):
    with pytest.raises(ConfigError, match='prior_scale` must be between 0'):
        build_or_raise(OccupancyConfig, {'prior_scale': scale}, 'objectives.occupancy')


def test_all_mistakes_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        build_or_raise(FrameKLConfig, {'temprature': 2, 'weight': 'x', 'blank': {'mode': 1}}, 'objectives.frame_kl')
    assert len(caught.value.messages) == 3

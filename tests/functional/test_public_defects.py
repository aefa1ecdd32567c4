# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Defects found in published distillation code; each test fails on an implementation that has the defect."""

import math

import pytest
import torch

from nemo_oracle_kd.functional import ctc_occupancy, frame_kl, guided_ctc, occupancy_kl, softmax_l2

BLANK = 0


def occupancy_of(teacher, lengths):
    targets = torch.tensor([[1, 2]]).expand(teacher.shape[0], 2)
    return ctc_occupancy(teacher.log_softmax(dim=2), targets, lengths, torch.full_like(lengths, 2), BLANK)


LOSSES = {
    'frame_kl': frame_kl,
    'softmax_l2': softmax_l2,
    'guided_ctc': lambda s, t, n: guided_ctc(s, t, n, BLANK),
    'occupancy_kl': lambda s, t, n: occupancy_kl(s, occupancy_of(t, n), n),
}
EVERY_LOSS = pytest.mark.parametrize('name', LOSSES)


def random_pair(batch=4, frames=6, vocabulary=5):
    g = torch.Generator().manual_seed(0)
    student, teacher = 2 * torch.randn(2, batch, frames, vocabulary, dtype=torch.float64, generator=g)
    return student, teacher, torch.full((batch,), frames)


@EVERY_LOSS
def test_every_frame_contributes_not_only_the_last(name):
    """Defect: a variable overwritten in a loop, so that only the last token of the alignment was trained."""
    student, teacher, lengths = random_pair()
    teacher[..., BLANK] = -9.0  # every frame of the teacher is a spike
    student.requires_grad_()
    LOSSES[name](student, teacher, lengths).sum().backward()
    assert (student.grad.abs().sum(dim=2) > 1e-6).all()


@EVERY_LOSS
def test_the_loss_adds_up_over_utterances_of_different_length(name):
    """Defect: no padding mask, so that short utterances were trained on the padding of long ones."""
    student, teacher, _ = random_pair()
    lengths = torch.tensor([6, 5, 3, 2])
    together = LOSSES[name](student, teacher, lengths)
    alone = [
        LOSSES[name](student[i : i + 1, :n], teacher[i : i + 1, :n], torch.tensor([n])).item()
        for i, n in enumerate(lengths.tolist())
    ]
    assert together.tolist() == pytest.approx(alone, abs=1e-12)


@EVERY_LOSS
def test_padding_of_garbage_or_nan_leaves_loss_and_gradient_alone(name):
    """Defect: padding multiplied by a mask of zeros, where one NaN spoils the sum and every gradient."""
    student, teacher, _ = random_pair()
    lengths = torch.tensor([6, 5, 3, 2])
    results = []
    for garbage in (0.0, 1e30, math.nan, -math.inf):
        s, t = student.clone(), teacher.clone()
        for row, n in enumerate(lengths):
            s[row, n:] = garbage
            t[row, n:] = garbage
        s.requires_grad_()
        value = LOSSES[name](s, t, lengths)
        value.sum().backward()
        results.append((value.detach(), s.grad))
    for value, gradient in results[1:]:
        assert torch.equal(value, results[0][0]) and torch.equal(gradient, results[0][1])


@EVERY_LOSS
def test_the_scale_does_not_depend_on_unused_classes(name):
    """Defect: `kl_div(reduction='mean')` divides by the vocabulary, so a larger tokenizer weakened the loss."""
    student, teacher, lengths = random_pair()
    wider = [torch.nn.functional.pad(x, (0, 20), value=-60.0) for x in (student, teacher)]
    assert torch.allclose(LOSSES[name](*wider, lengths), LOSSES[name](student, teacher, lengths), atol=1e-10)


@EVERY_LOSS
def test_the_scale_does_not_depend_on_the_padded_length(name):
    """Defect: a mean over the padded frames, so that the loss fell when a long utterance joined the batch."""
    student, teacher, lengths = random_pair()
    longer = [torch.nn.functional.pad(x, (0, 0, 0, 30)) for x in (student, teacher)]
    assert torch.allclose(LOSSES[name](*longer, lengths), LOSSES[name](student, teacher, lengths), atol=1e-12)


@EVERY_LOSS
def test_gradient_accumulation_over_micro_batches_equals_one_batch(name):
    """Defect: a mean per micro-batch, so that 1x8, 2x4 and 8x1 trained different models."""
    student, teacher, _ = random_pair(batch=8)
    lengths = torch.tensor([6, 6, 5, 4, 3, 3, 2, 2])
    gradients = []
    for parts in (1, 2, 8):
        leaf = student.clone().requires_grad_()
        pieces = zip(*(x.chunk(parts) for x in (leaf, teacher, lengths)), strict=True)
        for piece in pieces:
            (LOSSES[name](*piece).sum() / 8).backward()
        gradients.append(leaf.grad)
    assert torch.allclose(gradients[1], gradients[0], atol=1e-14)
    assert torch.allclose(gradients[2], gradients[0], atol=1e-14)


def test_the_divergence_of_a_model_from_itself_is_zero_not_its_entropy():
    """Defect: a "forward KL" that is a cross-entropy, not zero at equality."""
    _, teacher, lengths = random_pair()
    student = teacher.clone().requires_grad_()
    value = frame_kl(student, teacher, lengths)
    value.sum().backward()
    assert torch.equal(value, torch.zeros(4).double()) and student.grad.abs().max() < 1e-14


def test_the_divergence_runs_from_the_teacher_to_the_student():
    """Defect: arguments of `kl_div` swapped, the reverse divergence trained under the forward one's name."""
    teacher = torch.tensor([[[0.5, 0.5, 0.0]]]).log()
    student = torch.tensor([[[0.5, 0.25, 0.25]]]).log()
    one = torch.tensor([1])
    assert frame_kl(student, teacher, one).item() == pytest.approx(0.5 * math.log(2))
    assert frame_kl(teacher, student, one).item() == math.inf


@EVERY_LOSS
def test_log_probabilities_and_the_logits_behind_them_give_the_same_loss(name):
    """Defect: a second softmax on probabilities flattens them; on log-probabilities it must change nothing."""
    student, teacher, lengths = random_pair()
    from_logits = LOSSES[name](student, teacher, lengths)
    once = LOSSES[name](student.log_softmax(dim=2), teacher.log_softmax(dim=2), lengths)
    twice = LOSSES[name](student.log_softmax(dim=2).log_softmax(dim=2), teacher.log_softmax(dim=2), lengths)
    assert torch.allclose(once, from_logits, atol=1e-12) and torch.allclose(twice, from_logits, atol=1e-12)


@EVERY_LOSS
def test_the_teacher_is_not_trained(name):
    """Defect: a teacher that received gradients because its outputs were not detached."""
    student, teacher, lengths = random_pair()
    student.requires_grad_()
    teacher.requires_grad_()
    LOSSES[name](student, teacher, lengths).sum().backward()
    assert teacher.grad is None

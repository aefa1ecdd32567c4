# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Posteriors over classes of labels, compared with all paths counted one by one."""

import itertools

import pytest
import torch

from nemo_oracle_kd import functional as F

#: labels of the teacher and of the student -> classes, the blank last in all three
TEACHER, STUDENT, CLASSES = torch.tensor([0, 1, 0, 2, 3]), torch.tensor([1, 2, 0, 3]), 4
LENGTHS = torch.tensor([3, 2])


def _logits(labels, seed):
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randn(2, 4, labels, generator=generator, dtype=torch.float64)


def _paths(log_probs, classes):
    """Distribution of one utterance over sequences of classes, `{sequence: probability}`, by all its paths."""
    found = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        probability = torch.stack([log_probs[t, label] for t, label in enumerate(path)]).sum().exp()
        key = tuple(int(classes[label]) for label in path)
        found[key] = found.get(key, 0.0) + float(probability)
    return found


@pytest.mark.unit
def test_the_divergence_of_merged_frames_is_that_of_the_paths_of_classes():
    teacher, student = _logits(5, 0), _logits(4, 1)
    merged = [F.merge_labels(x, LENGTHS, of, CLASSES) for x, of in ((student, STUDENT), (teacher, TEACHER))]
    value = F.frame_kl(*merged, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        p = _paths(teacher[b, :length].log_softmax(1), TEACHER)
        q = _paths(student[b, :length].log_softmax(1), STUDENT)
        assert sum(p.values()) == pytest.approx(1.0) and p.keys() == q.keys()
        expected = sum(p[key] * torch.tensor(p[key] / q[key]).log() for key in p)
        assert float(value[b]) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.unit
def test_blank_is_exact_and_equal_posteriors_of_blank_and_classes_cost_nothing():
    teacher = _logits(5, 0).log_softmax(2)
    merged = F.merge_labels(teacher, LENGTHS, TEACHER, CLASSES)
    torch.testing.assert_close(merged[0, :3, 3], teacher[0, :3, 4])
    torch.testing.assert_close(merged.exp().sum(2)[0, :3], torch.ones(3, dtype=torch.float64))
    split = torch.stack([merged[..., 1], merged[..., 2], merged[..., 0], merged[..., 3]], 2)  # the student's order
    alike = F.merge_labels(split, LENGTHS, STUDENT, CLASSES)
    for temperature in (1.0, 3.0):
        assert F.frame_kl(alike, merged, LENGTHS, temperature).abs().max() < 1e-12


@pytest.mark.unit
def test_gradients_are_those_of_finite_differences_and_padding_reaches_nothing():
    teacher = F.merge_labels(_logits(5, 0), LENGTHS, TEACHER, CLASSES)

    def value(logits):
        return F.frame_kl(F.merge_labels(logits, LENGTHS, STUDENT, CLASSES), teacher, LENGTHS, temperature=2.0)

    student = _logits(4, 1).requires_grad_()
    assert torch.autograd.gradcheck(value, (student,))
    gradients = []
    for padding in (0.0, float('nan')):
        x = torch.where(F.length_mask(LENGTHS, 4)[:, :, None], _logits(4, 1), torch.tensor(padding).double())
        x.requires_grad_()
        value(x).sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients) and not gradients[0][1, 2:].any()


@pytest.mark.unit
def test_classes_without_labels_and_posteriors_beyond_float32_keep_everything_finite():
    classes = torch.tensor([0, 0, 1])
    logits = torch.tensor([[[0.0, -500.0, 300.0]]], requires_grad=True)
    lengths = torch.tensor([1])
    merged = F.merge_labels(logits, lengths, classes, 3)
    torch.testing.assert_close(merged, torch.tensor([[[-300.0, 0.0, -torch.inf]]]))
    teacher = F.merge_labels(torch.zeros(1, 1, 2), lengths, torch.tensor([0, 1]), 2)
    F.frame_kl(F.merge_labels(logits, lengths, classes, 2), teacher, lengths).sum().backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.any()
    broken = torch.full((1, 1, 3), float('nan'))
    assert F.merge_labels(broken, lengths, classes, 3).isnan().all()
    for wrong, sentence in (
        (torch.tensor([0, 1]), 'one class per label'),
        (torch.tensor([0, 3, 1]), 'between 0 and 2'),
    ):
        with pytest.raises(ValueError, match=sentence):
            F.merge_labels(logits, lengths, wrong, 3)

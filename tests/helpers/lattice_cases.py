# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Small random lattices for the tests of lattice distillation."""

from dataclasses import replace

import torch

from nemo_oracle_kd.functional import JointTensors

BATCH, FRAMES, LABELS, CLASSES, BLANK = 3, 5, 3, 7, 6
STUDENT_HIDDEN, TEACHER_HIDDEN = 4, 5


def joint(
    seed, hidden, frames=FRAMES, activation='tanh', dtype=torch.float64, gradient=False, labels=LABELS, **options
):
    """A random joint; three different sizes everywhere, so that a swapped axis is an error of shapes."""
    g = torch.Generator().manual_seed(seed)
    batch, classes = options.pop('batch', BATCH), options.pop('classes', CLASSES)
    shapes = [(batch, frames, hidden), (batch, labels + 1, hidden), (classes, hidden), (classes,)]
    tensors = [torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for shape in shapes]
    return JointTensors(*(x.requires_grad_(gradient) for x in tensors), activation=activation, **options)


def pair(seed=0, gradient=True, **options):
    """Student and teacher with hidden sizes of their own."""
    dropout = options.pop('dropout', 0.0)
    student = joint(2 * seed, STUDENT_HIDDEN, gradient=gradient, dropout=dropout, **options)
    return student, joint(2 * seed + 1, TEACHER_HIDDEN, **options)


def batch(seed=0, classes=CLASSES):
    """Targets and lengths: a full utterance, a shorter one, one without labels."""
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes - 1, (BATCH, LABELS), generator=g)
    return targets, torch.tensor([FRAMES, FRAMES - 2, FRAMES - 1]), torch.tensor([LABELS, LABELS - 1, 0])


def parameters(student):
    return [x for x in (student.encoder, student.prediction, student.weight, student.bias) if x is not None]


def loss_and_gradients(function, student, *arguments, factors=None, **options):
    """`[loss, gradient, ...]` of the sum over utterances, each times its factor."""
    loss = function(student, *arguments, **options)
    factors = torch.ones_like(loss) if factors is None else factors.to(loss.dtype)
    return [loss.detach(), *torch.autograd.grad((loss * factors).sum(), parameters(student))]


def relative_error(ours, expected):
    """Largest difference over the largest number."""
    expected = expected.double()
    return float((ours.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-300))


def without_dropout(student):
    return replace(student, dropout=0.0)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Posteriors of which the best classes and a tail are known give the divergence of these bins, within the stated bound of the whole."""

import pytest
import torch
from torch.nn.functional import kl_div

from nemo_oracle_kd.functional import StoredLattice, frame_kl, top_posteriors

LENGTHS = torch.tensor([6, 4])


def pair(scale=2.0):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 6, 9, generator=generator, dtype=torch.float64) * scale for _ in range(2))
    return student.requires_grad_(), teacher


def binned(log_probs, classes):
    """Log-probabilities of the classes, and of all others together: `[..., k + 1]`."""
    rest = log_probs.exp().sum(-1) - log_probs.gather(-1, classes).exp().sum(-1)
    return torch.cat([log_probs.gather(-1, classes), rest.log().unsqueeze(-1)], -1)


@pytest.mark.parametrize('temperature', [1.0, 2.0])
def test_the_divergence_is_that_of_the_bins_with_its_gradient_and_that_of_the_whole_within_the_bound(temperature):
    student, teacher = pair()
    teacher = teacher.scatter_add(2, teacher.argmax(2, keepdim=True), torch.full((2, 6, 1), 6.0, dtype=torch.float64))
    top = top_posteriors(teacher, 3, (1.0, 2.0))
    completed = top.completed(student, temperature)
    values = frame_kl(student, completed, LENGTHS, temperature)
    (gradient,) = torch.autograd.grad(values.sum(), student, retain_graph=True)

    q, p = ((x / temperature).log_softmax(-1) for x in (student, teacher))
    bins = kl_div(binned(q, top.classes), binned(p, top.classes), log_target=True, reduction='none').sum(-1)
    mask = torch.arange(6) < LENGTHS.unsqueeze(1)
    wanted = temperature**2 * torch.where(mask, bins, 0.0).sum(1)
    (of_bins,) = torch.autograd.grad(wanted.sum(), student, retain_graph=True)
    torch.testing.assert_close(values, wanted)
    torch.testing.assert_close(gradient, of_bins)

    (whole,) = torch.autograd.grad(frame_kl(student, teacher, LENGTHS, temperature).sum(), student)
    tail = 1 - p.gather(2, top.classes).exp().sum(2)
    difference = (gradient - whole).abs().sum(2) / temperature
    assert (difference <= 2 * tail * mask + 1e-9).all() and difference.max() > 1e-3


def test_the_best_class_stays_the_best_and_all_classes_give_everything():
    student, teacher = pair(scale=0.3)  # flat, so that the tail exceeds the best class
    top = top_posteriors(teacher, 2)
    sure = torch.full_like(teacher, -20.0)
    sure[..., 4] = 0.0
    assert torch.equal(top.completed(sure).argmax(2), teacher.argmax(2))
    assert torch.equal(top.dense().argmax(2), teacher.argmax(2))
    torch.testing.assert_close(top.completed(sure).exp().sum(2), torch.ones(2, 6, dtype=torch.float64))
    whole = top_posteriors(teacher, 20)
    torch.testing.assert_close(whole.completed(student), teacher.log_softmax(2))
    torch.testing.assert_close(whole.dense(), teacher.log_softmax(2))


def test_garbage_in_the_padding_changes_nothing():
    student, teacher = pair()
    clean = frame_kl(student, top_posteriors(teacher, 3).completed(student), LENGTHS)
    with torch.no_grad():
        dirty_student, dirty = student.clone(), teacher.clone()
        dirty[1, 4:], dirty_student[1, 4:] = float('nan'), float('nan')
    again = frame_kl(dirty_student, top_posteriors(dirty, 3).completed(dirty_student), LENGTHS)
    torch.testing.assert_close(again, clean)


def test_a_stored_cell_has_the_probabilities_of_its_bins_once_each():
    log_probs = torch.randn(1, 1, 2, 7).log_softmax(-1)
    best = log_probs.topk(3, dim=-1)
    # a label among the best, and none, for which blank stands
    following = torch.tensor([[int(best.indices[0, 0, 0, 1]), 6]])
    named = torch.cat([best.indices, following.view(1, 1, 2, 1), torch.full((1, 1, 2, 1), 6)], -1)
    rest = log_probs.scatter(-1, named, -1e4).logsumexp(-1)
    lattice = StoredLattice(
        label=log_probs.gather(-1, following.view(1, 1, 2, 1))[..., 0],
        blanks=log_probs[..., 6:],
        next_labels=following,
        blank_ids=(6,),
        vocabulary=7,
        rest=rest,
        best=best.indices,
        best_values=best.values,
    )
    logits = lattice.logits(torch.tensor([0, 1]))
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(2))
    wanted = log_probs[0, 0].gather(-1, named[0, 0])
    torch.testing.assert_close(logits.gather(-1, named[0, 0]), wanted)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Two views of one batch: the terms of CR-CTC."""

import pytest
import torch
from tiny_self import callback, calm_config, fit, gradients_of, logged, watch_step

from nemo_oracle_kd.errors import ConfigError

CR = {'frame_kl': {'weight': 0.2, 'temperature': 1.0}}


def test_the_terms_of_a_step_are_those_of_cr_ctc_computed_by_hand(tone_corpus):
    distillation = callback({'self': 'view'}, CR)
    seen = watch_step(distillation)
    trainer, _ = fit(distillation, calm_config(tone_corpus, augment=True), 1)
    terms, step = logged(trainer), seen['step']
    a, b = step.log_probs.detach(), seen['heard'].log_probs.detach()
    texts, mask = step.transcripts, torch.arange(a.shape[1]) < step.lengths[:, None]

    def ctc(log_probs):
        arguments = (texts.labels, step.lengths, texts.lengths)
        return torch.nn.functional.ctc_loss(log_probs.transpose(0, 1), *arguments, blank=5, reduction='none').mean()

    def divergence(p, q):
        return ((p.exp() * (p - q)).sum(2) * mask).sum(1).mean()

    expected = (ctc(a) + ctc(b)) / 2 + 0.2 * (divergence(b, a) + divergence(a, b)) / 2
    assert not torch.allclose(a, b, atol=1e-3), "two draws of SpecAugment"
    assert terms['frame_kl'] == pytest.approx(float(divergence(b, a)), rel=1e-3)
    assert terms['frame_kl_back'] == pytest.approx(float(divergence(a, b)), rel=1e-3)
    assert terms['view_loss'] == pytest.approx(float(ctc(b)), rel=1e-4)
    assert terms['label_loss_weighted'] == pytest.approx(0.5 * float(ctc(a)), rel=1e-4)
    assert terms['loss'] == pytest.approx(float(expected), rel=1e-4)


def test_both_views_give_gradient(tone_corpus):
    config = calm_config(tone_corpus, augment=True)
    without_labels = {'label_loss': {'weight': 0.0}}
    found = gradients_of(callback({'self': 'view'}, CR, **without_labels), config)
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    assert float(found['decoder.decoder_layers.0.weight'].abs().max()) > 0


def test_until_it_starts_there_is_no_second_view(tone_corpus):
    calls = []

    def look(trainer, student):
        calls.append(distillation.distiller.teacher.readiness)

    distillation = callback({'self': 'view', 'start_below': 1e-3}, CR)
    trainer, _ = fit(distillation, calm_config(tone_corpus, augment=True), 2, look)
    terms = logged(trainer)
    assert calls == [0.0, 0.0] and 'view_loss' not in terms
    assert terms['label_loss_weighted'] == pytest.approx(terms['label_loss'])


def test_a_student_with_intermediate_losses_has_two_views(tone_corpus):
    config = calm_config(tone_corpus, augment=True)
    config.interctc = {'loss_weights': [0.3], 'apply_at_layers': [0]}
    trainer, _ = fit(callback({'self': 'view'}, CR), config, 2)
    assert logged(trainer)['view_loss'] > 0


def test_a_student_without_augmentation_is_refused(tone_corpus):
    with pytest.raises(ConfigError, match='this student has none: add a spec_augment section'):
        fit(callback({'self': 'view'}, CR), calm_config(tone_corpus), 1)

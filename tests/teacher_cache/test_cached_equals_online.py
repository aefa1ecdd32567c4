# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""A student learns the same from a cache as from the teacher beside it: losses and gradients of every objective that a cache serves."""

import pytest
import tiny
import tiny_cache
import torch

from nemo_oracle_kd.distillation.cached_teacher import CacheConfig, CachedTeacher
from nemo_oracle_kd.distillation.families.context import StepContext
from nemo_oracle_kd.distillation.families.frame import FrameFamily
from nemo_oracle_kd.distillation.families.lattice import LatticeFamily
from nemo_oracle_kd.distillation.teacher_settings import TeacherConfig
from nemo_oracle_kd.distillation.teachers import Teacher
from nemo_oracle_kd.losses.objectives import OBJECTIVES
from nemo_oracle_kd.strict_config import build_or_raise
from nemo_oracle_kd.teacher_cache.writer import RunOptions

KINDS = ['rnnt', 'tdt', 'multiblank_rnnt']
#: objective, options, signal, options of the cache
FRAMES = [
    ('frame_kl', {'temperature': 2.0}, 'ctc_topk', {'top_k': 6}),
    ('softmax_l2', {}, 'ctc_topk', {'top_k': 6}),
    ('frame_kl', {'blank': 'window', 'temperature': 1.0}, 'ctc_topk', {'top_k': 6}),
    ('guided_ctc', {}, 'ctc_topk', {'top_k': 2}),
    ('guided_ctc', {}, 'best_path', {'head': 'ctc'}),
    ('occupancy', {}, 'occupancy', {'top_k': 6}),
]
LATTICES = [
    ('lattice_collapsed', {}, 'lattice_collapsed', {}),
    ('lattice_collapsed', {'cells': 'teacher_occupancy', 'divergence': 'jensen_shannon'}, 'lattice_collapsed', {}),
    ('lattice_collapsed', {'temperature': 2.0}, 'lattice_collapsed', {'temperatures': (2.0,)}),
    ('lattice_topk', {'top_k': 3, 'cells': 'path', 'shift': 1}, 'lattice_topk', {'top_k': 3}),
    ('lattice_topk', {'top_k': 2, 'window': 2, 'dropout': False}, 'lattice_topk', {'top_k': 3}),
    ('lattice_collapsed', {'cells': 'band'}, 'lattice_topk', {'top_k': 3}),
    ('one_best_path', {}, 'best_path', {}),
    ('encoder', {}, 'encoder', {}),
    ('representation', {}, 'encoder', {}),
]


class Beside(Teacher):
    """A model in memory as the teacher, without a file."""

    def __init__(self, model):
        self.model = model

    def hear(self, batch):
        return tiny_cache.heard(self.model, batch)


@pytest.fixture(scope='module')
def models():
    """Kind -> teacher and student."""
    return {kind: (tiny_cache.hybrid(kind), tiny_cache.hybrid(kind, seed=3, hidden=16).train()) for kind in KINDS}


@pytest.fixture(scope='module')
def caches(models, tone_corpus, tmp_path_factory):
    """(kind, signal, options) -> the teacher of a cache; every cache is written once."""
    made = {}

    def make(kind, signal, **options):
        name = f'{kind} {signal} {sorted(options.items())}'
        if name not in made:
            folder = tmp_path_factory.mktemp('cache')
            alone = RunOptions(batch_size=1)
            tiny_cache.write(models[kind][0], tone_corpus, folder, signal, alone, **{'dtype': 'float32', **options})
            made[name] = CachedTeacher(CacheConfig(cache=str(folder)))
        return made[name]

    return make


def losses_and_gradient(student, teacher, batch, name, options):
    """The objective of each utterance, and its gradient with respect to what the student's head gives."""
    entry = OBJECTIVES[name]
    config = build_or_raise(entry.config, options, name)
    head = 'ctc' if entry.loss.family == 'frame' else 'transducer'
    torch.manual_seed(1)  # dither
    step, of = tiny_cache.student_step(student, batch, head)
    if head == 'ctc':
        family = FrameFamily({name: entry.loss(config, len(tiny.LABELS))}, TeacherConfig(restore_from='unused'))
    else:
        family = LatticeFamily({name: config}, student, teacher, 'none')
    losses = family.losses(step, StepContext(0, teacher=teacher, batch=batch))[name]
    return losses.detach(), torch.autograd.grad(losses.sum(), of)[0]


@pytest.mark.parametrize(
    'kind, case',
    [
        *(('rnnt', case) for case in FRAMES + LATTICES),
        *((kind, case) for kind in KINDS[1:] for case in (LATTICES[0], LATTICES[3], LATTICES[6], LATTICES[7])),
    ],
)
def test_losses_and_gradients_are_those_of_the_teacher_beside_the_student(models, caches, tone_corpus, kind, case):
    name, options, signal, kept = case
    teacher, student = models[kind]
    given = tiny_cache.batch(tone_corpus)
    online = losses_and_gradient(student, Beside(teacher), given, name, options)
    cached = losses_and_gradient(student, caches(kind, signal, **kept), given, name, options)
    assert (online[0].abs() > 1e-3).all() and online[1].abs().max() > 0
    for ours, theirs in zip(cached, online):
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-5)


def test_half_precision_and_a_tail_keep_the_gradient_within_the_printed_bound(models, caches, tone_corpus):
    teacher, student = models['rnnt']
    given, options = tiny_cache.batch(tone_corpus), {'temperature': 2.0}
    cached = caches('rnnt', 'ctc_topk', top_k=3, dtype='float16')
    found = [losses_and_gradient(student, who, given, 'frame_kl', options)[1] for who in (Beside(teacher), cached)]
    mean, largest = cached.cache.index.measured['tail at temperature 2']
    difference = (found[1] - found[0]).abs().sum(2) / options['temperature']  # T^2 of the loss, 1/T of the chain rule
    rounding = 1e-2
    assert 0.01 < mean <= largest < 1 and 0.01 < difference.max() <= 2 * largest + rounding
    assert any(
        'tail at temperature 2' in sentence for sentence in cached.cache.signal.bounds(cached.cache.index.measured)
    )


def test_collapsed_lattices_in_half_precision_stay_within_the_printed_bound(models, caches, tone_corpus):
    teacher, student = models['rnnt']
    given = tiny_cache.batch(tone_corpus)
    cached = caches('rnnt', 'lattice_collapsed', dtype='float16')
    online, stored = (
        losses_and_gradient(student, who, given, 'lattice_collapsed', {}) for who in (Beside(teacher), cached)
    )
    assert not torch.equal(online[0], stored[0])
    torch.testing.assert_close(stored[0], online[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(stored[1], online[1], rtol=1e-2, atol=1e-3)


def test_frames_of_another_rate_are_picked_as_beside_the_teacher(models, caches, tone_corpus):
    from nemo_oracle_kd.bridge.signals import EncodedAudio

    teacher, student = models['rnnt']
    given = tiny_cache.batch(tone_corpus)
    step, log_probs = tiny_cache.student_step(student, given, 'ctc')
    coarse = torch.div(step.lengths, 2, rounding_mode='floor')
    loss = OBJECTIVES['frame_kl'].loss(OBJECTIVES['frame_kl'].config(), len(tiny.LABELS))
    family = FrameFamily({'frame_kl': loss}, TeacherConfig(restore_from='x', time_resampling='nearest', shift=1))
    found = []
    for heard in (Beside(teacher).hear(given), caches('rnnt', 'ctc_topk', top_k=6).hear(given)):
        context = StepContext(0, batch=given, answers={'heard': heard}, with_statistics=True)
        half = type(step)('ctc', None, step.transcripts, coarse, None, log_probs=log_probs[:, : int(coarse.max())])
        found.append((family.losses(half, context)['frame_kl'], context.metrics['agreement']))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
    assert isinstance(heard, EncodedAudio) and heard.log_probs is None

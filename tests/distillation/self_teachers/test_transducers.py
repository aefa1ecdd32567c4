# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Self-teachers of transducers: the lattice of the student's own joint over an encoder output that has read the transcript."""

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import LambdaCallback
from nemo.collections.asr.models import EncDecRNNTBPEModel, EncDecRNNTModel
from tiny_self import (
    CALM_ORACLE,
    callback,
    calm_config,
    calm_transducer,
    fit,
    gradients_of,
    logged,
    streaming_config,
    watch_step,
)

from nemo_oracle_kd.bridge.hooks.guest import GUEST
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional import rnnt_full_sum

EMA = {'self': 'ema', 'start_below': None, 'ramp': 0}
PATH = {'one_best_path': {'weight': 0.1}}


def _with_a_voice(distillation):
    """A callback that gives the branch something to say before the first step: its output layer starts at zero."""

    def give(trainer, student):
        generator = torch.Generator().manual_seed(3)
        weight = distillation.distiller.teacher.voice.branch.output.weight
        weight.data.normal_(std=0.3, generator=generator)

    return LambdaCallback(on_train_start=give)


@pytest.mark.parametrize(
    'options, teacher, objective',
    [
        ({}, CALM_ORACLE, 'lattice_collapsed'),
        ({'fused': True}, CALM_ORACLE, 'one_best_path'),
        ({'hybrid': True}, CALM_ORACLE, 'lattice'),
        ({'kind': 'tdt'}, CALM_ORACLE, 'one_best_path'),
        ({'kind': 'multiblank_rnnt'}, CALM_ORACLE, 'lattice_topk'),
        ({'fused': True}, EMA, 'lattice'),
        ({'hybrid': True}, EMA, 'one_best_path'),
    ],
)
def test_every_kind_of_transducer_is_taught_and_left_as_a_stock_model(tone_corpus, options, teacher, objective):
    terms = []
    config = calm_transducer(tone_corpus, **options)
    plain = sorted(tiny.rnnt_model(config).state_dict())
    distillation = callback(teacher, {objective: {'weight': 0.1}})
    trainer, student = fit(distillation, config, 3, lambda trainer, _: terms.append(logged(trainer)))
    assert all(torch.tensor(list(of_step.values())).isfinite().all() for of_step in terms)
    assert terms[-1][objective] > 0 and terms[-1][f'{objective}_uncompared'] == 0
    assert terms[-1]['label_loss'] < terms[0]['label_loss']
    assert sorted(student.state_dict()) == plain and not hasattr(student, GUEST)
    if teacher is CALM_ORACLE:  # the branch begins as the student
        assert terms[0][objective] == pytest.approx(0, abs=1e-4) and terms[-1]['oracle_loss'] > 0
        if 'kind' not in options:  # NeMo's TDT and multi-blank losses are no likelihoods: they have a sigma
            assert terms[0]['oracle_loss'] == pytest.approx(terms[0]['label_loss'], rel=1e-5)


def test_the_terms_of_a_step_are_those_computed_by_hand(tone_corpus):
    distillation = callback({**CALM_ORACLE, 'loss_weight': 0.5}, {'lattice': {'weight': 0.01}})
    seen = watch_step(distillation)
    expected = {}

    def compute(trainer, student, *_):  # before the weights change
        step, heard, joint = seen['step'], seen['heard'], student.joint
        texts, logits = step.transcripts, {}
        for side, encoded in (('student', step.encoded), ('branch', heard.encoded)):
            logits[side] = joint.joint(encoded.transpose(1, 2), step.predicted.transpose(1, 2)).detach()
            arguments = (texts.labels, step.lengths, texts.lengths)
            expected[side] = float(rnnt_full_sum(logits[side], *arguments, blank=5).mean())
        teacher, ours = logits['branch'].log_softmax(-1), logits['student'].log_softmax(-1)
        # the loss of the branch has evaluated its lattice, so a best path need not do it again
        expected['blanks'] = float(
            (heard.arcs[1][0] - teacher[:, : heard.arcs[0].shape[1], :, 5]).abs()[0, : step.lengths[0], 0].max()
        )
        frames = torch.arange(ours.shape[1])[None, :, None] < step.lengths[:, None, None]
        cells = frames & (torch.arange(ours.shape[2]) <= texts.lengths[:, None, None])
        expected['lattice'] = float(((teacher.exp() * (teacher - ours)).sum(-1) * cells).sum((1, 2)).mean())

    look = LambdaCallback(on_before_backward=compute)
    trainer, _ = fit(distillation, calm_transducer(tone_corpus), 1, callbacks=[_with_a_voice(distillation), look])
    terms = logged(trainer)
    assert abs(expected['branch'] - expected['student']) > 0.1 and expected['lattice'] > 0.1
    assert expected['blanks'] < 1e-4
    assert terms['label_loss'] == pytest.approx(expected['student'], rel=1e-4)
    assert terms['oracle_loss'] == pytest.approx(expected['branch'], rel=1e-4)
    assert terms['lattice'] == pytest.approx(expected['lattice'], rel=1e-3)
    total = expected['student'] + 0.5 * expected['branch'] + 0.01 * expected['lattice']
    assert terms['loss'] == pytest.approx(total, rel=1e-4)


def test_with_a_dropout_in_the_joint_the_lattice_of_the_loss_is_not_that_of_the_best_path(tone_corpus):
    distillation = callback(CALM_ORACLE, PATH)
    seen, config = watch_step(distillation), calm_transducer(tone_corpus)
    config.joint.jointnet.dropout = 0.2
    trainer, _ = fit(distillation, config, 1)
    assert seen['heard'].arcs is None and logged(trainer)['one_best_path_uncompared'] == 0


def test_the_objective_teaches_the_student_and_the_loss_of_the_branch_its_encoder_or_not(tone_corpus):
    config = calm_transducer(tone_corpus)

    def gradients(teacher, weight):
        distillation = callback(teacher, {'lattice': {'weight': weight}})
        return gradients_of(distillation, config, callbacks=[_with_a_voice(distillation)])

    with_it, without = gradients(CALM_ORACLE, 1.0), gradients(CALM_ORACLE, 0.0)
    detached, plain = gradients({**CALM_ORACLE, 'encoder_gradient': False}, 0.0), gradients_of(None, config)

    def largest(left, right, prefix):
        names = [name for name in left if name.startswith(prefix) and left[name] is not None]
        return max(float((left[name] - right[name]).abs().max()) for name in names)

    assert largest(with_it, without, GUEST) == 0 < largest(without, dict.fromkeys(without, 0.0), GUEST)
    assert all(largest(with_it, without, side) > 1e-4 for side in ('encoder', 'decoder', 'joint'))
    assert largest(detached, plain, 'encoder') < 1e-5 < 1e-3 < largest(without, plain, 'encoder')


def test_while_the_branch_waits_for_the_transducers_loss_the_updates_are_those_of_nemo(tone_corpus):
    config = calm_transducer(tone_corpus)
    trainer, waiting = fit(callback({'self': 'oracle', 'start_below': 1e-3}, PATH), config, 3)
    _, plain = fit(None, config, 3)
    assert logged(trainer)['readiness'] == 0
    for (name, left), right in zip(waiting.state_dict().items(), plain.state_dict().values()):
        torch.testing.assert_close(left, right, msg=name)


def test_the_branch_starts_by_the_transducers_loss_learns_to_read_and_to_listen_and_teaches(tone_corpus):
    teacher = {
        'self': 'oracle',
        'start_below': 4.0,
        'teach_below': 1.1,
        'ramp': 1,
        'label_corruption': {'dropout': 0.0},
    }
    distillation, since = callback(teacher, PATH), []

    def look(trainer, student):
        since.append((distillation.distiller.teacher.start.since, distillation.distiller.teacher.teaches_since))

    config = calm_transducer(tone_corpus, hidden=32, batch_size=8, learning_rate=0.02)
    trainer, _ = fit(distillation, config, 72, look, log_every_n_steps=72)
    terms = logged(trainer)
    started, taught = since[-1]
    assert 0 < started <= taught
    assert terms['oracle_own'] < 0.5 * terms['oracle_wrong'] and terms['oracle_heard_share'] > 0.5
    assert terms['one_best_path_weighted'] > 0


def test_the_mean_of_a_transducer_has_its_joint_and_a_resumed_training_goes_on_with_it(tone_corpus, tmp_path):
    config = calm_transducer(tone_corpus, batch_size=16)  # one batch is an epoch
    _, whole = fit(callback(EMA, PATH), config, 3)
    trainer, _ = fit(callback(EMA, PATH), config, 1)
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    mean = torch.load(tmp_path / 'last.ckpt', weights_only=False)['nemo_oracle_kd']['teacher']['mean']
    assert {name.split('.')[0] for name in mean} >= {'encoder', 'decoder', 'joint'}
    _, resumed = fit(callback(EMA, PATH), config, 3, ckpt_path=str(tmp_path / 'last.ckpt'), seed=1)
    for (name, left), right in zip(resumed.state_dict().items(), whole.state_dict().values()):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6, msg=name)


def test_a_streaming_transducer_is_taught_at_full_context_and_one_with_sub_words_by_its_branch(tone_corpus, tmp_path):
    config = calm_transducer(tone_corpus)
    streaming = streaming_config(tone_corpus)
    config.encoder, config.preprocessor = streaming.encoder, streaming.preprocessor
    trainer, _ = fit(callback({'self': 'context'}, PATH), config, 2)
    assert logged(trainer)['one_best_path'] > 0
    config = tiny.with_tokenizer(calm_transducer(tone_corpus), tiny.train_tokenizer(tmp_path / 'tokenizer'))
    trainer = tiny.trainer(3, callbacks=[callback(CALM_ORACLE, PATH)], log_every_n_steps=1)
    student = tiny.rnnt_model(config, trainer, cls=EncDecRNNTBPEModel)
    trainer.fit(student)
    assert logged(trainer)['oracle_loss'] > 0 and logged(trainer)['one_best_path'] > 0
    student.save_to(str(tmp_path / 'student.nemo'))
    assert isinstance(EncDecRNNTModel.restore_from(str(tmp_path / 'student.nemo')), EncDecRNNTBPEModel)


@pytest.mark.parametrize(
    'options, teacher, objectives, sentence',
    [
        ({'hybrid': True}, CALM_ORACLE, {'frame_kl': {}, **PATH}, 'need two label branches, one for each head'),
        (
            {},
            {**CALM_ORACLE, 'view_weight': 0.2},
            PATH,
            'view_weight compares frame posteriors and one_best_path lattices',
        ),
        ({}, {**CALM_ORACLE, 'gradients': 'both'}, PATH, 'one_best_path has no gradient for its teacher'),
        (
            {},
            {'self': 'view'},
            PATH,
            r'this kind of teacher \(ViewTeacher\) does not have: use an objective on frames',
        ),
        ({}, CALM_ORACLE, {'full_sum': {}}, 'use an objective on frames, such as frame_kl, or on lattices'),
    ],
)
def test_what_a_transducer_cannot_be_taught_is_refused(tone_corpus, options, teacher, objectives, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fit(callback(teacher, objectives), calm_transducer(tone_corpus, **options), 1)


def test_a_ctc_student_has_no_lattice_of_a_joint(tone_corpus):
    with pytest.raises(ConfigError, match='use an objective on frames, such as frame_kl'):
        fit(callback(CALM_ORACLE, PATH), calm_config(tone_corpus), 1)

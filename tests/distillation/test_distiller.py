# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""One forward of the teacher per step, one report for training and `check`, and weights of zero."""

import pytest
import tiny
import torch

from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.distillation.settings import DistillationConfig
from nemo_oracle_kd.distillation.teachers import OnlineTeacher
from nemo_oracle_kd.errors import ConfigError

EVERYTHING = {'frame_kl': {}, 'occupancy': {}, 'full_sum': {}, 'lattice': {}, 'encoder': {}}


@pytest.fixture(scope='module')
def hybrid_teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp('hybrid') / 'teacher.nemo'
    tiny.rnnt_model(tiny.rnnt_config(hybrid=True, stride=4)).save_to(str(path))
    return path


def _fit(corpus, teacher, objectives, ctc_weight=0.5, steps=2, **options):
    callback = KnowledgeDistillation({'restore_from': str(teacher), **options}, objectives)
    trainer = tiny.trainer(steps, callbacks=[callback])
    config = tiny.rnnt_config(corpus, hybrid=True, hidden=16, stride=4)
    config.aux_ctc.ctc_loss_weight = ctc_weight
    trainer.fit(tiny.rnnt_model(config, trainer))
    return trainer


@pytest.mark.integration
@pytest.mark.parametrize('megabytes', [0, 50])
def test_a_hybrid_student_asks_the_teachers_encoder_once_per_step(tone_corpus, hybrid_teacher, monkeypatch, megabytes):
    calls = []
    original = OnlineTeacher.__init__

    def watched(self, config):
        original(self, config)
        self.model.encoder.register_forward_hook(lambda *_: calls.append(1))

    monkeypatch.setattr(OnlineTeacher, '__init__', watched)
    steps = 3
    trainer = _fit(tone_corpus, hybrid_teacher, EVERYTHING, steps=steps, memory_mb=megabytes)
    logged = {name.split('/')[-1] for name in trainer.callback_metrics}
    assert {'frame_kl', 'full_sum', 'full_sum_ctc', 'lattice', 'encoder'} <= logged
    assert len(calls) == steps  # the first epoch: nothing is remembered yet


@pytest.mark.integration
def test_remembered_signals_are_those_of_the_forward(tone_corpus, hybrid_teacher, tmp_path):
    eight = tmp_path / 'eight.jsonl'  # two batches, so that the third and the fourth step are remembered
    eight.write_text(''.join(tone_corpus.read_text().splitlines(keepends=True)[:8]))
    forgetful = _fit(eight, hybrid_teacher, EVERYTHING, steps=4).callback_metrics
    remembering = _fit(eight, hybrid_teacher, EVERYTHING, steps=4, memory_mb=50).callback_metrics
    for name, value in forgetful.items():
        torch.testing.assert_close(remembering[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.integration
def test_check_and_training_refuse_a_hybrid_whose_ctc_head_is_not_trained(
    tone_corpus, hybrid_teacher, tmp_path, capsys
):
    with pytest.raises(ConfigError, match='ctc_loss_weight above 0') as refused:
        _fit(tone_corpus, hybrid_teacher, {'frame_kl': {}}, ctc_weight=0.0)
    student, config = tmp_path / 'student.nemo', tiny.rnnt_config(hybrid=True, hidden=16, stride=4)
    config.aux_ctc.ctc_loss_weight = 0.0
    tiny.rnnt_model(config).save_to(str(student))
    assert main(['check', str(student), str(hybrid_teacher), '--objectives', 'frame_kl']) == 1
    assert str(refused.value) in capsys.readouterr().out


@pytest.mark.integration
def test_check_looks_at_the_options_of_the_user(tone_teacher, hybrid_teacher, tmp_path, capsys):
    student = str(tmp_path / 'student.nemo')
    config = tiny.rnnt_config(hybrid=True, hidden=16, stride=4)
    config.joint.jointnet.dropout = 0.1
    tiny.rnnt_model(config).save_to(student)
    window = 'objectives.lattice.window.last=4'
    command = ['check', student, str(hybrid_teacher), '--preset', 'lattice']
    assert main(command) == 0
    assert main([*command, window]) == 1
    assert 'set lattice.dropout=false' in capsys.readouterr().out
    assert main([*command, window, 'oracle_kd.objectives.lattice.dropout=false']) == 0
    recipe = tmp_path / 'recipe.yaml'
    text = (
        'oracle_kd: {teacher: {restore_from: %s}, objectives: {lattice: {window: {last: 4}, weight: "${weight}"}}}\n'
    )
    recipe.write_text(f'weight: 0.5\n{text % hybrid_teacher}')
    assert main(['check', student, '--config', str(recipe)]) == 1
    assert 'set lattice.dropout=false' in capsys.readouterr().out
    entry = '{_target_: nemo_oracle_kd.callbacks.KnowledgeDistillation, objectives: {frame_kl: {}}, teacher: {restore_from: "???"}}'
    recipe.write_text(f'trainer: {{callbacks: [{entry}]}}\n')
    assert main(['check', student, '--config', str(recipe)]) == 2
    assert 'no teacher is named' in capsys.readouterr().err
    assert main(['check', student, str(hybrid_teacher), '--config', str(recipe)]) == 0
    for content, sentence in (('a: [', 'is not YAML'), ('a: 1\n', 'has 0 distillations')):
        recipe.write_text(content)
        assert main(['check', student, '--config', str(recipe)]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.integration
def test_a_teacher_with_broken_weights_is_refused_and_check_says_so(tone_corpus, tone_teacher, tmp_path, capsys):
    from nemo.collections.asr.models import EncDecCTCModel

    broken = EncDecCTCModel.restore_from(str(tone_teacher))
    with torch.no_grad():
        broken.decoder.decoder_layers[0].bias[0] = float('nan')
    path = str(tmp_path / 'broken.nemo')
    broken.save_to(path)
    trainer = tiny.trainer(1, callbacks=[KnowledgeDistillation({'restore_from': path}, {'frame_kl': {}})])
    with pytest.raises(ConfigError, match="the teacher has NaN or infinity in 1 of its"):
        trainer.fit(tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer))
    assert main(['check', str(tone_teacher), path]) == 1
    assert 'from before its training diverged' in capsys.readouterr().out


@pytest.mark.integration
def test_a_weight_of_zero_keeps_nan_out_of_the_student(tone_corpus, tone_teacher, monkeypatch):
    hear = OnlineTeacher.hear

    def diverged(self, batch):
        heard = hear(self, batch)
        return type(heard)(heard.lengths, heard.log_probs * float('nan'))

    monkeypatch.setattr(OnlineTeacher, 'hear', diverged)
    callback = KnowledgeDistillation({'restore_from': str(tone_teacher)}, {'frame_kl': {'weight': 0.0}})
    trainer = tiny.trainer(2, callbacks=[callback])
    student = tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer)
    trainer.fit(student)
    assert all(bool(parameter.isfinite().all()) for parameter in student.parameters())


@pytest.mark.integration
def test_a_step_whose_weights_are_all_zero_trains_nothing_and_does_not_fail(tone_corpus, tone_teacher):
    late = {'value': 1.0, 'schedule': 'warmup', 'start': 1, 'steps': 10}
    callback = KnowledgeDistillation(
        {'restore_from': str(tone_teacher)}, {'frame_kl': {'weight': late}}, label_loss={'weight': 0.0}
    )
    trainer = tiny.trainer(1, callbacks=[callback])
    student = tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer)
    before = {name: parameter.clone() for name, parameter in student.named_parameters()}
    trainer.fit(student)
    assert all(torch.equal(parameter, before[name]) for name, parameter in student.named_parameters())


def test_stored_scores_need_no_teacher():
    config = DistillationConfig.from_mapping({'teacher': {'scores': 'manifest'}, 'objectives': {'hard': {}}})
    assert not config.beside and config.stored

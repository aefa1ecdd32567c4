# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Lattice objectives in the training of real tiny transducers: fused and not, hybrid, TDT, multi-blank, oracle teachers."""

from pathlib import Path

import pytest
import tiny
import tiny_oracle
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from tiny_scores import read_rows, write_rows

from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional import valid_cells
from nemo_oracle_kd.losses.lattice import LATTICE_OBJECTIVES

ALL = dict.fromkeys(LATTICE_OBJECTIVES)
KINDS = ['rnnt', 'tdt', 'multiblank_rnnt']


@pytest.fixture(scope='session')
def teachers(tmp_path_factory):
    """Kind (or another config) -> `.nemo` file of a transducer whose weights are large enough to say something."""
    folder, made = tmp_path_factory.mktemp('transducers'), {}

    def make(kind='rnnt', config=None, name=None, cls=None):
        name = name or kind
        if name not in made:
            model = tiny.rnnt_model(config or tiny.rnnt_config(kind=kind, hidden=48, joint_hidden=32), cls=cls, seed=7)
            with torch.no_grad():
                for weight in [*model.joint.parameters(), *model.decoder.parameters()]:
                    weight.mul_(2.0)
            made[name] = folder / f'{name}.nemo'
            model.save_to(str(made[name]))
        return made[name]

    return make


def student_config(train, kind='rnnt', fused=False, **options):
    config = tiny.rnnt_config(train, kind=kind, hidden=16, **options)
    config.joint.update(fuse_loss_wer=fused, fused_batch_size=3 if fused else None)
    return config


def fit(config, teacher, objectives, steps=1, watch=None, trainer_options=None, **options):
    """Trains a student; returns it with what was logged under `train/kd/`."""
    teacher = {'restore_from': str(teacher), **options.pop('teacher_options', {})}
    callback = KnowledgeDistillation(teacher=teacher, objectives=objectives, **options)
    trainer = tiny.trainer(steps, callbacks=[callback], **(trainer_options or {}))
    student = tiny.rnnt_model(config, trainer)
    if watch is not None:
        student.joint.register_forward_pre_hook(watch, with_kwargs=True)
    trainer.fit(student)
    logged = trainer.callback_metrics.items()
    return student, {name.removeprefix('train/kd/'): float(value) for name, value in logged}


@pytest.mark.parametrize('kind, hybrid', [*((kind, False) for kind in KINDS), ('rnnt', True)])
def test_every_objective_enters_the_loss_and_the_fused_joint_trains_the_same_student(
    tone_corpus, teachers, kind, hybrid
):
    results = [
        fit(student_config(tone_corpus, kind, fused, hybrid=hybrid), teachers(kind), ALL, steps=2)
        for fused in (False, True)
    ]
    for _, logged in results:
        total = logged['label_loss'] + sum(logged[f'{name}_weighted'] for name in ALL)
        assert logged['loss'] == pytest.approx(total, rel=1e-5)
        assert all(logged[name] > 0 for name in ALL)
        in_all = 0.7 * logged['loss'] + 0.3 * logged['label_loss_ctc'] if hybrid else logged['loss']
        assert logged['train_loss'] == pytest.approx(in_all, rel=1e-5)
    (plain, logged), (fused, logged_fused) = results
    for name in ALL:
        assert logged[name] == pytest.approx(logged_fused[name], rel=1e-4), name
    for a, b in zip(plain.parameters(), fused.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-4)


@pytest.mark.parametrize('fused', [False, True], ids=['unfused', 'fused'])
def test_what_is_logged_is_the_divergence_of_the_lattices_that_both_joints_make(tone_corpus, teachers, fused):
    seen = {}

    def watch(joint, arguments, named):
        if torch.is_grad_enabled():
            seen.update(named)

    objectives = {'lattice': {'weight': 0.01}}
    config = student_config(tone_corpus, fused=fused)
    config.train_ds.shuffle = False
    steps = {}

    class Notes(KnowledgeDistillation):
        """Keeps the teacher and the last batch beyond the fit."""

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            steps.update(teacher=self.distiller.teacher.model, batch=batch)
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    callback = Notes(teacher={'restore_from': str(teachers())}, objectives=objectives)
    trainer = tiny.trainer(1, callbacks=[callback])
    student = tiny.rnnt_model(config, trainer)
    before = {name: x.clone() for name, x in student.joint.state_dict().items()}
    student.joint.register_forward_pre_hook(watch, with_kwargs=True)
    trainer.fit(student)
    student.joint.load_state_dict(before)
    student.joint.set_fuse_loss_wer(False)

    signal, signal_length, labels, label_lengths = steps['batch']
    teacher = steps['teacher']
    with torch.no_grad():
        ours = student.joint(encoder_outputs=seen['encoder_outputs'], decoder_outputs=seen['decoder_outputs'])
        encoded, lengths = teacher(input_signal=signal, input_signal_length=signal_length)
        predicted, _, _ = teacher.decoder(targets=labels, target_length=label_lengths)
        theirs = teacher.joint(encoder_outputs=encoded, decoder_outputs=predicted)
    p, q = theirs.log_softmax(-1), ours.log_softmax(-1)
    cells = valid_cells(lengths.long(), label_lengths, ours.shape[1], ours.shape[2])
    expected = torch.where(cells, (p.exp() * (p - q)).sum(-1), 0.0).sum((1, 2)).mean()
    logged = float(trainer.callback_metrics['train/kd/lattice'])
    assert logged == pytest.approx(float(expected), rel=1e-5) and logged > 1.0


def test_a_student_of_the_lattice_alone_learns_what_its_teacher_says(tone_corpus, teachers):
    options = {'objectives': {'lattice': {'weight': 1.0, 'normalization': 'cells'}}, 'label_loss': {'weight': 0.0}}
    _, first = fit(student_config(tone_corpus), teachers(), steps=1, **options)
    _, last = fit(student_config(tone_corpus), teachers(), steps=20, **options)
    assert last['lattice'] < 0.3 * first['lattice']


def test_an_oracle_teacher_reads_the_transcripts(tone_corpus, teachers):
    from nemo_oracle_kd.models import EncDecOracleRNNTModel

    config = tiny_oracle.oracle_rnnt_config(label_corruption=tiny_oracle.NO_CORRUPTION)
    teacher = teachers(config=config, name='oracle', cls=EncDecOracleRNNTModel)
    student, logged = fit(student_config(tone_corpus), teacher, {'lattice': None, 'one_best_path': None})
    assert logged['lattice'] > 0 and logged['one_best_path'] > 0
    assert not any('teacher' in name for name in student.state_dict())


def test_frames_of_another_length_are_refused_or_picked_and_never_mixed(tone_corpus, teachers):
    teacher = teachers(config=tiny.rnnt_config(hidden=48, stride=4), name='slow')
    sentence = '20 ms in the student and 40 ms in the teacher: set teacher.time_resampling to nearest$'
    with pytest.raises(ConfigError, match=sentence):
        fit(student_config(tone_corpus), teacher, {'lattice': None})
    _, logged = fit(student_config(tone_corpus), teacher, ALL, teacher_options={'time_resampling': 'nearest'})
    assert all(logged[name] > 0 for name in ALL)
    with pytest.raises(ConfigError, match='set teacher.time_resampling=nearest instead of linear'):
        fit(student_config(tone_corpus), teacher, ALL, teacher_options={'time_resampling': 'linear'})
    teacher = teachers(config=tiny.rnnt_config(kind='tdt', hidden=48, stride=4), name='slow_tdt')
    with pytest.raises(ConfigError, match='durations counted in frames of different lengths'):
        fit(
            student_config(tone_corpus, 'tdt'),
            teacher,
            {'lattice': None},
            teacher_options={'time_resampling': 'nearest'},
        )


def test_shift_window_and_estimated_delay_are_logged(tone_corpus, teachers):
    objectives = {
        'lattice': {'delay': {'mode': 'estimate', 'batches': 2, 'max_spread': None}},
        'lattice_collapsed': {'shift': 1, 'window': {'first': -1, 'last': 3}},
        'one_best_path': {'shift': 2},
    }
    _, logged = fit(student_config(tone_corpus), teachers(), objectives, steps=3)
    assert logged['lattice_shift'] == round(logged['lattice_shift']) and logged['lattice'] > 0
    assert 0 <= logged['lattice_collapsed_shift'] <= 4
    assert 'one_best_path_shift' not in logged and logged['one_best_path'] > 0


@pytest.mark.parametrize('precision', ['bf16-mixed'])
def test_half_precision_training_gives_finite_losses_and_weights(tone_corpus, teachers, precision):
    _, exact = fit(student_config(tone_corpus), teachers(), ALL, steps=1)
    options = {'trainer_options': {'precision': precision}}
    student, logged = fit(student_config(tone_corpus), teachers(), ALL, steps=1, **options)
    for name in ALL:
        assert logged[name] == pytest.approx(exact[name], rel=0.05), name
    assert all(bool(torch.isfinite(weight).all()) for weight in student.parameters())


def joint_dropout(config):
    config.joint.jointnet.dropout = 0.2


def masking(config):
    config.joint.masking_prob = 0.3


@pytest.mark.parametrize(
    'change, teacher, objective, sentence',
    [
        (None, {'labels': [' ', 'a', 'b', 'd', 'c']}, {}, "label 3 is 'c' in the student and 'd' in the teacher"),
        (None, {'labels': [' ', 'a', 'b']}, {}, 'the student has 5 labels and the teacher 3'),
        (None, {'kind': 'tdt'}, {}, 'the student is a RNN-T and the teacher a TDT'),
        (None, {'kind': 'multiblank_rnnt'}, {}, 'the teacher a multi-blank transducer'),
        (masking, {}, {}, 'set model.joint.masking_prob=-1'),
        (joint_dropout, {}, {'window': 3}, 'set lattice.dropout=false'),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    tone_corpus, teachers, change, teacher, objective, sentence
):
    config = student_config(tone_corpus)
    if change is not None:
        change(config)
    made = teachers(config=tiny.rnnt_config(**teacher), name=str(sorted(teacher)) + str(teacher)[-8:])
    with pytest.raises(ConfigError) as refusal:
        fit(config, made, {'lattice': objective})
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    'kind, options',
    [('tdt', {'durations': (0, 1, 3)}), ('multiblank_rnnt', {'big_blanks': (2, 3)})],
)
def test_other_durations_are_refused(tone_corpus, teachers, kind, options):
    with pytest.raises(ConfigError, match="train the student with the teacher's durations"):
        fit(student_config(tone_corpus, kind, **options), teachers(kind), {'lattice': None})


def test_a_teacher_without_a_joint_and_sizes_that_differ_are_refused(tone_corpus, tone_teacher, teachers):
    with pytest.raises(ConfigError, match='but the teacher .EncDecCTCModel. has no joint'):
        fit(student_config(tone_corpus), tone_teacher, {'lattice': None})
    with pytest.raises(ConfigError, match="gives 16 values per frame and the teacher's 48.*distance=similarity"):
        fit(student_config(tone_corpus), teachers(), {'representation': {'distance': 'l2'}})
    callback = KnowledgeDistillation(teacher={'restore_from': str(teachers())}, objectives={'lattice': None})
    trainer = tiny.trainer(1, callbacks=[callback])
    with pytest.raises(ConfigError, match='but the student .EncDecCTCModel. has no joint'):
        trainer.fit(tiny.ctc_model(tiny.ctc_config(tone_corpus), trainer))


def test_a_hybrid_student_that_trains_its_ctc_head_alone_is_refused(tone_corpus, teachers):
    config = student_config(tone_corpus, hybrid=True)
    config.aux_ctc.ctc_loss_weight = 1.0
    with pytest.raises(ConfigError, match='ctc_loss_weight=1 multiplies by 0: set it below 1'):
        fit(config, teachers(), {'lattice': None})


@pytest.mark.parametrize('preset', ['lattice', 'lattice_topk', 'lattice_collapsed', 'one_best_path'])
def test_the_presets_train_with_the_defaults_of_their_objectives(tone_corpus, teachers, preset):
    values = yaml.safe_load((Path(__file__).parents[2] / f'conf/oracle_kd/{preset}.yaml').read_text())
    (options,) = values['objectives'].values()
    values['teacher']['restore_from'] = str(teachers())
    callback = KnowledgeDistillation(**values)
    config, _ = LATTICE_OBJECTIVES[preset]
    assert callback.distiller.config.objectives == {preset: config()} and len(options) >= 9
    trainer = tiny.trainer(1, callbacks=[callback])
    trainer.fit(tiny.rnnt_model(student_config(tone_corpus), trainer))
    logged = trainer.callback_metrics
    weight = {'one_best_path': 0.1, 'lattice_collapsed': 1e-3}.get(preset, 0.01)
    assert float(logged[f'train/kd/{preset}_weighted']) == pytest.approx(weight * float(logged[f'train/kd/{preset}']))


def test_representations_need_neither_a_common_vocabulary_nor_a_common_joint(tone_corpus, teachers):
    few_labels = teachers(config=tiny.rnnt_config(kind='tdt', hidden=48, labels=[' ', 'a']), name='few')
    _, logged = fit(student_config(tone_corpus), few_labels, {'representation': None})
    assert logged['representation'] > 0
    config = student_config(tone_corpus)
    config.joint.masking_prob = 0.3
    _, logged = fit(config, teachers('tdt'), {'representation': None})
    assert logged['representation'] > 0
    _, logged = fit(student_config(tone_corpus), teachers('tdt'), {'encoder': None, 'representation': None})
    assert logged['encoder'] > 0

    from nemo_oracle_kd.models import EncDecOracleRNNTModel

    config = tiny_oracle.oracle_rnnt_config(label_corruption=tiny_oracle.NO_CORRUPTION)
    config.labels = [' ', 'a', 'b', 'd', 'c']
    oracle = teachers(config=config, name='other_oracle', cls=EncDecOracleRNNTModel)
    with pytest.raises(ConfigError, match="which differ from its own: train the student with the teacher's labels"):
        fit(student_config(tone_corpus), oracle, {'representation': None})


def test_the_check_command_knows_lattices(tone_corpus, teachers, tmp_path, capsys):
    from nemo_oracle_kd.cli.main import main

    student = tmp_path / 'student.nemo'
    tiny.rnnt_model(student_config(None)).save_to(str(student))
    assert main(['check', str(student), str(teachers()), '--objectives', 'lattice', 'one_best_path']) == 0
    assert 'ready to distil lattice, one_best_path' in capsys.readouterr().out
    assert main(['check', str(student), str(teachers('tdt')), '--objectives', 'lattice']) == 1
    assert 'the student is a RNN-T and the teacher a TDT' in capsys.readouterr().out


class CountRuns(Callback):
    """Counts how often the teacher's encoder runs."""

    def __init__(self, distillation):
        self.distillation, self.runs = distillation, 0

    def on_fit_start(self, trainer, pl_module):
        self.distillation.distiller.teacher.model.encoder.register_forward_hook(self._count)

    def _count(self, *_):
        self.runs += 1


def test_a_teacher_with_a_memory_says_the_same_and_is_asked_once(tone_corpus, teachers, tmp_path):
    said, runs = [], []
    eight = write_rows(read_rows(tone_corpus)[:8], tmp_path / 'eight.jsonl')
    for memory_mb in (0, 10):
        teacher = {'restore_from': str(teachers()), 'memory_mb': memory_mb}
        distillation = KnowledgeDistillation(teacher=teacher, objectives={'lattice': {'weight': 0.01}})
        counter = CountRuns(distillation)
        trainer = tiny.trainer(4, callbacks=[distillation, counter])
        torch.manual_seed(5)
        trainer.fit(tiny.rnnt_model(student_config(eight), trainer))
        said.append(float(trainer.callback_metrics['train/kd/lattice']))
        runs.append(counter.runs)
    assert runs == [4, 2]  # an epoch has 2 batches
    assert said[0] == pytest.approx(said[1], rel=1e-4)


def test_a_resumed_training_keeps_the_delay_that_was_estimated(tone_corpus, teachers, tmp_path):
    objectives = {'lattice': {'delay': {'mode': 'estimate', 'batches': 2, 'max_spread': None}}, 'one_best_path': None}
    callbacks = [
        KnowledgeDistillation(teacher={'restore_from': str(teachers())}, objectives=objectives) for _ in range(2)
    ]
    saved = SaveAt(2, tmp_path / 'within.ckpt')
    trainer = tiny.trainer(2, callbacks=[callbacks[0], saved])
    trainer.fit(tiny.rnnt_model(student_config(tone_corpus), trainer))
    trainer.save_checkpoint(tmp_path / 'after.ckpt')
    shift = float(trainer.callback_metrics['train/kd/lattice_shift'])
    for name in ('within', 'after'):
        checkpoint = torch.load(tmp_path / f'{name}.ckpt', weights_only=False)
        assert checkpoint['nemo_oracle_kd'] == {'delays': {'lattice': int(shift)}} and not checkpoint['callbacks']

    trainer = tiny.trainer(3, callbacks=[callbacks[1]])
    trainer.fit(tiny.rnnt_model(student_config(tone_corpus), trainer), ckpt_path=str(tmp_path / 'within.ckpt'))
    assert float(trainer.callback_metrics['train/kd/lattice_shift']) == shift
    assert float(trainer.callback_metrics['train/kd/lattice']) > 0


class SaveAt(Callback):
    """Writes a checkpoint after a step, as a checkpoint callback does within a fit."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)

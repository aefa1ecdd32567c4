# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The callback on real models: it trains, it hides the teacher, it refuses what cannot work."""

import json
import tarfile

import pytest
import tiny
import torch
from omegaconf import OmegaConf

from nemo_oracle_kd.callbacks import KnowledgeDistillation
from nemo_oracle_kd.errors import ConfigError

ALL = {'frame_kl': {'weight': 0.1}, 'softmax_l2': None, 'guided_ctc': None, 'occupancy': None}


def _callback(teacher, objectives=None, **options):
    return KnowledgeDistillation(
        teacher={'restore_from': str(teacher), **options.pop('teacher_options', {})},
        objectives=objectives or {'frame_kl': {'weight': 0.1}},
        **options,
    )


def _fit(train, callback, max_steps=4, trainer_options=None, **config):
    trainer = tiny.trainer(max_steps, callbacks=[callback] if callback else [], **(trainer_options or {}))
    student = tiny.ctc_model(tiny.ctc_config(train, hidden=config.pop('hidden', 16), **config), trainer)
    trainer.fit(student)
    return trainer, student


def test_every_term_is_logged_weighted_and_unweighted_with_entropies_and_agreement(tone_corpus, tone_teacher):
    trainer, _ = _fit(tone_corpus, _callback(tone_teacher, ALL))
    logged = {name.removeprefix('train/kd/'): float(value) for name, value in trainer.callback_metrics.items()}
    for name, weight in {
        'label_loss': 1,
        'frame_kl': 0.1,
        'softmax_l2': 0.25,
        'guided_ctc': 1,
        'occupancy': 0.05,
    }.items():
        assert logged[f'{name}_weighted'] == pytest.approx(weight * logged[name], rel=1e-5)
    total = sum(logged[f'{name}_weighted'] for name in ['label_loss', *ALL])
    assert logged['loss'] == pytest.approx(total, rel=1e-5) == pytest.approx(logged['train_loss'], rel=1e-5)
    assert logged['teacher_entropy'] > 0 and logged['student_entropy'] > 0 and 0 <= logged['agreement'] <= 1


def test_every_line_of_the_log_has_the_statistics_also_in_epochs_shorter_than_the_interval(
    tone_corpus, tone_teacher, tmp_path
):
    import csv

    from lightning.pytorch.loggers import CSVLogger

    # an epoch has 2 steps
    options = {'logger': CSVLogger(tmp_path), 'log_every_n_steps': 3, 'limit_train_batches': 2}
    trainer, _ = _fit(tone_corpus, _callback(tone_teacher), max_steps=6, trainer_options=options)
    trainer.logger.save()
    with open(f'{trainer.logger.log_dir}/metrics.csv') as file:
        rows = [row for row in csv.DictReader(file) if row.get('train/kd/frame_kl')]
    assert len(rows) == 2
    assert all(row['train/kd/agreement'] and row['train/kd/teacher_entropy'] for row in rows)


def test_a_student_of_posteriors_alone_learns_what_the_teacher_says(tone_corpus, tone_teacher):
    callback = _callback(tone_teacher, {'frame_kl': {'weight': 1.0}}, label_loss={'weight': 0.0})
    trainer, _ = _fit(tone_corpus, callback, max_steps=2)
    first = float(trainer.callback_metrics['train/kd/frame_kl'])
    callback = _callback(tone_teacher, {'frame_kl': {'weight': 1.0}}, label_loss={'weight': 0.0})
    trainer, _ = _fit(tone_corpus, callback, max_steps=80, hidden=48)
    assert float(trainer.callback_metrics['train/kd/frame_kl']) < 0.2 * first
    assert float(trainer.callback_metrics['train/kd/agreement']) > 0.9


def _watch_teacher(callback, seen):
    """A callback that notes, after every step of a fit, where the teacher can be found."""
    from lightning.pytorch.callbacks import LambdaCallback

    def inspect(trainer, student, *_):
        teacher = callback.distiller.teacher.model
        held = {id(parameter) for parameter in teacher.parameters()}
        groups = trainer.optimizers[0].param_groups
        seen['training'] = any(module.training for module in teacher.modules())
        seen['gradients'] = any(parameter.grad is not None for parameter in teacher.parameters())
        seen['optimizer'] = any(id(parameter) in held for group in groups for parameter in group['params'])
        seen['student'] = any(id(parameter) in held for parameter in student.parameters())

    return LambdaCallback(on_train_batch_end=inspect)


NOWHERE = {'training': False, 'gradients': False, 'optimizer': False, 'student': False}


def _assert_no_teacher_in(path, student, teacher):
    checkpoint = torch.load(path, weights_only=False)
    assert sorted(checkpoint['state_dict']) == sorted(student.state_dict())
    assert not checkpoint.get('callbacks') and str(teacher) not in str(checkpoint['hyper_parameters'])
    numbers = [len(group['params']) for group in checkpoint['optimizer_states'][0]['param_groups']]
    assert sum(numbers) == len(list(student.parameters()))


def test_the_teacher_is_in_eval_mode_and_in_no_state_dict_optimizer_or_checkpoint(tone_corpus, tone_teacher, tmp_path):
    callback, seen = _callback(tone_teacher), {}
    trainer = tiny.trainer(3, callbacks=[callback, _watch_teacher(callback, seen)])
    student = tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer)
    plain = sorted(student.state_dict())
    trainer.fit(student)
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    assert seen == NOWHERE and sorted(student.state_dict()) == plain
    _assert_no_teacher_in(tmp_path / 'last.ckpt', student, tone_teacher)


def test_training_resumes_with_the_same_teacher_and_the_schedule_where_it_was(tone_corpus, tone_teacher, tmp_path):
    weight = {'value': 1.0, 'schedule': 'warmup', 'steps': 10}
    callback = _callback(tone_teacher, {'frame_kl': {'weight': weight}})
    trainer, student = _fit(tone_corpus, callback, max_steps=3)
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    callback, seen = _callback(tone_teacher, {'frame_kl': {'weight': weight}}), {}
    trainer = tiny.trainer(6, callbacks=[callback, _watch_teacher(callback, seen)])
    resumed = tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer, seed=1)
    trainer.fit(resumed, ckpt_path=str(tmp_path / 'last.ckpt'))
    logged = trainer.callback_metrics
    assert trainer.global_step == 6 and seen == NOWHERE
    assert float(logged['train/kd/frame_kl_weighted']) == pytest.approx(0.5 * float(logged['train/kd/frame_kl']))
    trainer.save_checkpoint(tmp_path / 'more.ckpt')
    _assert_no_teacher_in(tmp_path / 'more.ckpt', resumed, tone_teacher)


def test_the_saved_student_is_a_stock_nemo_model_without_a_trace_of_the_teacher(tone_corpus, tone_teacher, tmp_path):
    _, student = _fit(tone_corpus, _callback(tone_teacher))
    student.save_to(str(tmp_path / 'student.nemo'))
    with tarfile.open(tmp_path / 'student.nemo') as archive:
        config = archive.extractfile(next(m for m in archive.getmembers() if m.name.endswith('.yaml'))).read().decode()
    assert OmegaConf.create(config).target == 'nemo.collections.asr.models.ctc_models.EncDecCTCModel'
    assert 'nemo_oracle_kd' not in config and 'teacher' not in config
    from nemo.collections.asr.losses.ctc import CTCLoss

    assert type(student.loss) is CTCLoss


def test_without_weight_the_updates_are_those_of_nemo_itself(tone_corpus, tone_teacher):
    callback = _callback(tone_teacher, {'frame_kl': {'weight': 0.0}})
    _, distilled = _fit(tone_corpus, callback, max_steps=4)
    _, plain = _fit(tone_corpus, None, max_steps=4)
    for (name, left), right in zip(distilled.state_dict().items(), plain.state_dict().values()):
        torch.testing.assert_close(left, right, msg=name)


def test_validation_reports_the_plain_label_loss(tone_corpus, tone_teacher):
    callback = _callback(tone_teacher, {'frame_kl': {'weight': 1e9}})
    options = {'limit_val_batches': 1.0}
    trainer, _ = _fit(tone_corpus, callback, 4, options, validation=tone_corpus, learning_rate=1e-9)
    plain, _ = _fit(tone_corpus, None, 4, options, validation=tone_corpus, learning_rate=1e-9)
    torch.testing.assert_close(trainer.callback_metrics['val_loss'], plain.callback_metrics['val_loss'])


def test_micro_batches_accumulate_to_the_gradient_of_the_whole_batch(tone_corpus, tone_teacher):
    def gradient(batch_size, accumulate):
        trainer = tiny.trainer(1, callbacks=[_callback(tone_teacher, ALL)], accumulate_grad_batches=accumulate)
        config = tiny.ctc_config(tone_corpus, hidden=16, batch_size=batch_size, learning_rate=1e-9)
        config.train_ds.shuffle = False
        config.preprocessor.dither = 0.0
        config.optim.eps = 1e-8
        student = tiny.ctc_model(config, trainer)
        for module in student.modules():
            if isinstance(module, torch.nn.BatchNorm1d):  # batch statistics differ between splits by design
                module.eval()
                module.train = lambda mode=True: None
        gradients = {}
        from lightning.pytorch.callbacks import LambdaCallback

        def keep(trainer, module, optimizer):
            gradients.update({name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None})

        trainer.callbacks.append(LambdaCallback(on_before_optimizer_step=keep))
        trainer.fit(student)
        return gradients

    whole, split = gradient(16, 1), gradient(4, 4)
    assert whole and whole.keys() == split.keys()
    for name in whole:
        torch.testing.assert_close(whole[name], split[name], rtol=1e-3, atol=1e-5)


def test_a_teacher_of_another_frame_rate_needs_a_resampling_choice(tone_corpus, tone_teacher):
    with pytest.raises(ConfigError, match='set teacher.time_resampling'):
        _fit(tone_corpus, _callback(tone_teacher), stride=4)
    options = {'time_resampling': 'linear'}
    trainer, _ = _fit(tone_corpus, _callback(tone_teacher, teacher_options=options), stride=4)
    assert torch.isfinite(trainer.callback_metrics['train/kd/frame_kl'])


def test_another_vocabulary_is_refused_before_the_first_step(tone_corpus, tone_teacher):
    with pytest.raises(ConfigError, match="label 1 is 'b' in the student and 'a' in the teacher"):
        _fit(tone_corpus, _callback(tone_teacher), labels=[' ', 'b', 'a', 'c', 'd'])


def test_another_sample_rate_is_refused_before_the_first_step(tone_corpus, tone_teacher):
    trainer = tiny.trainer(1, callbacks=[_callback(tone_teacher)])
    config = tiny.ctc_config(tone_corpus, hidden=16)
    config.sample_rate = config.preprocessor.sample_rate = config.train_ds.sample_rate = 16000
    student = tiny.ctc_model(config, trainer)
    with pytest.raises(ConfigError, match='8000 Hz audio and the student reads 16000 Hz'):
        trainer.fit(student)


def test_posteriors_are_distilled_into_the_ctc_head_of_a_hybrid_student(tone_corpus, tone_teacher):
    trainer = tiny.trainer(2, callbacks=[_callback(tone_teacher)])
    student = tiny.rnnt_model(tiny.rnnt_config(tone_corpus, hidden=16, hybrid=True), trainer)
    trainer.fit(student)
    logged = {name.removeprefix('train/kd/'): float(value) for name, value in trainer.callback_metrics.items()}
    assert logged['loss'] == pytest.approx(logged['label_loss'], rel=1e-6)
    assert logged['loss_ctc'] == pytest.approx(logged['label_loss_ctc'] + logged['frame_kl_weighted'], rel=1e-6)
    assert logged['train_loss'] == pytest.approx(0.7 * logged['loss'] + 0.3 * logged['loss_ctc'], rel=1e-5)


@pytest.mark.parametrize('hybrid, weight', [(False, None), (True, 0.0)])
def test_posteriors_for_a_student_without_a_trained_ctc_head_are_refused(tone_corpus, tone_teacher, hybrid, weight):
    trainer = tiny.trainer(1, callbacks=[_callback(tone_teacher)])
    config = tiny.rnnt_config(tone_corpus, hidden=16, hybrid=hybrid)
    if hybrid:
        config.aux_ctc.ctc_loss_weight = weight
    student = tiny.rnnt_model(config, trainer)
    with pytest.raises(ConfigError, match='not trained with a CTC head'):
        trainer.fit(student)


def test_a_missing_teacher_is_refused_when_the_callback_is_made():
    with pytest.raises(FileNotFoundError, match="no model at 'nowhere.nemo'"):
        _callback('nowhere.nemo')


def test_unknown_keys_are_refused_when_the_callback_is_made(tone_teacher):
    with pytest.raises(ConfigError, match="Did you mean 'objectives'"):
        KnowledgeDistillation(teacher={'restore_from': str(tone_teacher)}, objective={'frame_kl': {}})


@pytest.mark.parametrize(
    'change, sentence',
    [
        (lambda row: row.pop('text'), r'line 2, .*\) have no `text`'),
        (
            lambda row: row.update(duration=0.0),
            r'line 2, 0.0\) have a `duration` that is not a number of seconds above 0',
        ),
        (
            lambda row: row.update(audio_filepath='gone.wav'),
            r'line 2, gone.wav\) name an audio file that does not exist',
        ),
    ],
)
def test_a_bad_training_row_is_refused_before_the_first_step(tone_corpus, tone_teacher, tmp_path, change, sentence):
    rows = [json.loads(line) for line in tone_corpus.read_text().splitlines()]
    change(rows[1])
    manifest = tmp_path / 'bad.jsonl'
    manifest.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    with pytest.raises(ValueError, match=sentence):
        _fit(manifest, _callback(tone_teacher))


def test_audio_without_samples_is_refused_before_the_first_step(tone_corpus, tone_teacher, tmp_path):
    import soundfile

    soundfile.write(tmp_path / 'empty.wav', [], tiny.SAMPLE_RATE)
    rows = [json.loads(line) for line in tone_corpus.read_text().splitlines()]
    rows[3]['audio_filepath'] = str(tmp_path / 'empty.wav')
    manifest = tmp_path / 'bad.jsonl'
    manifest.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    with pytest.raises(ValueError, match=r'empty.wav\) name a file that holds no audio: remove the rows'):
        _fit(manifest, _callback(tone_teacher))


def test_two_distillations_of_one_student_are_refused(tone_corpus, tone_teacher):
    trainer = tiny.trainer(1, callbacks=[_callback(tone_teacher), _callback(tone_teacher)])
    student = tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer)
    with pytest.raises(ValueError, match='already has a distillation'):
        trainer.fit(student)


def test_after_a_failed_fit_the_student_has_its_own_loss(tone_corpus, tone_teacher):
    from lightning.pytorch.callbacks import LambdaCallback

    def fail(*_):
        raise KeyError('on purpose')

    trainer = tiny.trainer(2, callbacks=[_callback(tone_teacher), LambdaCallback(on_train_batch_end=fail)])
    student = tiny.ctc_model(tiny.ctc_config(tone_corpus, hidden=16), trainer)
    before = student.loss
    with pytest.raises(KeyError):
        trainer.fit(student)
    assert student.loss is before


def test_a_teacher_that_remembers_gives_the_same_student_and_is_asked_once_per_utterance(
    tone_corpus, tone_teacher, tmp_path
):
    eight = tmp_path / 'eight.jsonl'
    eight.write_text(''.join(tone_corpus.read_text().splitlines(keepends=True)[:8]))
    weights, asked = [], []
    for memory_mb in (0, 10):
        callback = _callback(tone_teacher, ALL, teacher_options={'memory_mb': memory_mb})
        count = []
        trainer = tiny.trainer(6, callbacks=[callback])
        student = tiny.ctc_model(tiny.ctc_config(eight, hidden=16), trainer)
        attach = callback.distiller.attach

        def attach_and_count(model, attach=attach, count=count, callback=callback):
            report = attach(model)
            callback.distiller.teacher.model.preprocessor.register_forward_hook(
                lambda module, inputs, outputs: count.append(outputs[0].shape[0])
            )
            return report

        callback.distiller.attach = attach_and_count
        trainer.fit(student)
        weights.append(student.state_dict())
        asked.append(sum(count))
    assert asked == [24, 8]  # 6 batches of 4 from a corpus of 8
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=1e-5, msg=name)


def test_the_memory_of_a_teacher_is_bounded():
    from nemo_oracle_kd.distillation.answer_memory import AnswerMemory

    memory = AnswerMemory(megabytes=0.001)  # 1048 bytes
    memory.put(b'a', torch.zeros(10, 20))
    memory.put(b'b', torch.zeros(10, 20))
    assert len(memory) == 1 and memory.get(b'a') is not None and memory.get(b'b') is None

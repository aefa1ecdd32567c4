# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Distillation by sequence probability in unmodified NeMo training: stored and online scores, rows, heads, gradients."""

import tarfile

import pytest
import tiny
import torch
from lightning.pytorch.callbacks import LambdaCallback
from omegaconf import OmegaConf
from tiny_scores import distillation, fit, read_rows, transducer_config, with_score, write_rows

from nemo_oracle_kd.cli.main import main
from nemo_oracle_kd.errors import ConfigError

ONLY = {'label_loss': {'weight': 0.0}}


@pytest.mark.parametrize('kind', ['ctc', 'rnnt', 'tdt', 'multiblank_rnnt'])
def test_the_l1_gradient_is_the_sign_of_the_difference_times_that_of_the_loss(tone_corpus, tmp_path, kind):
    sure, unsure = (with_score(tone_corpus, tmp_path / f'{score}.jsonl', score) for score in (-0.001, -5000.0))
    fused = kind == 'tdt'
    plain, _, gradients = fit(sure, None, 1, kind, fused=fused)
    cases = [(sure, {}, 1), (unsure, {}, -1)]
    if kind == 'ctc':  # dead zone and scale are those of the scores, wherever these come from
        cases += [(unsure, {'dead_zone': 1e5}, 0), (unsure, {'teacher_scale': 1e-6}, 1)]
    for manifest, options, sign in cases:
        logged, _, found = fit(manifest, distillation({'full_sum': options}, **ONLY), 1, kind, fused=fused)
        surer = manifest == unsure and 'teacher_scale' not in options
        assert logged['label_loss'] == pytest.approx(plain['train_loss'], rel=1e-5)
        assert logged['full_sum_more_confident'] == surer and logged['full_sum_unaligned'] == 0
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], sign * gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize('options', [{}, {'kind': 'ctc'}, {'kind': 'tdt', 'fused': True}, {'hybrid': True}])
def test_stored_scores_make_the_student_that_the_teacher_itself_makes(scored_tones, tone_teacher, options):
    objectives = {'full_sum': {'distance': 'huber', 'confidence': 'probability', 'normalization': 'token'}}
    results = []
    for teacher in (None, {'restore_from': str(tone_teacher)}):
        results.append(fit(scored_tones / 'reference.jsonl', distillation(objectives, teacher), 3, **options))
    (stored, student, _), (online, other, _) = results
    assert stored['full_sum'] == pytest.approx(online['full_sum'], rel=1e-3) and stored['full_sum'] > 0
    assert stored['full_sum_delta'] == pytest.approx(online['full_sum_delta'], abs=2e-3)
    assert ('full_sum_ctc' in stored) == ('hybrid' in options)
    for (name, left), right in zip(student.state_dict().items(), other.state_dict().values()):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-3, msg=name)


def test_rows_are_weighted_by_a_field_of_their_own(scored_tones, tmp_path):
    rows = read_rows(scored_tones / 'decode.jsonl')
    for number, row in enumerate(rows[:4]):  # the first batch
        row['teacher_fields'] = {'agreement': float(number == 1)}
    for row in rows[4:]:
        row['teacher_fields'] = {'agreement': 0.0}
    confidence = {'confidence': {'mode': 'value', 'field': 'agreement'}}
    manifest = write_rows(rows, tmp_path / 'weighed.jsonl')
    whole = {'confidence': {**confidence['confidence'], 'floor': 1.0}}
    objectives = {'hard': {}, 'full_sum': {}, 'full_sum_norm': {'nbest': 2}}
    logged = []
    for config in ({}, confidence, whole):
        callback = distillation({name: options | config for name, options in objectives.items()}, **ONLY)
        logged.append(fit(manifest, callback, 1, 'ctc')[0])
    for name in objectives:
        plain, weighed, floor = (of_one[name] for of_one in logged)
        assert floor == pytest.approx(plain, rel=1e-6) and 0 < weighed < plain, name


def test_an_imported_manifest_trains_as_a_scored_one_and_is_refused_when_it_was_changed(
    scored_tones, tone_corpus, tmp_path
):
    rows = read_rows(scored_tones / 'decode.jsonl')
    for row in rows:
        row['nbest'] = [{**entry, 'text': entry['text'].upper(), 'tokens': 9} for entry in row['teacher_nbest']]
        row['nbest'][0]['tokens'] = row['teacher_tokens']
    hypotheses, imported = write_rows(rows, tmp_path / 'hypotheses.jsonl', None), tmp_path / 'imported.jsonl'
    words = ['import', hypotheses, '--manifest', tone_corpus, '--output', imported, '--id-key', 'audio_filepath']
    assert main([*map(str, words), '--alphabet', 'abcd', '--score', 'sum', '--log-base', 'e']) == 0
    objectives = {'hard': {'confidence': 'probability'}, 'full_sum': {}, 'full_sum_norm': {'nbest': 2}}
    (expected, _, _), (found, _, _) = (
        fit(manifest, distillation(objectives, **ONLY), 1, 'ctc')
        for manifest in (scored_tones / 'decode.jsonl', imported)
    )
    assert {name: found[name] for name in objectives} == pytest.approx(
        {name: expected[name] for name in objectives}, rel=1e-4
    )
    imported.write_text(imported.read_text().replace('"duration": ', '"duration": 1', 1))
    with pytest.raises(ConfigError, match='changed after scoring'):
        fit(imported, distillation(objectives, **ONLY), 1, 'ctc')


def test_supervised_rows_have_the_label_loss_and_the_others_the_distillation(tone_corpus, tmp_path):
    rows = read_rows(with_score(tone_corpus, tmp_path / 'all.jsonl', -0.5))
    for row in rows[1:4]:  # of the first batch: one row distilled, three supervised
        for key in ('teacher_log_prob', 'teacher_tokens', 'teacher_fingerprint'):
            row.pop(key)
        row['supervised'] = True
    mixed = write_rows(rows, tmp_path / 'mixed.jsonl')
    options = {'label_loss': {'weight': 2.0, 'on': 'supervised'}}
    logged, _, _ = fit(mixed, distillation({'full_sum': {}, 'hard': {'weight': 0.5}}, **options), 1, fused=True)
    alone, _, _ = fit(mixed, distillation({'hard': {}}, label_loss={'weight': 1.0, 'on': 'supervised'}), 1)
    assert logged['hard'] == pytest.approx(logged['full_sum'] + 0.5 / 4, rel=1e-4)  # of one row, mean over four
    assert logged['loss'] == pytest.approx(
        2 * logged['label_loss'] + logged['full_sum'] + logged['hard'] / 2, rel=1e-5
    )
    assert alone['train_loss'] == pytest.approx(alone['label_loss'] + alone['hard'], rel=1e-5)
    plain, _, _ = fit(mixed, None, 1)
    assert plain['train_loss'] == pytest.approx(alone['train_loss'], rel=1e-5)  # both halves make NeMo's own loss


def test_hard_distillation_without_supervised_rows_is_training_on_the_texts(tone_corpus):
    options = {'label_loss': {'weight': 1.0, 'on': 'supervised'}}
    logged, student, _ = fit(tone_corpus, distillation({'hard': {}}, **options), 3, hybrid=True)
    assert logged['label_loss'] == 0 and logged['hard'] > 0 and logged['hard_ctc'] > 0
    _, plain, _ = fit(tone_corpus, None, 3, hybrid=True)
    for (name, left), right in zip(student.state_dict().items(), plain.state_dict().values()):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize('options', [{'kind': 'ctc'}, {}, {'kind': 'tdt', 'fused': True, 'hybrid': True}])
def test_the_posterior_of_the_teachers_text_moves_towards_the_teachers(scored_tones, tmp_path, options):
    callback = distillation({'full_sum_norm': {'nbest': 4, 'over': 'all'}}, **ONLY)
    rows = read_rows(scored_tones / 'decode.jsonl')[:4]
    manifest = write_rows(rows, tmp_path / 'four.jsonl')
    first, _, gradients = fit(manifest, callback, 1, **options)
    assert first['full_sum_norm'] > 0 and any(gradient.abs().sum() > 0 for gradient in gradients.values())
    assert first['loss'] == pytest.approx(first['full_sum_norm'])
    assert ('full_sum_norm_cells_saved' in first) == (options.get('kind') != 'ctc')
    callback = distillation({'full_sum_norm': {'nbest': 4, 'over': 'all'}}, **ONLY)
    last, _, _ = fit(manifest, callback, 12, **options)
    assert last['full_sum_norm'] < 0.8 * first['full_sum_norm']


def test_a_batch_of_supervised_rows_alone_has_a_full_sum_of_zero_and_no_statistics(scored_tones, tmp_path):
    rows = read_rows(scored_tones / 'decode.jsonl')
    for row in rows[:4]:
        row['supervised'] = True
    callback = distillation({'full_sum': {}, 'full_sum_norm': {}})
    logged, _, gradients = fit(write_rows(rows, tmp_path / 'first.jsonl'), callback, 1)
    assert logged['full_sum'] == logged['full_sum_norm'] == 0 and 'full_sum_delta' not in logged
    assert logged['loss'] == pytest.approx(logged['label_loss']) and gradients


def test_a_batch_without_a_second_text_is_counted_as_nothing_to_compare(scored_tones, tmp_path):
    rows = read_rows(scored_tones / 'decode.jsonl')
    for row in rows[:4]:
        row['teacher_nbest'] = row['teacher_nbest'][:1]
    logged, _, _ = fit(write_rows(rows, tmp_path / 'one.jsonl'), distillation({'full_sum_norm': {}}), 1)
    assert logged['full_sum_norm'] == 0 and logged['full_sum_norm_unaligned'] == 1


def test_texts_without_an_alignment_are_left_out_and_counted(tone_corpus, tmp_path):
    rows = read_rows(with_score(tone_corpus, tmp_path / 'all.jsonl', -0.5))
    rows[1]['text'] = 'abcd' * 60  # more labels than frames
    manifest = write_rows(rows, tmp_path / 'long.jsonl')
    logged, _, gradients = fit(manifest, distillation({'full_sum': {}, 'hard': {}}), 1, 'ctc')
    assert logged['full_sum_unaligned'] == logged['hard_unaligned'] == 0.25
    assert logged['hard'] == pytest.approx(logged['label_loss']) == pytest.approx(logged['full_sum'] + 3 * 0.5 / 4)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_an_empty_text_has_a_score_like_any_other(tone_corpus, tmp_path):
    rows = read_rows(with_score(tone_corpus, tmp_path / 'all.jsonl', -0.5))
    rows[0].update(text='', teacher_tokens=0)
    manifest = write_rows(rows, tmp_path / 'empty.jsonl')
    for kind in ('ctc', 'rnnt'):
        callback = distillation({'full_sum': {'normalization': 'token'}})
        logged, _, gradients = fit(manifest, callback, 1, kind, fused=kind == 'rnnt')
        assert logged['full_sum'] > 0 and logged['full_sum_unaligned'] == 0
        assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_a_ctc_teacher_of_other_frames_teaches_a_transducer_of_subwords_and_back(tone_corpus, tone_teacher, tmp_path):
    from nemo.collections.asr.models import EncDecRNNTBPEModel

    tokenizer = tiny.train_tokenizer(tmp_path / 'tokenizer')
    config = tiny.with_tokenizer(transducer_config(tone_corpus, stride=4), tokenizer)
    callback = distillation(
        {'full_sum': {'normalization': 'token'}}, {'restore_from': str(tone_teacher), 'memory_mb': 1}
    )
    logged, teacher, _ = fit(None, callback, 5, config=config, cls=EncDecRNNTBPEModel)
    assert logged['full_sum'] > 0 and logged['full_sum_delta'] > 0
    teacher.save_to(str(tmp_path / 'teacher.nemo'))
    callback = distillation({'full_sum': {}}, {'restore_from': str(tmp_path / 'teacher.nemo')})
    logged, _, _ = fit(tone_corpus, callback, 2, 'ctc')
    assert logged['full_sum'] > 0


def test_a_teacher_that_remembers_scores_an_utterance_once(tone_corpus, tone_teacher):
    asked, weights = [], []
    for memory_mb in (0, 1):
        callback = distillation({'full_sum': {}}, {'restore_from': str(tone_teacher), 'memory_mb': memory_mb})
        count = []

        def watch(trainer, module, count=count, callback=callback):
            callback.distiller.teacher.model.preprocessor.register_forward_hook(
                lambda module, inputs, outputs: count.append(outputs[0].shape[0])
            )

        trainer = tiny.trainer(8, callbacks=[callback, LambdaCallback(on_fit_start=watch)], log_every_n_steps=50)
        student = tiny.rnnt_model(transducer_config(tone_corpus, hybrid=True), trainer)
        trainer.fit(student)
        asked.append(sum(count))
        weights.append(student.state_dict())
    assert asked == [32, 16]  # both heads of the student share the answer
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-4, msg=name)


def test_the_student_saved_during_and_after_the_fit_is_stock(scored_tones, tmp_path):
    from nemo.collections.asr.losses.rnnt import RNNTLoss

    def save(trainer, module, *_):
        module.save_to(str(tmp_path / 'during.nemo'))

    callback = distillation({'full_sum': {}})
    trainer = tiny.trainer(2, callbacks=[callback, LambdaCallback(on_train_batch_end=save)], log_every_n_steps=50)
    student = tiny.rnnt_model(transducer_config(scored_tones / 'reference.jsonl', fused=True), trainer)
    keys = list(student.state_dict())
    before = student._train_dl.dataset.return_sample_id
    trainer.fit(student)
    student.save_to(str(tmp_path / 'after.nemo'))
    assert type(student.loss) is RNNTLoss and student.joint.loss is student.loss
    assert list(student.state_dict()) == keys and student._train_dl.dataset.return_sample_id == before
    for name in ('during', 'after'):
        with tarfile.open(tmp_path / f'{name}.nemo') as archive:
            member = next(member for member in archive.getmembers() if member.name.endswith('.yaml'))
            config = archive.extractfile(member).read().decode()
            weights = archive.extractfile(next(m for m in archive.getmembers() if m.name.endswith('.ckpt')))
            assert list(torch.load(weights)) == keys
        assert OmegaConf.create(config).target == 'nemo.collections.asr.models.rnnt_models.EncDecRNNTModel'
        assert 'nemo_oracle_kd' not in config and 'teacher' not in config


def test_validation_reports_the_plain_loss(scored_tones):
    results = []
    for callback in (None, distillation({'full_sum': {'weight': 1e6}})):
        trainer = tiny.trainer(1, callbacks=[callback] if callback else [], limit_val_batches=1, val_check_interval=1)
        config = transducer_config(
            scored_tones / 'reference.jsonl', fused=True, validation=scored_tones / 'reference.jsonl'
        )
        config.optim.lr, config.preprocessor.dither, config.compute_eval_loss = 1e-9, 0.0, True
        student = tiny.rnnt_model(config, trainer)
        trainer.fit(student)
        results.append(float(trainer.callback_metrics['val_loss']))
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_every_batch_has_its_share_of_supervised_rows(scored_tones, tmp_path):
    rows = read_rows(scored_tones / 'reference.jsonl')
    for row in rows[:3]:
        row['supervised'] = True
    callback = distillation({'full_sum': {}}, label_loss={'weight': 1.0, 'on': 'supervised'}, supervised_share=0.25)
    seen = []
    look = LambdaCallback(
        on_train_batch_start=lambda *_: seen.append(callback.distiller._context.supervised.sum().item())
    )
    trainer = tiny.trainer(6, callbacks=[callback, look], log_every_n_steps=50)
    student = tiny.rnnt_model(transducer_config(write_rows(rows, tmp_path / 'mixed.jsonl')), trainer)
    loader = student._train_dl
    trainer.fit(student)
    assert seen == [1] * 6 and student._train_dl is loader


def test_stored_scores_and_a_teacher_on_frames_work_in_one_training(scored_tones, tone_teacher, tmp_path):
    objectives, manifest = {'full_sum': {}, 'frame_kl': {}}, scored_tones / 'reference.jsonl'
    words = ['cache', '--teacher', str(tone_teacher), '--manifest', str(manifest), '--signal', 'ctc_topk']
    assert main([*words, '-o', str(tmp_path / 'cache')]) == 0
    stored, _, _ = fit(manifest, distillation({'full_sum': {}, 'hard': {'weight': 0.0}}), 1, 'ctc')
    alone, _, _ = fit(manifest, distillation({'frame_kl': {}}, {'restore_from': str(tone_teacher)}), 1, 'ctc')
    for source in ({'restore_from': str(tone_teacher)}, {'cache': str(tmp_path / 'cache')}):
        teacher = {**source, 'scores': 'manifest'}
        one, _, _ = fit(manifest, distillation(objectives, teacher), 1, 'ctc')
        assert one['full_sum'] == pytest.approx(stored['full_sum'], rel=1e-4) and one['full_sum'] > 0
        assert one['frame_kl'] == pytest.approx(alone['frame_kl'], rel=2e-2)
        teacher['fingerprint'] = '00000000-00000000'
        with pytest.raises(ConfigError, match='scored by another teacher'):
            fit(manifest, distillation(objectives, teacher), 1, 'ctc')

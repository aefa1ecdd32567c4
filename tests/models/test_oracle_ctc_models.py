# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Oracle teachers on real models: training, saving, staging, and what they refuse."""

import json

import oracle_teachers
import pytest
import tiny
import tiny_oracle
import torch
from omegaconf import open_dict

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.functional.ctc import ctc_occupancy
from nemo_oracle_kd.models import EncDecOracleCTCModel, EncDecOracleCTCModelBPE
from nemo_oracle_kd.models.oracle_outputs import timing_loss

pytestmark = pytest.mark.integration


def _teacher(config, trainer=None, cls=EncDecOracleCTCModel):
    torch.manual_seed(0)
    return cls(cfg=config, trainer=trainer)


def _fit(config, max_steps=2, cls=EncDecOracleCTCModel, **options):
    return tiny_oracle.fit(config, cls, max_steps, **options)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Metrics, teacher and `.nemo` file of an oracle teacher that has learned the tones."""
    folder = oracle_teachers.listener(tmp_path_factory, 'ctc')
    metrics = json.loads((folder / 'metrics.json').read_text())
    return metrics, oracle_teachers.restored(folder, 'ctc'), folder / 'oracle.nemo'


def test_training_lowers_the_loss_and_logs_its_parts(tone_corpus, trained):
    first, _ = _fit(tiny_oracle.oracle_config(tone_corpus), max_steps=1)
    before = {name: float(value) for name, value in first.callback_metrics.items()}
    after = trained[0]
    for name in ('train_loss_fused', 'train_loss_audio', 'train_loss'):
        assert after[name] < 0.5 * before[name]
    assert before['train_loss'] == pytest.approx(before['train_loss_fused'] + before['train_loss_audio'], rel=1e-5)


def test_validation_scores_the_true_text_and_the_audio_branch(trained):
    metrics = trained[0]
    assert metrics['val_wer'] <= metrics['val_wer_audio'] <= 1.0
    assert metrics['val_wer'] < 0.5 and metrics['val_loss'] > 0 and metrics['val_loss_audio'] > 0


def test_a_saved_teacher_restores_equal(trained):
    from nemo.collections.asr.models import ASRModel

    path = trained[2]
    restored = ASRModel.restore_from(str(path), map_location='cpu').eval()
    assert type(restored) is EncDecOracleCTCModel and restored.reads_transcript
    expected = torch.load(path.with_name('outputs.pt'))  # of the teacher that was trained
    with torch.no_grad():
        found = restored(**tiny_oracle.batch())
    assert torch.equal(expected[0], found[0]) and torch.equal(expected[1], found[1])
    assert repr(restored.oracle) == path.with_name('oracle.txt').read_text()


def test_forward_gives_what_nemo_ctc_models_give(trained):
    log_probs, lengths, greedy = trained[1](**tiny_oracle.batch())
    frames = trained[1].encoder.encode_audio(torch.randn(2, 16, 101), torch.tensor([101, 63]))[0].shape[2]
    assert log_probs.shape == (2, frames, len(tiny.LABELS) + 1) and int(lengths.max()) <= frames
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:2]))
    assert torch.equal(greedy, log_probs.argmax(-1))


def test_forward_accepts_features_instead_of_audio(trained):
    teacher, batch = trained[1], tiny_oracle.batch()
    features, lengths = teacher.preprocessor(
        input_signal=batch.pop('input_signal'), length=batch.pop('input_signal_length')
    )
    direct = teacher(processed_signal=features, processed_signal_length=lengths, **batch)
    assert torch.equal(direct[0], teacher(**tiny_oracle.batch())[0])


def test_eval_mode_is_deterministic_although_corruption_is_configured(trained):
    assert trained[1].oracle.label_corruption.masking_ratio > 0
    assert torch.equal(trained[1](**tiny_oracle.batch())[0], trained[1](**tiny_oracle.batch())[0])


def test_forward_without_a_transcript_is_refused(trained):
    batch = tiny_oracle.batch()
    with pytest.raises(ValueError, match='reads the transcript'):
        trained[1](input_signal=batch['input_signal'], input_signal_length=batch['input_signal_length'])


def test_transcribe_without_text_is_refused_in_one_sentence(trained, tone_corpus):
    path = tiny_oracle.rows(tone_corpus)[0]['audio_filepath']
    with pytest.raises(ValueError, match='transcripts=') as refusal:
        trained[1].transcribe([path])
    assert '\n' not in str(refusal.value)
    with pytest.raises(ValueError, match='transcripts='):
        next(trained[1].transcribe_generator([path], override_config=None))


def test_transcribe_with_text_works_from_paths_waveforms_and_a_manifest(trained, tone_corpus):
    import soundfile

    teacher, rows = trained[1], tiny_oracle.rows(tone_corpus)[:5]
    texts, paths = [row['text'] for row in rows], [row['audio_filepath'] for row in rows]
    waveforms = [soundfile.read(path, dtype='float32')[0] for path in paths]
    from_paths = teacher.transcribe(paths, batch_size=2, transcripts=texts, verbose=False)
    from_waveforms = teacher.transcribe(waveforms, batch_size=2, transcripts=texts, verbose=False)
    from_manifest = teacher.transcribe(str(tone_corpus), batch_size=2, verbose=False)
    wrong = sum(hypothesis.text != text for hypothesis, text in zip(from_paths, texts))
    assert wrong <= 1 and len(from_waveforms) == len(texts)
    assert [h.text for h in from_manifest][:5] == [h.text for h in from_paths]
    one = teacher.transcribe(paths[0], transcripts=texts[0], verbose=False)
    assert [h.text for h in one] == [from_paths[0].text]
    assert teacher._pending_labels is None


@pytest.mark.parametrize(
    'transcripts, sentence',
    [(['ab', 'cd'], 'one transcript per utterance'), (['aé b'], 'does not hold'), (['a#b'], 'normalise')],
)
def test_transcripts_that_do_not_fit_are_refused(trained, tone_corpus, transcripts, sentence):
    with pytest.raises(ValueError, match=sentence):
        trained[1].transcribe([tiny_oracle.rows(tone_corpus)[0]['audio_filepath']], transcripts=transcripts)


def test_a_manifest_may_give_the_text_in_a_file_as_for_nemo(trained, tone_corpus, tmp_path):
    rows = tiny_oracle.rows(tone_corpus)[:3]
    paths, texts = [row['audio_filepath'] for row in rows], [row.pop('text') for row in rows]
    for index, text in enumerate(texts):
        rows[index]['text_filepath'] = str(tmp_path / f'{index}.txt')
        (tmp_path / f'{index}.txt').write_text(text + '\n')
    manifest = tmp_path / 'files.jsonl'
    manifest.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    told = trained[1].transcribe(str(manifest), batch_size=1, verbose=False)
    plain = trained[1].transcribe(paths, batch_size=1, transcripts=texts, verbose=False)
    assert [h.text for h in told] == [h.text for h in plain]


def test_a_manifest_without_text_is_refused(trained, tone_corpus, tmp_path):
    manifest = tmp_path / 'untold.jsonl'
    row = tiny_oracle.rows(tone_corpus)[0]
    manifest.write_text(json.dumps({key: value for key, value in row.items() if key != 'text'}) + '\n')
    with pytest.raises(ValueError, match="rows hold 'text'"):
        trained[1].transcribe(str(manifest))


def test_text_longer_than_the_maximum_positions_is_refused():
    config = tiny_oracle.oracle_config()
    config.encoder.label_encoder.max_positions = 3
    with pytest.raises(ValueError, match='max_positions'):
        _teacher(config).eval()(**tiny_oracle.batch())


def test_text_and_labels_are_inverse(trained):
    assert trained[1].decode_labels(trained[1].encode_text('ab ca')) == 'ab ca'
    assert trained[1].encode_text('') == []


def test_the_audio_branch_alone_comes_first_in_staged_training(tone_corpus):
    config = tiny_oracle.oracle_config(tone_corpus, audio_only_steps=2, freeze_audio_encoder=True)
    seen = []

    import lightning.pytorch as pl

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            fusion = module.encoder.fusion.layers[0].cross_attention.value.weight
            audio = next(module.encoder.audio_encoder.parameters())
            seen.append((module.encoder.audio_is_frozen, fusion.detach().clone(), audio.detach().clone()))

    _fit(config, max_steps=4, callbacks=[Watch()])
    frozen, fusion, audio = zip(*seen)
    assert frozen == (False, False, True, True)
    assert torch.equal(fusion[0], fusion[1]) and not torch.equal(fusion[1], fusion[2])
    assert not torch.equal(audio[0], audio[1]) and torch.equal(audio[1], audio[3])


def test_without_an_audio_branch_only_the_fused_loss_remains(tone_corpus):
    config = tiny_oracle.oracle_config(tone_corpus, tone_corpus, audio_ctc_weight=0.0)
    trainer, teacher = _fit(config, max_steps=2, limit_val_batches=1.0)
    assert teacher.audio_decoder is None and 'train_loss_audio' not in trainer.callback_metrics
    assert float(trainer.callback_metrics['train_loss']) == float(trainer.callback_metrics['train_loss_fused'])


def test_the_timing_of_the_audio_branch_is_taught_to_the_fused_branch_alone(tone_corpus):
    config = tiny_oracle.oracle_config(tone_corpus, timing_weight=0.5)
    trainer, teacher = _fit(config, max_steps=1)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    parts = logged['train_loss_fused'] + logged['train_loss_audio'] + 0.5 * logged['train_loss_timing']
    assert logged['train_loss'] == pytest.approx(parts, rel=1e-5) and logged['train_loss_timing'] > 0
    signal, lengths, labels, label_lengths = batch = next(iter(teacher.train_dataloader()))
    branches = teacher.eval()._forward_batch(batch)
    loss = timing_loss(branches, labels, label_lengths)
    heard = branches.audio_log_probs.detach()
    occupancy = ctc_occupancy(heard, labels, branches.lengths, label_lengths, len(tiny.LABELS))
    divergence = torch.xlogy(occupancy, occupancy) - occupancy * branches.log_probs
    inside = torch.arange(heard.shape[1]) < branches.lengths.unsqueeze(1)
    torch.testing.assert_close(loss, (divergence.sum(2) * inside).sum(1).mean(), rtol=1e-4, atol=1e-5)
    teacher.zero_grad(set_to_none=True)
    loss.backward()
    assert all(weight.grad is None for weight in teacher.audio_decoder.parameters())
    assert any(
        weight.grad.abs().sum() > 0 for weight in teacher.encoder.fusion.parameters() if weight.grad is not None
    )


def test_training_resumes_from_a_checkpoint(tone_corpus, tmp_path):
    config = tiny_oracle.oracle_config(tone_corpus)
    trainer, teacher = _fit(config, max_steps=2)
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    trainer = tiny.trainer(4)
    resumed = _teacher(config, trainer)
    trainer.fit(resumed, ckpt_path=str(tmp_path / 'last.ckpt'))
    assert trainer.global_step == 4


@pytest.mark.parametrize(
    'oracle, sentence',
    [
        ({'audio_ctc_wieght': 1.0}, 'audio_ctc_weight'),
        ({'label_corruption': {'masking': 0.3}}, 'masking_ratio'),
        ({'freeze_audio_encoder': True}, 'random weights'),
        ({'audio_only_steps': 5, 'audio_ctc_weight': 0.0}, 'but there is no audio branch'),
        ({'start_below': 2.0, 'audio_ctc_weight': 0.0}, 'no audio branch whose loss it could follow'),
        ({'start_below': 0.0}, 'must be a number above 0, or null to read at once'),
        ({'audio_ctc_weight': -1.0}, 'at least 0'),
        ({'timing_weight': float('nan')}, 'finite number of at least 0'),
        ({'timing_weight': 0.5, 'audio_ctc_weight': 0.0}, 'no audio branch whose timing it could hold'),
    ],
)
def test_an_oracle_section_that_makes_no_sense_is_refused(oracle, sentence):
    with pytest.raises(ConfigError, match=sentence):
        _teacher(tiny_oracle.oracle_config(**oracle))


def test_self_conditioning_without_an_audio_branch_is_refused():
    config = tiny_oracle.oracle_config(audio_ctc_weight=0.0)
    config.encoder.self_conditioning = True
    with pytest.raises(ConfigError, match='self_conditioning=false'):
        _teacher(config)


@pytest.mark.parametrize(
    'change, sentence',
    [
        (lambda row: row.pop('text'), r'line 2, .*\) have no `text`'),
        (lambda row: row.update(text=''), '1 of 16 rows .* have an empty `text`'),
        (
            lambda row: row.update(audio_filepath='gone.wav'),
            r'line 2, gone.wav\) name an audio file that does not exist',
        ),
    ],
)
def test_a_bad_training_row_is_refused_before_the_first_step(tone_corpus, tmp_path, change, sentence):
    rows = tiny_oracle.rows(tone_corpus)
    change(rows[1])
    manifest = tmp_path / 'bad.jsonl'
    manifest.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    with pytest.raises(ValueError, match=sentence):
        _fit(tiny_oracle.oracle_config(manifest))


def test_data_read_at_another_rate_are_refused_before_the_first_step(tone_corpus):
    config = tiny_oracle.oracle_config(tone_corpus)
    config.train_ds.sample_rate = 16000
    with pytest.raises(ValueError, match='train_ds.sample_rate is 16000 Hz, but the model reads 8000 Hz'):
        _fit(config)


def test_an_ordinary_encoder_is_refused():
    with pytest.raises(ConfigError, match='audio_encoder'):
        _teacher(tiny.ctc_config())


def test_interctc_is_refused():
    config = tiny_oracle.oracle_config()
    with open_dict(config):
        config.interctc = {'apply_at_layers': [0], 'loss_weights': [0.3]}
    with pytest.raises(ConfigError, match='audio_ctc_weight'):
        _teacher(config)


def test_a_changed_vocabulary_gives_new_label_embedding_and_audio_decoder(tmp_path):
    teacher = _teacher(tiny_oracle.oracle_config())
    teacher.change_vocabulary([' ', 'x', 'y'])
    assert teacher.encoder.label_encoder.embedding.num_embeddings == 4
    assert teacher.audio_decoder.num_classes_with_blank == 4 == teacher.decoder.num_classes_with_blank
    assert teacher.encode_text('x y') == [1, 0, 2]
    teacher.save_to(str(tmp_path / 'changed.nemo'))
    restored = EncDecOracleCTCModel.restore_from(str(tmp_path / 'changed.nemo'), map_location='cpu').eval()
    batch = {
        **tiny_oracle.batch(),
        'transcript': torch.tensor([[1, 2], [2, 0]]),
        'transcript_length': torch.tensor([2, 1]),
    }
    assert torch.equal(restored(**batch)[0], teacher.eval()(**batch)[0])


def test_the_classes_list_no_pretrained_models_and_leave_nemo_s_list_alone():
    from nemo.collections.asr.models import ASRModel

    assert EncDecOracleCTCModel.list_available_models() == EncDecOracleCTCModelBPE.list_available_models() == []
    listed = ASRModel.list_available_models()
    assert listed and not any('nemo_oracle_kd' in str(info.class_) for info in listed)

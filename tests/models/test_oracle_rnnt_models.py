# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Oracle teachers with a transducer head: the oracle encoder under NeMo's prediction network and joint."""

import json

import lightning.pytorch as pl
import oracle_teachers
import pytest
import tiny
import tiny_oracle
import torch

from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses, score_encoded, score_labels
from nemo_oracle_kd.bridge.signals import AudioBatch, Transcripts
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.losses.rnnt_modules import RNNTFullSumLoss
from nemo_oracle_kd.models import EncDecOracleRNNTModel, EncDecOracleRNNTModelBPE

pytestmark = pytest.mark.integration


def _teacher(config, trainer=None, cls=EncDecOracleRNNTModel):
    return tiny.rnnt_model(config, trainer, cls)


def _fit(config, max_steps=2, cls=EncDecOracleRNNTModel, **options):
    return tiny_oracle.fit(config, cls, max_steps, **options)


def _as_audio_batch(batch):
    texts = Transcripts(batch['transcript'], batch['transcript_length'])
    return AudioBatch(batch['input_signal'], batch['input_signal_length'], texts)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Metrics, teacher and `.nemo` file of an oracle RNN-T that has learned the tones."""
    folder = oracle_teachers.listener(tmp_path_factory, 'rnnt')
    metrics = json.loads((folder / 'metrics.json').read_text())
    return metrics, oracle_teachers.restored(folder, 'rnnt'), folder / 'oracle.nemo'


def test_training_lowers_the_transducer_s_loss_and_the_audio_branch_s(tone_corpus, trained):
    first, _ = _fit(tiny_oracle.oracle_rnnt_config(tone_corpus), max_steps=1)
    before = {name: float(value) for name, value in first.callback_metrics.items()}
    after = trained[0]
    for name in ('train_loss_fused', 'train_loss_audio', 'train_loss'):
        assert after[name] < 0.5 * before[name]
    assert before['train_loss'] == pytest.approx(before['train_loss_fused'] + before['train_loss_audio'], rel=1e-5)


def test_validation_scores_the_true_text_and_the_audio_branch(trained):
    metrics = trained[0]
    assert metrics['val_wer'] < 0.5 and metrics['val_wer_audio'] < 0.6
    assert metrics['val_loss'] > 0 and metrics['val_loss_audio'] > 0


def test_a_saved_teacher_restores_equal_with_its_loss(trained):
    from nemo.collections.asr.models import ASRModel

    path = trained[2]
    restored = ASRModel.restore_from(str(path), map_location='cpu').eval()
    assert type(restored) is EncDecOracleRNNTModel and restored.reads_transcript
    expected = torch.load(path.with_name('outputs.pt'))  # of the teacher that was trained
    with torch.no_grad():
        found = restored(**tiny_oracle.batch())
    assert torch.equal(expected[0], found[0]) and torch.equal(expected[1], found[1])
    assert repr(restored.oracle) == path.with_name('oracle.txt').read_text()
    assert restored.cfg.loss.loss_name == 'oracle_kd_rnnt' and isinstance(restored.loss._loss, RNNTFullSumLoss)


def test_forward_gives_what_nemo_transducers_give_and_ignores_the_padding_of_the_transcript(trained):
    batch = tiny_oracle.batch()
    encoded, lengths = trained[1](**batch)
    assert encoded.shape[:2] == (2, 32) and encoded.shape[2] >= int(lengths.max())
    batch['transcript'][1, 2:] = 3
    assert torch.equal(trained[1](**batch)[0], encoded)


def test_the_transcript_changes_what_the_joint_reads(trained):
    told, lengths = trained[1](**tiny_oracle.batch())
    other, _ = trained[1](**{**tiny_oracle.batch(), 'transcript': torch.tensor([[4, 4, 1, 2], [2, 3, 0, 0]])})
    assert (told - other)[0, :, : int(lengths[0])].abs().max() > 0.1


def test_without_text_forward_and_transcribe_are_refused_in_the_same_sentence(trained, tone_corpus):
    path = tiny_oracle.rows(tone_corpus)[0]['audio_filepath']
    with pytest.raises(ValueError, match='reads the transcript and cannot transcribe audio alone') as refusal:
        trained[1].transcribe([path])
    assert '\n' not in str(refusal.value)
    batch = tiny_oracle.batch()
    with pytest.raises(ValueError) as other:
        trained[1](input_signal=batch['input_signal'], input_signal_length=batch['input_signal_length'])
    assert str(other.value) == str(refusal.value)


def test_transcribe_with_text_keeps_the_order_of_utterances(trained, tone_corpus):
    import soundfile

    teacher, rows = trained[1], tiny_oracle.rows(tone_corpus)
    texts, paths = [row['text'] for row in rows], [row['audio_filepath'] for row in rows]
    from_paths = teacher.transcribe(paths, batch_size=3, transcripts=texts, verbose=False)
    wrong = sum(hypothesis.text != text for hypothesis, text in zip(from_paths, texts))
    assert wrong <= len(texts) // 2
    waveforms = [soundfile.read(path, dtype='float32')[0] for path in paths[:4]]
    from_waveforms = teacher.transcribe(waveforms, batch_size=2, transcripts=texts[:4], verbose=False)
    assert len(from_waveforms) == 4
    assert not any(module.training for module in teacher.modules())
    from_manifest = teacher.transcribe(str(tone_corpus), batch_size=3, verbose=False)
    assert [h.text for h in from_manifest] == [h.text for h in from_paths]


def test_scores_of_a_transcript_are_the_loss_that_the_teacher_is_trained_with(trained):
    teacher, batch = trained[1], tiny_oracle.batch()
    head, audio_batch = find_head(teacher), _as_audio_batch(batch)
    assert head.kind == 'rnnt' and head.vocabulary == tuple(tiny.LABELS)
    own = Hypotheses(batch['transcript'][:, None], batch['transcript_length'][:, None])
    with torch.no_grad():
        branches = teacher.forward_branches(**batch)
        losses = []
        for b in range(2):
            one = branches._replace(encoded=branches.encoded[b : b + 1], lengths=branches.lengths[b : b + 1])
            labels = [None, None, batch['transcript'][b : b + 1], batch['transcript_length'][b : b + 1]]
            losses.append(teacher._score_fused(one, labels, True, False)[0])
        scores = score_labels(teacher, head, audio_batch, own)
        from_encoded = score_encoded(teacher, head, encode_audio(teacher, audio_batch), own)
    torch.testing.assert_close(-scores[:, 0], torch.stack(losses).flatten(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores, from_encoded)


def test_a_teacher_without_ctc_head_gives_no_frame_posteriors(trained):
    with pytest.raises(ValueError, match='has no CTC head'):
        _ = encode_audio(trained[1], _as_audio_batch(tiny_oracle.batch())).posteriors


def test_the_fused_joint_gives_the_same_loss_and_word_errors(trained):
    plain = trained[1]
    fused = _teacher(tiny_oracle.oracle_rnnt_config(fused=True)).eval()
    fused.load_state_dict(plain.state_dict())
    batch = tiny_oracle.batch()
    with torch.no_grad():
        loader_batch = tuple(batch.values())
        answers = [
            model._score_fused(model.forward_branches(**batch), loader_batch, True, True) for model in (plain, fused)
        ]
    torch.testing.assert_close(answers[0][0], answers[1][0], rtol=1e-5, atol=1e-5)
    assert [float(value) for value in answers[0][1][1:]] == [float(value) for value in answers[1][1][1:]]


@pytest.mark.parametrize('kind, fused', [('rnnt', True), ('tdt', False), ('multiblank_rnnt', True)])
def test_every_transducer_loss_trains_fused_or_not(tone_corpus, kind, fused):
    config = tiny_oracle.oracle_rnnt_config(tone_corpus, tone_corpus, kind, fused)
    trainer, teacher = _fit(config, max_steps=2, limit_val_batches=1.0)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert 0 < metrics['val_loss'] < 200 and 'val_wer_audio' in metrics and metrics['train_loss_fused'] > 0
    assert find_head(teacher).kind == kind.removesuffix('_rnnt')
    for part in (teacher.encoder.fusion, teacher.decoder, teacher.joint, teacher.audio_decoder):
        assert all(torch.isfinite(value).all() for value in part.state_dict().values())


def test_the_audio_branch_alone_comes_first_in_staged_training(tone_corpus):
    config = tiny_oracle.oracle_rnnt_config(tone_corpus, audio_only_steps=2, freeze_audio_encoder=True)
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            joint = next(module.joint.parameters()).detach().clone()
            audio = next(module.encoder.audio_encoder.parameters()).detach().clone()
            seen.append((module.encoder.audio_is_frozen, joint, audio))

    _fit(config, max_steps=4, callbacks=[Watch()])
    frozen, joint, audio = zip(*seen)
    assert frozen == (False, False, True, True)
    assert torch.equal(joint[0], joint[1]) and not torch.equal(joint[1], joint[2])
    assert not torch.equal(audio[0], audio[1]) and torch.equal(audio[1], audio[3])


def test_without_an_audio_branch_only_the_transducer_s_loss_remains(tone_corpus):
    config = tiny_oracle.oracle_rnnt_config(tone_corpus, tone_corpus, audio_ctc_weight=0.0)
    config.compute_eval_loss = False
    trainer, teacher = _fit(config, max_steps=2, limit_val_batches=1.0)
    assert teacher.audio_decoder is None and teacher.audio_wer is None
    assert not {'train_loss_audio', 'val_loss', 'val_wer_audio'} & set(trainer.callback_metrics)
    assert float(trainer.callback_metrics['train_loss']) == float(trainer.callback_metrics['train_loss_fused'])


def test_the_transcript_is_corrupted_in_training_only(trained):
    teacher = trained[1]
    assert teacher.oracle.label_corruption.masking_ratio > 0
    features, lengths = torch.randn(2, 16, 101), torch.tensor([101, 63])
    text = {'transcript': torch.tensor([[1, 2, 3] * 8] * 2), 'transcript_length': torch.tensor([24, 24])}
    inputs = {'processed_signal': features, 'processed_signal_length': lengths, **text}
    assert torch.equal(teacher(**inputs)[0], teacher(**inputs)[0])
    teacher.encoder.label_corruption.train()
    try:
        assert not torch.equal(teacher(**inputs)[0], teacher(**inputs)[0])
    finally:
        teacher.eval()


def test_training_resumes_from_a_checkpoint(tone_corpus, tmp_path):
    config = tiny_oracle.oracle_rnnt_config(tone_corpus)
    trainer, _ = _fit(config, max_steps=1)
    trainer.save_checkpoint(tmp_path / 'last.ckpt')
    trainer = tiny.trainer(2)
    trainer.fit(_teacher(config, trainer), ckpt_path=str(tmp_path / 'last.ckpt'))
    assert trainer.global_step == 2


def test_the_encoder_of_a_trained_model_is_copied_and_stays_frozen(tone_corpus, tone_teacher):
    from nemo.collections.asr.models import EncDecCTCModel

    config = tiny_oracle.oracle_rnnt_config(
        tone_corpus, init_audio_encoder_from=str(tone_teacher), freeze_audio_encoder=True
    )
    config.encoder.audio_encoder = tiny_oracle.audio_encoder(width=48)
    source = EncDecCTCModel.restore_from(str(tone_teacher), map_location='cpu')
    teacher = _fit(config, max_steps=2)[1]
    expected = source.encoder.state_dict()
    for name, value in teacher.encoder.audio_encoder.state_dict().items():
        assert torch.equal(value, expected[name])
    config.pop('train_ds')
    fresh = _teacher(config)
    fresh.initialise_audio_encoder()
    expected = source.decoder.state_dict()
    for name, value in fresh.audio_decoder.state_dict().items():
        assert torch.equal(value, expected[name])


def test_a_weight_of_the_timing_of_frames_is_refused():
    with pytest.raises(ConfigError, match='which a transducer does not have: set it to 0'):
        tiny.rnnt_model(tiny_oracle.oracle_rnnt_config(timing_weight=0.5), cls=EncDecOracleRNNTModel)


def test_another_width_than_the_joint_s_is_refused():
    config = tiny_oracle.oracle_rnnt_config()
    config.model_defaults.enc_hidden = 48
    with pytest.raises(ConfigError, match='d_model` is 32, but the joint reads model.model_defaults.enc_hidden = 48'):
        _teacher(config)


def test_an_ordinary_encoder_is_refused():
    with pytest.raises(ConfigError, match='audio_encoder'):
        _teacher(tiny.rnnt_config())


def test_a_changed_vocabulary_gives_new_label_embedding_and_audio_decoder(trained, tmp_path):
    teacher = EncDecOracleRNNTModel.restore_from(str(trained[2]), map_location='cpu')
    teacher.change_vocabulary([' ', 'x', 'y'])
    assert teacher.encoder.label_encoder.embedding.num_embeddings == 4
    assert teacher.audio_decoder.num_classes_with_blank == 4 == teacher.joint.num_classes_with_blank
    assert teacher.encode_text('x y') == [1, 0, 2]
    teacher.save_to(str(tmp_path / 'changed.nemo'))
    restored = EncDecOracleRNNTModel.restore_from(str(tmp_path / 'changed.nemo'), map_location='cpu').eval()
    batch = {
        **tiny_oracle.batch(),
        'transcript': torch.tensor([[1, 2], [2, 0]]),
        'transcript_length': torch.tensor([2, 1]),
    }
    assert torch.equal(restored(**batch)[0], teacher.eval()(**batch)[0])
    assert type(restored.loss._loss).__name__ == 'RNNTFullSumLoss'


def test_a_sub_word_teacher_trains_restores_and_transcribes_with_text(tone_corpus, tmp_path):
    config = tiny_oracle.oracle_rnnt_config(tone_corpus, tone_corpus)
    config = tiny.with_tokenizer(config, tiny.train_tokenizer(tmp_path / 'tokenizer', pieces=14))
    _, teacher = _fit(config, max_steps=3, cls=EncDecOracleRNNTModelBPE)
    assert teacher.encoder.label_encoder.num_labels == 14 == teacher.audio_decoder.num_classes_with_blank - 1
    assert teacher.decode_labels(teacher.encode_text('ab cd')) == 'ab cd'
    teacher.save_to(str(tmp_path / 'oracle.nemo'))
    restored = EncDecOracleRNNTModelBPE.restore_from(str(tmp_path / 'oracle.nemo'), map_location='cpu')
    rows = tiny_oracle.rows(tone_corpus)[:3]
    paths, texts = [row['audio_filepath'] for row in rows], [row['text'] for row in rows]
    expected = teacher.eval().transcribe(paths, batch_size=2, transcripts=texts, verbose=False)
    found = restored.transcribe(paths, batch_size=2, transcripts=texts, verbose=False)
    assert [h.text for h in found] == [h.text for h in expected] and len(found) == 3
    with pytest.raises(ValueError, match='transcripts='):
        restored.transcribe(paths)


def test_the_classes_list_no_pretrained_models():
    assert EncDecOracleRNNTModel.list_available_models() == EncDecOracleRNNTModelBPE.list_available_models() == []

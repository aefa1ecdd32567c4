# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The oracle encoder around real NeMo audio encoders."""

import pytest
import tiny_oracle
import torch
from omegaconf import OmegaConf

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.modules import LabelCorruptionConfig, OracleEncoder

pytestmark = pytest.mark.integration

LABELS = 6


def _encoder(kind='convolutional', **options) -> OracleEncoder:
    from nemo.core.classes import Serialization

    config = tiny_oracle.encoder(kind, num_labels=LABELS, **{'self_conditioning': False, **options})
    return Serialization.from_config_dict(OmegaConf.create(config)).eval()


def _batch():
    features, lengths = torch.randn(2, 16, 120, generator=torch.Generator().manual_seed(1)), torch.tensor([120, 70])
    transcript, transcript_length = torch.tensor([[1, 2, 3, 4, 5], [5, 1, 0, 0, 0]]), torch.tensor([5, 2])
    return {
        'audio_signal': features,
        'length': lengths,
        'transcript': transcript,
        'transcript_length': transcript_length,
    }


def _forward(encoder, **changes):
    with torch.no_grad():
        return encoder(**{**_batch(), **changes})


@pytest.mark.parametrize('kind', tiny_oracle.AUDIO_ENCODERS)
def test_any_audio_encoder_gives_what_nemo_encoders_give(kind):
    encoder = _encoder(kind, width=16)
    outputs, lengths = _forward(encoder)
    audio, audio_lengths = encoder.encode_audio(_batch()['audio_signal'], _batch()['length'])
    assert outputs.shape == (2, 32, audio.shape[2]) and torch.equal(lengths, audio_lengths)
    assert encoder.subsampling_factor == {'conformer': 2, 'fastconformer': 8, 'convolutional': 2}[kind]


@pytest.mark.parametrize('kind', tiny_oracle.AUDIO_ENCODERS)
def test_splitting_the_batch_changes_nothing(kind):
    encoder = _encoder(kind)
    together, lengths = _forward(encoder)
    b = _batch()
    alone, alone_length = _forward(
        encoder,
        audio_signal=b['audio_signal'][1:, :, :70],
        length=b['length'][1:],
        transcript=b['transcript'][1:, :2],
        transcript_length=b['transcript_length'][1:],
    )
    valid = int(alone_length[0])
    assert valid == int(lengths[1])
    torch.testing.assert_close(together[1, :, :valid], alone[0, :, :valid], rtol=1e-4, atol=1e-5)


def test_the_output_depends_on_the_labels():
    encoder = _encoder()
    other = torch.tensor([[5, 4, 3, 2, 1], [1, 5, 0, 0, 0]])
    assert (_forward(encoder)[0] - _forward(encoder, transcript=other)[0]).abs().max() > 1e-3


@pytest.mark.parametrize('kind', tiny_oracle.AUDIO_ENCODERS)
def test_without_the_attention_no_label_reaches_the_output(kind):
    encoder = _encoder(kind)
    for layer in encoder.fusion.layers:
        torch.nn.init.zeros_(layer.cross_attention.value.weight)
        torch.nn.init.zeros_(layer.cross_attention.value.bias)
    first = _forward(encoder)[0]
    second = _forward(encoder, transcript=torch.tensor([[5, 4, 3, 2, 1], [1, 5, 0, 0, 0]]))[0]
    without = _forward(encoder, transcript_length=torch.tensor([0, 0]))[0]
    assert torch.equal(first, second) and torch.equal(first, without)


def test_labels_in_the_padding_change_nothing():
    encoder = _encoder()
    spoiled = torch.tensor([[1, 2, 3, 4, 5], [5, 1, 4, -3, 77]])
    torch.testing.assert_close(_forward(encoder)[0], _forward(encoder, transcript=spoiled)[0])


def test_an_empty_transcript_gives_a_defined_value_equal_to_length_zero():
    encoder = _encoder()
    none = torch.zeros(2, dtype=torch.long)
    by_length, _ = _forward(encoder, transcript_length=none)
    by_shape, _ = _forward(encoder, transcript=torch.zeros(2, 0, dtype=torch.long), transcript_length=none)
    assert torch.isfinite(by_length).all()
    torch.testing.assert_close(by_length, by_shape)


def test_dropping_the_whole_target_is_the_same_as_an_empty_transcript():
    encoder = _encoder()
    empty, _ = _forward(encoder, transcript_length=torch.zeros(2, dtype=torch.long))
    encoder.label_corruption.config = LabelCorruptionConfig(0.0, 0.0, dropout=1.0)
    encoder.label_corruption.train()
    torch.testing.assert_close(_forward(encoder)[0], empty)


def test_eval_mode_applies_no_corruption_and_training_mode_does():
    encoder = _encoder()
    clean, _ = _forward(encoder)
    encoder.label_corruption.config = LabelCorruptionConfig(masking_ratio=1.0, substitution_ratio=0.0, dropout=0.0)
    assert torch.equal(_forward(encoder)[0], clean)
    encoder.label_corruption.train()
    assert not torch.allclose(_forward(encoder)[0], clean)


def test_attention_weights_come_on_request_only():
    encoder = _encoder(fusion={'n_layers': 2, 'n_heads': 4})
    b = _batch()
    labels = (b['transcript'], b['transcript_length'])
    with torch.no_grad():
        audio, lengths = encoder.encode_audio(b['audio_signal'], b['length'])
        silent, nothing = encoder.fuse(audio, lengths, *labels)
        shown, maps = encoder.fuse(audio, lengths, *labels, return_attention=True)
    assert nothing == [] and len(maps) == 2
    assert all(weights.shape == (2, 4, silent.shape[2], 6) for weights in maps)
    assert all((weights[1, :, :, 3:] == 0).all() for weights in maps)
    torch.testing.assert_close(silent, shown)


def test_self_conditioning_reads_the_posteriors_of_the_audio_branch_without_gradient():
    encoder = _encoder(self_conditioning=True)
    frames = _encoder().encode_audio(_batch()['audio_signal'], _batch()['length'])[0].shape[2]
    first, second = torch.randn(2, 2, frames, LABELS + 1, generator=torch.Generator().manual_seed(2))
    first.requires_grad_()
    outputs, _ = encoder(**_batch(), audio_log_probs=first)
    outputs.sum().backward()
    assert first.grad is None and encoder.posterior_projection.weight.grad.abs().sum() > 0
    assert (outputs - _forward(encoder, audio_log_probs=second)[0]).abs().max() > 1e-3
    with pytest.raises(ValueError, match='pass audio_log_probs'):
        _forward(encoder)


def test_a_frozen_audio_encoder_gets_no_gradient_and_keeps_its_batch_statistics():
    encoder = _encoder()
    encoder.freeze_audio()
    encoder.train()
    before = {name: value.clone() for name, value in encoder.audio_encoder.state_dict().items()}
    b = _batch()
    encoder(**b)[0].sum().backward()
    assert all(parameter.grad is None for parameter in encoder.audio_encoder.parameters())
    assert encoder.fusion.layers[0].cross_attention.value.weight.grad.abs().sum() > 0
    after = encoder.audio_encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_built_audio_encoder_may_be_passed():
    built = _encoder().audio_encoder
    encoder = OracleEncoder(audio_encoder=built, d_model=16, num_labels=LABELS, self_conditioning=False)
    assert encoder.audio_encoder is built and _forward(encoder.eval())[0].shape[1] == 16


def test_a_missing_transcript_is_refused():
    encoder = _encoder()
    with pytest.raises(ValueError, match='reads the transcript'):
        encoder(audio_signal=torch.randn(1, 16, 50), length=torch.tensor([50]))


def test_the_alignment_prior_expects_labels_at_their_share_of_the_utterance():
    from nemo_oracle_kd.functional import length_mask
    from nemo_oracle_kd.modules.label_fusion import alignment_bias

    audio_mask, memory_mask = length_mask(torch.tensor([8, 4]), 8), length_mask(torch.tensor([5, 3]), 5)
    bias = alignment_bias(audio_mask, memory_mask, sigma=0.1, no_text_bias=-2.0)
    assert (bias[:, :, 0] == -2.0).all()
    assert bias[0, :, 1:].argmax(-1).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert bias[1, :4, 1:3].argmax(-1).tolist() == [0, 0, 1, 1]
    assert bias[0, 0, 1].item() == pytest.approx(-((0.5 / 8 - 0.5 / 4) ** 2) / 0.02)
    flat = alignment_bias(audio_mask, memory_mask, sigma=None, no_text_bias=-2.0)
    assert (flat[:, :, 1:] == 0).all()


@pytest.mark.parametrize(
    'options, sentence',
    [
        ({'label_encoder': {'n_layer': 2}}, 'n_layers'),
        ({'fusion': {'heads': 2}}, 'n_heads'),
        ({'fusion': {'n_layers': 0}}, 'at least 1'),
        ({'fusion': {'alignment_prior': 0.0}}, 'greater than 0, or null for no prior'),
        ({'fusion': {'n_heads': 3}}, 'multiple of'),
        ({'label_encoder': {'dropout': 1.0}}, 'below 1'),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_with_the_nearest_name(options, sentence):
    built = _encoder().audio_encoder
    with pytest.raises(ConfigError, match=sentence):
        OracleEncoder(audio_encoder=built, d_model=32, num_labels=LABELS, **options)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""`log P(y|x)` of every kind of NeMo model, against a walk over the nodes of every single lattice."""

import dataclasses
import math

import pytest
import tiny
import torch
from transducers import Monotonic, definition

from nemo_oracle_kd.bridge.audio import AudioSpan, audio_batch, audio_seconds, read_audio
from nemo_oracle_kd.bridge.decoding import make_nbest_decoder
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses, score_encoded, score_labels
from nemo_oracle_kd.bridge.vocabulary import TextCodec, UnwritableText
from nemo_oracle_kd.functional.reference.ctc import reference_ctc_recursion
from nemo_oracle_kd.functional.reference.transducer import brute_force_full_sum, transducer_reference

KINDS = ('ctc', 'rnnt', 'tdt', 'multiblank')
HYPOTHESES = [[[1, 2], [], [3, 3, 4]], [[4], [2, 2, 2, 2]], [[0, 1, 2, 3, 4, 1]]]


def _model(kind, **options):
    if kind == 'ctc':
        return tiny.ctc_model(tiny.ctc_config(hidden=8, stride=4)).eval()
    name = 'multiblank_rnnt' if kind == 'multiblank' else kind
    return tiny.rnnt_model(tiny.rnnt_config(kind=name, hidden=8, stride=4, joint_hidden=6, **options)).eval()


def _audio(*samples):
    generator = torch.Generator().manual_seed(3)
    return audio_batch([0.1 * torch.randn(count, generator=generator) for count in samples])


def _steps(model, head, audio, b, labels):
    """The definition of the lattice of one hypothesis, from NeMo's own joint."""
    frames = int(audio.lengths[b])
    predicted, _, _ = model.decoder(targets=torch.tensor([labels]).long(), target_length=torch.tensor([len(labels)]))
    logits = model.joint.joint(audio.encoded[b : b + 1, :, :frames].transpose(1, 2), predicted.transpose(1, 2))[0]
    return definition(head.transducer, logits, labels)


def _reference(model, head, audio, b, labels):
    frames = int(audio.lengths[b])
    if head.transducer is None:
        return -reference_ctc_recursion(audio.log_probs[b, :frames], labels, head.blank)
    return -float(transducer_reference(_steps(model, head, audio, b, labels), frames, len(labels)))


def _expected(model, head, audio, hypotheses=HYPOTHESES):
    width = max(len(of_one) for of_one in hypotheses)
    rows = [[_reference(model, head, audio, b, labels) for labels in of_one] for b, of_one in enumerate(hypotheses)]
    return torch.tensor([row + [-math.inf] * (width - len(row)) for row in rows])


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_scores_equal_the_definition_whatever_the_memory_bound(kind):
    model = _model(kind)
    head, batch = find_head(model), _audio(2600, 1800, 900)
    assert head.kind == kind
    audio = encode_audio(model, batch)
    expected = _expected(model, head, audio)
    hypotheses = Hypotheses.from_lists(HYPOTHESES)
    whole = score_labels(model, head, batch, hypotheses)
    assert whole.shape == (3, 3)
    torch.testing.assert_close(whole, expected, rtol=1e-5, atol=1e-4)
    for max_cells in (1, 7, 40):  # one frame of one lattice at a time; parts of a lattice; a few lattices
        torch.testing.assert_close(
            score_encoded(model, head, audio, hypotheses, max_cells), whole, rtol=1e-5, atol=1e-4
        )


@torch.no_grad()
def test_a_kind_of_transducer_that_only_says_its_arcs_is_scored():
    model = _model('rnnt')
    head = find_head(model)
    head = dataclasses.replace(head, transducer=Monotonic(head.blank))
    audio = encode_audio(model, _audio(2600, 1800, 900))
    expected = _expected(model, head, audio)
    for max_cells in (7, 50_000):
        scores = score_encoded(model, head, audio, Hypotheses.from_lists(HYPOTHESES), max_cells)
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-4)
    assert scores.isfinite().sum() >= 4


@pytest.mark.parametrize('kind', ['rnnt', 'tdt', 'multiblank'])
@torch.no_grad()
def test_scores_equal_the_sum_over_all_alignments(kind):
    model = _model(kind)
    head = find_head(model)
    audio = encode_audio(model, _audio(1000))
    frames = int(audio.lengths[0])
    assert frames <= 6
    for labels in ([], [2], [1, 1]):
        steps = _steps(model, head, audio, 0, labels)
        score = score_encoded(model, head, audio, Hypotheses.from_lists([[labels]]))
        assert float(score) == pytest.approx(-float(brute_force_full_sum(steps, frames, len(labels))), abs=1e-4)


@torch.no_grad()
def test_the_probabilities_of_all_short_texts_of_a_ctc_model_sum_to_one():
    model = _model('ctc')
    head = find_head(model)
    audio = encode_audio(model, _audio(400))
    assert int(audio.lengths[0]) <= 2
    texts = [[], *([a] for a in range(5)), *([a, b] for a in range(5) for b in range(5))]
    scores = score_encoded(model, head, audio, Hypotheses.from_lists([texts]))
    assert float(scores.exp().sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize('head_name, kind', [('auto', 'tdt'), ('rnnt', 'tdt'), ('ctc', 'ctc')])
@torch.no_grad()
def test_both_heads_of_a_hybrid_model_can_be_asked(head_name, kind):
    model = _model('tdt', hybrid=True)
    head, batch = find_head(model, head_name), _audio(1500, 1200, 900)
    assert head.kind == kind
    expected = _expected(model, head, encode_audio(model, batch))
    scores = score_labels(model, head, batch, Hypotheses.from_lists(HYPOTHESES))
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_labels_that_do_not_fit_have_probability_zero_and_not_one():
    for kind in ('ctc', 'tdt'):
        model = _model(kind, **({'durations': (1, 2)} if kind == 'tdt' else {}))
        scores = score_labels(model, find_head(model), _audio(500), Hypotheses.from_lists([[[1] * 30, [1], []]]))
        assert scores[0, 0] == -math.inf
        assert torch.isfinite(scores[0, 2])
    # NeMo's own loss, which the scores must not inherit this from
    ctc = _model('ctc')
    log_probs = encode_audio(ctc, _audio(500)).log_probs
    loss = ctc.loss(
        log_probs=log_probs,
        targets=torch.ones(1, 30).long(),
        input_lengths=torch.tensor([log_probs.shape[1]]),
        target_lengths=torch.tensor([30]),
    )
    assert float(loss) == 0.0


@pytest.mark.parametrize('kind', ['ctc', 'rnnt', 'tdt'])
@torch.no_grad()
def test_the_models_own_kernel_gives_the_same_scores_without_the_regularisers_of_training(kind):
    model = _model(kind)
    head, batch = find_head(model), _audio(1500, 1200, 900)
    hypotheses = Hypotheses.from_lists(HYPOTHESES)
    exact = score_labels(model, head, batch, hypotheses, kernel='exact')
    if kind != 'ctc':  # a training run may have set any of these
        for module in model.loss._loss.modules():
            module.fastemit_lambda, module.sigma = 0.5, 0.05
    torch.testing.assert_close(
        score_labels(model, head, batch, hypotheses, kernel='model'), exact, rtol=1e-4, atol=1e-3
    )
    if kind != 'ctc':
        assert model.loss._loss.fastemit_lambda == 0.5, "the model's own loss is left as it was"


def test_scores_can_be_trained_through():
    model = _model('rnnt')
    head = find_head(model)
    audio = encode_audio(model, _audio(900))
    score_encoded(model, head, audio, Hypotheses.from_lists([[[1, 2], [3]]]), max_cells=10).sum().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in model.joint.parameters())


def test_a_model_in_training_mode_is_refused():
    model = _model('ctc').train()
    with pytest.raises(ValueError, match='in training mode'):
        encode_audio(model, _audio(900))


def test_heads_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match='no transducer head'):
        find_head(_model('ctc'), 'rnnt')
    with pytest.raises(ValueError, match='no CTC head'):
        find_head(_model('rnnt'), 'ctc')
    with pytest.raises(ValueError, match='neither a CTC nor a transducer head'):
        find_head(torch.nn.Linear(2, 2))


def test_texts_become_labels_and_unknown_characters_are_refused_rather_than_dropped():
    model = _model('rnnt')
    codec = TextCodec(model, find_head(model).vocabulary)
    assert codec.encode('ab d') == [1, 2, 0, 4] and codec.decode([1, 2, 0, 4]) == 'ab d'
    with pytest.raises(UnwritableText, match="'x'"):
        codec.encode('axb')


def test_sub_word_texts_are_written_only_if_they_read_back_the_same(tmp_path):
    from nemo.collections.asr.models import EncDecCTCModelBPE

    folder = tiny.train_tokenizer(tmp_path / 'tokenizer')
    model = tiny.ctc_model(tiny.with_tokenizer(tiny.ctc_config(), folder), cls=EncDecCTCModelBPE).eval()
    head = find_head(model)
    codec = TextCodec(model, head.vocabulary)
    assert codec.decode(codec.encode('ab cd')) == 'ab cd' and max(codec.encode('ab cd')) < head.blank
    with pytest.raises(UnwritableText):
        codec.encode('ab xy')
    other = tiny.train_tokenizer(tmp_path / 'other', seed=1)
    another = tiny.ctc_model(tiny.with_tokenizer(tiny.ctc_config(), other), cls=EncDecCTCModelBPE)
    assert TextCodec(another, head.vocabulary).fingerprint != codec.fingerprint
    texts = make_nbest_decoder(model, head, 4, 4)(encode_audio(model, _audio(1500, 900)))
    assert len(texts) == 2 and all(1 <= len(of_one) <= 4 for of_one in texts)


@pytest.mark.parametrize('kind', ['ctc', 'rnnt', 'tdt'])
@torch.no_grad()
def test_beam_search_gives_distinct_texts_and_leaves_the_models_own_decoding_alone(kind):
    model = _model(kind)
    head = find_head(model)
    audio = encode_audio(model, _audio(900, 600))
    before = model.decoding
    texts = make_nbest_decoder(model, head, 4, 3, max_symbols=2)(audio)
    assert len(texts) == 2 and model.decoding is before
    for of_one in texts:
        assert 1 <= len(of_one) <= 3 and len(set(of_one)) == len(of_one)


@torch.no_grad()
def test_multi_blank_models_decode_greedily_and_refuse_a_beam():
    model = _model('multiblank')
    head = find_head(model)
    audio = encode_audio(model, _audio(900, 600))
    assert [len(of_one) for of_one in make_nbest_decoder(model, head, 1, 1, max_symbols=2)(audio)] == [1, 1]
    with pytest.raises(ValueError, match='no beam search for multi-blank'):
        make_nbest_decoder(model, head, 4, 4)


def test_audio_is_read_from_offset_for_duration_and_a_broken_file_is_named(tone_corpus, tmp_path):
    import json

    row = json.loads(tone_corpus.read_text().splitlines()[0])
    whole = read_audio(AudioSpan(row['audio_filepath']), tiny.SAMPLE_RATE)
    part = read_audio(AudioSpan(row['audio_filepath'], 0.1, 0.2), tiny.SAMPLE_RATE)
    assert len(part) == int(0.2 * tiny.SAMPLE_RATE)
    torch.testing.assert_close(part, whole[800 : 800 + len(part)])
    assert audio_seconds(AudioSpan(row['audio_filepath'])) == pytest.approx(row['duration'], abs=1e-3)
    broken = tmp_path / 'broken.wav'
    broken.write_bytes(b'no audio')
    with pytest.raises(ValueError, match='broken.wav'):
        read_audio(AudioSpan(str(broken)), tiny.SAMPLE_RATE)

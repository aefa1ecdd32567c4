# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Emission times and greedy labels of CTC heads and transducers, on real models."""

import pytest
import tiny
import torch

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.bridge.emissions import emission_frames, greedy_labels
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, Transcripts

pytestmark = pytest.mark.integration

LABELS, LENGTHS = torch.tensor([[1, 2, 2], [4, 1, 0]]), torch.tensor([3, 2])


def _audio():
    signal = torch.randn(2, 6000, generator=torch.Generator().manual_seed(2))
    return AudioBatch(signal, torch.tensor([6000, 4000]), Transcripts(LABELS, LENGTHS))


@torch.no_grad()
def _heard(model):
    head = find_head(model.eval())
    return head, encode_audio(model, _audio())


def test_emission_times_of_a_ctc_model_are_the_spikes_of_its_best_path():
    model = tiny.ctc_model(tiny.ctc_config())
    head, audio = _heard(model)
    frames = emission_frames(model, head, audio, LABELS, LENGTHS)
    path = F.ctc_best_path(audio.log_probs, LABELS, audio.lengths, LENGTHS, blank=head.blank)
    assert torch.equal(frames, F.spike_times(path, head.blank)[0]) and frames[1, 2] == -1
    assert bool((frames[0].diff() > 0).all())


@pytest.mark.parametrize('kind', ['rnnt', 'tdt', 'multiblank_rnnt'])
def test_emission_times_of_a_transducer_are_those_of_its_best_path_however_it_is_cut(kind):
    model = tiny.rnnt_model(tiny.rnnt_config(kind=kind))
    head, audio = _heard(model)
    whole = emission_frames(model, head, audio, LABELS, LENGTHS)
    assert torch.equal(whole, emission_frames(model, head, audio, LABELS, LENGTHS, max_cells=20))
    assert whole[1, 2] == -1 and bool((whole[0] >= 0).all()) and bool((whole[0].diff() >= 0).all())
    with torch.no_grad():
        predicted, _, _ = model.decoder(targets=LABELS, target_length=LENGTHS)
        lattice = model.joint(encoder_outputs=audio.encoded, decoder_outputs=predicted)
    lattice = lattice[:, : int(audio.lengths.max())]
    path = F.transducer_best_path(head.transducer, lattice, LABELS, audio.lengths, LENGTHS)
    assert torch.equal(whole, path.label_frames)


def test_an_utterance_too_short_for_its_labels_has_no_emission_times():
    model = tiny.ctc_model(tiny.ctc_config())
    head, audio = _heard(model)
    short = EncodedAudio(torch.tensor([2, int(audio.lengths[1])]), audio.log_probs)
    frames = emission_frames(model, head, short, LABELS, LENGTHS)
    assert frames.shape == (2, 3) and frames[0].tolist() == [-1, -1, -1] and bool((frames[1, :2] >= 0).all())


# not TDT: NeMo 3.0 drops labels from the text of a character TDT
@pytest.mark.parametrize('kind', ['ctc', 'rnnt', 'multiblank_rnnt'])
def test_greedy_labels_spell_what_the_model_decodes(kind):
    model = tiny.ctc_model(tiny.ctc_config()) if kind == 'ctc' else tiny.rnnt_model(tiny.rnnt_config(kind=kind))
    head, audio = _heard(model)
    if kind == 'ctc':
        hypotheses = model.decoding.ctc_decoder_predictions_tensor(audio.log_probs, decoder_lengths=audio.lengths)
    else:
        hypotheses = model.decoding.rnnt_decoder_predictions_tensor(audio.encoded, audio.lengths)
    texts = [''.join(tiny.LABELS[k] for k in labels) for labels in greedy_labels(model, head, audio)]
    assert [text.split() for text in texts] == [hypothesis.text.split() for hypothesis in hypotheses]
    assert any(texts)

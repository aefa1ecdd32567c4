# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""NeMo's batched beam search with a stateless prediction network."""

import pytest
import tiny
import torch
from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.decoding import make_nbest_decoder
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses, score_encoded
from nemo_oracle_kd.bridge.signals import EncodedAudio
from nemo_oracle_kd.bridge.stateless_beam import complete_for_beam_search

LENGTHS = torch.tensor([6, 4, 5])


@pytest.fixture(scope='module', params=[2, 3])
def model(request):
    config = tiny.rnnt_config(kind='rnnt', hidden=8, stride=4, joint_hidden=6)
    target = 'nemo.collections.asr.modules.StatelessTransducerDecoder'
    prednet = {'pred_hidden': 6, 'dropout': 0.0}
    config.decoder = {
        '_target_': target,
        'context_size': request.param,
        'normalization_mode': None,
        'prednet': prednet,
    }
    return tiny.rnnt_model(config).eval()


@pytest.fixture(scope='module')
def audio(model):
    encoded = 3 * torch.randn(3, 8, 6, generator=torch.Generator().manual_seed(1))
    return EncodedAudio(encoded=encoded, lengths=LENGTHS)


def test_no_hypothesis_of_the_search_is_likelier_than_its_full_sum(model, audio):
    """States that went to the wrong hypothesis would give the search the probabilities of other texts."""
    from nemo.collections.asr.parts.submodules.rnnt_decoding import RNNTDecoding

    head = find_head(model)
    make_nbest_decoder(model, head, 2, 2)
    beam = {'beam_size': 5, 'return_best_hypothesis': False, 'max_symbols': 2, 'score_norm': False}
    settings = {'strategy': 'malsd_batch', 'beam': {**beam, 'allow_cuda_graphs': False}}
    decoding = RNNTDecoding(OmegaConf.create(settings), model.decoder, model.joint, list(head.vocabulary))
    with torch.no_grad():
        found = decoding.rnnt_decoder_predictions_tensor(audio.encoded, audio.lengths, return_hypotheses=True)
        labels = [[[int(label) for label in one.y_sequence] for one in of_one] for of_one in found]
        exact = score_encoded(model, head, audio, Hypotheses.from_lists(labels))
    compared = 0
    for b, of_one in enumerate(found):
        for n, one in enumerate(of_one):
            assert float(one.score) <= float(exact[b, n]) + 1e-4
            compared += len(one.y_sequence) > 2
    assert compared >= 3


def test_a_batch_gives_the_texts_that_each_utterance_gives_alone(model, audio):
    decode = make_nbest_decoder(model, find_head(model), 4, 4, max_symbols=2)
    with torch.no_grad():
        together = decode(audio)
        for b, length in enumerate(LENGTHS.tolist()):
            alone = EncodedAudio(encoded=audio.encoded[b : b + 1, :, :length], lengths=LENGTHS[b : b + 1])
            assert decode(alone) == [together[b]] and len(together[b]) > 1


def test_every_hypothesis_that_is_kept_takes_the_labels_of_the_one_that_it_extends(model):
    assert complete_for_beam_search(model.decoder)
    states = torch.arange(2 * 3 * 4).view(6, 4)
    indices = torch.tensor([[2, 0, 0], [1, 1, 2]])
    wanted = states[[2, 0, 0, 4, 4, 5]]
    target = [torch.zeros_like(states)]
    assert torch.equal(model.decoder.batch_aggregate_states_beam([states], 2, 3, indices)[0], wanted)
    assert model.decoder.batch_aggregate_states_beam([states], 2, 3, indices, target) is target
    assert torch.equal(target[0], wanted)


def test_an_lstm_is_left_as_it_is():
    decoder = tiny.rnnt_model(tiny.rnnt_config(kind='rnnt', hidden=8, stride=4, joint_hidden=6)).decoder
    assert not complete_for_beam_search(decoder) and 'batch_aggregate_states_beam' not in vars(decoder)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""N-best texts by NeMo's batched beam search, for any model with a CTC or transducer head."""

from collections.abc import Callable
from typing import Any

from omegaconf import OmegaConf

from nemo_oracle_kd.bridge.model import DURATION_OPTIONS, Head
from nemo_oracle_kd.bridge.signals import EncodedAudio
from nemo_oracle_kd.bridge.stateless_beam import complete_for_beam_search
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['ctc_decoding', 'decoding_strategy', 'make_nbest_decoder']


def decoding_strategy(head: Head, beam_size: int) -> str:
    """NeMo's name of the search: the batched beam search of the head, or `greedy_batch` for a beam of one.

    Raises:
        ValueError: if a multi-blank transducer, for which NeMo has no beam search, is to use a beam.
    """
    if beam_size == 1:
        return 'greedy_batch'
    if head.kind == 'multiblank':
        raise ValueError("NeMo has no beam search for multi-blank transducers: use a beam and an N-best size of 1")
    return 'beam_batch' if head.kind == 'ctc' else 'malsd_batch'


def make_nbest_decoder(
    model: Any, head: Head, beam_size: int, nbest: int, max_symbols: int = 10
) -> Callable[[EncodedAudio], list[list[str]]]:
    """Builds a decoder beside the model's own, which stays as it is.

    Args:
        model: a NeMo model in eval mode.
        head: the head, from `find_head(model)`.
        beam_size: width of the search.
        nbest: largest number of texts per utterance.
        max_symbols: largest number of labels per frame, for a transducer.

    Returns:
        A function from encoded audio to texts. The texts of an utterance are distinct, their spaces are normalised, and the
        one with the best search score is first. There is at least one, which may be the empty text.

    Raises:
        ValueError: if the model is an oracle, `nbest` exceeds `beam_size`, or NeMo has no beam search for the head.
    """
    if getattr(model, 'reads_transcript', False):
        raise ValueError("an oracle model reads the transcript and cannot decode: score given transcripts instead")
    if not 1 <= nbest <= beam_size:
        raise ValueError(f"the N-best size must lie between 1 and the beam size {beam_size}, not {nbest}")
    strategy = decoding_strategy(head, beam_size)
    settings = {
        'strategy': strategy,
        'beam': {'beam_size': beam_size, 'return_best_hypothesis': False},
        'greedy': {},
    }
    if head.transducer is None:
        # beta is a bonus per label and would favour long hypotheses; the other two are deprecated, but NeMo reads them
        settings['beam'].update(beam_beta=0.0, beam_alpha=None, kenlm_path=None)
        decoding = ctc_decoding(model, head, settings)

        def search(audio: EncodedAudio) -> list:
            return decoding.ctc_decoder_predictions_tensor(
                audio.log_probs, decoder_lengths=audio.lengths, return_hypotheses=True
            )

    else:
        settings['model_type'] = head.kind
        for kind, option in DURATION_OPTIONS.items():  # NeMo reads both options
            settings[option] = list(head.transducer.durations) if isinstance(head.transducer, kind) else []
        settings['beam'].update(max_symbols=max_symbols, score_norm=False)
        settings['greedy']['max_symbols'] = max_symbols
        if strategy == 'malsd_batch' and complete_for_beam_search(model.decoder):
            settings['beam']['allow_cuda_graphs'] = False
        decoding = _transducer_decoding(model, head, settings)

        def search(audio: EncodedAudio) -> list:
            return decoding.rnnt_decoder_predictions_tensor(audio.encoded, audio.lengths, return_hypotheses=True)

    def decode(audio: EncodedAudio) -> list[list[str]]:
        hypotheses = search(audio)
        lists = [one if isinstance(one, list) else [one] for one in hypotheses]
        return [_distinct(one, nbest) for one in lists]

    return decode


def _distinct(hypotheses: list, nbest: int) -> list[str]:
    texts = dict.fromkeys(normalize_spaces(hypothesis.text) for hypothesis in hypotheses)
    return list(texts)[:nbest] or ['']


def ctc_decoding(model: Any, head: Head, settings: dict) -> Any:
    """NeMo's CTC decoding for the labels of a model, whatever its own head is."""
    from nemo.collections.asr.parts.submodules.ctc_decoding import CTCBPEDecoding, CTCDecoding

    tokenizer = getattr(model, 'tokenizer', None)
    if tokenizer is not None:
        decoding = CTCBPEDecoding(OmegaConf.create(settings), tokenizer=tokenizer)
        if hasattr(tokenizer, 'tokenizers_dict'):  # NeMo 3.0 asks such a tokenizer without the language, and fails
            decoding.decode_ids_to_str = tokenizer.ids_to_text
        return decoding
    return CTCDecoding(OmegaConf.create(settings), vocabulary=list(head.vocabulary))


def _transducer_decoding(model: Any, head: Head, settings: dict) -> Any:
    from nemo.collections.asr.parts.submodules.rnnt_decoding import RNNTBPEDecoding, RNNTDecoding

    modules = {'decoder': model.decoder, 'joint': model.joint}
    if getattr(model, 'tokenizer', None) is not None:
        return RNNTBPEDecoding(OmegaConf.create(settings), tokenizer=model.tokenizer, **modules)
    return RNNTDecoding(OmegaConf.create(settings), vocabulary=list(head.vocabulary), **modules)

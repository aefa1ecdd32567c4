# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Finds and scores texts with NeMo's attention decoders: greedy and beam search, and `log P(y|x)` by teacher forcing.

`log P(y|x, prompt)` is the sum of the log-probabilities of the text's tokens and of the token that ends the text, each given the
audio, the prompt and the tokens before it. There is no alignment to sum over.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.bridge.attention_prompt import AttentionPrompt
from nemo_oracle_kd.bridge.sequence_scores import MAX_CELLS, Hypotheses, portions
from nemo_oracle_kd.bridge.signals import EncodedAudio
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['attention_strategy', 'make_attention_search', 'score_attention']


def attention_strategy(beam_size: int) -> str:
    """NeMo's name of the search for a size of the beam."""
    return 'greedy_batch' if beam_size == 1 else 'beam'


def make_attention_search(
    model: Any, prompt: AttentionPrompt, beam_size: int, nbest: int
) -> Callable[[EncodedAudio], list[list[str]]]:
    """Builds NeMo's greedy or beam search beside the model's own decoding, which stays as it is.

    Args:
        model: an `EncDecMultiTaskModel` in eval mode.
        prompt: its prompt.
        beam_size: width of the search; 1 searches greedily.
        nbest: largest number of texts per utterance.

    Returns:
        A function from encoded audio to texts. The texts of an utterance are distinct, and the one with the best search score
        is first. There is at least one, which may be the empty text.

    Raises:
        ValueError: `nbest` exceeds `beam_size`.
    """
    from nemo.collections.asr.parts.submodules.multitask_beam_decoding import TransformerAEDBeamInfer
    from nemo.collections.asr.parts.submodules.multitask_greedy_decoding import TransformerAEDGreedyInfer

    if not 1 <= nbest <= beam_size:
        raise ValueError(f"the N-best size must lie between 1 and the beam size {beam_size}, not {nbest}")
    modules = {
        'transformer_decoder': model.transf_decoder,
        'log_softmax_module': model.log_softmax,
        'tokenizer': model.tokenizer,
        'max_generation_delta': -1,  # any other limit counts frames of padding
    }
    if beam_size == 1:
        engine = TransformerAEDGreedyInfer(**modules)
    else:
        engine = TransformerAEDBeamInfer(
            **modules, beam_size=beam_size, length_penalty=0.0, return_best_hypothesis=False
        )

    def run(states: Tensor, mask: Tensor) -> list:
        context = torch.tensor([prompt.context], device=states.device).expand(len(states), -1)
        try:
            return engine(encoder_hidden_states=states, encoder_input_mask=mask, decoder_input_ids=context)[0]
        finally:
            model.eval()  # NeMo's search leaves the decoder in training mode, with dropout

    def search(audio: EncodedAudio) -> list[list[str]]:
        states, mask = _memory(audio)
        if beam_size == 1:
            found = [[hypothesis] for hypothesis in run(states, mask)]
        else:
            # NeMo's beam search repeats the states of the prompt in another order than the audio, so that in a batch of
            # several utterances it would start each from the prompt of another
            lengths = audio.lengths.tolist()
            each = (run(states[b : b + 1, :length], mask[b : b + 1, :length]) for b, length in enumerate(lengths))
            found = [one.n_best_hypotheses for (one,) in each]
        return [_texts(prompt, hypotheses)[:nbest] or [''] for hypotheses in found]

    return search


def _texts(prompt: AttentionPrompt, hypotheses: list) -> list[str]:
    """Distinct texts in the order of the search, without those that hold an output that is no token."""
    ids = [hypothesis.y_sequence.tolist() for hypothesis in hypotheses]
    written = [labels for labels in ids if all(label < prompt.vocabulary_size for label in labels)]
    return list(dict.fromkeys(normalize_spaces(prompt.decode(labels)) for labels in written))


def score_attention(
    model: Any, prompt: AttentionPrompt, audio: EncodedAudio, hypotheses: Hypotheses, max_cells: int = MAX_CELLS
) -> Tensor:
    """`log P(y|x, prompt)` of N hypotheses per utterance by teacher forcing.

    Args:
        model: an `EncDecMultiTaskModel` in eval mode.
        prompt: its prompt.
        audio: output of `encode_audio`.
        hypotheses: label sequences, without prompt and end token.
        max_cells: number of cells of the cross-attention (frames x label positions) held at a time.

    Returns:
        `[B, N]` natural log; `-inf` where there is no hypothesis. The empty hypothesis has the probability of the end token.
    """
    states, mask = _memory(audio)
    scores = torch.full(hypotheses.lengths.shape, -math.inf, device=states.device)
    for chosen in portions(audio.lengths, hypotheses.lengths, max_cells):
        b, n = chosen.unbind(1)
        longest = int(audio.lengths[b].max())
        memory = states[b, :longest], mask[b, :longest]
        scores[b, n] = _forced(model, prompt, *memory, hypotheses.labels[b, n], hypotheses.lengths[b, n])
    return scores


def _forced(
    model: Any, prompt: AttentionPrompt, states: Tensor, mask: Tensor, labels: Tensor, lengths: Tensor
) -> Tensor:
    """`[P]` scores of labels `[P, U]` of `lengths [P]`, with encoder states `[P, T, D]` and their mask `[P, T]`."""
    labels, lengths = labels[:, : int(lengths.max())].to(states.device), lengths.to(states.device).unsqueeze(1)
    context = torch.tensor([prompt.context], device=states.device).expand(len(labels), -1)
    inputs = torch.cat([context, labels], dim=1)
    inside = torch.arange(inputs.shape[1], device=states.device) < context.shape[1] + lengths
    hidden = model.transf_decoder(
        input_ids=inputs, decoder_mask=inside.long(), encoder_embeddings=states, encoder_mask=mask
    )
    # the last token of the prompt predicts the first label
    outputs = torch.log_softmax(model.log_softmax(hidden_states=hidden[:, context.shape[1] - 1 :]).float(), dim=-1)
    targets = torch.cat([labels, labels.new_zeros(len(labels), 1)], dim=1).scatter(1, lengths, prompt.end)
    log_probs = outputs.gather(2, targets.unsqueeze(2)).squeeze(2).double()
    scored = torch.arange(targets.shape[1], device=states.device) <= lengths
    return torch.where(scored, log_probs, 0.0).sum(1).float()


def _memory(audio: EncodedAudio) -> tuple[Tensor, Tensor]:
    """Encoder states `[B, T, D]` as the decoder reads them, and their mask `[B, T]`."""
    states = audio.encoded.transpose(1, 2)
    inside = torch.arange(states.shape[1], device=states.device) < audio.lengths.unsqueeze(1)
    return states, inside.to(states.dtype)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Makes NeMo's batched beam search work with a stateless prediction network, which lacks one method that it calls."""

from typing import Any

import torch
from torch import Tensor

__all__ = ['complete_for_beam_search']


def complete_for_beam_search(decoder: Any) -> bool:
    """Adds the selection of states along the beam to a `StatelessTransducerDecoder`, if this version of NeMo lacks it.

    Args:
        decoder: prediction network of a model; any but a stateless one is left as it is.

    Returns:
        Whether the method was added. The search must then not use CUDA graphs, which expect the two states of an LSTM.
    """
    from nemo.collections.asr.modules import StatelessTransducerDecoder
    from nemo.collections.asr.modules.rnnt_abstract import AbstractRNNTDecoder

    name = 'batch_aggregate_states_beam'
    missing = getattr(AbstractRNNTDecoder, name, None)
    own = getattr(type(decoder), name, None)
    if not isinstance(decoder, StatelessTransducerDecoder) or missing is None or own.__func__ is not missing.__func__:
        return False
    setattr(decoder, name, _select_along_beam)
    return True


def _select_along_beam(
    src_states: list[Tensor],
    batch_size: int,
    beam_size: int,
    indices: Tensor,
    dst_states: list[Tensor] | None = None,
) -> list[Tensor]:
    """The states of the hypotheses that the beam keeps.

    Args:
        src_states: one tensor `[batch_size * beam_size, C]` of labels.
        batch_size: number of utterances.
        beam_size: number of hypotheses of an utterance.
        indices: `[batch_size, beam_size]` hypothesis of the utterance that each place of the beam takes.
        dst_states: tensors to write to, like `src_states`; `None` to allocate them.
    """
    labels = src_states[0].view(batch_size, beam_size, -1)
    selected = torch.gather(labels, 1, indices.unsqueeze(-1).expand_as(labels)).view_as(src_states[0])
    if dst_states is None:
        return [selected]
    dst_states[0].copy_(selected)
    return dst_states

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Losses of an oracle whose text and audio contradict each other: the numbers by which a copying oracle is told from one that listens.

The definitions are those of `nemo-oracle-kd diagnose` (`evaluation/diagnosis`). Here they are computed for one batch of a training that
is under way, for an oracle teacher as well as for the label branch of a student.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.bridge.audio import silence_like
from nemo_oracle_kd.bridge.model import Head
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses, score_encoded
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, Transcripts

__all__ = ['ContradictionLosses', 'contradiction_losses', 'score_texts', 'texts_of_others']


@dataclass(frozen=True)
class ContradictionLosses:
    """Losses of the utterances of a batch, `[B]` nats, over those for which all four are finite.

    Attributes:
        own: loss of the own text, which the oracle has read, with the own audio.
        other: loss of another utterance's text, which the oracle has read, with the own audio.
        chance: loss of that other text for the oracle that has read nothing.
        silence: loss of the own text, which the oracle has read, with silence.
        labels: number of labels of the own text.
        other_labels: number of labels of the other text.
    """

    own: Tensor
    other: Tensor
    chance: Tensor
    silence: Tensor
    labels: Tensor
    other_labels: Tensor


def texts_of_others(transcripts: Transcripts) -> tuple[Transcripts, Tensor]:
    """Gives every utterance the labels of another one in the batch: of the next one in the order of their numbers of labels.

    Texts of similar length are exchanged because a text that is much too long for an audio is improbable without listening.

    Returns:
        The labels, and `[B]` bool, true where they differ from the utterance's own.
    """
    order = transcripts.lengths.argsort(stable=True)
    partner = torch.empty_like(order)
    partner[order] = torch.cat([order[1:], order[-2:-1] if len(order) > 1 else order])
    labels, lengths = transcripts.labels[partner], transcripts.lengths[partner]
    inside = torch.arange(labels.shape[1], device=labels.device) < lengths[:, None]
    other = (lengths != transcripts.lengths) | ((labels != transcripts.labels) & inside).any(1)
    return Transcripts(labels, lengths), other


def contradiction_losses(
    batch: AudioBatch,
    hear: Callable[[AudioBatch], Any],
    say: Callable[[Any, Transcripts], EncodedAudio],
    score: Callable[[EncodedAudio, Transcripts], Tensor],
) -> ContradictionLosses | None:
    """Confronts an oracle with texts and audio that contradict each other.

    Args:
        batch: audio with its own texts.
        hear: audio -> what the oracle's audio branch makes of it.
        say: that and texts -> what the oracle says after reading the texts.
        score: what it says and texts -> minus the log-probability of the texts, `[B]`.

    Returns:
        The losses; `None` if no utterance has all of them.
    """
    own = batch.transcripts
    other, differs = texts_of_others(own)
    nothing = Transcripts(own.labels[:, :0], torch.zeros_like(own.lengths))
    heard = hear(batch)
    silent = hear(replace(batch, signal=silence_like(batch.signal, batch.lengths, range(len(batch.lengths)))))
    losses = torch.stack(
        [
            score(say(heard, own), own),
            score(say(heard, other), other),
            score(say(heard, nothing), other),
            score(say(silent, own), own),
        ]
    )
    kept = losses.isfinite().all(0) & differs.to(losses.device) & (own.lengths > 0).to(losses.device)
    if not bool(kept.any()):
        return None
    counts = (lengths.to(losses.device)[kept] for lengths in (own.lengths, other.lengths))
    return ContradictionLosses(*losses[:, kept], *counts)


def score_texts(model: Any, head: Head, said: EncodedAudio, texts: Transcripts) -> Tensor:
    """Minus the log-probability of one text per utterance, `[B]` nats, under a head of a model in eval mode."""
    hypotheses = Hypotheses(texts.labels[:, None], texts.lengths[:, None])
    return -score_encoded(model, head, said, hypotheses)[:, 0]

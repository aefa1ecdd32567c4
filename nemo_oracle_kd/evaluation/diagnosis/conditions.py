# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs an oracle teacher on texts and audio that contradict each other, and collects what it emits and how it scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nemo_oracle_kd.bridge.audio import silence_like
from nemo_oracle_kd.bridge.emissions import greedy_labels
from nemo_oracle_kd.bridge.model import Head, find_head
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses, score_encoded
from nemo_oracle_kd.bridge.signals import EncodedAudio, Transcripts
from nemo_oracle_kd.evaluation.diagnosis.utterances import Utterance
from nemo_oracle_kd.evaluation.error_rates import ErrorCounts, score

__all__ = ['CONDITIONS', 'BatchAnswers', 'Results', 'audio_head', 'label_errors', 'run_batch']

CONDITIONS = {
    'true_text': 'true text',
    'swapped_text': "another utterance's text",
    'no_text': 'no text',
    'silent_audio': 'true text, silent audio',
    'audio_branch': 'audio branch alone',
}
"""Condition -> its name in tables."""


@dataclass
class BatchAnswers:
    """The teacher's answers to one batch, in every condition.

    Attributes:
        indices: indices of the utterances.
        true: their labels.
        swapped: the labels of their partners.
        features: log-mel features, `[B, F, T']`.
        feature_lengths: valid feature frames, `[B]`.
        frames: valid output frames, `[B]`.
        answers: condition -> output of the head; `audio_branch` is absent if the teacher has none.
        attention: cross-attention with the true text, averaged over layers and heads, `[B, T, U + 1]`; column 0 is "no text".
        silent_attention: the same with silent audio.
    """

    indices: list[int]
    true: Transcripts
    swapped: Transcripts
    features: torch.Tensor
    feature_lengths: torch.Tensor
    frames: torch.Tensor
    answers: dict[str, EncodedAudio]
    attention: np.ndarray
    silent_attention: np.ndarray


def audio_head(teacher: Any) -> Head:
    """The head of the teacher's audio branch, which is CTC whatever the teacher's own head is."""
    vocabulary = find_head(teacher).vocabulary
    return Head(vocabulary, len(vocabulary))


def _transcripts(rows: list[tuple[int, ...]], device: torch.device) -> Transcripts:
    lengths = torch.tensor([len(row) for row in rows], device=device)
    labels = [torch.tensor(row, dtype=torch.long, device=device) for row in rows]
    return Transcripts(torch.nn.utils.rnn.pad_sequence(labels, batch_first=True), lengths)


def _mean_attention(maps: list[torch.Tensor]) -> np.ndarray:
    """The mean over layers and heads, `[B, T, U + 1]`."""
    return torch.stack(maps).mean(dim=(0, 2)).cpu().numpy()


@torch.inference_mode()
def run_batch(
    teacher: Any,
    utterances: Sequence[Utterance],
    partners: Sequence[int],
    indices: list[int],
    signal: torch.Tensor,
    lengths: torch.Tensor,
) -> BatchAnswers:
    """Runs the teacher on one batch in every condition. The audio encoder runs twice: on the audio and on silence.

    Args:
        teacher: an oracle teacher in eval mode.
        utterances: all utterances.
        partners: for each utterance, the index of the one whose text serves as the wrong text.
        indices: the utterances of this batch.
        signal: their audio `[B, S]`, on the device of the teacher.
        lengths: samples `[B]`.
    """
    encoder = teacher.encoder
    true = _transcripts([utterances[i].labels for i in indices], signal.device)
    swapped = _transcripts([utterances[partners[i]].labels for i in indices], signal.device)

    features, feature_lengths = teacher.preprocessor(input_signal=signal, length=lengths)
    audio, frames = encoder.encode_audio(features, feature_lengths)
    silence, _ = teacher.preprocessor(input_signal=silence_like(signal, lengths, indices), length=lengths)
    silent_audio, _ = encoder.encode_audio(silence, feature_lengths)

    heard, nothing_heard = teacher.audio_posteriors(audio), teacher.audio_posteriors(silent_audio)
    fused, maps = encoder.fuse(audio, frames, true.labels, true.lengths, heard, return_attention=True)
    silent, silent_maps = encoder.fuse(
        silent_audio, frames, true.labels, true.lengths, nothing_heard, return_attention=True
    )
    misled, _ = encoder.fuse(audio, frames, swapped.labels, swapped.lengths, heard)
    untold, _ = encoder.fuse(audio, frames, true.labels[:, :0], torch.zeros_like(true.lengths), heard)
    frames = frames.long()
    encoded = {'true_text': fused, 'swapped_text': misled, 'no_text': untold, 'silent_audio': silent}
    answers = {name: EncodedAudio(frames, teacher.fused_posteriors(one), one) for name, one in encoded.items()}
    if heard is not None:
        answers['audio_branch'] = EncodedAudio(frames, heard)
    return BatchAnswers(
        indices,
        true,
        swapped,
        features,
        feature_lengths,
        frames,
        answers,
        _mean_attention(maps),
        _mean_attention(silent_maps),
    )


class Results:
    """Collects outputs and scores of all utterances, in every condition.

    Args:
        teacher: an oracle teacher in eval mode.
        utterances: number of utterances, N.

    Attributes:
        outputs: condition -> utterance -> emitted labels.
        nll: condition -> `[N]` negative log-likelihood of the spoken text, nats; inf where audio is too short for the text.
        partner_nll: the same for the partner's text, for `swapped_text` and `no_text`.
    """

    def __init__(self, teacher: Any, utterances: int):
        self.teacher = teacher
        self.heads = {name: find_head(teacher) for name in CONDITIONS} | {'audio_branch': audio_head(teacher)}
        self.outputs: dict[str, dict[int, list[int]]] = {}
        self.nll: dict[str, np.ndarray] = {}
        self.partner_nll = {name: np.full(utterances, np.inf) for name in ('swapped_text', 'no_text')}
        self.utterances = utterances

    @torch.inference_mode()
    def add(self, batch: BatchAnswers) -> None:
        """Scores and decodes the answers of one batch."""
        for name, answer in batch.answers.items():
            if name not in self.nll:
                self.nll[name], self.outputs[name] = np.full(self.utterances, np.inf), {}
            head = self.heads[name]
            self.nll[name][batch.indices] = self._nll(head, answer, batch.true)
            if name in self.partner_nll:
                self.partner_nll[name][batch.indices] = self._nll(head, answer, batch.swapped)
            self.outputs[name].update(zip(batch.indices, greedy_labels(self.teacher, head, answer)))

    def _nll(self, head: Head, answer: EncodedAudio, texts: Transcripts) -> np.ndarray:
        hypotheses = Hypotheses(texts.labels[:, None], texts.lengths[:, None])
        return -score_encoded(self.teacher, head, answer, hypotheses)[:, 0].double().cpu().numpy()


def label_errors(teacher: Any, references: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> ErrorCounts:
    """Counts the label errors of every utterance; spaces between words are not counted as labels."""
    vocabulary = find_head(teacher).vocabulary

    def as_words(rows: Sequence[Sequence[int]]) -> list[str]:
        return [' '.join(str(i) for i in row if vocabulary[i] != ' ') for row in rows]

    return score(as_words(references), as_words(outputs)).words

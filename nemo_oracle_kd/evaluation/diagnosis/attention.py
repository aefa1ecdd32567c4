# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures when an oracle teacher emits each label, and which label it attends to at that time.

The diagnosis reports and draws these measures, but they are no evidence of listening. A teacher that copies by position also
attends in order, with audio and without: the rank correlation of a copying teacher was 0.99 on speech and 0.99 on silence.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nemo_oracle_kd.bridge.emissions import emission_frames
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.model import find_head, frame_seconds
from nemo_oracle_kd.bridge.signals import AudioBatch
from nemo_oracle_kd.evaluation.diagnosis.conditions import BatchAnswers, audio_head
from nemo_oracle_kd.evaluation.diagnosis.utterances import Utterance

__all__ = ['AttentionMeasures', 'Example', 'rank_correlation']


@dataclass
class Example:
    """One utterance for the picture.

    Attributes:
        text: the spoken text.
        labels: its labels as strings.
        features: log-mel features, `[F, T']`.
        attention: cross-attention, averaged over layers and heads, `[T, U + 1]`; column 0 is "no text".
        silent_attention: the same with silent audio.
        spikes: time at which the teacher emits each label, seconds.
        reference_spikes: the same for the audio-only model; None if there is none.
        seconds: duration of the utterance.
    """

    text: str
    labels: list[str]
    features: np.ndarray
    attention: np.ndarray
    silent_attention: np.ndarray
    spikes: np.ndarray
    reference_spikes: np.ndarray | None
    seconds: float


def rank_correlation(values: np.ndarray) -> float | None:
    """Spearman correlation of `values` with their order, 0 if all are equal; None for fewer than three values."""
    if len(values) < 3:
        return None
    ranks = np.array([(values < v).sum() + ((values == v).sum() - 1) / 2 for v in values])
    if ranks.std() == 0:
        return 0.0
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def _attended_positions(attention: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected and most attended label position at some frames, without "no text"; `attention` is `[T, U + 1]`."""
    weights = attention[frames, 1:]
    share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return share @ np.arange(share.shape[1]), weights.argmax(axis=1)


class AttentionMeasures:
    """Collects spikes and attention, both on the best alignment of the true text.

    Args:
        teacher: an oracle teacher in eval mode.
        audio_model: audio-only model with which spikes are compared; None uses the teacher's audio branch.
        utterances: all utterances.
        examples: indices of utterances to keep for the picture.

    Attributes:
        distances: time of the teacher's spike minus that of the reference, seconds.
        correlations: rank correlation of attended position and time, one per utterance.
        silent_correlations: the same with silent audio.
        hits: for each spike, whether the most attended label is the emitted one.
        examples: utterance index -> example.
    """

    def __init__(self, teacher: Any, audio_model: Any, utterances: list[Utterance], examples: set[int]):
        self.teacher, self.audio_model, self.utterances = teacher, audio_model, utterances
        self.head = find_head(teacher)
        self.wanted_examples = examples
        self.distances: list[float] = []
        self.correlations: list[float] = []
        self.silent_correlations: list[float] = []
        self.hits: list[bool] = []
        self.examples: dict[int, Example] = {}

    @torch.inference_mode()
    def add(self, batch: BatchAnswers, signal: torch.Tensor, lengths: torch.Tensor) -> None:
        """Measures one batch.

        Args:
            batch: the teacher's answers to it.
            signal: its audio, `[B, S]`.
            lengths: samples per utterance, `[B]`.
        """
        true = batch.true
        spikes = emission_frames(self.teacher, self.head, batch.answers['true_text'], true.labels, true.lengths)
        reference = self._reference_seconds(AudioBatch(signal, lengths, true), batch)
        seconds = frame_seconds(self.teacher)
        for row, i in enumerate(batch.indices):
            count = len(self.utterances[i].labels)
            own = spikes[row, :count].cpu().numpy()
            if (own < 0).any():
                continue
            if reference[row] is not None:
                self.distances += (own * seconds - reference[row]).tolist()
            attention = batch.attention[row, :, : count + 1]
            silent_attention = batch.silent_attention[row, :, : count + 1]
            expected, most = _attended_positions(attention, own)
            silent_expected, _ = _attended_positions(silent_attention, own)
            self.hits += (most == np.arange(count)).tolist()
            for values, kept in ((expected, self.correlations), (silent_expected, self.silent_correlations)):
                correlation = rank_correlation(values)
                if correlation is not None:
                    kept.append(correlation)
            if i in self.wanted_examples and seconds is not None:
                valid = int(batch.frames[row])
                self.examples[i] = Example(
                    text=self.utterances[i].text,
                    labels=[self.head.vocabulary[label] for label in self.utterances[i].labels],
                    features=batch.features[row, :, : int(batch.feature_lengths[row])].cpu().numpy(),
                    attention=attention[:valid],
                    silent_attention=silent_attention[:valid],
                    spikes=own * seconds,
                    reference_spikes=reference[row],
                    seconds=valid * seconds,
                )

    def _reference_seconds(self, audio: AudioBatch, batch: BatchAnswers) -> list[np.ndarray | None]:
        """Spikes of the audio-only model in seconds, per utterance; None where it has no alignment."""
        labels, lengths = audio.transcripts.labels, audio.transcripts.lengths
        model = self.teacher if self.audio_model is None else self.audio_model
        if self.audio_model is not None:
            head = find_head(model)
            answer = encode_audio(model, audio)
        else:
            head, answer = audio_head(model), batch.answers.get('audio_branch')
        seconds = frame_seconds(model)
        if answer is None or seconds is None or frame_seconds(self.teacher) is None:
            return [None] * len(lengths)
        times = emission_frames(model, head, answer, labels, lengths).cpu().numpy()
        spikes = [row[:count] for row, count in zip(times, lengths.tolist())]
        return [None if (own < 0).any() else own * seconds for own in spikes]

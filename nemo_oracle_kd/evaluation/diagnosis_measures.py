# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The measuring part of a diagnosis: runs an oracle teacher under contradicting texts and audio, batch by batch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nemo_oracle_kd.bridge.emissions import emission_frames, greedy_labels
from nemo_oracle_kd.bridge.model import Head, find_head
from nemo_oracle_kd.bridge.sequence_scores import EncodedAudio, Hypotheses, encode_audio, score_encoded
from nemo_oracle_kd.bridge.signals import AudioBatch, Transcripts
from nemo_oracle_kd.evaluation.diagnosis_data import Utterance

__all__ = ['CONDITIONS', 'Example', 'Measures', 'frame_seconds']

CONDITIONS = {
    'true_text': 'true text',
    'swapped_text': "another utterance's text",
    'no_text': 'no text',
    'silent_audio': 'true text, silent audio',
    'audio_branch': 'audio branch alone',
}
"""Condition -> how the table calls it."""


@dataclass
class Example:
    """One utterance for the picture.

    Attributes:
        text: the spoken text.
        labels: its labels as strings.
        features: `[F, T']`.
        attention: cross-attention, averaged over layers and heads, `[T, U + 1]`; column 0 is "no text".
        silent_attention: the same with silent audio.
        spikes: when the teacher emits each label, seconds.
        reference_spikes: the same of the audio-only model.
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


def frame_seconds(model: Any) -> float:
    """Duration of an output frame of a NeMo model, seconds."""
    return float(model.encoder.subsampling_factor) * float(model.cfg.preprocessor.window_stride)


def _transcripts(rows: list[tuple[int, ...]], device: torch.device) -> Transcripts:
    lengths = torch.tensor([len(row) for row in rows], device=device)
    labels = [torch.tensor(row, dtype=torch.long, device=device) for row in rows]
    return Transcripts(torch.nn.utils.rnn.pad_sequence(labels, batch_first=True), lengths)


def _silence(signal: torch.Tensor, lengths: torch.Tensor, indices: list[int]) -> torch.Tensor:
    """Faint white noise (-80 dB of full scale) in the shape of `signal [B, S]`; the same for the same utterance.

    Not zeros, nor anything below the floor of the logarithm: normalised features would be rounding errors, divided by
    their own deviation.
    """
    silence = torch.zeros(signal.shape)
    for row, i in enumerate(indices):
        length = int(lengths[row])
        silence[row, :length] = 1e-4 * torch.randn(length, generator=torch.Generator().manual_seed(i))
    return silence.to(signal)


def _mean_attention(maps: list[torch.Tensor]) -> np.ndarray:
    """Layers and heads averaged: `[B, T, U + 1]`."""
    return torch.stack(maps).mean(dim=(0, 2)).cpu().numpy()


def rank_correlation(values: np.ndarray) -> float | None:
    """Spearman correlation of `values` with their order; None for fewer than three."""
    if len(values) < 3:
        return None
    ranks = np.array([(values < v).sum() + ((values == v).sum() - 1) / 2 for v in values])
    if ranks.std() == 0:
        return 0.0
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def _attended_positions(attention: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected and most attended label position at some frames, "no text" aside; `attention [T, U + 1]`."""
    weights = attention[frames, 1:]
    share = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return share @ np.arange(share.shape[1]), weights.argmax(axis=1)


class Measures:
    """Collects what a teacher does under every condition.

    Args:
        teacher: an oracle teacher in eval mode.
        audio_model: audio-only model for the distance of spikes; None: the teacher's audio branch.
        utterances: all utterances.
        partners: for each the index of the utterance whose text it is misled with.
        examples: indices of utterances to keep for the picture.

    Attributes:
        nll: condition -> negative log-likelihood of each feasible utterance, nats.
        counts: condition -> labels of the same utterances.
        outputs: condition -> utterance index -> emitted labels.
        distances: teacher's spike minus the reference's, seconds.
        correlations: rank correlation of attended position and time, one per utterance.
        silent_correlations: the same with silent audio.
        hits: for each spike, whether the most attended label is the one emitted.
        examples: utterance index -> example.
    """

    def __init__(
        self, teacher: Any, audio_model: Any, utterances: list[Utterance], partners: list[int], examples: set[int]
    ):
        self.teacher = teacher
        self.head = find_head(teacher)
        vocabulary = self.head.vocabulary
        self.audio_head = Head(vocabulary, len(vocabulary))
        self.audio_model = audio_model
        self.utterances = utterances
        self.partners = partners
        self.wanted_examples = examples
        self.nll: dict[str, list[float]] = {name: [] for name in CONDITIONS}
        self.counts: dict[str, list[int]] = {name: [] for name in CONDITIONS}
        self.outputs: dict[str, dict[int, list[int]]] = {name: {} for name in CONDITIONS}
        self.distances: list[float] = []
        self.correlations: list[float] = []
        self.silent_correlations: list[float] = []
        self.hits: list[bool] = []
        self.examples: dict[int, Example] = {}

    @torch.inference_mode()
    def add(self, indices: list[int], signal: torch.Tensor, lengths: torch.Tensor) -> None:
        """Measures one batch: `signal [B, S]`, `lengths [B]`, the utterances `indices`."""
        teacher, encoder = self.teacher, self.teacher.encoder
        true = _transcripts([self.utterances[i].labels for i in indices], signal.device)
        swapped = _transcripts([self.utterances[self.partners[i]].labels for i in indices], signal.device)

        features, feature_lengths = teacher.preprocessor(input_signal=signal, length=lengths)
        audio, frames = encoder.encode_audio(features, feature_lengths)
        silence, _ = teacher.preprocessor(input_signal=_silence(signal, lengths, indices), length=lengths)
        silent_audio, _ = encoder.encode_audio(silence, feature_lengths)

        heard, nothing_heard = teacher.audio_posteriors(audio), teacher.audio_posteriors(silent_audio)
        fused, maps = encoder.fuse(audio, frames, true.labels, true.lengths, heard, return_attention=True)
        silent, silent_maps = encoder.fuse(
            silent_audio, frames, true.labels, true.lengths, nothing_heard, return_attention=True
        )
        misled, _ = encoder.fuse(audio, frames, swapped.labels, swapped.lengths, heard)
        untold, _ = encoder.fuse(audio, frames, true.labels[:, :0], torch.zeros_like(true.lengths), heard)
        frames = frames.long()
        answers = {
            name: EncodedAudio(frames, teacher.fused_posteriors(encoded), encoded)
            for name, encoded in (
                ('true_text', fused),
                ('swapped_text', misled),
                ('no_text', untold),
                ('silent_audio', silent),
            )
        }
        for name, answer in answers.items():
            self._add_outputs(name, self.head, answer, true, indices)
        if heard is not None:
            self._add_outputs('audio_branch', self.audio_head, EncodedAudio(frames, heard), true, indices)

        spikes = emission_frames(teacher, self.head, answers['true_text'], true.labels, true.lengths)
        reference = self._reference_seconds(AudioBatch(signal, lengths, true), heard, frames)
        attention, silent_attention = _mean_attention(maps), _mean_attention(silent_maps)
        seconds = frame_seconds(teacher)
        for row, i in enumerate(indices):
            count = len(self.utterances[i].labels)
            own = spikes[row, :count].cpu().numpy()
            if (own < 0).any():
                continue
            if reference[row] is not None:
                self.distances += (own * seconds - reference[row]).tolist()
            expected, most = _attended_positions(attention[row, :, : count + 1], own)
            silent_expected, _ = _attended_positions(silent_attention[row, :, : count + 1], own)
            self.hits += (most == np.arange(count)).tolist()
            for values, kept in ((expected, self.correlations), (silent_expected, self.silent_correlations)):
                correlation = rank_correlation(values)
                if correlation is not None:
                    kept.append(correlation)
            if i in self.wanted_examples:
                valid = int(frames[row])
                self.examples[i] = Example(
                    text=self.utterances[i].text,
                    labels=[self.head.vocabulary[label] for label in self.utterances[i].labels],
                    features=features[row, :, : int(feature_lengths[row])].cpu().numpy(),
                    attention=attention[row, :valid, : count + 1],
                    silent_attention=silent_attention[row, :valid, : count + 1],
                    spikes=own * seconds,
                    reference_spikes=reference[row],
                    seconds=valid * seconds,
                )

    def _add_outputs(self, name: str, head: Head, answer: EncodedAudio, true: Transcripts, indices: list[int]) -> None:
        spoken = Hypotheses(true.labels[:, None], true.lengths[:, None])
        nll = -score_encoded(self.teacher, head, answer, spoken)[:, 0]
        feasible = torch.isfinite(nll)
        self.nll[name] += nll[feasible].tolist()
        self.counts[name] += true.lengths[feasible].tolist()
        self.outputs[name].update(zip(indices, greedy_labels(self.teacher, head, answer)))

    def _reference_seconds(
        self, batch: AudioBatch, audio_branch: torch.Tensor | None, frames: torch.Tensor
    ) -> list[np.ndarray | None]:
        """Spikes of the audio-only model, seconds, per utterance; None where there are none."""
        labels, lengths = batch.transcripts.labels, batch.transcripts.lengths
        if self.audio_model is not None:
            model, head = self.audio_model, find_head(self.audio_model)
            answer, seconds = encode_audio(model, head, batch), frame_seconds(model)
        elif audio_branch is not None:
            model, head = self.teacher, self.audio_head
            answer, seconds = EncodedAudio(frames, audio_branch), frame_seconds(model)
        else:
            return [None] * len(lengths)
        times = emission_frames(model, head, answer, labels, lengths).cpu().numpy()
        spikes = [row[:count] for row, count in zip(times, lengths.tolist())]
        return [None if (own < 0).any() else own * seconds for own in spikes]

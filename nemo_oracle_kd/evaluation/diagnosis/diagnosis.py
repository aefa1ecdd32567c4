# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Diagnoses whether an oracle teacher listens or copies the transcript that it reads.

Neither CTC nor a transducer's loss excludes an acoustics-free copy: "emit the labels in the first U frames, then blanks" is
one path of probability 1, so its loss is 0 (the trivial solution named by arXiv 2111.03664). Such a teacher has perfect scores
and teaches nothing. It shows when text and audio contradict each other:

* given another utterance's text with this audio, a copying teacher emits the wrong text;
* given the true text with silent audio, a copying teacher emits the text nevertheless.

:mod:`nemo_oracle_kd.evaluation.diagnosis.verdict` decides how much of either is too much.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from tqdm import tqdm

from nemo_oracle_kd.bridge.model import find_head, weight_problems
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.evaluation.diagnosis.attention import AttentionMeasures, Example
from nemo_oracle_kd.evaluation.diagnosis.conditions import CONDITIONS, Results, label_errors, run_batch
from nemo_oracle_kd.evaluation.diagnosis.utterances import Utterance, batches, swap_partners
from nemo_oracle_kd.evaluation.diagnosis.verdict import Evidence, HeardShare, Rates, Thresholds, heard_share, judge
from nemo_oracle_kd.evaluation.error_rates import ErrorCounts, score
from nemo_oracle_kd.evaluation.inputs import inputs_of, reworded

__all__ = ['Condition', 'Diagnosis', 'diagnose']


@dataclass
class Condition:
    """Results of one condition, over all utterances.

    Attributes:
        loss: negative log-likelihood of the spoken text in nats per label, over the utterances with enough frames for it. The
            teacher's own head computes it, and CTC that of the audio branch.
        wer_spoken: word error rate against the spoken text, percent.
        wer_given: word error rate against the text that was given, percent; None where none was given.
        given_label_errors: label error rate against the given text, percent.
    """

    loss: float
    wer_spoken: float
    wer_given: float | None = None
    given_label_errors: float | None = None


@dataclass
class Diagnosis:
    """All measures and the verdict.

    Attributes:
        utterances: number of utterances.
        conditions: by the names of `CONDITIONS`; `audio_branch` is absent if the teacher has none.
        heard: by the names of `HEARD_SHARES`, how much of a text that the teacher reads comes from the audio.
        copied_share_swapped: 0 if the teacher emits what is spoken, 1 if it emits the other utterance's text:
            `1 - errors(output, given) / errors(spoken, given)`, in labels, not below 0.
        copied_share_silent: share of the given labels that it emits for silence: `1 - errors(output, given) / labels`.
        text_gain: share of the loss without text that the true text removes.
        wrong_text_gain: share of the loss with a wrong text that the true text removes.
        spike_reference: the model with which spikes are compared; None if none was available.
        spike_distance_ms: mean absolute distance of spikes on the best alignments of the true text, milliseconds.
        spike_shift_ms: median signed distance, milliseconds; negative if the teacher is earlier.
        attention_monotonicity: rank correlation of attended label position and time at the spikes, -1 to 1. It is no evidence
            of listening.
        attention_monotonicity_silent: the same at the same frames with silent audio.
        attention_hit_rate: share of spikes whose most attended label is the emitted one.
        verdict: one of `VERDICTS`.
        reasons: reasons for the verdict, as sentences.
        thresholds: the thresholds of the verdict.
        wording: phrases about audio -> what they are called for the inputs of this teacher; empty for audio.
        examples: utterances for the picture; not part of the JSON.
    """

    utterances: int
    conditions: dict[str, Condition]
    copied_share_swapped: float
    copied_share_silent: float
    text_gain: float
    wrong_text_gain: float
    spike_reference: str | None = None
    spike_distance_ms: float | None = None
    spike_shift_ms: float | None = None
    attention_monotonicity: float | None = None
    attention_monotonicity_silent: float | None = None
    attention_hit_rate: float | None = None
    heard: dict[str, HeardShare] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)
    verdict: str = ''
    reasons: list[str] = field(default_factory=list)
    wording: dict[str, str] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        result = asdict(self)
        del result['examples']
        return {**result, 'caution': self.caution}

    def say(self, text: str) -> str:
        """A text about this diagnosis in the words of its inputs."""
        return reworded(text, self.wording)

    @property
    def caution(self) -> str | None:
        """A sentence about spikes that lie far from those of the reference, or None.

        A teacher can listen well enough to know the words and still emit them at times that its text suggests.
        """
        limit = self.thresholds.spike_distance_ms
        if self.spike_distance_ms is None or self.spike_distance_ms <= limit:
            return None
        return (
            f"its spikes lie {self.spike_distance_ms:.0f} ms from those of the {self.spike_reference} on average (limit "
            f"{limit:.0f} ms): students learned little from such a teacher; train it with oracle.timing_weight=0.5"
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> 'Diagnosis':
        """The inverse of :meth:`as_dict`, for a report made from `diagnosis.json`; further keys are ignored."""
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        limits = {item.name for item in fields(Thresholds)}
        known['conditions'] = {name: Condition(**condition) for name, condition in values['conditions'].items()}
        known['heard'] = {name: HeardShare(**share) for name, share in values.get('heard', {}).items()}
        known['thresholds'] = Thresholds(**{k: v for k, v in values['thresholds'].items() if k in limits})
        return cls(**known)


def diagnose(
    teacher: Any,
    utterances: list[Utterance],
    batch_size: int = 8,
    audio_model: Any = None,
    thresholds: Thresholds | None = None,
    examples: int = 3,
    progress: bool = True,
) -> Diagnosis:
    """Measures whether an oracle teacher copies its transcript.

    It may be called while the teacher is being trained: weights, gradients and random states do not change, and every module
    returns to its training or evaluation mode.

    Args:
        teacher: an oracle teacher; it is measured in eval mode.
        utterances: utterances of :func:`nemo_oracle_kd.evaluation.diagnosis.utterances.read_utterances`.
        batch_size: utterances per forward pass.
        audio_model: audio-only CTC model or transducer with the same vocabulary, with which spikes are compared; None uses the
            teacher's audio branch.
        thresholds: thresholds of the verdict; None uses the defaults.
        examples: number of utterances to keep for the picture.
        progress: whether to show a progress bar.

    Raises:
        ConfigError: the teacher is not an oracle, weights of a model are NaN or infinite, `audio_model` has another vocabulary
            or sample rate, or no utterance has enough frames for its text.
    """
    if not getattr(teacher, 'reads_transcript', False):
        raise ConfigError(
            f"{type(teacher).__name__} does not read the transcript, so it cannot copy it: diagnose an oracle teacher"
        )
    ConfigError.raise_if_any(weight_problems(teacher, 'the teacher'))
    sample_rate, inputs = int(teacher.cfg.preprocessor.sample_rate), inputs_of(teacher)
    device = next(teacher.parameters()).device
    if audio_model is not None:
        ConfigError.raise_if_any(weight_problems(audio_model, 'the audio-only model'))
        if find_head(audio_model).vocabulary != find_head(teacher).vocabulary:
            raise ConfigError("the audio-only model has another vocabulary: compare models of one vocabulary")
        if int(audio_model.cfg.preprocessor.sample_rate) != sample_rate:
            raise ConfigError("the audio-only model has another sample rate: compare models of one sample rate")
        audio_model = audio_model.eval().to(device)
    partners = swap_partners(utterances)
    # Transcripts of about twenty labels are legible in the picture.
    by_length = sorted(range(len(utterances)), key=lambda i: abs(len(utterances[i].labels) - 20))
    results = Results(teacher, len(utterances))
    attention = AttentionMeasures(teacher, audio_model, utterances, set(by_length[:examples]))
    modes = {module: module.training for module in teacher.modules()}
    teacher.eval()
    try:
        with tqdm(total=len(utterances), desc='diagnosis', unit='utt', disable=not progress) as bar:
            for indices, signal, lengths in batches(utterances, inputs, batch_size):
                signal, lengths = signal.to(device), lengths.to(device)
                batch = run_batch(teacher, utterances, partners, indices, signal, lengths)
                results.add(batch)
                attention.add(batch, signal, lengths)
                bar.update(len(indices))
    finally:
        for module, training in modes.items():
            module.training = training
    return _summarise(utterances, partners, results, attention, thresholds or Thresholds())


def _summarise(
    utterances: list[Utterance],
    partners: list[int],
    results: Results,
    attention: AttentionMeasures,
    thresholds: Thresholds,
) -> Diagnosis:
    """Computes rates, shares and the verdict from the collected results."""
    teacher = results.teacher
    spoken, texts = [list(one.labels) for one in utterances], [one.text for one in utterances]
    everyone = list(range(len(texts)))
    given = {'true_text': everyone, 'swapped_text': partners, 'silent_audio': everyone}
    conditions, errors = {}, {}
    for name in (name for name in CONDITIONS if name in results.outputs):
        outputs = [results.outputs[name][i] for i in everyone]
        hypotheses = [teacher.decode_labels(labels) for labels in outputs]
        feasible = np.isfinite(results.nll[name])
        if not feasible.any():
            raise ConfigError("no utterance has enough frames for its text: check that audio and text match")
        labels = sum(len(spoken[i]) for i in np.flatnonzero(feasible))
        loss = float(results.nll[name][feasible].sum()) / labels
        conditions[name] = Condition(loss, wer_spoken=score(texts, hypotheses).words.rate)
        if name in given:
            errors[name] = label_errors(teacher, [spoken[i] for i in given[name]], outputs)
            conditions[name].wer_given = score([texts[i] for i in given[name]], hypotheses).words.rate
            conditions[name].given_label_errors = errors[name].rate
    # The errors of a teacher that only listens, against the text of the other utterance.
    listening = label_errors(teacher, [spoken[i] for i in partners], spoken)
    true_loss = conditions['true_text'].loss
    gains = [max(0.0, 1.0 - true_loss / conditions[name].loss) for name in ('no_text', 'swapped_text')]
    distances = np.array(attention.distances)
    result = Diagnosis(
        utterances=len(texts),
        conditions=conditions,
        copied_share_swapped=max(0.0, 1.0 - errors['swapped_text'].rate / max(listening.rate, 1e-9)),
        copied_share_silent=max(0.0, 1.0 - errors['silent_audio'].rate / 100.0),
        text_gain=gains[0],
        wrong_text_gain=gains[1],
        attention_monotonicity=_mean(attention.correlations),
        attention_monotonicity_silent=_mean(attention.silent_correlations),
        attention_hit_rate=_mean(attention.hits),
        heard={**_heard_in_errors(errors, listening), **_heard_in_losses(results, spoken, partners)},
        thresholds=thresholds,
        wording=dict(inputs_of(teacher).wording),
        examples=[attention.examples[i] for i in sorted(attention.examples)],
    )
    if len(distances):
        result.spike_reference = 'audio branch of the teacher' if attention.audio_model is None else 'audio-only model'
        result.spike_distance_ms = float(1000 * np.abs(distances).mean())
        result.spike_shift_ms = float(1000 * np.median(distances))
    result.verdict, result.reasons = judge(Evidence(result.heard, *gains, thresholds))
    return result


def _heard_in_errors(errors: dict[str, ErrorCounts], listening: ErrorCounts) -> dict[str, HeardShare]:
    """Heard shares of the emitted labels; `listening` holds the errors of the spoken texts against the partners' texts."""

    def rates(counts: ErrorCounts) -> Rates:
        return Rates(counts.errors, counts.reference_lengths)

    own, other, silent = (rates(errors[name]) for name in ('true_text', 'swapped_text', 'silent_audio'))
    return {
        'emitted_other_audio': heard_share(own, other, rates(listening)),
        'emitted_silence': heard_share(own, silent, Rates(own.labels, own.labels)),
    }


def _heard_in_losses(results: Results, spoken: list[list[int]], partners: list[int]) -> dict[str, HeardShare]:
    """Heard shares of the losses, over the utterances with enough frames for both their own and the other text.

    The level of chance is the loss of the other utterance's text for a teacher that does not read it.
    """
    own, silent = results.nll['true_text'], results.nll['silent_audio']
    other, chance = results.partner_nll['swapped_text'], results.partner_nll['no_text']
    kept = np.isfinite(own) & np.isfinite(silent) & np.isfinite(other) & np.isfinite(chance)
    labels = np.array([len(row) for row in spoken])[kept]
    partner_labels = np.array([len(spoken[i]) for i in partners])[kept]
    if not kept.any():
        return {}
    measures = {'own': Rates(own[kept], labels), 'chance': Rates(chance[kept], partner_labels)}
    return {
        'scored_other_audio': heard_share(wrong=Rates(other[kept], partner_labels), **measures),
        'scored_silence': heard_share(wrong=Rates(silent[kept], labels), **measures),
    }


def _mean(values: list) -> float | None:
    return float(np.mean(values)) if values else None

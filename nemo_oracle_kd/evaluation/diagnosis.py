# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Does an oracle teacher listen, or does it copy the transcript that it reads?

Neither CTC nor a transducer's loss excludes an acoustics-free copy: "emit the labels in the first U frames, then blanks" is
one path of probability 1, so its loss is 0 (the trivial solution named by arXiv 2111.03664). Such a teacher has perfect scores
and teaches nothing. It betrays itself when text and audio contradict each other:

* another utterance's text with this audio: a copying teacher emits the wrong text;
* the true text with silent audio: a copying teacher emits the text all the same;
* its spikes lie elsewhere than those of a model that only hears.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from tqdm import tqdm

from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.evaluation.diagnosis_data import Utterance, batches, swap_partners
from nemo_oracle_kd.evaluation.diagnosis_measures import CONDITIONS, Example, Measures
from nemo_oracle_kd.evaluation.error_rates import score

__all__ = ['Condition', 'Diagnosis', 'Thresholds', 'diagnose', 'judge']


@dataclass(frozen=True)
class Thresholds:
    """Where the verdict changes.

    Attributes:
        copied_share: `copies` if at least this share of the given labels comes out without acoustic evidence, be it
            from another utterance's text or from silence.
        text_gain: `ignores the text` if the true text lowers the loss by less than this share, both against no text
            and against a wrong text.
    """

    copied_share: float = 0.5
    text_gain: float = 0.05


@dataclass
class Condition:
    """Results of one condition, over all utterances.

    Attributes:
        loss: negative log-likelihood of the spoken text in nats per label, over feasible utterances: by the teacher's own
            head, of the audio branch by CTC.
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
    """Everything that was measured, and the verdict.

    Attributes:
        utterances: how many were used.
        conditions: see :data:`CONDITIONS`; `audio_branch` is absent if the teacher has none.
        copied_share_swapped: 0 if the teacher emits what is spoken, 1 if it emits the other utterance's text:
            `1 - errors(output, given) / errors(spoken, given)`, in labels, not below 0.
        copied_share_silent: share of the given labels that come out of silence: `1 - errors(output, given) / labels`.
        text_gain: share of the loss without text that the true text removes.
        wrong_text_gain: share of the loss with a wrong text that the true text removes.
        spike_reference: the model that spikes are compared with; None: none was available.
        spike_distance_ms: mean absolute distance of spikes, forced to the true text, milliseconds.
        spike_shift_ms: median signed distance; negative: the teacher is earlier.
        attention_monotonicity: rank correlation of attended label position and time at the spikes, -1 to 1.
        attention_monotonicity_silent: the same at the same frames with silent audio.
        attention_hit_rate: share of spikes whose most attended label is the one emitted.
        verdict: `listens`, `copies` or `ignores the text`.
        reasons: sentences.
        thresholds: what the verdict was based on.
        examples: for the picture; not part of the JSON.
    """

    utterances: int
    conditions: dict[str, Condition]
    copied_share_swapped: float
    copied_share_silent: float
    text_gain: float
    wrong_text_gain: float
    spike_reference: str | None
    spike_distance_ms: float | None
    spike_shift_ms: float | None
    attention_monotonicity: float | None
    attention_monotonicity_silent: float | None
    attention_hit_rate: float | None
    thresholds: Thresholds = field(default_factory=Thresholds)
    verdict: str = ''
    reasons: list[str] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        result = asdict(self)
        del result['examples']
        return result

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> 'Diagnosis':
        """The inverse of :meth:`as_dict`, for a report made from `diagnosis.json`; further keys are ignored."""
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        known['conditions'] = {name: Condition(**condition) for name, condition in values['conditions'].items()}
        known['thresholds'] = Thresholds(**values['thresholds'])
        return cls(**known)


def judge(diagnosis: Diagnosis) -> tuple[str, list[str]]:
    """The verdict from the measures, and its reasons; see :class:`Thresholds`.

    Copying is judged first: a teacher that emits text out of silence is useless, whatever else it does.
    """
    limits, conditions = diagnosis.thresholds, diagnosis.conditions
    swapped, silent = diagnosis.copied_share_swapped, diagnosis.copied_share_silent
    measured = [
        f"given another utterance's text it emits {100 * swapped:.0f} % of it against the audio (limit "
        f"{100 * limits.copied_share:.0f} %)",
        f"given the true text and silence it emits {100 * silent:.0f} % of the text (limit "
        f"{100 * limits.copied_share:.0f} %)",
    ]
    gains = (
        f"the true text removes {100 * diagnosis.text_gain:.0f} % of the loss without text and "
        f"{100 * diagnosis.wrong_text_gain:.0f} % of the loss with a wrong text"
    )
    copied = [reason for reason, share in zip(measured, (swapped, silent)) if share >= limits.copied_share]
    if copied:
        advice = "raise oracle.label_corruption or oracle.audio_only_steps, see the guide to oracle teachers"
        return 'copies', [*copied, advice]
    if max(diagnosis.text_gain, diagnosis.wrong_text_gain) < limits.text_gain:
        return 'ignores the text', [
            f"{gains} (limit {100 * limits.text_gain:.0f} %)",
            "train it longer, or lower oracle.label_corruption",
        ]
    reasons = [*measured, gains]
    if 'audio_branch' in conditions:
        reasons.append(
            f"with the text its WER is {conditions['true_text'].wer_spoken:.1f}, its audio branch alone has "
            f"{conditions['audio_branch'].wer_spoken:.1f}"
        )
    return 'listens', reasons


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

    Args:
        teacher: an oracle teacher; it is put into eval mode.
        utterances: see :func:`nemo_oracle_kd.evaluation.diagnosis_data.read_utterances`.
        batch_size: utterances per forward pass.
        audio_model: audio-only CTC model or transducer with the same vocabulary, for the distance of spikes; None: the teacher's
            audio branch.
        thresholds: of the verdict.
        examples: utterances kept for the picture.
        progress: show a progress bar.

    Raises:
        ConfigError: not an oracle teacher, or `audio_model` has another vocabulary.
    """
    if not getattr(teacher, 'reads_transcript', False):
        raise ConfigError(
            f"{type(teacher).__name__} does not read the transcript, so it cannot copy it: diagnose an oracle teacher"
        )
    sample_rate = int(teacher.cfg.preprocessor.sample_rate)
    if audio_model is not None:
        if find_head(audio_model).vocabulary != find_head(teacher).vocabulary:
            raise ConfigError("the audio-only model has another vocabulary: compare models of one vocabulary")
        if int(audio_model.cfg.preprocessor.sample_rate) != sample_rate:
            raise ConfigError("the audio-only model has another sample rate: compare models of one sample rate")
    teacher.eval()
    device = next(teacher.parameters()).device
    if audio_model is not None:
        audio_model = audio_model.eval().to(device)
    partners = swap_partners(utterances)
    # For the picture: transcripts of about twenty labels can be read.
    by_length = sorted(range(len(utterances)), key=lambda i: abs(len(utterances[i].labels) - 20))
    measures = Measures(teacher, audio_model, utterances, partners, set(by_length[:examples]))
    with tqdm(total=len(utterances), desc='diagnosis', unit='utt', disable=not progress) as bar:
        for indices, signal, lengths in batches(utterances, sample_rate, batch_size):
            measures.add(indices, signal.to(device), lengths.to(device))
            bar.update(len(indices))
    return _summarise(measures, thresholds or Thresholds())


def _label_errors(teacher: Any, references: list, outputs: list) -> float:
    """Label error rate, percent; the space between words is no label of interest."""
    vocabulary = find_head(teacher).vocabulary

    def as_words(rows: list) -> list[str]:
        return [' '.join(str(i) for i in row if vocabulary[i] != ' ') for row in rows]

    return score(as_words(references), as_words(outputs)).words.rate


def _summarise(measures: Measures, thresholds: Thresholds) -> Diagnosis:
    """Rates and shares from what was collected."""
    teacher, partners = measures.teacher, measures.partners
    spoken = [utterance.labels for utterance in measures.utterances]
    texts = [utterance.text for utterance in measures.utterances]
    everyone = list(range(len(texts)))
    given = {'true_text': everyone, 'swapped_text': partners, 'silent_audio': everyone}
    conditions = {}
    for name in CONDITIONS:
        if not measures.outputs[name]:
            continue
        outputs = [measures.outputs[name][i] for i in everyone]
        hypotheses = [teacher.decode_labels(labels) for labels in outputs]
        labels = sum(measures.counts[name])
        if labels == 0:
            raise ConfigError("no utterance has enough frames for its text: check that audio and text match")
        condition = Condition(loss=sum(measures.nll[name]) / labels, wer_spoken=score(texts, hypotheses).words.rate)
        if name in given:
            condition.wer_given = score([texts[i] for i in given[name]], hypotheses).words.rate
            condition.given_label_errors = _label_errors(teacher, [spoken[i] for i in given[name]], outputs)
        conditions[name] = condition

    true_loss = conditions['true_text'].loss
    gains = {name: max(0.0, 1.0 - true_loss / conditions[name].loss) for name in ('no_text', 'swapped_text')}
    # What a teacher that only listens would score against the text of the other utterance.
    listening = max(_label_errors(teacher, [spoken[i] for i in partners], spoken), 1e-9)
    distances = np.array(measures.distances)
    reference = None
    if len(distances):
        reference = 'audio-only model' if measures.audio_model is not None else 'audio branch of the teacher'
    result = Diagnosis(
        utterances=len(texts),
        conditions=conditions,
        copied_share_swapped=max(0.0, 1.0 - conditions['swapped_text'].given_label_errors / listening),
        copied_share_silent=max(0.0, 1.0 - conditions['silent_audio'].given_label_errors / 100.0),
        text_gain=gains['no_text'],
        wrong_text_gain=gains['swapped_text'],
        spike_reference=reference,
        spike_distance_ms=float(1000 * np.abs(distances).mean()) if len(distances) else None,
        spike_shift_ms=float(1000 * np.median(distances)) if len(distances) else None,
        attention_monotonicity=_mean(measures.correlations),
        attention_monotonicity_silent=_mean(measures.silent_correlations),
        attention_hit_rate=_mean(measures.hits),
        thresholds=thresholds,
        examples=[measures.examples[i] for i in sorted(measures.examples)],
    )
    result.verdict, result.reasons = judge(result)
    return result


def _mean(values: list) -> float | None:
    return float(np.mean(values)) if values else None

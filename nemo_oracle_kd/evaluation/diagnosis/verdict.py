# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Decides, from its errors and losses, whether an oracle teacher listens to its audio or copies its text.

A teacher is given a text with its own audio, with another utterance's audio and with silence. Let `own` and `wrong` be its
label error rates against that text with its own and with wrong audio. Let `chance` be the rate of a teacher that ignores the
text, and so emits what is spoken in the wrong audio and nothing for silence. The *heard share*

    (wrong - own) / (chance - own)

is 1 for a teacher that listens and 0 for one that copies. It is relative to the teacher's errors with its own audio, so that
a poor copy still counts as a copy. The same share of losses, in nats per label, says how much of the teacher's certainty comes
from the audio. Both are ratios of corpus sums, with percentile bootstrap intervals over utterances.
"""

from dataclasses import dataclass, field

import numpy as np

from nemo_oracle_kd.evaluation.significance import bootstrap_draws

__all__ = ['HEARD_SHARES', 'VERDICTS', 'HeardShare', 'Rates', 'Thresholds', 'heard_share', 'judge']

VERDICTS = {
    'listens': 'The teacher listens',
    'partly': 'The teacher listens partly',
    'copies': 'The teacher copies',
    'inconclusive': 'The diagnosis is inconclusive',
    'ignores the text': 'The teacher ignores the text',
}
"""Verdict -> beginning of the sentence that gives the reasons."""

HEARD_SHARES = {
    'emitted_other_audio': "label errors, another utterance's audio",
    'emitted_silence': 'label errors, silence',
    'scored_other_audio': "loss, another utterance's audio",
    'scored_silence': 'loss, silence',
}
"""Measure of a diagnosis -> the quantity, and the audio that is compared with the utterance's own."""

# The loss in silence decides nothing: silence does not occur in training, so its losses can take any size.
DECIDING = ('emitted_other_audio', 'emitted_silence', 'scored_other_audio')


@dataclass(frozen=True)
class Thresholds:
    """Limits at which the verdict changes.

    Attributes:
        listens: the verdict is `listens` if the whole interval of every deciding heard share lies above this.
        copies: the verdict is `copies` if the whole interval of one of them lies below this.
        learnt: a share decides only if the teacher, with its own audio, is below chance by at least this share. The verdict
            is `inconclusive` if this fails for the label errors with another utterance's audio.
        text_gain: the verdict is `ignores the text` if the true text lowers the loss by less than this share, both against
            no text and against a wrong text.
        spike_distance_ms: mean distance of the spikes from those of the audio branch above which their timing is doubtful. It
            does not change the verdict.
    """

    listens: float = 0.5
    copies: float = 0.25
    learnt: float = 0.1
    text_gain: float = 0.05
    spike_distance_ms: float = 50.0


@dataclass(frozen=True)
class Rates:
    """Errors or nats per utterance, and the numbers of labels to which they refer.

    Attributes:
        amounts: errors or nats, `[N]`.
        labels: numbers of labels, `[N]`.
    """

    amounts: np.ndarray
    labels: np.ndarray

    def corpus(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Amount per label over the utterances `rows` `[..., N]`; the result is `[...]`."""
        return self.amounts[rows].sum(axis=-1) / np.maximum(self.labels[rows].sum(axis=-1), 1)


@dataclass(frozen=True)
class HeardShare:
    """How much of a text that a teacher reads comes from its audio.

    Attributes:
        own: errors or nats per label with the text's own audio.
        wrong: the same with wrong audio.
        chance: the same for a teacher that ignores the text.
        learnt: `1 - own / chance`, which is 0 for an untrained teacher and 1 for a perfect one.
        value: the heard share; None if the teacher is no better than chance.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
    """

    own: float
    wrong: float
    chance: float
    learnt: float
    value: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return 'not defined'
        return f'{round(100 * self.value)} % [{round(100 * self.low)}, {round(100 * self.high)}]'


def heard_share(own: Rates, wrong: Rates, chance: Rates, resamples: int = 2000, seed: int = 0) -> HeardShare:
    """`(wrong - own) / (chance - own)` of corpus rates, with its bootstrap interval.

    Args:
        own: amounts of each utterance with its own audio.
        wrong: amounts of the same utterances, in the same order, with wrong audio.
        chance: amounts of the same utterances for a teacher that ignores the text.
        resamples: number of draws of utterances with replacement; a draw takes the three amounts of an utterance together.
        seed: seed of the draws.

    Raises:
        ValueError: the three have different numbers of utterances.
    """
    if not len(own.labels) == len(wrong.labels) == len(chance.labels):
        counts = ', '.join(str(len(rates.labels)) for rates in (own, wrong, chance))
        raise ValueError(f"the rates of a heard share cover {counts} utterances: give those of the same utterances")
    rates = float(own.corpus()), float(wrong.corpus()), float(chance.corpus())
    learnt = 1.0 - rates[0] / rates[2] if rates[2] > 0 else 0.0
    if learnt <= 0:
        return HeardShare(*rates, learnt)
    drawn = []
    for index in bootstrap_draws(np.random.default_rng(seed), len(own.labels), resamples):
        a, b, c = own.corpus(index), wrong.corpus(index), chance.corpus(index)
        drawn.append(((b - a) / np.where(c > a, c - a, np.nan)))
    values = np.concatenate(drawn)
    # The share is not defined in a draw that is no better than chance: such a draw widens the interval on both sides.
    lows, highs = np.nan_to_num(values, nan=-np.inf), np.nan_to_num(values, nan=np.inf)
    low = float(np.quantile(lows, 0.025, method='lower'))
    high = float(np.quantile(highs, 0.975, method='higher'))
    value = (rates[1] - rates[0]) / (rates[2] - rates[0])
    return HeardShare(*rates, learnt, value, max(low, -10.0), min(high, 10.0))


@dataclass(frozen=True)
class Evidence:
    """The measures on which the verdict is based.

    Attributes:
        heard: heard shares by the names of :data:`HEARD_SHARES`.
        text_gain: share of the loss without text that the true text removes.
        wrong_text_gain: share of the loss with a wrong text that the true text removes.
        thresholds: thresholds of the verdict.
    """

    heard: dict[str, HeardShare]
    text_gain: float
    wrong_text_gain: float
    thresholds: Thresholds = field(default_factory=Thresholds)


def judge(evidence: Evidence) -> tuple[str, list[str]]:
    """Returns the verdict and its reasons, as sentences.

    A share for which the teacher has learnt too little (see :class:`Thresholds`) is no evidence. Copying is judged first: a
    teacher that emits its text whatever the audio says is useless, whatever else it does.
    """
    limits = evidence.thresholds
    learnt = {
        name: share for name, share in evidence.heard.items() if share.learnt >= limits.learnt and name in DECIDING
    }
    sentences = {name: _sentence(name, share) for name, share in learnt.items()}
    copied = [sentences[name] for name, share in learnt.items() if share.high < limits.copies]
    gains = (
        f"the true text removes {100 * evidence.text_gain:.0f} % of the loss without text and "
        f"{100 * evidence.wrong_text_gain:.0f} % of the loss with a wrong text"
    )
    if copied:
        return 'copies', [
            *copied,
            "raise oracle.label_corruption or let it read later (lower oracle.start_below or raise oracle.audio_only_steps), see the guide "
            "to oracle teachers",
        ]
    if 'emitted_other_audio' not in learnt:
        share = evidence.heard['emitted_other_audio']
        return 'inconclusive', [
            f"with the text and its own audio it makes {100 * share.own:.0f} % label errors, where a teacher that never saw the "
            f"text makes {100 * share.chance:.0f} %, so it emits neither what it reads nor what it hears",
            "train it longer",
        ]
    if max(evidence.text_gain, evidence.wrong_text_gain) < limits.text_gain:
        return 'ignores the text', [
            f"{gains} (limit {100 * limits.text_gain:.0f} %)",
            "train it longer, or lower oracle.label_corruption",
        ]
    unclear = [
        sentences[name] for name, one in learnt.items() if one.low < limits.copies and one.high > limits.listens
    ]
    if unclear:
        return 'inconclusive', [*unclear, "the interval allows both listening and copying: give more utterances"]
    short = [sentences[name] for name, share in learnt.items() if share.low <= limits.listens]
    if short:
        return 'partly', [
            *short,
            f"the whole interval of a teacher that listens lies above {100 * limits.listens:.0f} %",
        ]
    return 'listens', [*sentences.values(), gains]


def _sentence(name: str, share: HeardShare) -> str:
    """One measure, as a clause of a sentence."""
    if name.startswith('emitted'):
        unit, amounts = 'label errors', [f'{100 * rate:.1f} %' for rate in (share.own, share.wrong, share.chance)]
    else:
        unit, amounts = 'loss per label', [f'{rate:.2f}' for rate in (share.own, share.wrong, share.chance)]
    audio = 'silence' if name.endswith('silence') else "another utterance's audio"
    return (
        f"{unit} against the text that it reads: {amounts[0]} with the text's own audio, {amounts[1]} with {audio}, and "
        f"{amounts[2]} if it ignored the text; heard share {share}"
    )

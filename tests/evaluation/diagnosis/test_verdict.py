# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The rule of the verdict, on rates of known size; the first are those of a real teacher that the rule must call a copier."""

import numpy as np
import pytest

from nemo_oracle_kd.evaluation.diagnosis.verdict import VERDICTS, Evidence, HeardShare, Rates, heard_share, judge

pytestmark = pytest.mark.unit

LABELS = 25


def rates(per_label, utterances, seed, nats=False):
    """Amounts per utterance that scatter around a rate and sum up to it exactly (errors: to within one error)."""
    generator = np.random.default_rng(seed)
    labels = np.full(utterances, LABELS)
    amounts = generator.normal(per_label, 0.3 * per_label, utterances) * labels
    amounts *= per_label * labels.sum() / amounts.sum()
    if not nats:
        total = round(amounts.sum())
        amounts = np.floor(amounts)
        amounts[: int(total - amounts.sum()) % utterances] += 1
    return Rates(amounts, labels)


def evidence(
    own=0.05, other=0.85, silent=0.95, loss=0.1, other_loss=4.0, utterances=240, gains=(0.5, 0.5), chance=0.861
):
    """As a diagnosis collects it; chance of 86.1 % label errors and 2.78 nats is that of the real teacher below."""
    own_rates, own_loss = rates(own, utterances, 0), rates(loss, utterances, 1, nats=True)
    silence = Rates(np.full(utterances, LABELS), np.full(utterances, LABELS))
    heard = {
        'emitted_other_audio': heard_share(own_rates, rates(other, utterances, 2), rates(chance, utterances, 3)),
        'emitted_silence': heard_share(own_rates, rates(silent, utterances, 4), silence),
        'scored_other_audio': heard_share(
            own_loss, rates(other_loss, utterances, 5, nats=True), rates(2.78, utterances, 6, nats=True)
        ),
    }
    return Evidence(heard, *gains)


def test_a_teacher_that_copies_badly_copies():
    # An oracle teacher on read speech: 48.3 % label errors with its own audio, 48.7 % with another's, 63.6 % out of silence.
    measured = evidence(own=0.483, other=0.487, silent=0.636, loss=1.396, other_loss=1.427, gains=(0.49, 0.68))
    assert measured.heard['emitted_other_audio'].value == pytest.approx(0.004 / 0.378, abs=0.005)
    assert measured.heard['emitted_silence'].value == pytest.approx(0.296, abs=0.005)
    verdict, reasons = judge(measured)
    assert verdict == 'copies'
    assert '48.3 % with the text\'s own audio, 48.7 % with another utterance\'s audio' in reasons[0]
    assert '1.40 with the text\'s own audio, 1.43' in reasons[1] and 'oracle.label_corruption' in reasons[-1]


@pytest.mark.parametrize(
    'measures, verdict',
    [
        ({}, 'listens'),
        # The errors are many, but they come with the audio: what counts is what the wrong audio costs.
        ({'own': 0.4, 'other': 0.84, 'silent': 0.9, 'loss': 1.2, 'other_loss': 2.9}, 'listens'),
        ({'other': 0.1}, 'copies'),
        ({'silent': 0.1}, 'copies'),
        ({'other_loss': 0.3}, 'copies'),
        ({'silent': 0.1, 'gains': (0.0, 0.0)}, 'copies'),
        ({'other': 0.35}, 'partly'),
        ({'silent': 0.40}, 'partly'),
        ({'other_loss': 1.1}, 'partly'),
        ({'gains': (0.0, 0.0)}, 'ignores the text'),
        ({'gains': (0.0, 0.2)}, 'listens'),
        # It emits nothing, as at the beginning of a training, and knows nothing.
        (
            {'own': 1.0, 'other': 1.0, 'silent': 1.0, 'loss': 3.3, 'other_loss': 3.3, 'gains': (0.0, 0.0)},
            'inconclusive',
        ),
        # It emits nothing, but its loss already gives the text back to any audio.
        ({'own': 1.0, 'other': 1.0, 'silent': 1.0, 'loss': 1.4, 'other_loss': 1.45}, 'copies'),
    ],
)
def test_the_verdict_follows_what_the_wrong_audio_costs(measures, verdict):
    found, reasons = judge(evidence(**measures))
    assert found == verdict, reasons
    assert reasons and found in VERDICTS


def test_a_handful_of_utterances_that_disagree_decide_nothing():
    own, chance = Rates(np.array([1, 1, 1, 1]), np.full(4, 20)), Rates(np.full(4, 17), np.full(4, 20))
    share = heard_share(own, Rates(np.array([17, 17, 1, 1]), np.full(4, 20)), chance)
    assert share.value == pytest.approx(0.5) and share.low < 0.25 and share.high > 0.5
    verdict, reasons = judge(Evidence({'emitted_other_audio': share}, 0.5, 0.5))
    assert verdict == 'inconclusive' and 'more utterances' in reasons[-1]


def test_the_interval_holds_the_share_and_narrows_with_more_utterances():
    few, many = (evidence(other=0.5, utterances=n).heard['emitted_other_audio'] for n in (12, 480))
    assert few.low < few.value < few.high and many.low < many.value < many.high
    assert many.high - many.low < 0.4 * (few.high - few.low)
    assert evidence(other=0.5, utterances=12).heard['emitted_other_audio'] == few  # seeded


def test_the_interval_covers_the_true_share_about_as_often_as_it_says():
    generator, covered, draws = np.random.default_rng(0), 0, 150
    labels = np.full(60, LABELS)
    for _ in range(draws):
        own, wrong, chance = (Rates(generator.binomial(LABELS, p, 60), labels) for p in (0.2, 0.4, 0.8))
        share = heard_share(own, wrong, chance, resamples=400)
        covered += share.low <= (0.4 - 0.2) / (0.8 - 0.2) <= share.high
    assert 0.88 <= covered / draws <= 1.0


def test_a_teacher_at_chance_has_no_share():
    share = heard_share(*(Rates(np.array([18.0, 20.0]), np.array([20, 20])) for _ in range(3)))
    assert (share.value, share.learnt, str(share)) == (None, 0.0, 'not defined')
    assert share == HeardShare(0.95, 0.95, 0.95, 0.0)
    with pytest.raises(ValueError, match='same utterances'):
        heard_share(Rates(np.ones(2), np.ones(2)), Rates(np.ones(3), np.ones(3)), Rates(np.ones(2), np.ones(2)))

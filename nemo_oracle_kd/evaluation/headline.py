# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""States in one sentence how a system compares with its strongest control, and how certain the difference is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ['Headline', 'find_headline', 'p_text', 'signed']

#: outcome -> verb phrase of the sentence; `level` whatever the sign of the difference
WORDS = {'better': 'is better than', 'worse': 'is worse than', 'level': 'is level within the noise with'}


def p_text(p: float) -> str:
    """A p-value as text: three decimals, or ``< 0.001``."""
    return '< 0.001' if p < 0.001 else f'{p:.3f}'


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, with a minus sign (U+2212) as wide as the plus."""
    return f'{value:+.{digits}f}'.replace('-', '−')


@dataclass(frozen=True)
class Headline:
    """A system against its strongest control.

    Attributes:
        system: name of the system.
        control: the system with the lowest mean WER among those that it was compared with.
        outcome: `better` or `worse` if the interval of the difference lies on one side of zero and p is below 0.05,
            else `level`.
        pair: the paired comparison, as in `results.json`.
        wins: number of seeds in which the system has the lower WER.
        seeds: number of seeds.
    """

    system: str
    control: str
    outcome: str
    pair: Mapping[str, Any]
    wins: int
    seeds: int

    def sentence(self, labels: Mapping[str, str]) -> str:
        """The comparison as a sentence; `labels` maps systems to the names that it uses."""
        p = p_text(self.pair['p_permutation'])
        text = (
            f"“{labels.get(self.system, self.system)}” {WORDS[self.outcome]} its strongest control, "
            f"“{labels.get(self.control, self.control)}”: {signed(self.pair['difference'])} points of WER "
            f"(95 % interval {signed(self.pair['low'])} to {signed(self.pair['high'])}, p {p if p[0] == '<' else '= ' + p}), "
        )
        if self.seeds == 1:
            return (
                text
                + "one seed. The interval covers the choice of test utterances, but not the variation between trainings."
            )
        return text + f"mean of {self.seeds} seeds, ahead in {self.wins} of them."


def find_headline(results: Mapping[str, Any], system: str, excluded: Collection[str] = ()) -> Headline | None:
    """Finds the comparison of a system with its strongest control.

    Args:
        results: content of `results.json`.
        system: the system that the headline is about.
        excluded: systems that are not controls, such as one that reads the transcript.

    Returns:
        The headline, or `None` if the system was compared with no control.
    """
    systems = results['systems']
    pairs = {
        pair['baseline']: pair
        for pair in results.get('paired', ())
        if pair['system'] == system and pair['baseline'] not in excluded
    }
    if system not in systems or not pairs:
        return None
    control = min(pairs, key=lambda name: float(np.mean(systems[name]['wer'])))
    pair = pairs[control]
    sure = pair['p_permutation'] < 0.05  # if few utterances differ, the bootstrap interval is too narrow by itself
    outcome = 'better' if sure and pair['high'] < 0 else 'worse' if sure and pair['low'] > 0 else 'level'
    wins = sum(own < other for own, other in zip(systems[system]['wer'], systems[control]['wer']))
    return Headline(system, control, outcome, pair, wins, len(systems[system]['wer']))

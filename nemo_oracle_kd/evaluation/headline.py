# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The one sentence that a comparison allows: how a system stands against its strongest control, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ['Headline', 'find_headline', 'p_text', 'signed']

#: outcome -> what the sentence says; `level` also where the sign of the mean is a win
WORDS = {'better': 'is better than', 'worse': 'is worse than', 'level': 'is level within the noise with'}


def p_text(p: float) -> str:
    """``0.00012`` -> ``< 0.001``."""
    return '< 0.001' if p < 0.001 else f'{p:.3f}'


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, the minus in the length of a plus."""
    return f'{value:+.{digits}f}'.replace('-', '−')


@dataclass(frozen=True)
class Headline:
    """A system against its strongest control.

    Attributes:
        system: name of the system.
        control: of those that it was compared with the one of the lowest mean WER.
        outcome: `better` or `worse` if the interval of the difference lies on one side of zero and p is below 0.05,
            else `level`.
        pair: the paired comparison, as in `results.json`.
        wins: seeds in which the system has the lower WER.
        seeds: how many there are.
    """

    system: str
    control: str
    outcome: str
    pair: Mapping[str, Any]
    wins: int
    seeds: int

    def sentence(self, labels: Mapping[str, str]) -> str:
        """The comparison in words, with the names of `labels`."""
        p = p_text(self.pair['p_permutation'])
        text = (
            f"“{labels.get(self.system, self.system)}” {WORDS[self.outcome]} its strongest control, "
            f"“{labels.get(self.control, self.control)}”: {signed(self.pair['difference'])} points of WER "
            f"(95 % interval {signed(self.pair['low'])} to {signed(self.pair['high'])}, p {p if p[0] == '<' else '= ' + p}), "
        )
        if self.seeds == 1:
            return text + "one seed. The interval covers the choice of test utterances and not the luck of a training."
        return text + f"mean of {self.seeds} seeds, ahead in {self.wins} of them."


def find_headline(results: Mapping[str, Any], system: str, excluded: Collection[str] = ()) -> Headline | None:
    """The comparison of a system with its strongest control; `None` if it was compared with none.

    Args:
        results: content of `results.json`.
        system: whose headline it is.
        excluded: systems that are no control, such as one that reads the transcript.
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
    sure = pair['p_permutation'] < 0.05  # with few utterances that differ, an interval alone is too narrow
    outcome = 'better' if sure and pair['high'] < 0 else 'worse' if sure and pair['low'] > 0 else 'level'
    wins = sum(own < other for own, other in zip(systems[system]['wer'], systems[control]['wer']))
    return Headline(system, control, outcome, pair, wins, len(systems[system]['wer']))

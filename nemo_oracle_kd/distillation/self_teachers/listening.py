# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures during training whether an oracle branch listens.

The branch is given the texts of other utterances of the batch. Let `own` be its loss on the true text after reading it, `wrong` its
loss on another utterance's text after reading that, and `chance` the loss of the student, which has read nothing, on that other text.
The heard share

    (wrong - own) / (chance - own)

is about 1 for a branch that takes from the text no more than the audio supports, and 0 for one that copies. `nemo-oracle-kd
diagnose` computes the same share of losses; here it is computed on the current batch, without dropout and label corruption.
"""

from typing import Any

import torch
from nemo.utils import logging

from nemo_oracle_kd.bridge.audio_path import evaluating
from nemo_oracle_kd.bridge.signals import EncodedAudio, StudentStep
from nemo_oracle_kd.distillation.contradictions import texts_of_others
from nemo_oracle_kd.distillation.self_teachers.oracle_voices import OracleVoice

__all__ = ['ListeningWatch', 'heard_share']

#: heard share below which the branch copies
COPIES = 0.25
#: share by which the loss of a branch that has learned something lies below chance
LEARNT = 0.1
#: low shares in a row before a warning, because one batch holds few utterances
IN_A_ROW = 3


def heard_share(own: float, wrong: float, chance: float) -> float | None:
    """`(wrong - own) / (chance - own)` of losses in nats per label; `None` for a branch that is hardly better than chance."""
    if chance <= 0 or 1 - own / chance < LEARNT:
        return None
    return (wrong - own) / (chance - own)


class ListeningWatch:
    """Logs the heard share and warns when the branch stops listening."""

    def __init__(self) -> None:
        self._low = 0
        self._warned = False

    @torch.no_grad()
    def look(self, voice: OracleVoice, heard: EncodedAudio, step: StudentStep, metrics: dict[str, Any]) -> None:
        """Measures the heard share on the current batch.

        Args:
            voice: the label branch.
            heard: what the student heard.
            step: outputs of the student's head.
            metrics: gets `oracle_own`, `oracle_wrong`, `oracle_chance` in nats per label and `oracle_heard_share`.
        """
        own = step.transcripts
        others, differ = texts_of_others(own)
        with evaluating(voice.branch):
            said = {'own': voice.say(heard, own), 'wrong': voice.say(heard, others), 'chance': heard}
        texts_of = {'own': own, 'wrong': others, 'chance': others}
        scores = {name: (voice.losses(said[name], texts, step), texts) for name, texts in texts_of.items()}
        known = differ & torch.stack([losses.isfinite() for losses, _ in scores.values()]).all(0)
        if not bool(known.any()):
            return
        rates = {
            name: float(losses[known].sum() / texts.lengths[known].sum().clamp(min=1))
            for name, (losses, texts) in scores.items()
        }
        metrics.update({f'oracle_{name}': rate for name, rate in rates.items()})
        share = heard_share(**rates)
        if share is not None:
            metrics['oracle_heard_share'] = share
            self.judge(share)

    def judge(self, share: float) -> None:
        """Warns once when the share stays low, and again if it recovers and then stays low once more."""
        self._low = self._low + 1 if share < COPIES else 0
        if self._low == 0:
            self._warned = False
        if self._low >= IN_A_ROW and not self._warned:
            self._warned = True
            logging.warning(
                f"The oracle branch has stopped listening: given the text of another utterance, it follows that text (heard share "
                f"{share:.2f}, below {COPIES}), so what it teaches no longer comes from the audio. Raise "
                "teacher.label_corruption.masking_ratio, lower teacher.start_below, or widen teacher.fusion.alignment_prior."
            )

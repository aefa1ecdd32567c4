# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""How a label branch speaks: as frame posteriors of its own, or through the student's joint and prediction network.

A frame objective asks a :class:`FrameVoice`, and an objective on lattices a :class:`LatticeVoice`.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from torch import Tensor

from nemo_oracle_kd.bridge.hooks.encoder import EncoderWatch
from nemo_oracle_kd.bridge.joint import joint_dropout
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.nbest_scores import NBestScores, nbest_scores
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses
from nemo_oracle_kd.bridge.signals import EncodedAudio, StudentStep, Transcripts
from nemo_oracle_kd.modules.oracle_branch import OracleBranch, OracleBranchOptions, TransducerOracleBranch

__all__ = ['FrameVoice', 'LatticeVoice', 'OracleVoice']


class OracleVoice(ABC):
    """A label branch on one head of a student.

    Args:
        student: the student.
        options: sizes and options of the branch.

    Attributes:
        head: the student's head, `ctc` or `transducer`.
        branch: the module that is trained.
    """

    head: str
    branch_class: type

    def __init__(self, student: Any, options: OracleBranchOptions):
        self.student = student
        self.branch = self.branch_class(options)

    def arm(self) -> None:
        """Announces a training step."""
        return None

    def remove(self) -> None:
        """Leaves the student as it was."""
        return None

    @abstractmethod
    def heard(self, step: StudentStep) -> EncodedAudio:
        """Returns what the student heard in a training step: its encoder's output and, with a CTC head, its posteriors."""

    @abstractmethod
    def say(self, heard: EncodedAudio, texts: Transcripts) -> EncodedAudio:
        """Returns what the branch makes of that after reading texts, with gradient."""

    @abstractmethod
    def losses(self, said: EncodedAudio, texts: Transcripts, step: StudentStep) -> Tensor:
        """Returns minus the log-probability of texts, `[B]` nats, `inf` for a text without any alignment."""

    def own_losses(self, said: EncodedAudio, step: StudentStep) -> tuple[Tensor, EncodedAudio]:
        """Returns :meth:`losses` of the batch's own texts, and `said` with what they have made known of it."""
        return self.losses(said, step.transcripts, step), said


class FrameVoice(OracleVoice):
    """The branch has a CTC layer of its own. Its losses are computed by the student's CTC loss."""

    head = 'ctc'
    branch_class = OracleBranch

    def __init__(self, student: Any, options: OracleBranchOptions):
        super().__init__(student, options)
        self._watch = EncoderWatch(student)

    def arm(self) -> None:
        """Watches the encoder."""
        self._watch.arm()

    def remove(self) -> None:
        """Removes the watch."""
        self._watch.remove()

    def heard(self, step: StudentStep) -> EncodedAudio:
        """The encoder's output is seen by a hook, because the CTC loss does not get it."""
        return EncodedAudio(step.lengths, step.log_probs, self._watch.take())

    def say(self, heard: EncodedAudio, texts: Transcripts) -> EncodedAudio:
        """Frame posteriors."""
        log_probs = self.branch(heard.encoded, heard.lengths, texts.labels, texts.lengths, heard.log_probs)
        return EncodedAudio(heard.lengths, log_probs)

    def losses(self, said: EncodedAudio, texts: Transcripts, step: StudentStep) -> Tensor:
        """The student's own CTC loss."""
        return step.score_frames(said.log_probs, said.lengths, texts)


class LatticeVoice(OracleVoice):
    """The branch changes the encoder's output, and the student's prediction network and joint make a lattice of it.

    Its losses are full sums without the lattice in memory and without regularisers of NeMo's loss (FastEmit, sigma). They also
    train prediction network and joint, which then serve both encoder outputs.
    """

    head = 'transducer'
    branch_class = TransducerOracleBranch

    def __init__(self, student: Any, options: OracleBranchOptions):
        super().__init__(student, options)
        self._transducer = find_head(student, 'rnnt')

    def heard(self, step: StudentStep) -> EncodedAudio:
        """The joint's own inputs; the prediction network has read the true text, and without gradient."""
        predicted = None if step.predicted is None else step.predicted.detach()
        return EncodedAudio(step.lengths, encoded=step.encoded, predicted=predicted)

    def say(self, heard: EncodedAudio, texts: Transcripts) -> EncodedAudio:
        """Encoder output for the joint."""
        return replace(heard, encoded=self.branch(heard.encoded, heard.lengths, texts.labels, texts.lengths))

    def losses(self, said: EncodedAudio, texts: Transcripts, step: StudentStep) -> Tensor:
        """Full sums over the lattices of the texts."""
        return self._scores(said, texts, step).nll[:, 0]

    def own_losses(self, said: EncodedAudio, step: StudentStep) -> tuple[Tensor, EncodedAudio]:
        """The prediction network has read these texts already, and the loss evaluates the lattice that the objectives align.

        With a dropout in the joint the lattice of the loss is a random one, and not that of an alignment.
        """
        certain = joint_dropout(self.student) == 0.0
        scores = self._scores(said, step.transcripts, step, predicted=step.predicted, keep_arcs=certain)
        return scores.nll[:, 0], replace(said, arcs=scores.arcs)

    def _scores(self, said: EncodedAudio, texts: Transcripts, step: StudentStep, **options: Any) -> NBestScores:
        hypotheses = Hypotheses(texts.labels[:, None], texts.lengths[:, None])
        shown = replace(step, encoded=said.encoded, lengths=said.lengths)
        return nbest_scores(self.student, self._transducer, shown, hypotheses, **options)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The flags by which an objective describes itself. Checks before training ask these flags and never a name."""

__all__ = ['FAMILIES', 'ObjectiveTraits']

FAMILIES = ('frame', 'sequence', 'lattice')
"""What an objective can compare, see `ObjectiveTraits`."""


class ObjectiveTraits:
    """Base of every objective's loss class.

    Attributes:
        family: what the objective compares: `frame` posteriors of CTC heads, the scores of a whole `sequence`, or the
            `lattice` (or encoder) of transducers. The family decides with which arguments the loss is built and called.
        needs_same_vocabulary: it compares classes one by one, so both models need the same labels in the same order.
        needs_same_frame_rate: it compares frame by frame, so the frame rates must be equal or be resampled.
        needs_stored_scores: the teacher's part comes from `nemo-oracle-kd score`, not from a teacher that runs with the student.
        needs_nbest: it compares several texts per utterance.
        reads_score: it uses the teacher's log-probability of the row's text.
        needs_true_likelihood: that score must be the probability of a text that the teacher has not read.
        compares_own_loss: it uses the value of the student's own loss as `-log P(y|x)`.
        cached_signals: what may be kept of a teacher in a cache (`nemo-oracle-kd cache --signal`) so that it can learn from it.
        needs_teacher_lattice: it reads the teacher's joint, its encoder or both.
        reads_text: it uses the labels of the transcript, so rows without `text` cannot serve it.
    """

    family: str
    needs_same_vocabulary: bool = True
    needs_same_frame_rate: bool = True
    needs_stored_scores: bool = False
    needs_nbest: bool = False
    reads_score: bool = False
    needs_true_likelihood: bool = False
    compares_own_loss: bool = False
    cached_signals: tuple[str, ...] = ()
    needs_teacher_lattice: bool = False
    reads_text: bool = True

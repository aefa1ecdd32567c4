# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What an objective says of itself: every check before a training asks these flags and no name of an objective."""

__all__ = ['FAMILIES', 'ObjectiveTraits']

FAMILIES = ('frame', 'sequence', 'lattice')


class ObjectiveTraits:
    """Base of every objective's loss class.

    Attributes:
        family: what the objective compares: `frame` posteriors of CTC heads, the scores of a whole `sequence`, or the
            `lattice` (or encoder) of transducers. The family decides with which arguments the loss is made and called.
        needs_same_vocabulary: it compares classes one by one, so both models need the same labels in the same order.
        needs_same_frame_rate: it compares frame by frame, so the frame rates must agree or be brought together.
        needs_stored_scores: the teacher's part comes from `nemo-oracle-kd score`, not from a teacher beside the student.
        needs_nbest: it compares several texts per utterance.
        reads_score: it looks at the teacher's log-probability of the row's text.
        needs_true_likelihood: that score has to be the probability of a text that the teacher has not read.
        compares_own_loss: it takes the value of the student's own loss for `-log P(y|x)`.
        needs_teacher_lattice: it reads the teacher's joint, its encoder or both.
    """

    family: str
    needs_same_vocabulary: bool = True
    needs_same_frame_rate: bool = True
    needs_stored_scores: bool = False
    needs_nbest: bool = False
    reads_score: bool = False
    needs_true_likelihood: bool = False
    compares_own_loss: bool = False
    needs_teacher_lattice: bool = False

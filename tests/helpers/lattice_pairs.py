# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Lattice objectives, and pairs of joints whose emissions are known."""

import torch
from lattice_cases import BLANK, CLASSES, joint

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.functional import JointTensors
from nemo_oracle_kd.losses.lattice import LATTICE_OBJECTIVES
from nemo_oracle_kd.losses.transducer_side import TransducerSide
from nemo_oracle_kd.strict_config import build_or_raise

RNNT, TDT = F.RNNT(BLANK), F.TDT(CLASSES - 3, (0, 1))


def objective(name, transducer=RNNT, **options):
    config, loss = LATTICE_OBJECTIVES[name]
    return loss(build_or_raise(config, options, f'objectives.{name}'), transducer, name)


def sides(student, teacher, lengths):
    return [TransducerSide(of, of.encoder, lengths) for of in (student, teacher)]


def random_pair(seed=0, **options):
    student = joint(2 * seed, 4, gradient=True, **options)
    return student, joint(2 * seed + 1, 5, **options)


def emitter(times, targets, frames, gradient=False):
    """A joint that emits the labels of every utterance at these frames, and blanks elsewhere."""
    encoder = torch.zeros(len(times), frames, CLASSES, dtype=torch.float64)
    encoder[..., BLANK] = 4.0
    for b, of_one in enumerate(times):
        for t, label in zip(of_one, targets[b].tolist()):
            encoder[b, t, label] = 8.0
    prediction = torch.zeros(len(times), targets.shape[1] + 1, CLASSES, dtype=torch.float64)
    weight = torch.eye(CLASSES, dtype=torch.float64)
    return JointTensors(*(x.requires_grad_(gradient) for x in (encoder, prediction, weight)))


TIMES, TARGETS, LONG = [[1, 3, 5], [0, 2, 6]], torch.tensor([[0, 1, 2], [3, 1, 3]]), 12
EMITTED, SPOKEN = torch.tensor([LONG, LONG - 1]), torch.tensor([3, 3])


def late_pair(delay):
    """A student that does what its teacher does, `delay` frames later."""
    teacher = emitter(TIMES, TARGETS, LONG)
    return emitter([[t + delay for t in of_one] for of_one in TIMES], TARGETS, LONG, gradient=True), teacher

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Makes one side of a comparison of transducers from the outputs of a NeMo model."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from torch import Tensor

from nemo_oracle_kd.bridge.joint import joint_tensors
from nemo_oracle_kd.losses.transducer_side import TransducerSide

__all__ = ['model_side']


def model_side(
    model: Any,
    encoded: Tensor,
    predicted: Tensor | None,
    lengths: Tensor,
    reads: Collection[str],
    dropout: bool = True,
    arcs: tuple[Tensor, Tensor] | None = None,
) -> TransducerSide:
    """The outputs of a transducer as the lattice objectives read them.

    Args:
        model: the transducer.
        encoded: `[B, D, T]` output of its encoder.
        predicted: `[B, D', U+1]` output of its prediction network, or `None`.
        lengths: `[B]` valid frames.
        reads: what the objectives read: `lattice`, `joint`, `encoder`.
        dropout: whether the joint drops hidden units as in training.
        arcs: see `JointTensors.arcs`.
    """
    joint = joint_tensors(model, encoded, predicted, dropout) if set(reads) != {'encoder'} else None
    if joint is not None and arcs is not None:
        joint = replace(joint, arcs=arcs)
    return TransducerSide(joint, encoded.transpose(1, 2), lengths)

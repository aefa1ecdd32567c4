# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the hooks of all heads have in common: a module in the place of NeMo's loss, armed for one loss per training step."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from nemo_oracle_kd.bridge.signals import StudentStep

__all__ = ['StepLoss', 'StepLossHook']

#: what a head shows -> the loss that this head contributes to the step
StepLoss = Callable[[StudentStep], torch.Tensor]


class StepLossHook(nn.Module):
    """NeMo's loss, until :meth:`arm` announces a training step.

    A plain `nn.Module`: a NeMo `Loss` would assign `reduction` in its constructor. Attributes are those of NeMo's loss, and it
    has neither parameters nor state-dict keys of its own.

    Args:
        inner: NeMo's loss.
        step_loss: makes the loss of the step out of what the head shows.
    """

    def __init__(self, inner: nn.Module, step_loss: StepLoss):
        super().__init__()
        self.inner = inner
        self._step_loss = step_loss
        self.armed = False

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('inner'), name)

    def __deepcopy__(self, memo):
        return copy.deepcopy(self.inner, memo)  # a copy of the student (weight averaging, say) does not distil

    def arm(self) -> None:
        """Announces a training step: the next loss with gradients is the step's."""
        self.armed = True

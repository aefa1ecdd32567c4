# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The base of all hooks: a module that replaces NeMo's loss and is armed for one loss per training step."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from nemo_oracle_kd.bridge.signals import StudentStep

__all__ = ['StepLoss', 'StepLossHook', 'countable']

#: outputs of a head -> the loss that this head contributes to the step
StepLoss = Callable[[StudentStep], torch.Tensor]


class StepLossHook(nn.Module):
    """Behaves as NeMo's loss, until :meth:`arm` announces a training step.

    It is a plain `nn.Module`, because a NeMo `Loss` would assign `reduction` in its constructor. Its attributes are those of
    NeMo's loss, and it adds neither parameters nor state-dict keys.

    Args:
        inner: NeMo's loss.
        step_loss: computes the loss of the step from the outputs of the head.
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


def countable(target_lengths: torch.Tensor) -> torch.Tensor:
    """Numbers of labels by which a batch is averaged, `[B]`; one each where no utterance has any, which NeMo would divide by."""
    return torch.where(target_lengths.sum() > 0, target_lengths, torch.ones_like(target_lengths))

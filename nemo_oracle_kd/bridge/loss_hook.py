# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The one place where distillation enters a stock NeMo training step: around the model's own CTC loss.

NeMo's CTC models call `self.loss(log_probs=, targets=, input_lengths=, target_lengths=)` once per step for the final layer
(and again per intermediate layer with InterCTC). Wrapping that module works in every recipe without touching the model's
class, adds no parameter and no state-dict key, and is undone after the fit.
"""

import copy
from typing import Any, Callable, Optional

import torch
from torch import nn

from nemo_oracle_kd.bridge.signals import FramePosteriors, Transcripts

__all__ = ['DistilledCTCLoss', 'attach_ctc_loss', 'detach_ctc_loss', 'reduce_like']

#: `(label_loss, student posteriors, transcripts, reduce) -> loss of the step`
StepLoss = Callable[[torch.Tensor, FramePosteriors, Transcripts, Callable], torch.Tensor]


def reduce_like(loss: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """NeMo's own reduction, as `(losses [B], target_lengths [B]) -> scalar`.

    Raises:
        ValueError: the loss does not reduce.
    """
    reduction = getattr(loss, 'config_reduction', 'mean_batch')
    if reduction in ('mean_batch', 'mean_volume'):
        return loss.reduce
    if reduction == 'sum':
        return lambda losses, target_lengths: losses.sum()
    if reduction == 'mean':  # torch's mean divides each utterance by its number of labels
        return lambda losses, target_lengths: (losses / target_lengths.clamp(min=1)).mean()
    raise ValueError(
        f"model.ctc_reduction={reduction!r} gives no scalar to train on: choose mean_batch, mean_volume, mean or sum"
    )


class DistilledCTCLoss(nn.Module):
    """NeMo's CTC loss plus distillation, for the one call per training step that :meth:`arm` announced.

    Validation, InterCTC's further calls and everything outside training get NeMo's loss unchanged. A plain `nn.Module`: a
    NeMo `Loss` would assign `reduction` in its constructor. Attributes of NeMo's loss are forwarded.
    """

    def __init__(self, inner: nn.Module, step_loss: StepLoss):
        super().__init__()
        self.inner = inner
        self.reduce = reduce_like(inner)
        self._step_loss: Optional[StepLoss] = step_loss
        self._armed = False

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('inner'), name)

    def __deepcopy__(self, memo):
        return copy.deepcopy(self.inner, memo)  # a copy of the student (weight averaging, say) does not distil

    def arm(self) -> None:
        """Announces a training step: the next call with gradients is the final layer's."""
        self._armed = True

    def forward(self, log_probs, targets, input_lengths, target_lengths):
        """As NeMo's `CTCLoss`, returning the loss of the step."""
        label_loss = self.inner(
            log_probs=log_probs, targets=targets, input_lengths=input_lengths, target_lengths=target_lengths
        )
        if not self._armed or not torch.is_grad_enabled():
            return label_loss
        self._armed = False
        student = FramePosteriors(log_probs, input_lengths.long())
        return self._step_loss(label_loss, student, Transcripts(targets.long(), target_lengths.long()), self.reduce)


def attach_ctc_loss(model: Any, step_loss: StepLoss) -> DistilledCTCLoss:
    """Wraps the CTC loss of a model.

    Raises:
        ValueError: the model already distils, or its loss is a transducer's.
    """
    if hasattr(model, 'joint'):
        raise ValueError(
            f"{type(model).__name__} is trained with a transducer loss, and a distillation of frame posteriors enters the CTC "
            "loss: distil into a CTC model (a hybrid model can be the teacher)"
        )
    if isinstance(model.loss, DistilledCTCLoss):
        raise ValueError(
            "this model already has a distillation attached: use either the callback or model.distillation, and only one"
        )
    hook = DistilledCTCLoss(model.loss, step_loss)
    model.loss = hook
    return hook


def detach_ctc_loss(model: Any) -> None:
    """Gives the model its own loss back; harmless when nothing is attached."""
    if isinstance(getattr(model, 'loss', None), DistilledCTCLoss):
        model.loss = model.loss.inner

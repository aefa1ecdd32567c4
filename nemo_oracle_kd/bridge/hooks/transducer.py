# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The hook for transducers: it wraps `model.loss`, with or without the fused joint.

Without the fused joint, NeMo calls `self.loss(...)` once with the whole batch. With it, the joint calls its own reference to
the loss once per sub-batch, with `reduction` set to None, and then `loss.reduce([losses], [lengths])` with all of them. At
this call the loss of the step is computed, at no extra cost. A forward-pre-hook records the inputs of the joint.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nemo_oracle_kd.bridge.hooks.step import StepLoss, StepLossHook, countable
from nemo_oracle_kd.bridge.signals import StudentStep, Transcripts

__all__ = ['DistilledTransducerLoss', 'loss_modifiers']

#: options of transducer kernels that change the gradient (the first two) or the meaning of the value
MODIFIERS = ('fastemit_lambda', 'clamp', 'sigma', 'omega')


def loss_modifiers(model: Any) -> dict[str, float]:
    """Options of the model's transducer loss by which it differs from `-log P(y|x)` and its gradient.

    Returns:
        name -> value of the options that are switched on.
    """
    kernel = getattr(getattr(model, 'loss', None), '_loss', None)
    found: dict[str, float] = {}
    for module in kernel.modules() if isinstance(kernel, nn.Module) else ():
        for name in MODIFIERS:
            value = getattr(module, name, None)
            if isinstance(value, (int, float)) and value > 0:
                found[name] = float(value)
    return found


class _JointWatch:
    """Records the inputs of the joint in an announced step. A copy records nothing."""

    def __init__(self) -> None:
        self.armed = False
        self.seen: dict[str, Any] | None = None

    def __deepcopy__(self, memo):
        return _JointWatch()

    def __call__(self, joint: nn.Module, arguments: tuple, named: dict[str, Any]) -> None:
        if self.armed and torch.is_grad_enabled():
            self.armed = False
            self.seen = named

    def take(self) -> dict[str, Any]:
        """Returns the recorded inputs and drops them, because they hold tensors of the step.

        Raises:
            RuntimeError: if nothing was recorded.
        """
        seen, self.seen = self.seen, None
        if seen is None:
            raise RuntimeError(
                "the transducer's loss was called before its joint, so this model class does not train as NeMo's do: use a stock "
                "RNN-T, TDT or hybrid model"
            )
        return seen


class DistilledTransducerLoss(StepLossHook):
    """NeMo's `RNNTLoss` plus distillation, for the one loss per training step that :meth:`arm` announced.

    Validation and everything outside training get NeMo's loss unchanged. The fused joint sets `reduction`, and the sampled
    joint uses `_loss`.

    Raises:
        ValueError: if the loss has no reduction.
    """

    def __init__(self, inner: nn.Module, step_loss: StepLoss):
        if inner.reduction is None:
            raise ValueError(
                "`model.rnnt_reduction` is null, which gives no scalar to train on: choose mean_batch, mean_volume, mean or sum"
            )
        super().__init__(inner, step_loss)
        self._watch = _JointWatch()
        self._handle: Any = None
        self._fused = False

    @property
    def reduction(self) -> str | None:
        """The reduction of NeMo's loss, which the fused joint switches off and on again."""
        return self.inner.reduction

    @reduction.setter
    def reduction(self, reduction: str | None) -> None:
        self.inner.reduction = reduction

    def watch(self, joint: Any) -> None:
        """Hooks into the joint and replaces its own reference to the loss."""
        self._handle = joint.register_forward_pre_hook(self._watch, with_kwargs=True)
        self._fused = bool(joint.fuse_loss_wer)
        if self._fused:
            joint.set_loss(self)

    def unwatch(self, joint: Any) -> None:
        """Restores the joint."""
        self._handle.remove()
        if self._fused and joint.loss is self:
            joint.set_loss(self.inner)

    def arm(self) -> None:
        """Announces a training step."""
        super().arm()
        self._watch.armed = True
        self._watch.seen = None

    def forward(self, log_probs, targets, input_lengths, target_lengths):
        """Computes the loss of the step. In a call by the fused joint it returns the losses of a sub-batch, as NeMo does."""
        arguments = {
            'log_probs': log_probs,
            'targets': targets,
            'input_lengths': input_lengths,
            'target_lengths': target_lengths,
        }
        if self._fused or not self.armed or not torch.is_grad_enabled():
            return self.inner(**arguments)
        kept, self.inner.reduction = self.inner.reduction, None
        try:
            losses = self.inner(**arguments)
        finally:
            self.inner.reduction = kept
        return self._step(losses, Transcripts(targets.long(), target_lengths.long()), input_lengths.long())

    def reduce(self, losses: Tensor | list[Tensor], target_lengths: Tensor | list[Tensor]) -> Tensor:
        """Computes the loss of the step from the losses of all sub-batches; otherwise reduces as NeMo's `RNNTLoss`."""
        if not isinstance(losses, list) or not self.armed or not torch.is_grad_enabled():
            return self.inner.reduce(losses, target_lengths)
        seen = self._watch.seen or {}
        labels, lengths, frames = (seen.get(key) for key in ('transcripts', 'transcript_lengths', 'encoder_lengths'))
        if labels is None:
            self._watch.take()
        return self._step(torch.cat(losses, 0), Transcripts(labels.long(), lengths.long()), frames.long())

    def _step(self, losses: Tensor, transcripts: Transcripts, frames: Tensor) -> Tensor:
        self.armed = False
        seen = self._watch.take()
        step = StudentStep(
            'transducer',
            losses.view(-1),  # drops the neural type of a reduced loss
            transcripts,
            frames,
            self._reduce,
            encoded=seen['encoder_outputs'],
            predicted=seen['decoder_outputs'],
        )
        return self._step_loss(step)

    def _reduce(self, losses: Tensor, target_lengths: Tensor) -> Tensor:
        # NeMo's 'mean' divides by the number of labels, which may be 0
        counts = target_lengths.clamp(min=1) if self.reduction == 'mean' else countable(target_lengths)
        return self.inner.reduce(losses, counts)

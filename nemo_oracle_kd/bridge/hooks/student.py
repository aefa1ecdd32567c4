# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Adds distillation to a stock NeMo training step by wrapping the model's own losses: here the CTC loss, and all losses together.

NeMo's CTC models call `self.loss(log_probs=, targets=, input_lengths=, target_lengths=)` once per step for the final layer
(and again per intermediate layer with InterCTC); hybrid models do the same with `self.ctc_loss`. Wrapping that module works
in every recipe without touching the model's class, adds no parameter and no state-dict key, and is undone after the fit.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nemo_oracle_kd.bridge.hooks.step import StepLoss, StepLossHook, countable
from nemo_oracle_kd.bridge.hooks.transducer import DistilledTransducerLoss
from nemo_oracle_kd.bridge.model import has_ctc_head
from nemo_oracle_kd.bridge.signals import StudentStep, Transcripts

__all__ = ['DistilledCTCLoss', 'LossHooks', 'ctc_losses', 'ctc_reduction', 'student_heads']


def ctc_reduction(loss: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """NeMo's own reduction, as `(losses [B], target_lengths [B]) -> scalar`.

    Raises:
        ValueError: the loss does not reduce.
    """
    reduction = getattr(loss, 'config_reduction', 'mean_batch')
    if reduction == 'mean_batch':
        return loss.reduce
    if reduction == 'mean_volume':
        return lambda losses, target_lengths: loss.reduce(losses, countable(target_lengths))
    if reduction == 'sum':
        return lambda losses, target_lengths: losses.sum()
    if reduction == 'mean':  # torch's mean divides each utterance by its number of labels
        return lambda losses, target_lengths: (losses / target_lengths.clamp(min=1)).mean()
    raise ValueError(
        f"model.ctc_reduction={reduction!r} gives no scalar to train on: choose mean_batch, mean_volume, mean or sum"
    )


class DistilledCTCLoss(StepLossHook):
    """NeMo's CTC loss plus distillation, for the one call per training step that :meth:`arm` announced.

    Validation, InterCTC's further calls and everything outside training get NeMo's loss unchanged.
    """

    def __init__(self, inner: nn.Module, step_loss: StepLoss):
        super().__init__(inner, step_loss)
        self.reduce = ctc_reduction(inner)

    def forward(self, log_probs, targets, input_lengths, target_lengths):
        """Takes the arguments of NeMo's `CTCLoss`, and returns the loss of the step."""
        arguments = {
            'log_probs': log_probs,
            'targets': targets,
            'input_lengths': input_lengths,
            'target_lengths': target_lengths,
        }
        if not self.armed or not torch.is_grad_enabled():
            return self.inner(**arguments)
        self.armed = False
        transcripts = Transcripts(targets.long(), target_lengths.long())
        step = StudentStep(
            'ctc',
            self._per_utterance(log_probs, input_lengths, transcripts),
            transcripts,
            input_lengths.long(),
            self.reduce,
            log_probs=log_probs,
            score_frames=self._per_utterance,
        )
        return self._step_loss(step)

    def _per_utterance(self, log_probs: torch.Tensor, lengths: torch.Tensor, transcripts: Transcripts) -> torch.Tensor:
        return ctc_losses(self.inner, log_probs, lengths, transcripts)


def ctc_losses(loss: Any, log_probs: torch.Tensor, lengths: torch.Tensor, transcripts: Transcripts) -> torch.Tensor:
    """Losses per utterance by the kernel of NeMo's CTC loss, without its reduction.

    Args:
        loss: NeMo's `CTCLoss`.
        log_probs: `[B, T, V + 1]`, natural log.
        lengths: valid frames, `[B]`.
        transcripts: the labels.

    Returns:
        `[B]` nats; `inf` where the labels need more frames than there are.
    """
    kept = loss.reduction, loss._apply_reduction
    loss.reduction, loss._apply_reduction = 'none', False
    try:
        losses = loss(
            log_probs=log_probs,
            targets=transcripts.labels,
            input_lengths=lengths,
            target_lengths=transcripts.lengths,
        )
        return _mark_impossible(losses, transcripts, lengths)
    finally:
        loss.reduction, loss._apply_reduction = kept


def _mark_impossible(losses: torch.Tensor, transcripts: Transcripts, frames: torch.Tensor) -> torch.Tensor:
    """Sets `inf` for labels that need more frames than there are; `zero_infinity` gave 0, which would mean certainty."""
    labels, lengths = transcripts.labels, transcripts.lengths.to(losses.device)
    again = labels[:, 1:] == labels[:, :-1]  # a label twice in a row needs a blank in between
    inside = torch.arange(again.shape[1], device=labels.device) + 1 < lengths.to(labels.device)[:, None]
    needed = lengths + (again & inside).sum(1).to(losses.device)
    return losses.masked_fill(needed > frames.to(losses.device), torch.inf)


def student_heads(model: Any) -> list[str]:
    """The heads that a model is trained with: `ctc`, `transducer` or both."""
    if not hasattr(model, 'joint'):
        return ['ctc'] if has_ctc_head(model) else []
    trained = has_ctc_head(model) and float(getattr(model, 'ctc_loss_weight', 0.0)) > 0
    return ['transducer', 'ctc'] if trained else ['transducer']


class LossHooks:
    """The hooks of one student: one per head that it is trained with.

    Args:
        model: a NeMo CTC, RNN-T, TDT, multi-blank or hybrid model.
        step_loss: called once per head and training step.

    Raises:
        ValueError: the model already distils, has neither head, or has a loss without reduction.
    """

    def __init__(self, model: Any, step_loss: StepLoss):
        self.heads = student_heads(model)
        if not self.heads:
            raise ValueError(
                f"{type(model).__name__} has neither a CTC nor a transducer head: distil into a CTC, RNN-T, TDT or hybrid "
                "model"
            )
        #: attribute of the model -> hook
        self._hooks: dict = {}
        for head in self.heads:
            name = 'ctc_loss' if head == 'ctc' and hasattr(model, 'joint') else 'loss'
            inner = getattr(model, name)
            if isinstance(inner, StepLossHook):
                raise ValueError(
                    "this model already has a distillation attached: use the callback or model.distillation, but "
                    "not both"
                )
            hook = DistilledCTCLoss if head == 'ctc' else DistilledTransducerLoss
            self._hooks[name] = hook(inner, step_loss)
        for name, hook in self._hooks.items():
            setattr(model, name, hook)
            if isinstance(hook, DistilledTransducerLoss):
                hook.watch(model.joint)

    def arm(self) -> None:
        """Announces a training step."""
        for hook in self._hooks.values():
            hook.arm()

    @property
    def pending(self) -> bool:
        """Whether a loss that was announced has not been called."""
        return any(hook.armed for hook in self._hooks.values())

    def detach(self, model: Any) -> None:
        """Restores the model's own losses."""
        for name, hook in self._hooks.items():
            if isinstance(hook, DistilledTransducerLoss):
                hook.unwatch(model.joint)
            if getattr(model, name, None) is hook:
                setattr(model, name, hook.inner)
        self._hooks = {}

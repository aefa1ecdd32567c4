# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The transducer losses as modules with the interface that NeMo expects behind `model.loss.loss_name`.

NeMo's `RNNTLoss` holds such a module as `_loss`, sets its `reduction`, and calls it as
`loss(acts=, labels=, act_lens=, label_lens=)`. `SampledRNNTJoint` also changes its `blank` from call to call. The options
and their meaning are those of NeMo's Numba losses, so a configuration trains the same model with either.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nemo_oracle_kd.functional.transducer.full_sum import multiblank_full_sum, rnnt_full_sum, tdt_full_sum
from nemo_oracle_kd.functional.transducer.kinds import TDT, MultiBlank

__all__ = ['RNNTFullSumLoss', 'MultiblankFullSumLoss', 'TDTFullSumLoss', 'NumbaOrFullSumLoss', 'make_oracle_kd_rnnt']

#: values of the option `reduction`, with NeMo's meaning
REDUCTIONS = (None, 'none', 'mean_batch', 'mean', 'mean_volume', 'sum')


class _TransducerLoss(nn.Module, ABC):
    """Base of the three losses: FastEmit, the clamp and the reduction.

    Raises:
        ValueError: if an option is unknown or out of range.
    """

    def __init__(self, blank: int, fastemit_lambda: float, clamp: float, reduction: str | None) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(f"`reduction` is {reduction!r}: choose one of {', '.join(map(str, REDUCTIONS))}")
        if fastemit_lambda < 0:
            raise ValueError(f"`fastemit_lambda` must be at least 0, not {fastemit_lambda}: 0 switches FastEmit off")
        self.blank = blank
        self.fastemit_lambda = float(fastemit_lambda)
        self.clamp = float(clamp) if clamp > 0 else 0.0
        self.reduction = reduction

    def forward(self, acts: Tensor, labels: Tensor, act_lens: Tensor, label_lens: Tensor) -> Tensor:
        """Negative log-likelihoods, reduced as `reduction` says.

        With FastEmit the returned values are multiplied by 1 + lambda, as in NeMo's losses.

        Args:
            acts: `[B, T, U+1, V]` output of the joint, normalised or not; positions beyond the width of
                `labels` are ignored.
            labels: `[B, U]` labels without blanks.
            act_lens: `[B]` valid frames.
            label_lens: `[B]` valid labels.

        Returns:
            `[B]` in nats for reduction None; otherwise a scalar. An utterance without any alignment gives `inf`, with
            gradient zero.
        """
        acts = acts[:, :, : labels.shape[1] + 1]
        nll = self._full_sum(acts, labels, act_lens, label_lens)
        if self.fastemit_lambda:
            nll = nll + self.fastemit_lambda * nll.detach()
        return self._reduce(nll, label_lens.to(nll.device))

    @abstractmethod
    def _full_sum(self, acts: Tensor, labels: Tensor, act_lens: Tensor, label_lens: Tensor) -> Tensor:
        """Negative log-likelihoods `[B]`, with the gradient of FastEmit and the clamp."""

    def _clamped(self, logits: Tensor) -> Tensor:
        return _ClampGradient.apply(logits, self.clamp) if self.clamp > 0 else logits

    def _reduce(self, nll: Tensor, label_lens: Tensor) -> Tensor:
        if self.reduction == 'mean_batch':
            return nll.mean()
        if self.reduction == 'mean':
            return (nll / label_lens).mean()
        if self.reduction == 'mean_volume':
            return nll.sum() / label_lens.sum()
        if self.reduction == 'sum':
            return nll.sum()
        return nll


class RNNTFullSumLoss(_TransducerLoss):
    """RNN-T loss (Graves 2012), see `rnnt_full_sum`. In NeMo: `model.loss.loss_name: oracle_kd_rnnt`.

    Args:
        blank: id of the blank.
        fastemit_lambda: weight of FastEmit (arXiv 2010.11148), 0 for none.
        clamp: the gradient of `acts` is limited to [-clamp, clamp]; 0 or less for no limit.
        reduction: None or 'none', 'mean_batch', 'mean', 'mean_volume' or 'sum', with NeMo's meaning.
    """

    def __init__(
        self, blank: int, fastemit_lambda: float = 0.0, clamp: float = -1.0, reduction: str | None = None
    ) -> None:
        super().__init__(blank, fastemit_lambda, clamp, reduction)

    def _full_sum(self, acts: Tensor, labels: Tensor, act_lens: Tensor, label_lens: Tensor) -> Tensor:
        return rnnt_full_sum(self._clamped(acts), labels, act_lens, label_lens, self.blank, self.fastemit_lambda)


class MultiblankFullSumLoss(_TransducerLoss):
    """Multi-blank transducer loss (arXiv 2211.03541), see `multiblank_full_sum`.

    Args:
        blank: id of the standard blank; the i-th big blank is `blank - 1 - i`.
        big_blank_durations: frames read by the big blanks.
        fastemit_lambda: as in `RNNTFullSumLoss`.
        clamp: as in `RNNTFullSumLoss`.
        sigma: logit under-normalisation.
        reduction: as in `RNNTFullSumLoss`.
    """

    def __init__(
        self,
        blank: int,
        big_blank_durations: Sequence[int] | None = None,
        fastemit_lambda: float = 0.0,
        clamp: float = -1.0,
        sigma: float = 0.0,
        reduction: str | None = None,
    ) -> None:
        super().__init__(blank, fastemit_lambda, clamp, reduction)
        self.big_blank_durations = [int(duration) for duration in big_blank_durations or []]
        # Constructed here to refuse impossible durations now rather than in the first step.
        MultiBlank(blank, tuple(self.big_blank_durations))
        self.sigma = float(sigma)

    def _full_sum(self, acts: Tensor, labels: Tensor, act_lens: Tensor, label_lens: Tensor) -> Tensor:
        return multiblank_full_sum(
            self._clamped(acts),
            labels,
            act_lens,
            label_lens,
            self.blank,
            self.big_blank_durations,
            self.sigma,
            self.fastemit_lambda,
        )


class TDTFullSumLoss(_TransducerLoss):
    """Token-and-duration transducer loss (arXiv 2304.06795), see `tdt_full_sum`.

    `acts [B, T, U+1, V+D]` hold the logits of labels and blank first and those of the D durations last.

    Args:
        blank: id of the blank.
        durations: the durations in frames.
        fastemit_lambda: as in `RNNTFullSumLoss`.
        clamp: limits the gradient of the label and blank logits but not that of the duration logits, as NeMo does.
        sigma: logit under-normalisation.
        omega: probability with which a batch is scored by the plain RNN-T loss, without durations and sigma (section
            3.5 of the paper). Every call draws from Python's `random`, as NeMo does.
        reduction: as in `RNNTFullSumLoss`.
    """

    def __init__(
        self,
        blank: int,
        durations: Sequence[int] | None = None,
        fastemit_lambda: float = 0.0,
        clamp: float = -1.0,
        sigma: float = 0.0,
        omega: float = 0.0,
        reduction: str | None = None,
    ) -> None:
        super().__init__(blank, fastemit_lambda, clamp, reduction)
        self.durations = [int(duration) for duration in durations or []]
        # Constructed here to refuse impossible durations now rather than in the first step.
        TDT(blank, tuple(self.durations))
        if not 0.0 <= omega <= 1.0:
            raise ValueError(f"`omega` must be a probability between 0 and 1, not {omega}")
        self.sigma = float(sigma)
        self.omega = float(omega)

    def _full_sum(self, acts: Tensor, labels: Tensor, act_lens: Tensor, label_lens: Tensor) -> Tensor:
        count = len(self.durations)
        logits, duration_logits = acts.split([acts.shape[-1] - count, count], -1)
        logits = self._clamped(logits)
        if self.omega > 0 and random.random() < self.omega:
            return rnnt_full_sum(logits, labels, act_lens, label_lens, self.blank, self.fastemit_lambda)
        return tdt_full_sum(
            (logits, duration_logits),
            labels,
            act_lens,
            label_lens,
            self.blank,
            self.durations,
            self.sigma,
            self.fastemit_lambda,
        )


def make_oracle_kd_rnnt(blank: int, fastemit_lambda: float = 0.0, clamp: float = -1.0) -> RNNTFullSumLoss:
    """Makes the loss of `model.loss.loss_name: oracle_kd_rnnt` from the options `model.loss.oracle_kd_rnnt_kwargs`.

    Arguments and errors as in `RNNTFullSumLoss`.
    """
    return RNNTFullSumLoss(blank, fastemit_lambda, clamp)


class NumbaOrFullSumLoss(nn.Module):
    """NeMo's kernel on CUDA and our full sum elsewhere, so that `tdt` and `multiblank_rnnt` work on every device.

    Args:
        numba_loss: NeMo's `TDTLossNumba` or `MultiblankRNNTLossNumba`, whose options also apply to our loss.

    Raises:
        ValueError: if it is any other loss.
    """

    def __init__(self, numba_loss: nn.Module) -> None:
        super().__init__()
        blank, fastemit_lambda, clamp = numba_loss.blank, numba_loss.fastemit_lambda, numba_loss.clamp
        full_sum: _TransducerLoss
        if hasattr(numba_loss, 'big_blank_durations'):
            durations = numba_loss.big_blank_durations
            full_sum = MultiblankFullSumLoss(blank, durations, fastemit_lambda, clamp, numba_loss.sigma)
        elif hasattr(numba_loss, 'durations'):
            durations = numba_loss.durations
            full_sum = TDTFullSumLoss(blank, durations, fastemit_lambda, clamp, numba_loss.sigma, numba_loss.omega)
        else:
            raise ValueError(f"{type(numba_loss).__name__} works on every device: use it as it is")
        self.numba = numba_loss
        self.full_sum = full_sum

    @property
    def blank(self) -> int:
        """Id of the blank."""
        return self.full_sum.blank

    @blank.setter
    def blank(self, blank: int) -> None:
        self.numba.blank = self.full_sum.blank = blank

    @property
    def reduction(self) -> str | None:
        """The reduction of both losses. NeMo sets it to None around every call."""
        return self.full_sum.reduction

    @reduction.setter
    def reduction(self, reduction: str | None) -> None:
        self.numba.reduction = self.full_sum.reduction = reduction

    def forward(self, acts: Tensor, labels: Tensor, act_lens: Tensor, label_lens: Tensor) -> Tensor:
        """Negative log-likelihoods, as `TDTFullSumLoss` and `MultiblankFullSumLoss` return them."""
        kernel = self.numba if acts.is_cuda else self.full_sum
        return kernel(acts=acts, labels=labels, act_lens=act_lens, label_lens=label_lens)


class _ClampGradient(torch.autograd.Function):
    """Identity whose gradient is limited to [-clamp, clamp]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, clamp: float) -> Tensor:
        ctx.clamp = clamp
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor):
        return grad_output.clamp(-ctx.clamp, ctx.clamp), None

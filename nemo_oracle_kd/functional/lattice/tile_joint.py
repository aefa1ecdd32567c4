# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The computation of one joint for a tile of lattice cells: hidden states and logits forward, its gradients backward."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.joint import (
    JointTensors,
    dropout_mask,
    joint_hidden,
    joint_hidden_backward,
)

__all__ = ['JointGradients', 'TileJoint', 'zero_gradients']


@dataclass
class JointGradients:
    """Gradients of a joint, summed over tiles: `[B T, H]`, `[B (U+1), H]`, `[V, H]` and `[V]`; None if not needed."""

    encoder: Tensor | None = None
    prediction: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None

    def _present(self) -> list[Tensor]:
        return [x for x in (self.encoder, self.prediction, self.weight, self.bias) if x is not None]

    def wanted(self) -> bool:
        """Whether any gradient is needed."""
        return bool(self._present())

    def multiply(self, factor: Tensor) -> None:
        """Multiplies all sums by a factor, in place."""
        for x in self._present():
            x.mul_(factor)


def zero_gradients(joint: JointTensors, needs: list[bool], dtype: torch.dtype) -> JointGradients:
    """Sums of zeros for those of encoder, prediction, weight and bias that are needed and exist."""

    def zeros(x: Tensor | None, need: bool) -> Tensor | None:
        if not need or x is None:
            return None
        flat = x.shape if x.dim() < 3 else (x.shape[0] * x.shape[1], x.shape[2])
        return torch.zeros(flat, dtype=dtype, device=x.device)

    return JointGradients(
        zeros(joint.encoder, needs[0]),
        zeros(joint.prediction, needs[1]),
        zeros(joint.weight, needs[2]),
        zeros(joint.bias, needs[3]),
    )


class TileJoint:
    """Buffers and matrix products of one joint, shared by all tiles.

    Args:
        joint: the joint, detached.
        size: cells of the largest tile, which is the first.
        dtype: type of logits and gradient sums.
        matmul_dtype: type of hidden states and matrix products.
        temperature: divides the logits.
        dropout_seed: seed of the dropout masks.
        fused: whether bias and temperature are left to the kernel that reads the products.
    """

    def __init__(
        self,
        joint: JointTensors,
        size: int,
        dtype: torch.dtype,
        matmul_dtype: torch.dtype,
        temperature: float,
        dropout_seed: int = 0,
        fused: bool = False,
    ) -> None:
        hidden = joint.weight.shape[1]
        self.joint, self.temperature, self.dropout_seed, self.fused = joint, temperature, dropout_seed, fused
        self.encoder = joint.encoder.reshape(-1, hidden).to(matmul_dtype)
        self.prediction = joint.prediction.reshape(-1, hidden).to(matmul_dtype)
        self.weight = joint.weight.to(matmul_dtype)
        bias = joint.weight.new_zeros(joint.classes) if joint.bias is None else joint.bias
        self.bias = bias.to(dtype)
        self.hidden = self.encoder.new_empty(size, hidden)
        self.work = self.encoder.new_empty(size, hidden)
        self.logits = self.encoder.new_empty((size, joint.classes), dtype=matmul_dtype if fused else dtype)
        self.mask: Tensor | None = None

    def project(self, frame: Tensor, position: Tensor, tile: int) -> Tensor:
        """Logits of a tile divided by the temperature, `[N, V]`; if fused, the products without bias and temperature."""
        count = frame.shape[0]
        self.hidden, self.work, logits = self.hidden[:count], self.work[:count], self.logits[:count]
        hidden = joint_hidden(
            self.encoder, self.prediction, frame, position, self.joint.activation, self.hidden, self.work
        )
        if self.joint.dropout:
            self.mask = dropout_mask(hidden, self.joint.dropout, self.dropout_seed, tile)
            hidden = torch.mul(hidden, self.mask, out=self.work)
        if self.fused:
            return torch.mm(hidden, self.weight.t(), out=logits)
        scale = 1.0 / self.temperature
        if hidden.dtype == logits.dtype:
            return torch.addmm(self.bias, hidden, self.weight.t(), beta=scale, alpha=scale, out=logits)
        logits.copy_(torch.mm(hidden, self.weight.t()))
        return logits.add_(self.bias).mul_(scale)

    def backward(
        self, grad_logits: Tensor, factor: Tensor | None, frame: Tensor, position: Tensor, sums: JointGradients
    ) -> None:
        """Adds the gradients of a tile to `sums`; `grad_logits [N, V]`, `factor [N, 1]`."""
        temperature = self.temperature
        grad = grad_logits.to(self.hidden.dtype)
        # The factors multiply the H columns of the hidden states and not the V columns of the logits.
        if sums.weight is not None or sums.bias is not None:
            one = grad_logits.new_full((grad.shape[0],), temperature) if factor is None else factor[:, 0] * temperature
            if sums.bias is not None:
                if grad_logits.dtype == sums.bias.dtype:
                    sums.bias.addmv_(grad_logits.t(), one)
                else:
                    sums.bias.add_(torch.mv(grad_logits.t(), one.to(grad_logits.dtype)))
            if sums.weight is not None:
                inputs = self.hidden if self.mask is None else self.work
                if factor is not None:
                    inputs = torch.mul(inputs, factor.to(inputs.dtype), out=self.work)
                if grad.dtype == sums.weight.dtype:
                    sums.weight.addmm_(grad.t(), inputs, alpha=temperature)
                else:
                    sums.weight.add_(torch.mm(grad.t(), inputs), alpha=temperature)
        if sums.encoder is None and sums.prediction is None:
            return
        grad_hidden = torch.mm(grad, self.weight, out=self.work)
        if self.mask is not None:
            grad_hidden.mul_(self.mask)
        joint_hidden_backward(grad_hidden, self.hidden, self.joint.activation)
        if factor is not None:
            grad_hidden.mul_(factor.to(grad_hidden.dtype))
        for total, rows in ((sums.encoder, frame), (sums.prediction, position)):
            if total is not None:
                total.index_add_(0, rows, grad_hidden.to(total.dtype), alpha=temperature)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The joint network of a transducer as plain tensors: hidden = activation(encoder + prediction), logits = W hidden + b."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import compute_dtype

__all__ = [
    'JOINT_ACTIVATIONS',
    'JointTensors',
    'joint_hidden',
    'joint_hidden_backward',
    'dropout_mask',
    'draw_dropout_seed',
]

JOINT_ACTIVATIONS = ('relu', 'tanh', 'sigmoid')


@dataclass(frozen=True)
class JointTensors:
    """The tensors from which the lattice of a transducer is computed; the lattice, `[B, T, U+1, V]`, is never stored.

    Attributes:
        encoder: `[B, T, H]` encoder outputs after the joint network's encoder projection.
        prediction: `[B, U+1, H]` prediction network outputs after their projection; position u has read u labels.
        weight: `[V, H]` of the output layer.
        bias: `[V]` of the output layer, or None.
        activation: 'relu', 'tanh' or 'sigmoid'.
        dropout: probability with which a hidden unit of the joint is dropped, 0 for a teacher or in evaluation.
        arcs: log-probabilities of the next label, `[B, T, U+1]`, and of blanks and durations, `[C, B, T, U+1]`, where they
            are known already; an occupancy and a best path then do not evaluate the joint. `None` where they are not.

    Raises:
        ValueError: if the shapes do not match, the activation is unknown, or the dropout is out of range.
    """

    encoder: Tensor
    prediction: Tensor
    weight: Tensor
    bias: Tensor | None = None
    activation: str = 'relu'
    dropout: float = 0.0
    arcs: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        if self.encoder.dim() != 3 or self.prediction.dim() != 3 or self.weight.dim() != 2:
            raise ValueError(
                "A joint needs encoder [B, T, H], prediction [B, U+1, H] and weight [V, H], got "
                f"{list(self.encoder.shape)}, {list(self.prediction.shape)} and {list(self.weight.shape)}."
            )
        sizes = (self.encoder.shape[2], self.prediction.shape[2], self.weight.shape[1])
        if len(set(sizes)) != 1:
            raise ValueError(
                f"Encoder, prediction and weight have hidden sizes {sizes}; pass the outputs of the joint's own "
                "projections (joint.enc and joint.pred), not those of the encoder and the prediction network."
            )
        if self.encoder.shape[0] != self.prediction.shape[0]:
            raise ValueError(
                f"Encoder and prediction have {self.encoder.shape[0]} and {self.prediction.shape[0]} utterances; "
                "pass both from one batch."
            )
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"The bias must have shape [{self.weight.shape[0]}], got {list(self.bias.shape)}.")
        if self.activation not in JOINT_ACTIVATIONS:
            raise ValueError(
                f"Unknown joint activation '{self.activation}'; choose one of {', '.join(JOINT_ACTIVATIONS)}."
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"The joint dropout must lie in [0, 1), got {self.dropout}.")

    @property
    def classes(self) -> int:
        """V, the number of outputs."""
        return self.weight.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Utterances, frames T and positions U+1."""
        return self.encoder.shape[0], self.encoder.shape[1], self.prediction.shape[1]

    def pick_frames(self, index: Tensor) -> 'JointTensors':
        """The joint on other frames, `index [B, T']`."""
        rows = index.unsqueeze(2).expand(-1, -1, self.encoder.shape[2])
        arcs = None
        if self.arcs is not None:
            label, others = self.arcs
            frames = index.unsqueeze(2).expand(-1, -1, label.shape[2])
            arcs = label.gather(1, frames), others.gather(2, frames.expand(len(others), -1, -1, -1))
        return replace(self, encoder=self.encoder.gather(1, rows), arcs=arcs)

    @property
    def value_dtype(self) -> torch.dtype:
        """Type in which scores and divergences of this joint are computed: float64 if it has float64 tensors, else float32."""
        return compute_dtype(torch.promote_types(self.encoder.dtype, self.weight.dtype))

    def head(self, start: int, stop: int) -> 'JointTensors':
        """The joint with only the outputs `start:stop`, without a copy.

        A TDT joint holds two softmaxes: V tokens, blank included, followed by D durations. Distil `head(0, V)` and
        `head(V, V + D)` separately and add the two. The big blanks of a multi-blank joint belong to the softmax of the
        tokens and stay there.

        Raises:
            ValueError: if the joint does not have these outputs.
        """
        if not 0 <= start < stop <= self.classes:
            raise ValueError(
                f"Outputs {start}:{stop} do not exist in a joint of {self.classes} outputs; pass start < stop <= {self.classes}."
            )
        bias = None if self.bias is None else self.bias[start:stop]
        return replace(self, weight=self.weight[start:stop], bias=bias, arcs=None)

    def detach(self) -> 'JointTensors':
        """The same numbers without a gradient."""
        return replace(
            self,
            encoder=self.encoder.detach(),
            prediction=self.prediction.detach(),
            weight=self.weight.detach(),
            bias=None if self.bias is None else self.bias.detach(),
            arcs=None if self.arcs is None else tuple(values.detach() for values in self.arcs),
        )

    def logits(self) -> Tensor:
        """The whole lattice of logits, `[B, T, U+1, V]`. It needs much memory, and is meant for references and plots.

        Raises:
            ValueError: if the joint has dropout.
        """
        if self.dropout:
            raise ValueError("The logits of a joint with dropout are random; compute them with dropout=0.")
        hidden = _ACTIVATE[self.activation](self.encoder.unsqueeze(2) + self.prediction.unsqueeze(1))
        return torch.nn.functional.linear(hidden, self.weight, self.bias)


_ACTIVATE = {'relu': torch.relu, 'tanh': torch.tanh, 'sigmoid': torch.sigmoid}
_ACTIVATE_IN_PLACE = {'relu': torch.relu_, 'tanh': torch.tanh_, 'sigmoid': torch.sigmoid_}


def joint_hidden(
    encoder: Tensor, prediction: Tensor, frame: Tensor, position: Tensor, activation: str, out: Tensor, work: Tensor
) -> Tensor:
    """Hidden states of a tile of cells, before dropout.

    Args:
        encoder: `[B T, H]` rows of all utterances.
        prediction: `[B (U+1), H]` rows of all utterances.
        frame: `[N]` row of `encoder` of each cell.
        position: `[N]` row of `prediction` of each cell.
        activation: name of the activation.
        out: `[N, H]` buffer of the result.
        work: `[N, H]` buffer.

    Returns:
        `out`.
    """
    torch.index_select(encoder, 0, frame, out=out)
    torch.index_select(prediction, 0, position, out=work)
    return _ACTIVATE_IN_PLACE[activation](out.add_(work))


def joint_hidden_backward(grad: Tensor, hidden: Tensor, activation: str) -> Tensor:
    """Turns the gradient of the hidden states into that of encoder + prediction, in place. Both `[N, H]`."""
    if activation == 'relu':
        return grad.masked_fill_(hidden <= 0, 0.0)
    if activation == 'tanh':
        return grad.mul_(hidden.square().neg_().add_(1.0))
    return grad.mul_(hidden).mul_(hidden.neg().add_(1.0))


def dropout_mask(like: Tensor, probability: float, seed: int, tile: int) -> Tensor:
    """Mask `[N, H]` of 0 and 1 / (1 - p). It depends only on seed and tile, not on what was drawn in between."""
    generator = torch.Generator(device=like.device)
    # The stride is a large odd number, so that neighbouring tiles get seeds that are far apart.
    generator.manual_seed((seed + tile * 0x9E3779B97F4A7C15) % (2**63 - 1))
    return torch.empty_like(like).bernoulli_(1.0 - probability, generator=generator).div_(1.0 - probability)


def draw_dropout_seed() -> int:
    """A seed from torch's global generator, so that `torch.manual_seed` makes training repeatable."""
    return int(torch.randint(0, math.floor(2**62), (), dtype=torch.long))

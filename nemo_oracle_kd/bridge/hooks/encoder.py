# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The output of the student's encoder in its own training step, seen by a forward hook: no second forward is needed."""

from typing import Any

import torch

__all__ = ['EncoderWatch', 'encoder_width']


def encoder_width(model: Any) -> int | None:
    """Channels of the encoder's output, or `None` where the encoder does not tell."""
    width = getattr(model.encoder, '_feat_out', None)
    return int(width) if width and int(width) > 0 else None


class EncoderWatch:
    """Keeps what the encoder gave in an announced step. A copy of it watches nothing."""

    def __init__(self, model: Any):
        self._armed = False
        self._seen: torch.Tensor | None = None
        self._handle = model.encoder.register_forward_hook(self)

    def __deepcopy__(self, memo):
        return _blind

    def __call__(self, encoder: torch.nn.Module, arguments: tuple, outputs: Any) -> None:
        if self._armed and torch.is_grad_enabled():
            self._armed = False
            self._seen = outputs[0]

    def arm(self) -> None:
        """Announces a training step: the next forward with gradients is the step's."""
        self._armed, self._seen = True, None

    def take(self) -> torch.Tensor:
        """`[B, D, T]`, with its graph; forgotten here, for it holds tensors of the step.

        Raises:
            RuntimeError: the step did not call the encoder.
        """
        seen, self._seen = self._seen, None
        if seen is None:
            raise RuntimeError(
                "the training step computed its loss without calling model.encoder, so there is nothing that a label branch "
                "could read: use a model whose forward is NeMo's"
            )
        return seen

    def remove(self) -> None:
        """Leaves the encoder as it was."""
        self._handle.remove()
        self._seen = None


def _blind(encoder: torch.nn.Module, arguments: tuple, outputs: Any) -> None:
    """What a copied encoder has in the place of the watch."""

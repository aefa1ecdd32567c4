# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""When a self-teacher starts to teach: this depends on what the student has learned, not on a count of steps."""

from typing import Any

import torch
from torch import Tensor

__all__ = ['RunningLoss', 'Start', 'ramp']

KEEP = 0.95


class RunningLoss:
    """Running mean of a loss in nats per label, over all processes: `r <- 0.95 r + 0.05 loss`, starting from the first loss."""

    def __init__(self) -> None:
        self.value: float | None = None

    def follow(self, losses: Tensor, labels: Tensor) -> None:
        """Adds a batch to the mean.

        Args:
            losses: `[B]` nats; infinite losses (labels without any alignment) are left out.
            labels: `[B]` number of labels.
        """
        losses, labels = losses.detach().float(), labels.to(losses.device)
        known = losses.isfinite()
        sums = torch.stack([losses[known].sum(), labels[known].sum().to(losses.dtype)])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        nats, count = sums.tolist()
        if count > 0:
            self.value = nats / count if self.value is None else KEEP * self.value + (1 - KEEP) * nats / count


class Start:
    """Opens at the first step at which a running loss is low enough, and stays open.

    Args:
        below: nats per label; `None`: open at once.
    """

    def __init__(self, below: float | None):
        self.below = below
        self.loss = RunningLoss()
        self.since: int | None = None

    def follow(self, losses: Tensor, labels: Tensor, step: int) -> bool:
        """Adds the student's losses of a batch, and returns whether it opens now.

        Args:
            losses: `[B]` nats.
            labels: `[B]`.
            step: optimizer steps done so far.
        """
        if self.since is not None:
            return False
        if self.below is not None:
            self.loss.follow(losses, labels)
            if self.loss.value is None or self.loss.value >= self.below:
                return False
        self.since = step
        return True

    def state(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {'loss': self.loss.value, 'since': self.since}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
        self.loss.value, self.since = state['loss'], state['since']


def ramp(since: int | None, step: int, length: int) -> float:
    """Rises from 0 to 1 over `length` steps from step `since` on; 0 while `since` is `None`."""
    if since is None:
        return 0.0
    return min(1.0, (step - since + 1) / length) if length else 1.0

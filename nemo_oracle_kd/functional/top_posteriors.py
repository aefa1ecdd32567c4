# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Frame posteriors of which only the most probable classes are known one by one, and all others by their sum.

With `p` the teacher's posterior in one frame, C its best classes and T a temperature, what is known is

    log p(k) for k in C,   and the tail  log sum_{k not in C} p(k)^(1/T)  for each temperature that was foreseen.

A divergence from such a teacher is taken over the bins "each class of C" and "all others together", as the lattice objectives
do ('topk' in `functional/lattice/distances.py`). :meth:`TopPosteriors.completed` makes this exact for any objective over all
classes: it spreads the tail in the proportions in which the *student* spreads it. Within the tail both models then agree, so the
divergence of all classes is the divergence of the bins, and so is its gradient. Compared with the whole posterior, the gradient
with respect to the student's logits of a frame changes by at most twice the tail's share of the probability, in the sum of
absolute values. Only where the tail exceeds the best class is it spread evenly, so that the best class stays the best.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ['IMPOSSIBLE', 'TopPosteriors', 'top_posteriors']

#: stands for log 0, because infinity would give NaN where two of them meet
IMPOSSIBLE = -1e4


@dataclass(frozen=True)
class TopPosteriors:
    """The best classes of every frame, and the tails.

    Attributes:
        classes: `[B, T, k]` ids, different within a frame.
        values: `[B, T, k]` their log-probabilities at temperature 1, natural log, float32.
        tails: temperature -> `[B, T]` `log sum p^(1/T)` over all other classes.
        vocabulary: number of classes.
    """

    classes: Tensor
    values: Tensor
    tails: Mapping[float, Tensor]
    vocabulary: int

    def over_frames(self, change: Callable[[Tensor], Tensor]) -> 'TopPosteriors':
        """Applies a function that picks frames, `[B, T, N] -> [B, T', N]`, to everything."""
        tails = {at: change(tail.unsqueeze(2)).squeeze(2) for at, tail in self.tails.items()}
        return replace(self, classes=change(self.classes), values=change(self.values), tails=tails)

    def dense(self) -> Tensor:
        """`[B, T, V]` log-probabilities with the tail spread evenly, for what reads no divergence from them."""
        even = self._even(self.tails[min(self.tails)])
        return even.repeat(1, 1, self.vocabulary).scatter(2, self.classes, self.values)

    @torch.no_grad()
    def completed(self, student: Tensor, temperature: float = 1.0) -> Tensor:
        """Logits of which the softmax at this temperature has the known classes and tails; see the head of this file.

        Args:
            student: `[B, T, V]` log-probabilities or logits of the student; detached here.
            temperature: one of `tails`.

        Returns:
            `[B, T, V]`, of the type of `values`.

        Raises:
            KeyError: the tail at this temperature is not known.
        """
        tail = self.tails[temperature]
        others = (student.detach().to(self.values.dtype) / temperature).scatter(2, self.classes, IMPOSSIBLE)
        largest = others.amax(2, keepdim=True)
        total = largest + torch.exp(others - largest).sum(2, keepdim=True).log()
        spread = (others - total + tail.unsqueeze(2)).clamp(min=IMPOSSIBLE) * temperature
        # the best class stays the best, whatever the student thinks of the others
        even = self._even(tail) * temperature
        spread = torch.where(spread.amax(2, keepdim=True) < self.values.amax(2, keepdim=True), spread, even)
        return spread.scatter(2, self.classes, self.values)

    def _even(self, tail: Tensor) -> Tensor:
        """A tail `[B, T]` spread evenly over the other classes, `[B, T, 1]`."""
        others = max(self.vocabulary - self.classes.shape[2], 1)
        return (tail - math.log(others)).clamp(min=IMPOSSIBLE).unsqueeze(2)


@torch.no_grad()
def top_posteriors(log_probs: Tensor, k: int, temperatures: tuple[float, ...] = (1.0,)) -> TopPosteriors:
    """Keeps the best classes of every frame, and the tails.

    Args:
        log_probs: `[B, T, V]` log-probabilities or logits.
        k: number of classes to keep; all of them if there are no more.
        temperatures: for which a tail is kept.
    """
    log_probs = log_probs.log_softmax(2)
    values, classes = log_probs.topk(min(k, log_probs.shape[2]), dim=2)
    rest = log_probs.scatter(2, classes, IMPOSSIBLE)
    tails = {float(at): (rest / at).logsumexp(2).clamp(min=IMPOSSIBLE) for at in temperatures}
    return TopPosteriors(classes, values, tails, log_probs.shape[2])

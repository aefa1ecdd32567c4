# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Weights of loss terms that change over the training: constant, warm-up, decay."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ['WeightSchedule', 'SCHEDULES']

SCHEDULES = ('constant', 'warmup', 'linear_decay', 'cosine_decay')


@dataclass
class WeightSchedule:
    """The weight of a loss term as a function of the optimizer step.

    `constant`: always `value`. `warmup`: `initial` until `start`, then a straight line to `value` over `steps`, then `value`.
    `linear_decay` and `cosine_decay`: `value` until `start`, then down to `final` over `steps`, then `final`.
    In YAML a bare number is the constant schedule: `weight: 0.05`.
    """

    value: float = field(metadata={'help': 'the weight (after warm-up, or before decay)'})
    schedule: str = field(default='constant', metadata={'help': f'one of {", ".join(SCHEDULES)}'})
    start: int = field(default=0, metadata={'help': 'optimizer step at which warm-up or decay begins'})
    steps: int = field(default=0, metadata={'help': 'length of the warm-up or decay in optimizer steps'})
    initial: float = field(default=0.0, metadata={'help': 'weight before the warm-up'})
    final: float = field(default=0.0, metadata={'help': 'weight after the decay'})

    @classmethod
    def from_scalar(cls, value) -> 'WeightSchedule':
        return cls(value=float(value))

    def problems(self, path: str) -> Iterator[str]:
        if self.schedule not in SCHEDULES:
            yield f"`{path}.schedule` is {self.schedule!r}: choose one of {', '.join(SCHEDULES)}"
        elif self.schedule != 'constant' and self.steps < 1:
            yield f"`{path}.steps` must be at least 1 for the {self.schedule} schedule: give its length in optimizer steps"
        elif self.schedule == 'constant' and (self.steps or self.start):
            yield f"`{path}` has `steps` or `start` but a constant schedule: set `schedule` or remove them"
        for name in ('value', 'initial', 'final'):
            number = getattr(self, name)
            if not math.isfinite(number) or number < 0:
                yield f"`{path}.{name}` must be a finite number of at least 0, not {number}"

    @property
    def always_zero(self) -> bool:
        """Whether the weight is 0 at every step."""
        others = {'constant': (), 'warmup': (self.initial,)}.get(self.schedule, (self.final,))
        return not any((self.value, *others))

    def at(self, step: int) -> float:
        """The weight at an optimizer step, counted from 0."""
        if self.schedule == 'constant':
            return self.value
        share = min(max((step - self.start) / self.steps, 0.0), 1.0)
        if self.schedule == 'warmup':
            return self.initial + share * (self.value - self.initial)
        if self.schedule == 'cosine_decay':
            share = 0.5 - 0.5 * math.cos(math.pi * share)
        return self.value + share * (self.final - self.value)

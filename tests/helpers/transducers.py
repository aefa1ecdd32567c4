# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The three transducers as test cases: one combined logits tensor, the fast functions, and the definition by single steps."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.functional.reference.transducer import multiblank_steps, rnnt_steps, tdt_steps


@dataclass
class Transducer:
    """A transducer with fixed options; `acts [B, T, U+1, V+D]` hold the D duration logits, if any, behind the others."""

    name: str
    labels: int
    classes: int
    blank: int
    full_sum: Callable
    occupancy: Callable
    best_path: Callable
    steps: Callable
    durations: list = field(default_factory=list)

    def split(self, acts):
        """The logits, and for a TDT the duration logits."""
        return (acts,) if not self.durations else acts.split([self.classes, len(self.durations)], -1)

    def nll(self, acts, targets, frames, labels):
        """`[B]`."""
        return self.full_sum(*self.split(acts), targets, frames, labels, self.blank)

    def utterance_steps(self, acts, targets, frames, labels, b):
        """The steps of one utterance, without its padding."""
        cells = acts[b, : int(frames[b]), : int(labels[b]) + 1]
        return self.steps(*self.split(cells), targets[b, : int(labels[b])].tolist(), self.blank)


def _make(name, labels, blanks, kind, **options):
    classes = labels + blanks
    steps = {'rnnt': rnnt_steps, 'multiblank': multiblank_steps, 'tdt': tdt_steps}[kind]
    # partial() would put the options before the positional blank
    bind = lambda function: lambda *args: function(*args, **options)  # noqa: E731
    return Transducer(
        name,
        labels,
        classes,
        classes - 1,
        bind(getattr(F, f'{kind}_full_sum')),
        bind(getattr(F, f'{kind}_occupancy')),
        bind(getattr(F, f'{kind}_best_path')),
        bind(steps),
        list(options.get('durations', [])),
    )


TRANSDUCERS = [
    _make('rnnt', 3, 1, 'rnnt'),
    _make('multi-blank', 3, 3, 'multiblank', big_blank_durations=[2, 3]),
    _make('multi-blank with sigma', 3, 2, 'multiblank', big_blank_durations=[2], sigma=0.3),
    _make('tdt', 3, 1, 'tdt', durations=[0, 1, 2]),
    _make('tdt with sigma, durations out of order', 3, 1, 'tdt', durations=[3, 1, 0], sigma=0.2),
    _make('tdt without duration 0', 3, 1, 'tdt', durations=[1, 2]),
]


def batch(transducer, lengths, dtype=torch.float64, seed=0, scale=1.0):
    """Random logits and labels for `lengths`, a list of (frames, labels); repeated labels are frequent."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.tensor([t for t, _ in lengths])
    labels = torch.tensor([u for _, u in lengths])
    shape = (len(lengths), int(frames.max()), int(labels.max()) + 1, transducer.classes + len(transducer.durations))
    acts = (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
    targets = torch.randint(0, transducer.labels, (len(lengths), int(labels.max())), generator=generator)
    return acts, targets, frames, labels

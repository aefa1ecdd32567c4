# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The three transducers and one of a further kind as test cases: fast functions, and the definition by single steps."""

from dataclasses import dataclass

import torch

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.functional.reference.transducer import multiblank_steps, rnnt_steps, tdt_steps
from nemo_oracle_kd.functional.transducer.recursion import Arc


@dataclass(frozen=True)
class Monotonic(F.Transducer):
    """A kind that the package does not know: a label reads its frame, so that a frame emits at most one."""

    kind = 'monotonic'
    title = 'monotonic RNN-T'

    def _check_durations(self):
        assert not self.durations

    @property
    def arcs(self):
        """Label and blank."""
        return Arc(1, 1), Arc(1, 0)


@dataclass
class TransducerCase:
    """A transducer with fixed options; `acts [B, T, U+1, V+D]` hold the D duration logits, if any, behind the others."""

    name: str
    labels: int
    transducer: F.Transducer
    sigma: float = 0.0

    @property
    def blank(self):
        """Of the standard kind."""
        return self.transducer.blank

    @property
    def outputs(self):
        """V + D."""
        return self.blank + 1 + self.transducer.duration_outputs

    def nll(self, acts, targets, frames, labels):
        """`[B]`, by the function of the kind."""
        if isinstance(self.transducer, Monotonic):
            return F.transducer_full_sum(self.transducer, acts, targets, frames, labels)
        rest = () if isinstance(self.transducer, F.RNNT) else (self.transducer.durations, self.sigma)
        return getattr(F, f'{self.transducer.kind}_full_sum')(acts, targets, frames, labels, self.blank, *rest)

    def occupancy(self, *lattice):
        """Of the targets' lattice."""
        return F.transducer_occupancy(self.transducer, *lattice, self.sigma)

    def best_path(self, *lattice):
        """Of the targets' lattice."""
        return F.transducer_best_path(self.transducer, *lattice, self.sigma)

    def utterance_steps(self, acts, targets, frames, labels, b):
        """The steps of one utterance, without its padding."""
        cells = acts[b, : int(frames[b]), : int(labels[b]) + 1]
        return definition(self.transducer, cells, targets[b, : int(labels[b])].tolist(), self.sigma)


def definition(transducer, logits, labels, sigma=0.0):
    """The steps of one utterance by the definition of its kind; `logits [T, U+1, V+D]`."""
    if isinstance(transducer, Monotonic):
        return _monotonic_steps(logits, labels, transducer.blank)
    if transducer.kind == 'rnnt':
        return rnnt_steps(logits, labels, transducer.blank)
    if transducer.kind == 'multiblank':
        return multiblank_steps(logits, labels, transducer.blank, transducer.durations, sigma)
    tokens, steps = logits[..., : transducer.blank + 1], logits[..., transducer.blank + 1 :]
    return tdt_steps(tokens, steps, labels, transducer.blank, transducer.durations, sigma)


def _monotonic_steps(logits, labels, blank):
    log_probs = logits.double().log_softmax(-1)

    def steps(t, u):
        found = [('blank', t + 1, u, log_probs[t, u, blank])]
        if u < len(labels):
            found.append(('label1', t + 1, u + 1, log_probs[t, u, labels[u]]))
        return found

    return steps


TRANSDUCERS = [
    TransducerCase('rnnt', 3, F.RNNT(3)),
    TransducerCase('multi-blank', 3, F.MultiBlank(5, (2, 3))),
    TransducerCase('multi-blank with sigma', 3, F.MultiBlank(4, (2,)), 0.3),
    TransducerCase('tdt', 3, F.TDT(3, (0, 1, 2))),
    TransducerCase('tdt with sigma, durations out of order', 3, F.TDT(3, (3, 1, 0)), 0.2),
    TransducerCase('tdt without duration 0', 3, F.TDT(3, (1, 2))),
    TransducerCase('a further kind', 3, Monotonic(3)),
]


def batch(transducer, lengths, dtype=torch.float64, seed=0, scale=1.0):
    """Random logits and labels for `lengths`, a list of (frames, labels); repeated labels are frequent."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.tensor([t for t, _ in lengths])
    labels = torch.tensor([u for _, u in lengths])
    shape = (len(lengths), int(frames.max()), int(labels.max()) + 1, transducer.outputs)
    acts = (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
    targets = torch.randint(0, transducer.labels, (len(lengths), int(labels.max())), generator=generator)
    return acts, targets, frames, labels

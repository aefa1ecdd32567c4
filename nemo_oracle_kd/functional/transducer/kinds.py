# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The kinds of transducers: what the outputs of a joint mean, which steps its lattice has, and how a step is scored.

Everything that distinguishes RNN-T, multi-blank and TDT is in a subclass of :class:`Transducer`. Sums, alignments, N-best
lists and lattice divergences ask the transducer and never test for a kind. A new kind needs a subclass here, a line in
`bridge/model.py` that recognises it in a NeMo model, and a loss module in `losses/rnnt_modules.py`.

An alignment walks from node (t, u) = (0, 0), "t frames read, u labels emitted", to (T, U), and its last step is a blank.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nemo_oracle_kd.functional.tensors import scale_gradient
from nemo_oracle_kd.functional.transducer.log_probs import next_classes, select_log_probs
from nemo_oracle_kd.functional.transducer.recursion import Arc

__all__ = ['RNNT', 'TDT', 'TRANSDUCERS', 'MultiBlank', 'Softmax', 'Transducer', 'make_transducer']

LABEL, BLANK = Arc(frames=0, labels=1), Arc(frames=1, labels=0)


@dataclass(frozen=True)
class Softmax:
    """One distribution of a joint.

    Attributes:
        start: its first output.
        stop: one past its last.
        blanks: ids of its blanks; empty for the durations of a TDT, which are not classes of a transcript.
    """

    start: int
    stop: int
    blanks: tuple[int, ...]


@dataclass(frozen=True)
class Transducer(ABC):
    """A kind of transducer, with its blank and durations.

    By default there is one softmax over labels and blanks, and a label stays in its frame.

    Attributes:
        blank: id of the standard blank.
        durations: frames per big blank of a multi-blank joint, or per duration output of a TDT; otherwise empty.
    """

    blank: int
    durations: tuple[int, ...] = ()

    #: name in configurations and scored manifests
    kind: ClassVar[str]
    #: name in messages
    title: ClassVar[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'durations', tuple(int(duration) for duration in self.durations))
        self._check_durations()

    @abstractmethod
    def _check_durations(self) -> None:
        """Raises `ValueError` for durations that the kind cannot have."""

    @property
    @abstractmethod
    def arcs(self) -> tuple[Arc, ...]:
        """The kinds of steps of the lattice, in the order of `arc_scores`."""

    @property
    def blanks(self) -> tuple[int, ...]:
        """Ids of all blanks, the standard one first."""
        return (self.blank,)

    @property
    def duration_outputs(self) -> int:
        """Number of outputs of the joint that are durations and not classes."""
        return 0

    @property
    def softmaxes(self) -> tuple[Softmax, ...]:
        """The distributions of a cell. They are independent, so their divergences add up."""
        return (Softmax(0, self.blank + 1, self.blanks),)

    @property
    def sums_on_tree(self) -> bool:
        """Whether the steps are those of an RNN-T. Only then can N-best lists be summed on their prefix tree."""
        return self.arcs == (LABEL, BLANK)

    def split(self, logits: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The logits of each softmax, without a copy, from `[B, T, U+1, outputs]`.

        Logits that are already split are returned unchanged.
        """
        return (logits,) if isinstance(logits, Tensor) else tuple(logits)

    def select(self, logits: Tensor, classes: Tensor, logit_lengths: Tensor, target_lengths: Tensor) -> Tensor:
        """Log-probabilities of some classes of every cell, followed by those of all durations; differentiable.

        Args:
            logits: `[B, T, U+1, outputs]`.
            classes: `[B, T or 1, U+1, C]` ids.
            logit_lengths: `[B]` valid frames.
            target_lengths: `[B]` valid labels.

        Returns:
            `[B, T, U+1, C + duration_outputs]`, natural log; zero in the padding.
        """
        return select_log_probs(logits, classes, logit_lengths, target_lengths)

    def arc_scores(
        self,
        logits: Tensor | Sequence[Tensor],
        targets: Tensor,
        logit_lengths: Tensor,
        target_lengths: Tensor,
        sigma: float = 0.0,
        fastemit_lambda: float = 0.0,
    ) -> Tensor:
        """Log-scores of the steps that leave every node of the targets' lattice; differentiable once.

        Args:
            logits: `[B, T, U+1, outputs]` of the joint, or the tensors of its softmaxes; normalised or not.
            targets: `[B, U]` labels without blanks.
            logit_lengths: `[B]` valid frames.
            target_lengths: `[B]` valid labels.
            sigma: logit under-normalisation, subtracted from the log-probabilities of labels and blanks.
            fastemit_lambda: the gradient, and only the gradient, of every label's log-probability is multiplied by
                1 + lambda (FastEmit, arXiv 2010.11148, equation 10).

        Returns:
            `[K, B, T, U+1]` in the order of `arcs`; float64 for float64 logits and float32 otherwise.

        Raises:
            ValueError: if shapes, lengths or labels do not match.
        """
        (logits,) = self.split(logits)
        classes = next_classes(logits, targets, logit_lengths, target_lengths, self.blanks)
        scores = select_log_probs(logits, classes, logit_lengths, target_lengths).movedim(-1, 0)
        if sigma:
            scores = scores - sigma
        if fastemit_lambda:
            scores = torch.cat([scale_gradient(scores[:1], 1.0 + fastemit_lambda), scores[1:]])
        return scores

    def combine(self, label: Tensor, others: Tensor) -> Tensor:
        """Arc scores `[K, ...]` from the log-probabilities of the next label, `[...]`, and of blanks and durations, `[C, ...]`."""
        return torch.cat([label.unsqueeze(0), others])

    def labels_and_blanks(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Splits values of the arcs, `[K, B, T, U+1]`, into those of labels and those of blanks.

        Returns:
            `(labels, blanks)`, each `[B, T, U+1]`. If a kind has several arcs of a sort, they are one more axis at the end.
        """
        return values[0], values[1]


@dataclass(frozen=True)
class RNNT(Transducer):
    """RNN-T (Graves 2012): a label stays in the frame, a blank reads one.

    Any number of labels may be emitted in a frame. A single frame therefore has room for every transcript, and without a
    frame there is room for none.
    """

    kind = 'rnnt'
    title = 'RNN-T'

    def _check_durations(self) -> None:
        if self.durations:
            raise ValueError(f"An RNN-T has no durations, got {list(self.durations)}; leave them out.")

    @property
    def arcs(self) -> tuple[Arc, ...]:
        """Label and blank."""
        return LABEL, BLANK


@dataclass(frozen=True)
class MultiBlank(Transducer):
    """Multi-blank transducer (arXiv 2211.03541): besides the standard blank it has big blanks, which read several frames.

    NeMo stores them before the standard blank: the big blank of `durations[i]` has the id `blank - 1 - i`. A big blank that
    would read past the last frame cannot be taken; the path ends with any blank that arrives exactly at T. Without big blanks
    this is an RNN-T.
    """

    kind = 'multiblank'
    title = 'multi-blank transducer'

    def _check_durations(self) -> None:
        if any(duration < 2 for duration in self.durations):
            raise ValueError(
                f"Big blanks read two frames or more, got durations {list(self.durations)}; the standard blank reads one."
            )

    @property
    def arcs(self) -> tuple[Arc, ...]:
        """Label, standard blank, big blanks."""
        return LABEL, BLANK, *(Arc(duration, 0) for duration in self.durations)

    @property
    def blanks(self) -> tuple[int, ...]:
        """Ids of the standard blank and of the big ones."""
        return tuple(self.blank - i for i in range(1 + len(self.durations)))

    def labels_and_blanks(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The blanks are `[B, T, U+1, 1 + big blanks]`, the standard one first."""
        return values[0], values[1:].movedim(0, -1).contiguous()


@dataclass(frozen=True)
class TDT(Transducer):
    """Token-and-duration transducer (arXiv 2304.06795, equations 5 to 8).

    Every step emits a label or a blank together with a duration, the number of frames to advance. The two come from
    independent softmaxes: the joint puts the tokens first, and the durations behind the blank. The definition is NeMo's:

    * a label may have any duration, 0 included; a blank of duration 0 would not advance at all and is left out, so
      its probability is lost;
    * the path ends with a blank whose duration leads exactly to frame T; steps that lead further cannot be taken, and a
      label never leads to frame T, since no frame would be left for that blank;
    * `sigma` is subtracted from the label and blank log-probabilities, not from the durations, and FastEmit does not scale
      the gradient of the durations.

    Not every transcript has an alignment: without duration 0 at most T - 1 labels fit, and without duration 1 some lengths
    cannot be reached. NeMo's implementations start their sums at -1000 nats (`tdt_pytorch`) or -10000 (its CUDA kernel),
    which becomes the score of such a transcript and the lower bound of all others. Here scores are exact, and `-inf` where
    there is no path.
    """

    kind = 'tdt'
    title = 'TDT'

    def _check_durations(self) -> None:
        durations = self.durations
        if not durations or min(durations) < 0 or max(durations) == 0 or len(set(durations)) < len(durations):
            raise ValueError(
                f"TDT durations must be distinct and at least 0, and one must be positive, got {list(durations)}."
            )

    @property
    def duration_outputs(self) -> int:
        """The D outputs behind the blank."""
        return len(self.durations)

    @property
    def arcs(self) -> tuple[Arc, ...]:
        """The label arcs, one per duration, then the blank arcs, one per positive duration; both in the order given."""
        return *(Arc(d, 1) for d in self.durations), *(Arc(d, 0) for d in self.durations if d > 0)

    @property
    def softmaxes(self) -> tuple[Softmax, ...]:
        """The tokens, then the durations."""
        end = self.blank + 1
        return Softmax(0, end, self.blanks), Softmax(end, end + len(self.durations), ())

    def split(self, logits: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`[B, T, U+1, V]` and `[B, T, U+1, D]`."""
        if not isinstance(logits, Tensor):
            return tuple(logits)
        count = len(self.durations)
        if logits.dim() != 4 or logits.shape[-1] <= count:
            raise ValueError(
                f"TDT logits with {count} durations must have shape [B, T, U+1, V + {count}], got {list(logits.shape)}."
            )
        return logits.split([logits.shape[-1] - count, count], -1)

    def select(self, logits: Tensor, classes: Tensor, logit_lengths: Tensor, target_lengths: Tensor) -> Tensor:
        """Here `classes` are those of the first softmax."""
        tokens, steps = self.split(logits)
        selected = select_log_probs(tokens, classes, logit_lengths, target_lengths)
        return torch.cat([selected, self._durations(steps, logit_lengths, target_lengths)], -1)

    def arc_scores(
        self,
        logits: Tensor | Sequence[Tensor],
        targets: Tensor,
        logit_lengths: Tensor,
        target_lengths: Tensor,
        sigma: float = 0.0,
        fastemit_lambda: float = 0.0,
    ) -> Tensor:
        """The score of every label or blank plus that of its duration."""
        tokens, steps = self.split(logits)
        if steps.shape != (*tokens.shape[:3], len(self.durations)):
            raise ValueError(
                f"{len(self.durations)} durations and logits of shape {list(tokens.shape)} need duration logits of shape "
                f"{[*tokens.shape[:3], len(self.durations)]}, got {list(steps.shape)}."
            )
        classes = next_classes(tokens, targets, logit_lengths, target_lengths, self.blanks)
        selected = select_log_probs(tokens, classes, logit_lengths, target_lengths) - sigma
        label, blank = selected.unbind(-1)
        if fastemit_lambda:
            label = scale_gradient(label, 1.0 + fastemit_lambda)
        return self._sums(label, blank, self._durations(steps, logit_lengths, target_lengths).movedim(-1, 0))

    def combine(self, label: Tensor, others: Tensor) -> Tensor:
        """Here `others` are the blank and the durations."""
        return self._sums(label, others[0], others[1:])

    def labels_and_blanks(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Both are `[B, T, U+1, D]`, by duration. Blanks of duration 0 do not exist and get zero."""
        by_arc = values.movedim(0, -1)
        label = by_arc[..., : len(self.durations)].contiguous()
        blanks = torch.zeros_like(label)
        blanks[..., self._moving] = by_arc[..., len(self.durations) :]
        return label, blanks

    @property
    def _moving(self) -> list[int]:
        return [i for i, duration in enumerate(self.durations) if duration > 0]

    def _sums(self, label: Tensor, blank: Tensor, steps: Tensor) -> Tensor:
        return torch.cat([label + steps, blank + steps[self._moving]])

    def _durations(self, steps: Tensor, logit_lengths: Tensor, target_lengths: Tensor) -> Tensor:
        """Log-probabilities of all durations, `[B, T, U+1, D]`."""
        each = torch.arange(len(self.durations), device=steps.device).expand(steps.shape[0], 1, steps.shape[2], -1)
        return select_log_probs(steps, each, logit_lengths, target_lengths)


#: kind -> class
TRANSDUCERS: dict[str, type[Transducer]] = {cls.kind: cls for cls in (RNNT, MultiBlank, TDT)}


def make_transducer(kind: str, blank: int, durations: Sequence[int] = ()) -> Transducer:
    """The transducer of a kind, one of `TRANSDUCERS`.

    Raises:
        ValueError: if the kind is unknown or cannot have these durations.
    """
    if kind not in TRANSDUCERS:
        raise ValueError(f"Unknown transducer '{kind}'; choose one of {', '.join(TRANSDUCERS)}.")
    return TRANSDUCERS[kind](blank, tuple(durations))

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Computes `log P(y|x)` of label sequences under any NeMo CTC, RNN-T, TDT, multi-blank or hybrid model.

The encoder runs once per batch. The lattices of all hypotheses are computed in portions of at most `max_cells` joint cells.
An utterance that alone exceeds this is cut along time, because the recursion needs only the few scores of each cell that
its arcs use. The result is a log-probability: regularisers that training adds to the loss (FastEmit, `sigma` of TDT and
multi-blank, `omega`) are left out. Labels without any alignment give `-inf`, whereas NeMo's CTC loss gives 0
(`zero_infinity`).
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.model import Head
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, Transcripts
from nemo_oracle_kd.functional.ctc import ctc_full_sum
from nemo_oracle_kd.functional.transducer.alignment import TransducerPath, best_path_of_arcs
from nemo_oracle_kd.functional.transducer.recursion import arc_full_sum

__all__ = [
    'KERNELS',
    'MAX_CELLS',
    'Hypotheses',
    'Lattices',
    'portions',
    'score_encoded',
    'score_labels',
]

#: default number of joint cells held at a time; a cell takes a few times 4 bytes per class of the joint
MAX_CELLS = 50_000
#: `auto`: the model's own loss kernel on a GPU, this package's recursion on a CPU
KERNELS = ('auto', 'model', 'exact')
#: scores above this many nats are recomputed, because NeMo's TDT kernels start their sums at -1000 nats
KERNEL_TRUSTED_BELOW = 900.0


@dataclass(frozen=True)
class Hypotheses:
    """N label sequences for each utterance of a batch.

    Attributes:
        labels: `[B, N, U]`, padded with anything.
        lengths: `[B, N]` valid labels; 0 is the empty hypothesis, and -1 means that there is no hypothesis.
    """

    labels: Tensor
    lengths: Tensor

    @classmethod
    def from_lists(cls, hypotheses: Sequence[Sequence[Sequence[int]]], device: Any = 'cpu') -> 'Hypotheses':
        """Pads lists of labels. Utterances may have different numbers of hypotheses."""
        most = max((len(of_one) for of_one in hypotheses), default=0)
        longest = max((len(labels) for of_one in hypotheses for labels in of_one), default=0)
        labels = torch.zeros(len(hypotheses), most, longest, dtype=torch.long)
        lengths = torch.full((len(hypotheses), most), -1, dtype=torch.long)
        for b, of_one in enumerate(hypotheses):
            for n, sequence in enumerate(of_one):
                labels[b, n, : len(sequence)] = torch.as_tensor(sequence, dtype=torch.long)
                lengths[b, n] = len(sequence)
        return cls(labels.to(device), lengths.to(device))


def score_labels(
    model: Any, head: Head, batch: AudioBatch, hypotheses: Hypotheses, max_cells: int = MAX_CELLS, kernel: str = 'auto'
) -> Tensor:
    """`log P(y|x)`, `[B, N]`, from audio. Arguments and result as in `score_encoded`.

    An oracle model reads each hypothesis as its transcript, so its encoder runs once per hypothesis.

    Raises:
        ValueError: if an oracle model is to score an empty hypothesis, or as in `score_encoded`.
    """
    if not getattr(model, 'reads_transcript', False):
        return score_encoded(model, head, encode_audio(model, batch), hypotheses, max_cells, kernel)
    columns = []
    for n in range(hypotheses.lengths.shape[1]):
        labels, lengths = hypotheses.labels[:, n], hypotheses.lengths[:, n]
        if bool((lengths == 0).any()):
            raise ValueError(
                "an oracle model reads the transcript and cannot score an empty one: leave empty hypotheses out"
            )
        # for an absent hypothesis the encoder reads one arbitrary label, and the score is discarded
        read = AudioBatch(batch.signal, batch.lengths, Transcripts(labels, lengths.clamp(min=1)))
        audio = encode_audio(model, read)
        one = Hypotheses(labels.unsqueeze(1), lengths.unsqueeze(1))
        columns.append(score_encoded(model, head, audio, one, max_cells, kernel))
    return torch.cat(columns, dim=1) if columns else batch.signal.new_zeros(len(batch.lengths), 0)


def score_encoded(
    model: Any,
    head: Head,
    audio: EncodedAudio,
    hypotheses: Hypotheses,
    max_cells: int = MAX_CELLS,
    kernel: str = 'auto',
) -> Tensor:
    """`log P(y|x)` of N hypotheses per utterance.

    Args:
        model: a NeMo model in eval mode.
        head: the head, from `find_head(model)`.
        audio: output of `encode_audio`.
        hypotheses: label sequences.
        max_cells: number of joint cells (frames x label positions) held at a time.
        kernel: one of `KERNELS`.

    Returns:
        `[B, N]` natural log; `-inf` for labels without any alignment and where there is no hypothesis. The empty
        hypothesis has the probability of blanks alone.

    Raises:
        ValueError: if the kernel is unknown, or if `max_cells` is not positive.
    """
    if kernel not in KERNELS:
        raise ValueError(f"the kernel must be one of {', '.join(KERNELS)}, not {kernel!r}")
    if max_cells < 1:
        raise ValueError(f"max_cells must be positive, not {max_cells}")
    source = audio.log_probs if head.transducer is None else audio.encoded
    own = kernel == 'model' or (kernel == 'auto' and source.is_cuda)
    present = hypotheses.lengths >= 0
    scores = torch.full(present.shape, -math.inf, device=source.device)
    if head.transducer is None:
        for n in range(present.shape[1]):
            nll = _ctc_nll(audio, hypotheses.labels[:, n], hypotheses.lengths[:, n].clamp(min=0), head.blank, own)
            scores[:, n] = torch.where(present[:, n].to(nll.device), -nll, -math.inf)
        return scores
    lattices = Lattices(model, head, audio)
    for chosen in portions(audio.lengths, hypotheses.lengths, max_cells):
        b, n = chosen.unbind(1)
        scores[b, n] = lattices.score(b, hypotheses.labels[b, n], hypotheses.lengths[b, n], max_cells, own)
    return scores


def _ctc_nll(audio: EncodedAudio, labels: Tensor, lengths: Tensor, blank: int, own: bool) -> Tensor:
    if own:  # NeMo's CTC loss is that of torch; zero_infinity would give impossible labels probability 1
        return torch.nn.functional.ctc_loss(
            audio.log_probs.transpose(0, 1),
            labels,
            audio.lengths,
            lengths,
            blank,
            reduction='none',
            zero_infinity=False,
        )
    return ctc_full_sum(audio.log_probs, labels, audio.lengths, lengths, blank)


def portions(frames: Tensor, lengths: Tensor, max_cells: int) -> Iterator[Tensor]:
    """Yields pairs (utterance, hypothesis), `[P, 2]`, of at most `max_cells` cells including padding, or a single pair."""
    frames, lengths = frames.tolist(), lengths.tolist()
    pairs = [(b, n) for b, of_one in enumerate(lengths) for n, length in enumerate(of_one) if length >= 0]
    portion: list[tuple[int, int]] = []
    for b, n in pairs:
        portion.append((b, n))
        longest, widest = max(frames[i] for i, _ in portion), max(lengths[i][j] for i, j in portion) + 1
        if len(portion) > 1 and len(portion) * longest * widest > max_cells:
            yield torch.tensor(portion[:-1])
            portion = portion[-1:]
    if portion:
        yield torch.tensor(portion)


class Lattices:
    """Transducer lattices of one batch of audio, whose projection all hypotheses share.

    Args:
        model: a NeMo transducer in eval mode.
        head: the head, from `find_head(model)`.
        audio: output of `encode_audio`.
    """

    def __init__(self, model: Any, head: Head, audio: EncodedAudio):
        self.model, self.transducer = model, head.transducer
        self.lengths = audio.lengths
        self.frames = model.joint.project_encoder(audio.encoded.transpose(1, 2))

    def score(self, b: Tensor, labels: Tensor, lengths: Tensor, max_cells: int, own: bool) -> Tensor:
        """`log P(y|x)`, `[P]`, of labels `[P, U]` with lengths `[P]`, each under the utterance with the index `b [P]`."""
        frames, positions, labels, lengths, frame_lengths = self._projected(b, labels, lengths)
        if frames.shape[1] == 0:
            return torch.full((len(b),), -math.inf, device=frames.device)
        fits = len(b) * frames.shape[1] * positions.shape[1] <= max_cells
        if own and fits and labels.shape[1]:
            nll = _own_kernel(self.model, frames, positions, labels, frame_lengths, lengths)
            if not bool(((nll > KERNEL_TRUSTED_BELOW) | ~torch.isfinite(nll)).any()):
                return -nll
        scores = self._arc_scores(frames, positions, labels, frame_lengths, lengths, max_cells)
        return arc_full_sum(scores, self.transducer.arcs, frame_lengths, lengths).float()

    def best_path(self, b: Tensor, labels: Tensor, lengths: Tensor, max_cells: int) -> TransducerPath:
        """The most probable alignment. Arguments as in `score`."""
        frames, positions, labels, lengths, frame_lengths = self._projected(b, labels, lengths)
        scores = self._arc_scores(frames, positions, labels, frame_lengths, lengths, max_cells)
        return best_path_of_arcs(scores, self.transducer.arcs, frame_lengths, lengths)

    def _projected(self, b: Tensor, labels: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Frames `[P, T, J]`, positions `[P, U+1, J]`, labels `[P, U]`, label lengths and frame lengths, without needless padding."""
        device = self.frames.device
        labels = labels[:, : int(lengths.max())].contiguous().to(device)
        lengths = lengths.to(device)
        frame_lengths = self.lengths[b.to(device)]
        frames = self.frames[b.to(device), : int(frame_lengths.max())]
        predicted, _, _ = self.model.decoder(targets=labels, target_length=lengths)
        positions = self.model.joint.project_prednet(predicted.transpose(1, 2))
        return frames, positions, labels, lengths, frame_lengths

    def _arc_scores(
        self, frames: Tensor, positions: Tensor, labels: Tensor, frame_lengths: Tensor, lengths: Tensor, max_cells: int
    ) -> Tensor:
        """Arc scores `[K, P, T, U+1]`, computed for some frames at a time."""
        step = max(1, max_cells // (len(labels) * positions.shape[1]))
        scores = []
        for start in range(0, frames.shape[1], step):
            logits = self.model.joint.joint_after_projection(frames[:, start : start + step], positions).float()
            inside = (frame_lengths - start).clamp(0, logits.shape[1])
            scores.append(self.transducer.arc_scores(logits, labels, inside, lengths))
        return torch.cat(scores, dim=2)


def _own_kernel(
    model: Any, frames: Tensor, positions: Tensor, labels: Tensor, frame_lengths: Tensor, lengths: Tensor
) -> Tensor:
    """Negative log-likelihood by the loss with which the model is trained, without the regularisers of that loss."""
    kernel = copy.deepcopy(model.loss._loss)
    for module in kernel.modules():
        for name in ('fastemit_lambda', 'sigma', 'omega'):
            if hasattr(module, name):
                setattr(module, name, 0.0)
    kernel.reduction = None
    logits = model.joint.joint_after_projection(frames, positions).float()
    return kernel(acts=logits.contiguous(), labels=labels, act_lens=frame_lengths, label_lens=lengths).reshape(-1)

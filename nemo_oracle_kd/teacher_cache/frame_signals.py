# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What is kept of the frame posteriors of a CTC head: the best classes, the occupancy of the text, or the best path."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.bridge.signals import EncodedAudio, Transcripts
from nemo_oracle_kd.teacher_cache.shards import Field, Utterance
from nemo_oracle_kd.teacher_cache.signals import PADDING, CachedSignal, Measured, Record, padded

__all__ = ['BestPathSignal', 'OccupancySignal', 'TopPosteriorsSignal']


class _FrameSignal(CachedSignal):
    """Base: known classes per frame, and what is known of all others."""

    head = 'ctc'

    @property
    def kept(self) -> int:
        """Number of classes per frame."""
        return min(self.options.top_k, self.classes)

    def answer(self, utterances: Sequence[Utterance], transcripts: Transcripts) -> EncodedAudio:
        """The best classes of every frame."""
        device = transcripts.labels.device
        lengths = torch.tensor([one.frames for one in utterances], device=device)
        data = {name: padded([one.data[name] for one in utterances], device) for name in self.fields}
        classes = data['classes']
        values = data.get('values', torch.zeros_like(classes, dtype=torch.float32))
        return EncodedAudio(lengths, top=F.TopPosteriors(classes, values, self.tails(data), self.classes))

    def tails(self, data: Mapping[str, Tensor]) -> dict[float, Tensor]:
        """Temperature -> `[B, T]`; here all other classes are impossible."""
        return {1.0: torch.full(data['classes'].shape[:2], F.IMPOSSIBLE, device=data['classes'].device)}

    def _cut(self, audio: EncodedAudio, **of_frames: Tensor) -> list[Record]:
        lengths = audio.lengths.tolist()
        return [
            self.stored({name: values[row, :length] for name, values in of_frames.items()})
            for row, length in enumerate(lengths)
        ]


class TopPosteriorsSignal(_FrameSignal):
    """The best classes of every frame with their log-probabilities, and the sum of the others at each temperature."""

    name = 'ctc_topk'

    @property
    def fields(self) -> dict[str, Field]:
        """Ids, log-probabilities at temperature 1, and the tails."""
        return {
            'classes': Field(self.kept, self.ids, self.classes),
            'values': Field(self.kept, self.number),
            'tails': Field(len(self.options.temperatures), self.number),
        }

    def record(self, model: Any, audio: EncodedAudio, transcripts: Transcripts) -> tuple[list[Record], Measured]:
        """The best classes, and the share of the others."""
        top = F.top_posteriors(audio.posteriors, self.kept, self.options.temperatures)
        tails = torch.stack([top.tails[at] for at in self.options.temperatures], 2)
        inside = F.length_mask(audio.lengths, tails.shape[1])
        measured = {}
        for at, tail in top.tails.items():
            known = (top.values / at).logsumexp(2)
            measured[f'tail at temperature {at:g}'] = torch.sigmoid(tail - known)[inside]
        return self._cut(audio, classes=top.classes, values=top.values, tails=tails), measured

    def tails(self, data: Mapping[str, Tensor]) -> dict[float, Tensor]:
        """As they were kept."""
        return {float(at): data['tails'][:, :, column] for column, at in enumerate(self.options.temperatures)}

    def bounds(self, measured: Mapping[str, tuple[float, float]]) -> list[str]:
        """Twice the share of the tail, see `functional/top_posteriors.py`."""
        return super().bounds(measured) + [
            f"{name}: {mean:.2g} of the probability on average, {largest:.2g} at most; in a frame the gradient with respect to the "
            f"student's logits differs by at most {2 * mean:.2g} on average and {2 * largest:.2g} at most (sum of absolute values)"
            for name, (mean, largest) in measured.items()
            if name != PADDING
        ]


class OccupancySignal(_FrameSignal):
    """Scores of the labels that the alignments of the text visit, of which the occupancy of the text is computed again.

    Of every frame the labels with the largest occupancy are kept. Leaving a label out of a frame loses the alignments through it,
    whose posterior probability is its occupancy, so the occupancies change by at most twice the sum of what was left out.
    """

    name = 'occupancy'
    reads_text = True

    @property
    def fields(self) -> dict[str, Field]:
        """Ids, and log-probabilities relative to the largest of the frame, which changes no occupancy."""
        return {'classes': Field(self.kept, self.ids, self.classes), 'values': Field(self.kept, self.number)}

    def record(self, model: Any, audio: EncodedAudio, transcripts: Transcripts) -> tuple[list[Record], Measured]:
        """The labels with the largest occupancy, and the occupancy of the others."""
        log_probs = audio.posteriors
        # of the padding, too, so that the search for the best does not meet NaN
        log_probs = F.fill_padding(log_probs, audio.lengths)
        blank = self.classes - 1
        gamma = F.ctc_occupancy(log_probs, transcripts.labels, audio.lengths, transcripts.lengths, blank)
        best, classes = gamma.topk(self.kept, dim=2)
        values = log_probs.gather(2, classes).clamp(min=F.IMPOSSIBLE)
        values = values - values.amax(2, keepdim=True)
        lost = (gamma.sum(2) - best.sum(2)).clamp(min=0).sum(1)
        return self._cut(audio, classes=classes, values=values), {'occupancy left out': lost}

    def bounds(self, measured: Mapping[str, tuple[float, float]]) -> list[str]:
        """Twice the occupancy that was left out."""
        mean, largest = measured.get('occupancy left out', (0.0, 0.0))
        return super().bounds(measured) + [
            f"occupancy left out: {mean:.2g} of an utterance on average, {largest:.2g} at most; the occupancies of a frame differ by at "
            f"most {min(2.0, 2 * mean):.2g} on average and {min(2.0, 2 * largest):.2g} at most (sum of absolute values)"
        ]


class BestPathSignal(_FrameSignal):
    """The best class of every frame."""

    name = 'best_path'

    @property
    def kept(self) -> int:
        """One class per frame."""
        return 1

    @property
    def fields(self) -> dict[str, Field]:
        """Ids alone."""
        return {'classes': Field(1, self.ids, self.classes)}

    def record(self, model: Any, audio: EncodedAudio, transcripts: Transcripts) -> tuple[list[Record], Measured]:
        """The best classes; nothing that an objective reads is left out."""
        return self._cut(audio, classes=audio.posteriors.argmax(2, keepdim=True)), {}

    def bounds(self, measured: Mapping[str, tuple[float, float]]) -> list[str]:
        """Nothing is rounded."""
        return ["the best class of every frame is kept exactly", *super().bounds(measured)[1:]]

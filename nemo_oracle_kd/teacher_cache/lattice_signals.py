# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What is kept of a transducer's lattice: the bins of every cell, or the cells of the best path in full."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.bridge.encode import predict_labels
from nemo_oracle_kd.bridge.joint import joint_tensors
from nemo_oracle_kd.bridge.signals import EncodedAudio, Transcripts
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.teacher_cache.shards import Field, Utterance
from nemo_oracle_kd.teacher_cache.signals import CachedSignal, Measured, Record, padded

__all__ = ['CollapsedLatticeSignal', 'PathCellsSignal', 'TopLatticeSignal']

#: logits that are held at a time
_NUMBERS = 1 << 22
#: frames that an utterance without an alignment may have; a number in a damaged file must not fill the memory
_MOST_FRAMES_WITHOUT_PATH = 100_000


class _LatticeSignal(CachedSignal):
    """Base: one row per cell, frame by frame."""

    head = 'transducer'
    family = 'lattice'
    reads_text = True
    unit = 'cell'

    @property
    def near(self) -> int:
        """The next label and the blanks."""
        return 1 + len(self.facts.transducer.blanks)

    @property
    def steps(self) -> int:
        """Durations of a TDT."""
        return self.facts.transducer.duration_outputs

    def rows(self, frames: int, labels: int) -> int:
        """Cells."""
        return frames * (labels + 1)

    @property
    def fields(self) -> dict[str, Field]:
        """Log-probabilities of the next label and the blanks, and of the durations."""
        found = {'near': Field(self.near, self.number)}
        if self.steps:
            found['durations'] = Field(self.steps, self.number)
        return found

    def record(self, model: Any, audio: EncodedAudio, transcripts: Transcripts) -> tuple[list[Record], Measured]:
        """The bins of all cells, computed for some frames of an utterance at a time."""
        predicted = predict_labels(model, transcripts)
        joint = joint_tensors(model, audio.encoded, predicted, dropout=False)
        records = []
        for row, (frames, count) in enumerate(zip(audio.lengths.tolist(), transcripts.lengths.tolist())):
            following = F.next_labels(
                transcripts.labels[row : row + 1, :count],
                transcripts.lengths[row : row + 1],
                self.facts.transducer.blank,
            )
            parts = [self.bins(part, following) for part in self._cells(joint, row, frames, count)]
            whole = (
                {name: torch.cat([part[name].flatten(0, -2) for part in parts]) for name in self.fields}
                if parts
                else None
            )
            records.append(self.stored(whole or {name: torch.zeros(0, f.columns) for name, f in self.fields.items()}))
        return records, {}

    def _cells(self, joint: F.JointTensors, row: int, frames: int, count: int) -> Iterator[list[Tensor]]:
        """Log-probabilities `[t, U+1, V]` of each softmax, for some frames at a time."""
        temperature = self.options.temperatures[0]
        step = max(1, _NUMBERS // ((count + 1) * joint.classes))
        for start in range(0, frames, step):
            part = replace(
                joint,
                encoder=joint.encoder[row : row + 1, start : min(start + step, frames)],
                prediction=joint.prediction[row : row + 1, : count + 1],
            )
            split = self.facts.transducer.split(part.logits().float())
            yield [(logits[0] / temperature).log_softmax(-1) for logits in split]

    def bins(self, softmaxes: Sequence[Tensor], following: Tensor) -> dict[str, Tensor]:
        """The fields of some cells.

        Args:
            softmaxes: log-probabilities `[t, U+1, V]` of labels and blanks, and of the durations.
            following: `[1, U+1]` next labels.
        """
        tokens = softmaxes[0]
        blanks = following.new_tensor(self.facts.transducer.blanks).expand(following.shape[1], -1)
        near = torch.cat([following[0].unsqueeze(1), blanks], 1).expand(tokens.shape[0], -1, -1)
        found = {'near': tokens.gather(2, near).clamp(min=F.IMPOSSIBLE)}
        if self.steps:
            found['durations'] = softmaxes[1].clamp(min=F.IMPOSSIBLE)
        return found

    def answer(self, utterances: Sequence[Utterance], transcripts: Transcripts) -> EncodedAudio:
        """The lattices of a batch."""
        device, positions = transcripts.labels.device, transcripts.labels.shape[1] + 1
        lengths = torch.tensor([one.frames for one in utterances], device=device)
        shape = (max((one.frames for one in utterances), default=0), positions)
        data = {}
        for name in self.fields:
            parts = [one.data[name].reshape(one.frames, one.labels + 1, -1) for one in utterances]
            data[name] = padded(parts, device, shape)
        blank = self.facts.transducer.blank
        following = F.next_labels(transcripts.labels, transcripts.lengths, blank)
        near = data['near']
        lattice = F.StoredLattice(
            label=near[..., 0],
            blanks=near[..., 1:],
            next_labels=following,
            blank_ids=self.facts.transducer.blanks,
            vocabulary=self.classes,
            rest=self.rest(data, following),
            best=data.get('classes'),
            best_values=data.get('values'),
            durations=data.get('durations'),
        )
        return EncodedAudio(lengths, lattice=lattice)

    def rest(self, data: Mapping[str, Tensor], following: Tensor) -> Tensor:
        """`[B, T, U+1]` log-probability of all other classes."""
        known = data['near'].clone()
        # behind the last label there is no next label, whose place holds the blank a second time
        known[..., 0].masked_fill_((following == self.facts.transducer.blank).unsqueeze(1), F.IMPOSSIBLE)
        return F.remaining_log_prob(known)


class CollapsedLatticeSignal(_LatticeSignal):
    """Next label and blanks of every cell; all other classes have the remaining probability."""

    name = 'lattice_collapsed'

    def bounds(self, measured: Mapping[str, tuple[float, float]]) -> list[str]:
        """Rounding of `log p` by a relative error r moves p by at most r / e."""
        error = (2.0**-11 if self.number == 'F16' else 2.0**-24) / 2.718
        return super().bounds(measured) + [
            f"in a cell each probability differs by at most {error:.1g}, and the gradient with respect to the student's logits by at "
            f"most {2 * self.near * error:.1g} (sum of absolute values)"
        ]


class TopLatticeSignal(_LatticeSignal):
    """The best classes of every cell, next label, blanks, and the probability of all others."""

    name = 'lattice_topk'

    @property
    def fields(self) -> dict[str, Field]:
        """As of the collapsed lattice, with ids and log-probabilities of the best classes, and that of the others."""
        kept = min(self.options.top_k, self.classes)
        return {
            **super().fields,
            'classes': Field(kept, self.ids, self.classes),
            'values': Field(kept, self.number),
            'rest': Field(1, self.number),
        }

    def bins(self, softmaxes: Sequence[Tensor], following: Tensor) -> dict[str, Tensor]:
        """See the base."""
        found = super().bins(softmaxes, following)
        tokens = softmaxes[0]
        values, classes = tokens.topk(self.fields['classes'].columns, dim=2)
        blanks = following.new_tensor(self.facts.transducer.blanks).expand(*tokens.shape[:2], -1)
        named = torch.cat([classes, following[0].view(1, -1, 1).expand(tokens.shape[0], -1, -1), blanks], 2)
        rest = tokens.scatter(2, named, F.IMPOSSIBLE).logsumexp(2, keepdim=True)
        return {
            **found,
            'classes': classes,
            'values': values.clamp(min=F.IMPOSSIBLE),
            'rest': rest.clamp(min=F.IMPOSSIBLE),
        }

    def rest(self, data: Mapping[str, Tensor], following: Tensor) -> Tensor:
        """As it was kept."""
        return data['rest'][..., 0]

    def bounds(self, measured: Mapping[str, tuple[float, float]]) -> list[str]:
        """As of the collapsed lattice."""
        error = (2.0**-11 if self.number == 'F16' else 2.0**-24) / 2.718
        bins = self.near + self.fields['classes'].columns + 1
        return super().bounds(measured) + [
            f"in a cell each probability differs by at most {error:.1g}, and the gradient with respect to the student's logits by at "
            f"most {2 * bins * error:.1g} (sum of absolute values)"
        ]


class PathCellsSignal(_LatticeSignal):
    """The cells of the best alignment of the text, with the probabilities of all classes."""

    name = 'best_path'
    unit = 'step'

    @property
    def fields(self) -> dict[str, Field]:
        """Frame and position of every step, and the log-probabilities of all outputs."""
        outputs = self.classes + self.steps
        return {'places': Field(2, 'I32', 2**31 - 1), 'whole': Field(outputs, self.number)}

    def rows(self, frames: int, labels: int) -> int:
        """Steps of an alignment that emits every label and reads every frame by itself; others have fewer."""
        return frames + labels

    def check(self, utterance: Utterance) -> None:
        """The steps lie in the lattice."""
        places = utterance.data['places']
        inside = places.numel() == 0 or bool((places < torch.tensor([utterance.frames, utterance.labels + 1])).all())
        longest = max((1, *self.facts.transducer.durations))
        too_many = utterance.frames > max(len(places) * longest, _MOST_FRAMES_WITHOUT_PATH)
        if not inside or too_many or len(places) > self.rows(utterance.frames, utterance.labels):
            raise ConfigError(
                "the cache holds an alignment that leaves its lattice: copy the cache again, or cache the teacher again"
            )

    def record(self, model: Any, audio: EncodedAudio, transcripts: Transcripts) -> tuple[list[Record], Measured]:
        """The steps of the best alignments."""
        transducer, temperature = self.facts.transducer, self.options.temperatures[0]
        joint = joint_tensors(model, audio.encoded, predict_labels(model, transcripts), dropout=False)
        path = F.transducer_best_path(transducer, joint, transcripts.labels, audio.lengths, transcripts.lengths)
        records = []
        for row in range(len(audio.lengths)):
            frames = path.step_frames[row][path.step_frames[row] >= 0]
            emits = path.step_labels[row][: len(frames)]
            position = emits.cumsum(0) - emits
            cell = replace(
                joint,
                encoder=joint.encoder[row, frames].unsqueeze(1),
                prediction=joint.prediction[row, position].unsqueeze(1),
            )
            split = transducer.split(cell.logits().float())
            whole = torch.cat([(logits[:, 0, 0] / temperature).log_softmax(-1) for logits in split], 1)
            records.append(
                self.stored({'places': torch.stack([frames, position], 1), 'whole': whole.clamp(min=F.IMPOSSIBLE)})
            )
        return records, {}

    def answer(self, utterances: Sequence[Utterance], transcripts: Transcripts) -> EncodedAudio:
        """Lattices of which the cells of the path are known."""
        device, transducer = transcripts.labels.device, self.facts.transducer
        lengths = torch.tensor([one.frames for one in utterances], device=device)
        frames, positions = max(one.frames for one in utterances), transcripts.labels.shape[1] + 1
        whole = torch.cat([one.data['whole'].float() for one in utterances]).to(device)
        place = torch.full((len(utterances), frames, positions), -1, dtype=torch.int64, device=device)
        start = 0
        for row, one in enumerate(utterances):
            t, u = one.data['places'].long().to(device).unbind(1)
            place[row, t, u] = torch.arange(start, start + len(t), device=device)
            start += len(t)
        following = F.next_labels(transcripts.labels, transcripts.lengths, transducer.blank)
        known, cells = place >= 0, place.clamp(min=0)

        def pick(columns: Tensor) -> Tensor:
            """`[B, T, U+1]` of the cells of the path; impossible elsewhere, so that the path is the only one."""
            return torch.where(known, columns, torch.full_like(columns, F.IMPOSSIBLE))

        ids = following.unsqueeze(1).expand(-1, frames, -1)
        at = whole if len(whole) else whole.new_zeros(1, self.classes + self.steps)
        lattice = F.StoredLattice(
            label=pick(at[cells, ids]),
            blanks=torch.stack([pick(at[cells, blank]) for blank in transducer.blanks], -1),
            next_labels=following,
            blank_ids=transducer.blanks,
            vocabulary=self.classes,
            rest=torch.zeros_like(place, dtype=torch.float32),
            durations=at[cells][..., self.classes :] if self.steps else None,
            whole=at[:, : self.classes],
            place=place,
        )
        return EncodedAudio(lengths, lattice=lattice)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Teachers, from which a student learns. None is an `nn.Module`, so nothing of a teacher can enter a student's weights.

`teacher_kinds.py` decides which kind a config asks for.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from nemo_oracle_kd.bridge.attention_prompt import describe_attention, is_attention_model
from nemo_oracle_kd.bridge.encode import encode_audio, predict_labels
from nemo_oracle_kd.bridge.model import Head, ModelDescription, describe, find_head
from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses, score_encoded
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, StudentStep, Transcripts
from nemo_oracle_kd.bridge.vocabulary import TextCodec
from nemo_oracle_kd.distillation.answer_memory import AnswerMemory
from nemo_oracle_kd.distillation.contradictions import ContradictionLosses
from nemo_oracle_kd.distillation.sides import model_side
from nemo_oracle_kd.distillation.teacher_settings import TeacherConfig, TeacherOptions
from nemo_oracle_kd.losses.transducer_side import TransducerSide

__all__ = ['OnlineTeacher', 'OwnLoss', 'Teacher']


@dataclass(frozen=True)
class OwnLoss:
    """A loss that a teacher adds to the student's training step.

    Attributes:
        losses: `[B]` nats.
        weight: factor in the training loss.
        scales_with_labels: the weight is multiplied by that of the label loss.
    """

    losses: torch.Tensor
    weight: float
    scales_with_labels: bool = False


class Teacher(ABC):
    """Interface of a teacher that runs beside the student.

    It hears the batch's audio as the loader yields it, before SpecAugment and dither: the student's augmentation is the
    student's alone.

    Attributes:
        config_class: the dataclass of its options, derived from `TeacherOptions`.
        description: what must agree with the student.
        model: the NeMo model behind it, for objectives that read a joint; `None` where there is no such model.
        readiness: factor of every objective; at 0 the teacher does not teach yet, and no objective is computed.
        directions: factor of the objectives in which the student learns from the teacher, and of the same objectives with the
            roles swapped, in which the teacher learns from the student; each stops the gradient of the side that teaches.
        label_share: factor of the student's own label loss.
        held_out_batches: batches of each validation on which :meth:`held_out_losses` is to be measured.
        follows: the student's head at whose loss :meth:`own_losses` is called, `ctc` or `transducer`.
        rows: checks of the training rows by which it finds its answers; `None` for a teacher that needs only the audio.
    """

    config_class: type[TeacherOptions]
    description: ModelDescription
    model: Any = None
    readiness: float = 1.0
    directions: tuple[float, float] = (1.0, 0.0)
    label_share: float = 1.0
    held_out_batches: int = 0
    follows: str = 'ctc'
    rows: Any = None

    def __deepcopy__(self, memo):
        return self  # frozen: copies of whatever holds a teacher share it

    def __getstate__(self):
        raise TypeError(
            "a teacher cannot be pickled, because every fit builds it from its config: save the config instead"
        )

    @classmethod
    def kinds(cls) -> 'tuple[type[Teacher], ...]':
        """The classes that this entry of the registry stands for."""
        return (cls,)

    @classmethod
    def choose(cls, values: Mapping[str, Any]) -> 'type[Teacher]':
        """Chooses the one of :meth:`kinds` that a config asks for.

        Raises:
            ConfigError: there is no such kind.
        """
        return cls

    def to(self, device: torch.device) -> 'Teacher':
        """Moves the teacher to the student's device."""
        return self

    def expect(self, signals: set[str]) -> None:
        """Announces which fields of `EncodedAudio` the objectives will read: `log_probs`, `encoded`, both or none."""
        self.signals = set(signals)

    @abstractmethod
    def hear(self, batch: AudioBatch) -> EncodedAudio:
        """Computes the teacher's outputs for a batch. Called once per training step.

        They carry a gradient only if the teacher learns as well.

        Args:
            batch: audio, and its transcripts in the student's labels.
        """

    def transducer_side(self, heard: EncodedAudio, transcripts: Transcripts, reads: Collection[str]) -> TransducerSide:
        """What lattice objectives read of the teacher.

        Args:
            heard: from :meth:`hear`.
            transcripts: the batch's labels.
            reads: see `model_side`.
        """
        predicted = heard.predicted
        if predicted is None and 'lattice' in reads:
            predicted = predict_labels(self.model, transcripts)
        return model_side(self.model, heard.encoded, predicted, heard.lengths, reads, dropout=False, arcs=heard.arcs)

    @property
    def lattice_source(self) -> Any:
        """Where the lattice comes from, for `lattice_problems`: the model, or its facts; `None` where there is no lattice."""
        return self.model

    def bind(self, student: Any) -> None:
        """Announces the student to be taught, before the two are compared. The student is not changed."""
        return None

    def problems(self, objectives: Iterable[str]) -> Iterator[str]:
        """Yields problems that the descriptions of both models do not show, as sentences that name the fix."""
        return iter(())

    def attach(self, student: Any) -> None:
        """Installs what it needs in the student that it was bound to, after all checks have passed."""
        return None

    def release(self, student: Any) -> None:
        """Restores the student to what it was before :meth:`attach`."""
        return None

    def begin(self, step: int) -> None:
        """Announces a training step, before the student's forward.

        Args:
            step: optimizer steps done so far.
        """
        return None

    def own_losses(
        self, step: StudentStep, batch: AudioBatch, metrics: dict[str, Any] | None = None
    ) -> dict[str, OwnLoss]:
        """Returns what it adds to the training step of the student's CTC head. Called before the objectives are computed.

        Args:
            step: outputs of the student's CTC head.
            batch: the audio.
            metrics: where statistics go; `None` on steps that are not written.
        """
        return {}

    def held_out_losses(self, batch: AudioBatch) -> ContradictionLosses | None:
        """Losses of an oracle in training on a batch of held-out rows; `None` where there is nothing to measure."""
        return None

    def parameters(self) -> Iterable[torch.nn.Parameter]:
        """Parameters of its own that are trained together with the student."""
        return ()

    def state(self) -> dict[str, Any]:
        """Returns what a resumed training needs."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the :meth:`state` of the training that is resumed; called after :meth:`attach`."""
        return None

    def sequence_nll(
        self, batch: AudioBatch, codec: TextCodec, hear: Callable[[], EncodedAudio]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Minus log-probability of each transcript, read as text and written in the teacher's own labels.

        Args:
            batch: audio and transcripts in the student's vocabulary.
            codec: of the student.
            hear: returns the result of :meth:`hear` for the batch.

        Returns:
            `[B]` nats, `inf` where the text has no alignment, and `[B]` the teacher's tokens of it.

        Raises:
            UnwritableText: a transcript that the teacher's labels cannot express.
            ValueError: a teacher that scores no texts.
        """
        raise ValueError(f"a {type(self).__name__} gives no scores of texts: use an objective on frames")


class OnlineTeacher(Teacher):
    """A frozen NeMo model that runs during the student's training. An oracle teacher also reads the transcripts.

    It is not an `nn.Module`, so it stays out of the student's `state_dict`, checkpoint, optimizer, DDP buffers, `.nemo` and `train()`.

    Args:
        config: options with `restore_from`.
    """

    config_class = TeacherConfig

    def __init__(self, config: TeacherConfig):
        self.source = config.restore_from
        self.model: Any = restore_frozen(config.restore_from)
        facts = describe_attention if is_attention_model(self.model) else describe
        self.description: ModelDescription = facts(self.model)
        self.memory = AnswerMemory(config.memory_mb) if config.memory_mb > 0 else None
        self._scores_with = config.head
        self._head: Head | None = None
        self._codec: TextCodec | None = None
        self.expect({'log_probs', 'encoded'})

    def to(self, device: torch.device) -> 'OnlineTeacher':
        """Moves the teacher to the student's device."""
        self.model.to(device)
        return self

    def expect(self, signals: set[str]) -> None:
        """Limits the memory to these signals."""
        has = {'log_probs': 'ctc' in self.description.heads, 'encoded': 'transducer' in self.description.heads}
        self.signals = {name for name in signals if has[name]}

    @torch.no_grad()
    def hear(self, batch: AudioBatch) -> EncodedAudio:
        """Runs the model, or takes its outputs from the memory.

        Raises:
            ValueError: an oracle teacher and an utterance without transcript.
        """
        if self.description.reads_transcript and bool((batch.transcripts.lengths == 0).any()):
            raise ValueError(
                "the oracle teacher reads the transcript, but an utterance of this batch has none: remove rows without "
                "`text` from the training manifest"
            )
        if self.memory is None or not self.signals:
            return encode_audio(self.model, batch)
        return self._remember(batch)

    def _remember(self, batch: AudioBatch) -> EncodedAudio:
        """Signals `[B, T, N]` with lengths `[B]`, from the memory where the utterance is there."""
        keys = self.memory.keys(batch)
        answers = {name: [self.memory.get(name.encode() + key) for key in keys] for name in self.signals}
        missing = [row for row in range(len(keys)) if any(of_one[row] is None for of_one in answers.values())]
        if missing:
            heard = encode_audio(self.model, batch.select(missing))
            said = {'log_probs': heard.log_probs, 'encoded': heard.encoded}
            for name, of_one in answers.items():
                frames = said[name].transpose(1, 2) if name == 'encoded' else said[name]
                for row, values, length in zip(missing, frames, heard.lengths):
                    of_one[row] = values[: int(length)]
                    self.memory.put(name.encode() + keys[row], of_one[row])
        device = batch.signal.device
        lengths = torch.tensor([len(values) for values in next(iter(answers.values()))], device=device)
        padded = {
            name: torch.nn.utils.rnn.pad_sequence([values.to(device) for values in of_one], batch_first=True)
            for name, of_one in answers.items()
        }
        if 'encoded' in padded:
            padded['encoded'] = padded['encoded'].transpose(1, 2)
        return EncodedAudio(lengths, **padded)

    @property
    def head(self) -> Head:
        """The head that scores texts.

        Raises:
            ValueError: the model lacks the head that `teacher.head` asks for.
        """
        if self._head is None:
            self._head = find_head(self.model, self._scores_with)
        return self._head

    @property
    def codec(self) -> TextCodec:
        """Converts texts to the labels of that head."""
        if self._codec is None:
            self._codec = TextCodec(self.model, self.head.vocabulary)
        return self._codec

    @torch.no_grad()
    def sequence_nll(
        self, batch: AudioBatch, codec: TextCodec, hear: Callable[[], EncodedAudio]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`Teacher.sequence_nll`; scores in the memory need no forward."""
        keys = self.memory.keys(batch) if self.memory is not None else []
        answers = [self.memory.get(b'score' + key) for key in keys] or [None] * len(batch.lengths)
        missing = [row for row, answer in enumerate(answers) if answer is None]
        if missing:
            asked, audio = batch, None
            if len(missing) < len(answers):
                asked = batch.select(missing)
                audio = hear().select(missing) if self.signals else self.hear(asked)
            labels = self._own_labels(asked, codec)
            hypotheses = Hypotheses.from_lists([[own] for own in labels], batch.signal.device)
            scores = score_encoded(self.model, self.head, audio or hear(), hypotheses)[:, 0]
            for row, score, own in zip(missing, scores.double().cpu(), labels):
                answers[row] = torch.stack([-score, score.new_tensor(len(own))])
                if self.memory is not None:
                    self.memory.put(b'score' + keys[row], answers[row])
        nll, tokens = torch.stack(answers).to(batch.signal.device).unbind(1)
        return nll, tokens.long()

    def _own_labels(self, batch: AudioBatch, codec: TextCodec) -> list[list[int]]:
        counts = batch.transcripts.lengths.tolist()
        labels = [row[:count] for row, count in zip(batch.transcripts.labels.tolist(), counts)]
        if codec.fingerprint == self.codec.fingerprint:
            return labels
        return [self.codec.encode(codec.decode(row), codec.language(row)) for row in labels]

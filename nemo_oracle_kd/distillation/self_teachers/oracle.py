# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The student reads the transcript in a branch of its own and teaches itself: one-stage oracle distillation.

After arXiv 2306.10058 (EM-Network) and, for streaming students, "Heuristic-free knowledge distillation for streaming ASR via
multi-modal training" (AAAI 2025):

    L = L_student + loss_weight * L_oracle + sum_i w_i * objective_i

`L_oracle` is the loss of what a label branch on top of the student's encoder says: of its posteriors `P(. | t, x, y)` beside a CTC
head, of the lattice `P(. | t, u, x, y)` that the student's joint makes of its output in a transducer (`oracle_voices.py`). The
branch is a child of the student while it is trained and leaves no trace in what is saved.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from nemo.utils import logging

from nemo_oracle_kd.bridge.audio_path import AudioPath, evaluating
from nemo_oracle_kd.bridge.hooks.encoder import encoder_width
from nemo_oracle_kd.bridge.hooks.guest import dismiss, invite
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, StudentStep
from nemo_oracle_kd.distillation.contradictions import ContradictionLosses, contradiction_losses, score_texts
from nemo_oracle_kd.distillation.self_teachers.base import SelfTeacherConfig, StudentAsTeacher
from nemo_oracle_kd.distillation.self_teachers.listening import ListeningWatch
from nemo_oracle_kd.distillation.self_teachers.oracle_voices import FrameVoice, LatticeVoice, OracleVoice
from nemo_oracle_kd.distillation.self_teachers.start import RunningLoss, ramp
from nemo_oracle_kd.distillation.self_teachers.view import LABEL_SHARE, consistent_views, single_view_problems
from nemo_oracle_kd.distillation.teachers import OwnLoss
from nemo_oracle_kd.losses.objectives import objectives_of
from nemo_oracle_kd.modules.label_corruption import LabelCorruptionConfig
from nemo_oracle_kd.modules.label_encoder import LabelEncoderConfig
from nemo_oracle_kd.modules.label_fusion import FusionConfig
from nemo_oracle_kd.modules.label_reader import width_problems
from nemo_oracle_kd.modules.oracle_branch import OracleBranchOptions

__all__ = ['OracleSelfConfig', 'OracleSelfTeacher']

GRADIENTS = {'student': (1.0, 0.0), 'both': (1.0, 1.0)}
WIDEST = 256


@dataclass
class BranchLabelEncoderConfig(LabelEncoderConfig):
    """As in an oracle teacher, but lighter: it runs in every step of the student."""

    ff_expansion: float = field(default=2.0, metadata={'help': 'feed-forward width in units of the branch width'})
    dropout: float = field(default=0.0, metadata={'help': 'dropout on embeddings, attention and residual branches'})


@dataclass
class BranchFusionConfig(FusionConfig):
    """As in an oracle teacher, but lighter.

    Without self-attention the branch hears no more than the student's encoder gave it, which a streaming student can follow,
    and a step keeps a third less for its backward pass.
    """

    self_attention: bool = field(
        default=False, metadata={'help': 'self-attention over the audio before each cross-attention'}
    )
    ff_expansion: float = field(
        default=0.0, metadata={'help': 'feed-forward width in units of the branch width; 0: none'}
    )
    dropout: float = field(default=0.0, metadata={'help': 'dropout on attention and residual branches'})


@dataclass
class OracleSelfConfig(SelfTeacherConfig):
    """Options of the branch, its loss and its guards against copying."""

    start_below: float | None = field(
        default=1.5,
        metadata={
            'help': "train the branch once the student's running label loss is below this many nats per label; null: at once"
        },
    )
    ramp: int = field(
        default=100, metadata={'help': 'optimizer steps over which the objectives then reach their full weight'}
    )
    teach_below: float | None = field(
        default=0.8,
        metadata={'help': "teach once the branch's running loss is below this share of the student's; null: at once"},
    )
    loss_weight: float = field(default=1.0, metadata={'help': "factor of the branch's own loss"})
    gradients: str = field(
        default='student', metadata={'help': 'who gets the gradient of the objectives: student, or both (EM-Network)'}
    )
    encoder_gradient: bool = field(
        default=True, metadata={'help': "whether the branch's loss also trains the student's encoder"}
    )
    view_weight: float = field(
        default=0.0,
        metadata={
            'help': 'alpha of CR-CTC: the step also has a second draw of SpecAugment, held to the first; 0: one draw'
        },
    )
    width: int | None = field(
        default=None,
        metadata={
            'help': f"width of label encoder and fusion; null: the encoder's, up to {WIDEST}, a multiple of the heads"
        },
    )
    self_conditioning: bool = field(
        default=True, metadata={'help': "add the student's own posteriors, detached, to the query of the fusion"}
    )
    label_encoder: BranchLabelEncoderConfig = field(
        default_factory=BranchLabelEncoderConfig, metadata={'help': 'depth, heads and dropout of the label encoder'}
    )
    fusion: BranchFusionConfig = field(
        default_factory=BranchFusionConfig, metadata={'help': 'depth, heads and alignment prior of the fusion'}
    )
    label_corruption: LabelCorruptionConfig = field(
        default_factory=LabelCorruptionConfig, metadata={'help': 'what keeps the branch from copying'}
    )
    held_out_batches: int = field(
        default=4,
        metadata={'help': 'validation batches on which each validation measures whether the branch listens; 0: none'},
    )
    listen_every: int = field(
        default=1, metadata={'help': 'measure on every n-th logged step whether the branch listens; 0: never'}
    )

    def problems(self, path: str) -> Iterator[str]:
        yield from super().problems(path)
        if self.gradients not in GRADIENTS:
            yield f"`{path}.gradients` is {self.gradients!r}: choose one of {', '.join(GRADIENTS)}"
        if not (math.isfinite(self.loss_weight) and self.loss_weight > 0):
            yield (
                f"`{path}.loss_weight` must be a number above 0, not {self.loss_weight}: without a loss of its own the branch "
                "would learn nothing that it could teach"
            )
        if not (math.isfinite(self.view_weight) and self.view_weight >= 0):
            yield f"`{path}.view_weight` must be a finite number of at least 0, not {self.view_weight}"
        if self.teach_below is not None and not (math.isfinite(self.teach_below) and self.teach_below > 0):
            yield f"`{path}.teach_below` must be a number above 0, or null to teach at once, not {self.teach_below}"
        for name in ('held_out_batches', 'listen_every'):
            if getattr(self, name) < 0:
                yield f"`{path}.{name}` must be at least 0, not {getattr(self, name)}"
        if self.width is not None and self.width < 1:
            yield f"`{path}.width` must be at least 1, or null to choose it by the encoder, not {self.width}"
        elif self.width is not None:
            yield from width_problems(self.width, self.label_encoder, self.fusion, path, 'width')


class OracleSelfTeacher(StudentAsTeacher):
    """The label branch of the student that is being trained.

    Two conditions must be met, and each stays met. The branch is trained once the student's label loss is below `start_below`,
    because only a student that hears something gives the branch a reason to listen. It teaches once its own loss is below
    `teach_below` times the student's.
    """

    config_class = OracleSelfConfig
    has_lattice = True

    def __init__(self, config: OracleSelfConfig):
        super().__init__(config)
        self.directions = GRADIENTS[config.gradients]
        self.label_share = LABEL_SHARE if config.view_weight else 1.0
        self.held_out_batches = config.held_out_batches
        self.loss, self.student_loss = RunningLoss(), RunningLoss()
        self.teaches_since: int | None = None
        self.voice: OracleVoice | None = None
        self._listening, self._looks = ListeningWatch(), 0
        self._heard: EncodedAudio | None = None
        self._path: AudioPath | None = None

    def bind(self, student: Any) -> None:
        """Takes the student's description, as that of a model that reads the transcript."""
        super().bind(student)
        self.description = replace(self.description, reads_transcript=True)

    def problems(self, objectives: Iterable[str]) -> Iterator[str]:
        """Also refuses an encoder whose width is not known, and objectives for which one branch does not suffice."""
        yield from super().problems(objectives)
        frames, lattices = (', '.join(objectives_of(family, objectives)) for family in ('frame', 'lattice'))
        if frames and lattices:
            yield (
                f"{frames} and {lattices} need two label branches, one for each head of the student: choose objectives of one "
                "kind for teacher.self: oracle"
            )
        if lattices and self.config.gradients == 'both':
            yield f"{lattices} has no gradient for its teacher: set teacher.gradients=student"
        if self.config.view_weight:
            yield from single_view_problems(self.student, 'teacher.view_weight')
            if lattices:
                yield f"teacher.view_weight compares frame posteriors and {lattices} lattices: set it to 0, or use frame objectives"
        if encoder_width(self.student) is None:
            yield (
                f"the student's encoder ({type(self.student.encoder).__name__}) does not say how wide its output is, so no label "
                "branch fits it: use a NeMo audio encoder such as ConformerEncoder or ConvASREncoder"
            )

    def attach(self, student: Any) -> None:
        """Builds the branch and makes it a hidden child of the student."""
        config = self.config
        options = OracleBranchOptions(
            encoder_width(student),
            len(self.description.vocabulary),
            config.width or _fitting_width(encoder_width(student), config),
            config.self_conditioning,
            config.label_encoder,
            config.fusion,
            config.label_corruption,
        )
        with torch.random.fork_rng():  # the student's random stream must not depend on its teacher
            self.voice = (LatticeVoice if self.follows == 'transducer' else FrameVoice)(student, options)
        invite(student, self.voice.branch)
        self._path = AudioPath(student) if self.config.view_weight else None

    def release(self, student: Any) -> None:
        """Takes the branch out of the student."""
        super().release(student)
        if self.voice is not None:
            self.voice.remove()
        dismiss(student)
        self.voice = self._heard = self._path = None

    def parameters(self) -> Iterable[torch.nn.Parameter]:
        """Parameters of the branch."""
        return () if self.voice is None else self.voice.branch.parameters()

    def begin(self, step: int) -> None:
        """Announces the step to the branch."""
        super().begin(step)
        self.voice.arm()

    @property
    def readiness(self) -> float:
        """0 until the branch is ahead of the student, then rising to 1."""
        return ramp(self.teaches_since, self.step, self.config.ramp)

    def meet(self, step: StudentStep, batch: AudioBatch, metrics: dict[str, Any] | None) -> dict[str, OwnLoss]:
        """Returns the branch's own loss of the transcripts, and with `view_weight` the terms of a second view.

        While the branch waits, several processes that exchange gradients get a zero that involves all its weights.
        """
        heard, texts = self.voice.heard(step), step.transcripts
        views = consistent_views(self._path, step, batch, self.config.view_weight) if self._path is not None else {}
        if self.start.since is None:
            if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
                return views
            zero = sum((parameter * 0.0).sum() for parameter in self.parameters())
            return {**views, 'oracle_loss': OwnLoss(zero.expand(len(texts.lengths)), 1.0)}
        audio = heard.encoded if self.config.encoder_gradient else heard.encoded.detach()
        losses, self._heard = self.voice.own_losses(self.voice.say(replace(heard, encoded=audio), texts), step)
        self._begin_to_teach(losses, step)
        if metrics is not None and self.config.listen_every:
            if self._looks % self.config.listen_every == 0:
                self._listening.look(self.voice, heard, step, metrics)
            self._looks += 1
        return {**views, 'oracle_loss': OwnLoss(losses, self.config.loss_weight)}

    def _begin_to_teach(self, losses: torch.Tensor, step: StudentStep) -> None:
        if self.teaches_since is not None:
            return
        if self.config.teach_below is not None:
            self.loss.follow(losses, step.transcripts.lengths)
            self.student_loss.follow(step.label_losses, step.transcripts.lengths)
            if None in (self.loss.value, self.student_loss.value):
                return
            if self.loss.value >= self.config.teach_below * self.student_loss.value:
                return
            logging.info(
                f"Step {self.step}: the oracle branch is ahead of the student ({self.loss.value:.3g} against "
                f"{self.student_loss.value:.3g} nats per label) and starts to teach."
            )
        self.teaches_since = self.step

    def hear(self, batch: AudioBatch) -> EncodedAudio:
        """Returns what the branch has said in this step, with gradient."""
        heard, self._heard = self._heard, None
        return heard

    @torch.no_grad()
    def held_out_losses(self, batch: AudioBatch) -> ContradictionLosses | None:
        """Losses on held-out audio with its own text, another and none, and with silence.

        `None` while the branch waits, and for texts that it cannot read because they are longer than any of the training.
        """
        readable = int(batch.transcripts.lengths.max()) <= self.config.label_encoder.max_positions
        if self.voice is None or self.start.since is None or not readable:
            return None
        signal = 'encoded' if self.follows == 'transducer' else 'log_probs'
        path, head = AudioPath(self.student, {signal}), find_head(
            self.student, 'rnnt' if signal == 'encoded' else 'ctc'
        )
        with evaluating(path), evaluating(self.voice.branch):
            return contradiction_losses(
                batch,
                hear=lambda audio: path(audio, augment=False),
                say=self.voice.say,
                score=lambda said, texts: score_texts(self.student, head, said, texts),
            )

    def state(self) -> dict[str, Any]:
        """Also the weights of the branch, and its progress."""
        weights = {name: value.detach().cpu().clone() for name, value in self.voice.branch.state_dict().items()}
        progress = {
            'loss': self.loss.value,
            'student_loss': self.student_loss.value,
            'teaches_since': self.teaches_since,
        }
        return {**super().state(), 'branch': weights, **progress}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
        super().load_state(state)
        self.voice.branch.load_state_dict(state['branch'])
        self.loss.value, self.student_loss.value = state['loss'], state['student_loss']
        self.teaches_since = state['teaches_since']


def _fitting_width(width: int, config: OracleSelfConfig) -> int:
    heads = math.lcm(config.label_encoder.n_heads, config.fusion.n_heads)
    return max(heads, min(width, WIDEST) // heads * heads)

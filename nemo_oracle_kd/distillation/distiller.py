# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The distiller binds one teacher, some objectives and one student."""

from typing import Any, Callable, Dict, Mapping, Optional

import torch

from nemo_oracle_kd import functional as F
from nemo_oracle_kd.bridge.describe import describe
from nemo_oracle_kd.bridge.loss_hook import DistilledCTCLoss, attach_ctc_loss, detach_ctc_loss
from nemo_oracle_kd.bridge.signals import AudioBatch, FramePosteriors, Transcripts
from nemo_oracle_kd.distillation.compatibility import CompatibilityReport, compare
from nemo_oracle_kd.distillation.settings import DistillationConfig
from nemo_oracle_kd.distillation.teachers import OnlineTeacher
from nemo_oracle_kd.distillation.training_data import check_training_data
from nemo_oracle_kd.losses.frame_losses import FRAME_OBJECTIVES

__all__ = ['Distiller']

#: encoders of the same frame rate round lengths differently (padding of convolutions): so many frames may be cut off
LENGTH_TOLERANCE = 2


class Distiller:
    """Adds the weighted objectives to a student's training loss.

    Both front doors (the Lightning callback and the model classes) drive one of these:
    :meth:`attach` before the first step, :meth:`begin_step` with every training batch, :meth:`metrics` after it,
    :meth:`detach` when the fit ends.

    Args:
        config: the distillation's config, a mapping or a :class:`DistillationConfig`.
        path: where the config stands, for messages.

    Raises:
        ConfigError: the config is wrong; all its problems at once.
    """

    def __init__(self, config: Mapping | DistillationConfig, path: str = 'distillation'):
        if not isinstance(config, DistillationConfig):
            config = DistillationConfig.from_mapping(config, path)
        self.config = config
        self.teacher: Optional[OnlineTeacher] = None
        self.losses: Dict[str, torch.nn.Module] = {}
        self._hook: Optional[DistilledCTCLoss] = None
        self._batch: Optional[AudioBatch] = None
        self._step = 0
        self._with_statistics = False
        self._metrics: Dict[str, torch.Tensor | float] = {}

    def __deepcopy__(self, memo):
        return self  # bound to one student; a copied model or callback shares it

    def attach(self, student: Any) -> CompatibilityReport:
        """Restores the teacher, checks that student, teacher and data fit, and hooks into the student's loss.

        Args:
            student: a NeMo CTC model with its training data set up.

        Returns:
            The comparison of both models.

        Raises:
            ConfigError: student and teacher do not fit together.
            FileNotFoundError: there is no such teacher.
            ValueError: a training manifest lacks what the distillation needs.
        """
        if self.teacher is None:
            self.teacher = OnlineTeacher(self.config.teacher)
        student_facts = describe(student)
        report = compare(
            student_facts, self.teacher.description, self.config.objectives, self.config.teacher.time_resampling
        )
        report.raise_problems()
        check_training_data(
            student.cfg.get('train_ds'), self.teacher.description.reads_transcript, student_facts.sample_rate
        )
        self.losses = {
            name: FRAME_OBJECTIVES[name][1](options, student_facts.blank)
            for name, options in self.config.objectives.items()
        }
        self._hook = attach_ctc_loss(student, self._step_loss)
        return report

    def detach(self, student: Any) -> None:
        """Gives the student its own loss back and lets go of the teacher."""
        detach_ctc_loss(student)
        self._hook = None
        self._batch = None
        self.teacher = None

    def begin_step(self, batch: Any, step: int, with_statistics: bool = False) -> None:
        """Announces a training batch, before the student's forward.

        Args:
            batch: the NeMo batch.
            step: optimizer steps done so far (drives the weight schedules, so a resumed run continues them).
            with_statistics: also compute entropies and agreement for the log.
        """
        self._batch = AudioBatch.from_nemo(batch)
        self._step = step
        self._with_statistics = with_statistics
        self._metrics = {}
        self._hook.arm()

    def metrics(self) -> Dict[str, torch.Tensor | float]:
        """Every term of the last step, unweighted and weighted, per utterance as NeMo reduces it.

        Raises:
            RuntimeError: the step did not call the student's loss, so nothing was distilled.
        """
        if self._batch is not None:
            raise RuntimeError(
                "the training step did not call model.loss, so nothing was distilled: this model class computes its loss "
                "elsewhere, use a CTC model whose training_step is NeMo's"
            )
        return self._metrics

    def _aligned(self, student: FramePosteriors, teacher: FramePosteriors) -> tuple[FramePosteriors, FramePosteriors]:
        """Both posteriors over the same frames: the teacher resampled, or both cut to the shorter."""
        if self.config.teacher.time_resampling != 'none':
            log_probs = F.resample_frames(
                teacher.log_probs,
                teacher.lengths,
                student.lengths,
                mode=self.config.teacher.time_resampling,
                max_target_length=student.log_probs.shape[1],
            )
            teacher = FramePosteriors(log_probs, student.lengths)
        difference = int((student.lengths - teacher.lengths).abs().max())
        if difference > LENGTH_TOLERANCE:
            raise ValueError(
                f"student and teacher give {student.lengths.tolist()} and {teacher.lengths.tolist()} frames for the same "
                "audio: set teacher.time_resampling to nearest or linear"
            )
        lengths = torch.minimum(student.lengths, teacher.lengths)
        frames = min(student.log_probs.shape[1], teacher.log_probs.shape[1])
        return (
            FramePosteriors(student.log_probs[:, :frames], lengths),
            FramePosteriors(teacher.log_probs[:, :frames], lengths),
        )

    def _step_loss(
        self,
        label_loss: torch.Tensor,
        student: FramePosteriors,
        transcripts: Transcripts,
        reduce: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        # the teacher runs here, not in begin_step, to share the student's autocast context
        student, teacher = self._aligned(student, self.teacher.frame_posteriors(self._batch))
        total = self._record('label_loss', label_loss, self.config.label_loss.weight.at(self._step))
        for name, loss in self.losses.items():
            losses = loss(
                student_log_probs=student.log_probs.float(),
                teacher_log_probs=teacher.log_probs,
                input_lengths=student.lengths,
                targets=transcripts.labels,
                target_lengths=transcripts.lengths,
            )
            value = reduce(losses, transcripts.lengths)
            total = total + self._record(name, value, self.config.objectives[name].weight.at(self._step))
        self._metrics['loss'] = total.detach()
        if self._with_statistics:
            self._record_statistics(student, teacher)
        self._batch = None
        return total

    def _record(self, name: str, value: torch.Tensor, weight: float) -> torch.Tensor:
        weighted = weight * value
        self._metrics[name] = value.detach()
        self._metrics[f'{name}_weighted'] = weighted.detach()
        return weighted

    @torch.no_grad()
    def _record_statistics(self, student: FramePosteriors, teacher: FramePosteriors) -> None:
        self._metrics['student_entropy'] = F.frame_entropy(student.log_probs, student.lengths).mean()
        self._metrics['teacher_entropy'] = F.frame_entropy(teacher.log_probs, teacher.lengths).mean()
        self._metrics['agreement'] = F.frame_agreement(student.log_probs, teacher.log_probs, student.lengths).mean()

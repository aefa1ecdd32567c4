# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The distiller binds one teacher, some objectives and one student."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.bridge.hooks.student import LossHooks, student_heads
from nemo_oracle_kd.bridge.model import describe
from nemo_oracle_kd.bridge.signals import AudioBatch, StudentStep
from nemo_oracle_kd.bridge.vocabulary import TextCodec
from nemo_oracle_kd.distillation.compatibility import CompatibilityReport, compare, loss_problems
from nemo_oracle_kd.distillation.data.audio import check_training_data
from nemo_oracle_kd.distillation.data.rows import TrainingRows
from nemo_oracle_kd.distillation.data.texts import check_nbest_texts, check_training_texts
from nemo_oracle_kd.distillation.families.context import StepContext
from nemo_oracle_kd.distillation.families.frame import FrameFamily
from nemo_oracle_kd.distillation.families.lattice import LatticeFamily, lattice_problems
from nemo_oracle_kd.distillation.families.sequence import SequenceFamily
from nemo_oracle_kd.distillation.settings import DistillationConfig
from nemo_oracle_kd.distillation.teachers import OnlineTeacher
from nemo_oracle_kd.losses.objectives import OBJECTIVES, objectives_of

__all__ = ['Distiller']


class Distiller:
    """Adds the weighted objectives to a student's training loss.

    Both front doors (the Lightning callback and the model classes) drive one of these:
    :meth:`attach` before the first step, :meth:`begin_step` with every training batch, :meth:`metrics` after it,
    :meth:`detach` when the fit ends.

    Objectives come in families, by what they compare. A family is an object with `heads`, the student's heads whose steps it
    enters, and `losses(step, context, suffix) -> {name: [B]}`.

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
        self.teacher: OnlineTeacher | None = None
        self.families: list[Any] = []
        self._rows: TrainingRows | None = None
        self._hooks: LossHooks | None = None
        self._context = StepContext(step=0)
        self._last_state: dict[str, Any] = {}

    def __deepcopy__(self, memo):
        return self  # bound to one student; a copied model or callback shares it

    def attach(self, student: Any) -> CompatibilityReport:
        """Restores the teacher, checks that student, teacher and data fit, and hooks into the student's losses.

        Args:
            student: a NeMo CTC, transducer or hybrid model with its training data set up.

        Returns:
            The comparison of both models.

        Raises:
            ConfigError: student, teacher and data do not fit together.
            FileNotFoundError: there is no such teacher.
            ValueError: a training manifest lacks what the distillation needs.
        """
        try:
            return self._attach(student)
        except BaseException:
            self.detach(student)
            raise

    def _attach(self, student: Any) -> CompatibilityReport:
        config = self.config
        self._hooks = LossHooks(student, self._step_loss)
        if self.teacher is None and config.teacher.online:
            self.teacher = OnlineTeacher(config.teacher)
        facts = dataclasses.replace(describe(student), heads=tuple(student_heads(student)))
        teacher = self.teacher.description if self.teacher is not None else None
        report = compare(facts, teacher, config.objectives, config.teacher.time_resampling)
        report.problems += loss_problems(student, config.objectives)
        lattice = {name: config.objectives[name] for name in objectives_of('lattice', config.objectives)}
        if lattice:
            report.problems += lattice_problems(student, self.teacher.model, lattice, config.teacher.time_resampling)
        report.raise_problems()
        train_ds = student.cfg.get('train_ds')
        check_training_data(train_ds, teacher is not None and teacher.reads_transcript, facts.sample_rate)
        self._rows = TrainingRows.attach(student, config)
        losses = {family: self._losses_of(family, facts.blanks.get('ctc')) for family in ('frame', 'sequence')}
        self.families = []
        if losses['frame']:
            self.families.append(FrameFamily(losses['frame'], self.teacher, config.teacher.time_resampling))
        if lattice:
            self.families.append(LatticeFamily(lattice, student, self.teacher, config.teacher.time_resampling))
        if losses['sequence']:
            codec = TextCodec(student, facts.vocabulary)
            check_training_texts(train_ds, codec, self.teacher and self.teacher.codec)
            stored = self._rows.stored if self._rows is not None else None
            if 'full_sum_norm' in losses['sequence']:
                check_nbest_texts(train_ds, codec, losses['sequence']['full_sum_norm'].config.nbest)
            self.families.append(SequenceFamily(losses['sequence'], student, facts.heads, codec, self.teacher, stored))
        return report

    def _losses_of(self, family: str, blank: int | None) -> dict[str, torch.nn.Module]:
        found = {}
        for name in objectives_of(family, self.config.objectives):
            arguments = (blank,) if family == 'frame' else ()
            found[name] = OBJECTIVES[name][1](self.config.objectives[name], *arguments)
        return found

    def detach(self, student: Any) -> None:
        """Gives the student its own losses and loader back and lets go of the teacher."""
        if self._hooks is not None:
            self._hooks.detach(student)
        if self._rows is not None:
            self._rows.detach(student)
        self._last_state = self.state()
        self._hooks = self._rows = self.teacher = None
        self.families = []
        self._context = StepContext(step=0)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps for a resumed training, also after the fit; empty unless something was estimated."""
        if not self.families:
            return self._last_state
        delays: dict[str, int] = {}
        for family in self._lattice_families():
            delays.update(family.state())
        return {'delays': delays} if delays else {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over the :meth:`state` of the training that is resumed; after :meth:`attach`."""
        for family in self._lattice_families():
            family.load_state(state.get('delays', {}))

    def _lattice_families(self) -> list[LatticeFamily]:
        return [family for family in self.families if isinstance(family, LatticeFamily)]

    def begin_step(self, batch: Any, step: int, with_statistics: bool = False) -> None:
        """Announces a training batch, before the student's forward.

        Args:
            batch: the NeMo batch.
            step: optimizer steps done so far (drives the weight schedules, so a resumed run continues them).
            with_statistics: also compute what is only worth a look: entropies, agreement, confidence.
        """
        self._context = StepContext(step, with_statistics)
        if self.teacher is not None:
            self._context.batch = AudioBatch.from_nemo(batch)
        if self._rows is not None:
            self._context.rows, self._context.supervised = self._rows.of_batch()
        self._hooks.arm()

    def metrics(self) -> dict[str, Tensor | float]:
        """Every term of the last step, unweighted and weighted, per utterance as NeMo reduces it.

        Raises:
            RuntimeError: the step did not call the student's loss, so nothing was distilled.
        """
        if self._hooks is not None and self._hooks.pending:
            raise RuntimeError(
                "the training step did not call model.loss, so nothing was distilled: this model class computes its loss "
                "elsewhere, use a model whose training_step is NeMo's"
            )
        return self._context.metrics

    def _step_loss(self, step: StudentStep) -> Tensor:
        # teachers run here, not in begin_step, to share the student's autocast context
        context, lengths = self._context, step.transcripts.lengths
        suffix = '_ctc' if step.head == 'ctc' and len(self._hooks.heads) > 1 else ''
        label_loss = step.reduce(self._label_losses(step), lengths)
        total = self._record(f'label_loss{suffix}', label_loss, self.config.label_loss.weight)
        for family in self.families:
            if step.head not in family.heads:
                continue
            ending = suffix if len(family.heads) > 1 else ''
            for name, losses in family.losses(step, context, ending).items():
                value = step.reduce(losses, lengths)
                total = total + self._record(f'{name}{ending}', value, self.config.objectives[name].weight)
        context.metrics[f'loss{suffix}'] = total.detach()
        if not self._hooks.pending:  # the last head of this step
            context.batch = context.rows = None
            context.answers = {}
        return total

    def _label_losses(self, step: StudentStep) -> Tensor:
        """NeMo's losses, `[B]`, on the rows that `label_loss.on` chooses."""
        losses = step.label_losses
        if step.head == 'ctc':  # NeMo's `zero_infinity`
            losses = losses.masked_fill(losses.detach().isinf(), 0.0)
        if self.config.label_loss.on == 'all':
            return losses
        supervised = self._context.supervised
        if supervised is None:  # none of the training data is
            return torch.where(losses.detach().isinf(), 0.0, losses) * 0.0
        return losses.masked_fill(~supervised.to(losses.device), 0.0)

    def _record(self, name: str, value: Tensor, schedule: Any) -> Tensor:
        weight = schedule.at(self._context.step)
        # a weight of 0 switches a term off, also one that is infinite
        weighted = weight * value if weight else 0.0 * torch.nan_to_num(value, 0.0, 0.0, 0.0)
        self._context.metrics[name] = value.detach()
        self._context.metrics[f'{name}_weighted'] = weighted.detach()
        return weighted

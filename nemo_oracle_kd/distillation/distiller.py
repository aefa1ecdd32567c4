# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The distiller, which connects one teacher, some objectives and one student."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nemo_oracle_kd.bridge.hooks.guest import GuestParameters
from nemo_oracle_kd.bridge.hooks.student import LossHooks
from nemo_oracle_kd.bridge.label_classes import classes_of
from nemo_oracle_kd.bridge.model import describe
from nemo_oracle_kd.bridge.signals import AudioBatch, StudentStep
from nemo_oracle_kd.bridge.vocabulary import TextCodec
from nemo_oracle_kd.distillation.compatibility import CompatibilityReport, report
from nemo_oracle_kd.distillation.data.rows import TrainingRows
from nemo_oracle_kd.distillation.families.context import StepContext
from nemo_oracle_kd.distillation.families.frame import FrameFamily
from nemo_oracle_kd.distillation.families.lattice import LatticeFamily
from nemo_oracle_kd.distillation.families.sequence import SequenceFamily
from nemo_oracle_kd.distillation.settings import DistillationConfig
from nemo_oracle_kd.distillation.teacher_kinds import make_teacher
from nemo_oracle_kd.distillation.teacher_settings import maps_labels
from nemo_oracle_kd.distillation.teachers import OwnLoss, Teacher
from nemo_oracle_kd.losses.objectives import OBJECTIVES, objectives_of

__all__ = ['Distiller']


class Distiller:
    """Adds the weighted objectives to a student's training loss.

    The Lightning callback and the model classes both use a distiller:
    :meth:`attach` before the first step, :meth:`begin_step` with every training batch, :meth:`metrics` after it,
    :meth:`detach` when the fit ends.

    Objectives come in families, by what they compare. A family is an object with `heads`, the student's heads whose steps it
    enters, and `losses(step, context) -> {name: [B]}`.

    Args:
        config: the distillation's config, a mapping or a :class:`DistillationConfig`.
        path: where the config is, for messages.

    Raises:
        ConfigError: the config is wrong; lists all its problems.
    """

    def __init__(self, config: Mapping | DistillationConfig, path: str = 'distillation'):
        if not isinstance(config, DistillationConfig):
            config = DistillationConfig.from_mapping(config, path)
        self.config = config
        self.teacher: Teacher | None = None
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
        """
        try:
            return self._attach(student)
        except BaseException:
            self.detach(student)
            raise

    def _attach(self, student: Any) -> CompatibilityReport:
        config = self.config
        self._hooks = LossHooks(student, self._step_loss)
        if self.teacher is None and config.beside:
            self.teacher = make_teacher(config.teacher)
        if self.teacher is not None:
            self.teacher.bind(student)
        found = report(student, self.teacher, config)
        found.raise_problems()
        self._rows = TrainingRows.attach(student, config, self.teacher)
        self.families = self._families(student)
        if self.teacher is not None:
            self.teacher.expect(set().union(*(family.signals for family in self.families)))
            self.teacher.attach(student)
        return found

    def _families(self, student: Any) -> list[Any]:
        config, facts = self.config, describe(student)
        resampling = config.teacher.time_resampling
        found: list[Any] = []
        mapped = self.teacher is not None and maps_labels(config.teacher)
        classes = classes_of(facts, self.teacher.description) if mapped else None
        blank = facts.blanks.get('ctc') if classes is None else classes.blank
        if losses := self._losses_of('frame', blank):
            found.append(FrameFamily(losses, config.teacher, classes))
        if names := objectives_of('lattice', config.objectives):
            objectives = {name: config.objectives[name] for name in names}
            found.append(LatticeFamily(objectives, student, self.teacher, resampling))
        if losses := self._losses_of('sequence'):
            codec = TextCodec(student, facts.vocabulary)
            scoring = (None, self._rows.stored) if config.stored else (self.teacher, None)
            found.append(SequenceFamily(losses, student, tuple(self._hooks.heads), codec, *scoring))
        return found

    def _losses_of(self, family: str, *arguments: Any) -> dict[str, torch.nn.Module]:
        objectives = self.config.objectives
        return {
            name: OBJECTIVES[name].loss(objectives[name], *arguments) for name in objectives_of(family, objectives)
        }

    def detach(self, student: Any) -> None:
        """Restores the student's own losses and loader, and releases the teacher."""
        if self._hooks is not None:
            self._hooks.detach(student)
        if self._rows is not None:
            self._rows.detach(student)
        self._last_state = self.state()
        if self.teacher is not None:
            self.teacher.release(student)
        self._hooks = self._rows = self.teacher = None
        self.families = []
        self._context = StepContext(step=0)

    def state(self) -> dict[str, Any]:
        """Returns what a resumed training needs, also after the fit; empty unless something was estimated or learned."""
        if not self.families:
            return self._last_state
        delays: dict[str, int] = {}
        for family in self._families_with_delays():
            delays.update(family.state())
        learned = self.teacher.state() if self.teacher is not None else {}
        return {name: value for name, value in (('delays', delays), ('teacher', learned)) if value}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the :meth:`state` of the training that is resumed; called after :meth:`attach`."""
        for family in self._families_with_delays():
            family.load_state(state.get('delays', {}))
        if self.teacher is not None and 'teacher' in state:
            self.teacher.load_state(state['teacher'])

    def guests(self) -> GuestParameters | None:
        """Parameters that are trained with the student and are not the student's; `None` if there are none."""
        parameters = list(self.teacher.parameters()) if self.teacher is not None else []
        return GuestParameters(parameters) if parameters else None

    def _families_with_delays(self) -> list[FrameFamily | LatticeFamily]:
        return [family for family in self.families if isinstance(family, (FrameFamily, LatticeFamily))]

    def begin_step(self, batch: Any, step: int, with_statistics: bool = False) -> None:
        """Announces a training batch, before the student's forward.

        Args:
            batch: the NeMo batch.
            step: optimizer steps done so far (drives the weight schedules, so a resumed run continues them).
            with_statistics: whether to compute what is only logged: entropies, agreement, confidence.
        """
        self._context = StepContext(step, with_statistics, self.teacher)
        if self._rows is not None:
            self._context.rows, self._context.supervised = self._rows.of_batch()
        if self.teacher is not None:
            self._context.batch = AudioBatch.from_nemo(batch, self._context.rows)
            self.teacher.begin(step)
        self._hooks.arm()

    def metrics(self) -> dict[str, Tensor | float]:
        """Every term of the last step, unweighted and weighted, per utterance as NeMo reduces it.

        Raises:
            RuntimeError: the step did not call the student's loss, so nothing was distilled.
        """
        if self._hooks is not None and self._hooks.pending:
            raise RuntimeError(
                "the training step did not call model.loss, so nothing was distilled; this model class computes its loss "
                "elsewhere: use a model whose training_step is NeMo's"
            )
        return self._context.metrics

    def _step_loss(self, step: StudentStep) -> Tensor:
        # teachers run here, not in begin_step, to share the student's autocast context
        context, lengths = self._context, step.transcripts.lengths
        suffix = '_ctc' if step.head == 'ctc' and len(self._hooks.heads) > 1 else ''
        label_loss = step.reduce(self._on_chosen_rows(step.label_losses, step.head), lengths)
        own = self._own_losses(step)
        label_weight = self.config.label_loss.weight.at(context.step)
        share = self.teacher.label_share if own else 1.0
        total = self._record(f'label_loss{suffix}', label_loss, label_weight * share)
        for name, loss in own.items():
            value = step.reduce(self._on_chosen_rows(loss.losses, step.head), lengths)
            total = total + self._record(name, value, loss.weight * (label_weight if loss.scales_with_labels else 1.0))
        for family in self.families:
            if step.head in family.heads:
                total = total + self._taught(family, step, suffix if len(family.heads) > 1 else '')
        if not total.requires_grad:  # every weight of this step is 0
            total = total + 0.0 * label_loss
        context.metrics[f'loss{suffix}'] = total.detach()
        if not self._hooks.pending:  # the last head of this step
            context.batch = context.rows = None
            context.answers = {}
        return total

    def _own_losses(self, step: StudentStep) -> Mapping[str, OwnLoss]:
        context = self._context
        if self.teacher is None or step.head != self.teacher.follows:
            return {}
        return self.teacher.own_losses(step, context.batch, context.metrics if context.with_statistics else None)

    def _taught(self, family: Any, step: StudentStep, ending: str) -> Tensor | float:
        """The weighted objectives of one family, in the directions in which this teacher teaches."""
        context, lengths = self._context, step.transcripts.lengths
        readiness = 1.0 if self.teacher is None else self.teacher.readiness
        forth, back = (1.0, 0.0) if self.teacher is None else self.teacher.directions
        if readiness == 0:
            return 0.0
        context.suffix = ending
        directions = [(ending, forth, family.losses(step, context))]
        if back:
            directions.append((f'_back{ending}', back, family.losses_back(step, context)))
        total: Tensor | float = 0.0
        for suffix, factor, of_objectives in directions:
            for name, losses in of_objectives.items():
                weight = self.config.objectives[name].weight.at(context.step)
                value = step.reduce(losses, lengths)
                total = total + self._record(f'{name}{suffix}', value, weight * factor * readiness)
        return total

    def _on_chosen_rows(self, losses: Tensor, head: str) -> Tensor:
        """Losses of the labels, `[B]`, on the rows that `label_loss.on` chooses."""
        if head == 'ctc':  # NeMo's `zero_infinity`
            losses = losses.masked_fill(losses.detach().isinf(), 0.0)
        if self.config.label_loss.on == 'all':
            return losses
        supervised = self._context.supervised
        if supervised is None:  # no training row is marked
            return torch.where(losses.detach().isinf(), 0.0, losses) * 0.0
        return losses.masked_fill(~supervised.to(losses.device), 0.0)

    def _record(self, name: str, value: Tensor, weight: float) -> Tensor:
        # a weight of 0 switches a term off, gradient and all: 0 times NaN would be NaN
        weighted = weight * value if weight else torch.zeros_like(value)
        self._context.metrics[name] = value.detach()
        self._context.metrics[f'{name}_weighted'] = weighted.detach()
        return weighted

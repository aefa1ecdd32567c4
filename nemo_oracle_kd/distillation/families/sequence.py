# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Runs the objectives over the scores of whole texts, with stored scores or a teacher beside the student.

An objective on one text per utterance transforms the loss per utterance that NeMo computes anyway. With stored scores it
therefore needs no second lattice and no second forward, whatever the student's `loss_name` and with a fused joint as well.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.nbest_scores import nbest_scores
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses
from nemo_oracle_kd.bridge.signals import StudentStep
from nemo_oracle_kd.bridge.vocabulary import TextCodec, UnwritableText
from nemo_oracle_kd.corpus.manifest import LANGUAGE_KEY, SUPERVISED_KEY
from nemo_oracle_kd.distillation.data.stored_scores import StoredScores
from nemo_oracle_kd.distillation.families.context import StepContext
from nemo_oracle_kd.distillation.teachers import Teacher
from nemo_oracle_kd.functional.full_sum import nbest_log_posteriors
from nemo_oracle_kd.losses.objectives import needs_of
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['SequenceFamily']

#: number of batches of a fit whose labels are compared with the texts of their rows
COMPARED_BATCHES = 20


class SequenceFamily:
    """Compares the scores that student and teacher give to the batch's texts, on the rows that are not supervised.

    Args:
        losses: name -> loss.
        model: the student, before its losses are hooked.
        heads: the heads that the student is trained with.
        codec: converts texts to the student's labels.
        teacher: a teacher beside the student, or `None`.
        stored: the scores of the manifest, or `None`.
    """

    #: heads of the student to whose losses these objectives are added
    heads = ('ctc', 'transducer')
    #: fields of the teacher's `EncodedAudio` that are read: none, so that a teacher's memory may keep scores alone
    signals = frozenset()

    def __init__(
        self,
        losses: Mapping[str, nn.Module],
        model: Any,
        heads: tuple[str, ...],
        codec: TextCodec,
        teacher: Teacher | None = None,
        stored: StoredScores | None = None,
    ):
        self.of_one_text = {name: loss for name, loss in losses.items() if not loss.needs_nbest}
        self.of_lists = {name: loss for name, loss in losses.items() if loss.needs_nbest}
        self._reads_scores = bool(needs_of({name: loss.config for name, loss in self.of_one_text.items()}).scores)
        self.model, self.codec = model, codec
        self.student_heads = {head: find_head(model, 'ctc' if head == 'ctc' else 'rnnt') for head in heads}
        self.teacher, self.stored = teacher, stored
        self._batches = 0

    def losses(self, step: StudentStep, context: StepContext) -> dict[str, Tensor]:
        """Computes every objective.

        Args:
            step: outputs of one of the student's heads.
            context: the training step.

        Returns:
            Name -> unweighted loss per utterance, `[B]`; 0 on supervised rows.

        Raises:
            ValueError: labels of the batch are not those of the row's text, which is the text that was scored.
            UnwritableText: a text that a model's labels cannot express.
        """
        device = step.label_losses.device
        works_on = torch.ones(len(step.lengths), dtype=torch.bool, device=device)
        if context.supervised is not None:
            works_on = ~context.supervised.to(device)
        if context.rows is not None and 'compared' not in context.answers and self._batches < COMPARED_BATCHES:
            context.answers['compared'] = True
            self._batches += 1
            self._compare_texts(step, context)
        values = {}
        if self.of_one_text:
            teacher_nll, teacher_tokens = self._teacher_nll(step, context)
            for name, loss in self.of_one_text.items():
                values[name] = loss(
                    student_nll=step.label_losses,
                    teacher_nll=teacher_nll,
                    target_lengths=step.transcripts.lengths,
                    teacher_lengths=teacher_tokens,
                    **self._field(loss, context, works_on),
                ).masked_fill(~works_on, 0.0)
                if context.with_statistics:
                    comparable = loss.comparable(step.label_losses, teacher_nll) & works_on
                    delta = step.label_losses - loss.scaled(teacher_nll) if loss.reads_score else None
                    context.metrics.update(_statistics(f'{name}{context.suffix}', works_on, comparable, delta))
        for name, loss in self.of_lists.items():
            values[name] = self._list_losses(name, loss, step, context, works_on)
        return values

    def _compare_texts(self, step: StudentStep, context: StepContext) -> None:
        """Refuses labels that differ from those of the row's text, which is the text that the teacher scored.

        NeMo's data sets may normalise texts, and drop characters that the model has no label for.
        """
        labels, lengths = step.transcripts.labels.tolist(), step.transcripts.lengths.tolist()
        for row, own, length in zip(context.rows, labels, lengths):
            if row.get(SUPERVISED_KEY) is True:
                continue
            read = normalize_spaces(self.codec.decode(own[:length]))
            if read != normalize_spaces(row['text']):
                raise ValueError(
                    f"the text of {row.get('audio_filepath')} is {row['text'][:60]!r}, but the student is trained on {read[:60]!r}, "
                    "so the score would be that of another text: write the manifest in the student's alphabet and case, or set "
                    "model.train_ds.normalize_transcripts=false"
                )

    def _teacher_nll(self, step: StudentStep, context: StepContext) -> tuple[Tensor, Tensor]:
        """Returns `[B]` nats and `[B]` tokens; both heads of a hybrid student share the answer."""
        if 'sequence' not in context.answers:
            if self.teacher is not None:
                answer = self.teacher.sequence_nll(context.batch, self.codec, context.hear)
            elif self._reads_scores:
                answer = self.stored.nll(context.rows)
            else:  # hard distillation at constant weight needs the text alone
                answer = torch.zeros_like(step.label_losses), step.transcripts.lengths
            device = step.label_losses.device
            context.answers['sequence'] = tuple(part.to(device) for part in answer)
        return context.answers['sequence']

    def _list_losses(
        self, name: str, loss: nn.Module, step: StudentStep, context: StepContext, works_on: Tensor
    ) -> Tensor:
        """Computes an objective over the teacher's N-best list, `[B]`."""
        key, logged = f'nbest {loss.config.nbest}', f'{name}{context.suffix}'
        if key not in context.answers:
            context.answers[key] = self._nbest(context, works_on, loss.config.nbest)
        hypotheses, teacher_nll, tokens = context.answers[key]
        mask = hypotheses.lengths >= 0
        if mask.shape[1] < 2:  # no row of this batch has a second text
            if context.with_statistics:
                nothing = torch.zeros_like(works_on)
                context.metrics.update(_statistics(logged, works_on, nothing, None))
            return torch.zeros_like(step.label_losses)
        scores = nbest_scores(self.model, self.student_heads[step.head], step, hypotheses)
        if context.with_statistics:
            comparable = loss.comparable(scores.nll, teacher_nll, mask)
            theirs = nbest_log_posteriors(loss.scaled(teacher_nll), mask)
            delta = theirs - nbest_log_posteriors(scores.nll.detach(), mask)
            context.metrics.update(_statistics(logged, works_on, comparable, delta[:, 0]))
            if scores.cells is not None:
                context.metrics[f'{logged}_cells_saved'] = 1.0 - scores.cells.ratio
        given = self._field(loss, context, works_on)
        return loss(student_nll=scores.nll, teacher_nll=teacher_nll, mask=mask, teacher_lengths=tokens, **given)

    def _field(self, loss: nn.Module, context: StepContext, works_on: Tensor) -> dict[str, Tensor]:
        """The values by which an objective weights the rows, `[B]`, where it reads them from the rows."""
        name = getattr(getattr(loss.config, 'confidence', None), 'field', None)
        return {} if name is None else {'field': self.stored.field(context.rows, name).to(works_on.device)}

    def _nbest(self, context: StepContext, works_on: Tensor, most: int) -> tuple[Hypotheses, Tensor, Tensor]:
        """The teacher's texts in the student's labels, their `-log P` in nats `[B, N]`, and the first text's tokens `[B]`."""
        texts, nll, _ = self.stored.nbest(context.rows, most)
        _, tokens = self.stored.nll(context.rows)
        labels: list[list[list[int]]] = []
        languages = [row.get(LANGUAGE_KEY) for row in context.rows]
        for b, (of_one, wanted, language) in enumerate(zip(texts, works_on.tolist(), languages)):
            kept = [
                (n, written)
                for n, text in enumerate(of_one)
                if wanted and (written := self._write(text, n, language)) is not None
            ]
            labels.append([written for _, written in kept])
            nll[b, : len(kept)] = nll[b, [n for n, _ in kept]]
        hypotheses = Hypotheses.from_lists(labels, works_on.device)
        width = hypotheses.lengths.shape[1]
        return hypotheses, nll[:, :width].to(works_on.device), tokens.to(works_on.device)

    def _write(self, text: str, position: int, language: str | None) -> list[int] | None:
        """The labels of a text, or `None` for a competitor that the student cannot write; both sides leave it out."""
        try:
            return self.codec.encode(text, language)
        except UnwritableText:
            if position == 0:
                raise
            return None


@torch.no_grad()
def _statistics(name: str, works_on: Tensor, comparable: Tensor, delta: Tensor | None) -> dict[str, Tensor]:
    """Statistics over the rows that are not supervised; empty if there are none.

    Args:
        name: name of the objective in the log.
        works_on: `[B]` bool, rows that the objective works on.
        comparable: `[B]` bool, rows of these that it can compare.
        delta: `[B]` nats, positive where the student is less confident than the teacher.
    """
    found: dict[str, Tensor] = {}
    if bool(works_on.any()):
        found[f'{name}_unaligned'] = 1.0 - comparable.sum() / works_on.sum()
    if delta is not None and bool(comparable.any()):
        compared = delta.detach()[comparable].double()
        found[f'{name}_delta'] = compared.mean().float()
        found[f'{name}_more_confident'] = (compared < 0).double().mean().float()
    return found

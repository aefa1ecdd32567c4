# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of when teacher and student emit their labels, shown in TensorBoard or W&B during training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from nemo.core.classes.common import Serialization

from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.model import describe, has_ctc_head
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, Transcripts
from nemo_oracle_kd.callbacks.knowledge_distillation import KnowledgeDistillation
from nemo_oracle_kd.callbacks.pictures import log_picture, takes_pictures
from nemo_oracle_kd.distillation.self_teachers.base import StudentAsTeacher
from nemo_oracle_kd.errors import ConfigError

__all__ = ['AlignmentPictures']


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode that is undone module by module, because a student may have frozen parts that were in eval mode before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


# Serialization: NeMo 3 instantiates a callback from YAML only if its class derives from one of NeMo's own
class AlignmentPictures(Callback, Serialization):
    """Draws the posteriors of teacher and student under the spectrogram of the first utterances of the training data.

    The utterances are the same every time, so a slider over the steps shows how the student's spikes move to the teacher's.
    The callback stands next to :class:`KnowledgeDistillation` in `trainer.callbacks` and needs a TensorBoard or W&B logger.

    Args:
        every_n_steps: optimizer steps between pictures.
        utterances: number of utterances, taken from the first batch of the fit.

    Raises:
        ConfigError: if a number is below 1.
    """

    def __init__(self, every_n_steps: int = 500, utterances: int = 2):
        super().__init__()
        ConfigError.raise_if_any(
            f"`AlignmentPictures.{name}` must be a whole number of at least 1, not {value}"
            for name, value in (('every_n_steps', every_n_steps), ('utterances', utterances))
            if value < 1
        )
        self.every_n_steps = every_n_steps
        self.utterances = utterances
        self._batch: AudioBatch | None = None
        self._last_step = -1

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Checks that there is something to draw, and a logger for it.

        Raises:
            ConfigError: if there is nothing to draw, or if no logger accepts pictures.
        """
        self._batch, self._last_step = None, -1
        problems = []
        distillations = self._distillation(trainer)
        if not distillations:
            problems.append(
                "AlignmentPictures draws the models of a distillation, but there is none: add KnowledgeDistillation or remove it"
            )
        for distillation in distillations:
            teacher = distillation.distiller.teacher
            if teacher is None or (teacher.model is None and not isinstance(teacher, StudentAsTeacher)):
                problems.append(
                    "AlignmentPictures draws teacher and student, but stored scores and a cache have no teacher: remove it"
                )
            elif isinstance(teacher, StudentAsTeacher):
                problems.append(
                    "AlignmentPictures draws two models, but here the student is its own teacher: remove it"
                )
            elif not (has_ctc_head(teacher.model) and has_ctc_head(pl_module)):
                problems.append(
                    "AlignmentPictures draws frame posteriors, so teacher and student both need a CTC head: remove it"
                )
        if not any(takes_pictures(logger) for logger in trainer.loggers):
            problems.append(
                "AlignmentPictures needs a logger that accepts pictures: set exp_manager.create_tensorboard_logger=true or "
                "exp_manager.create_wandb_logger=true"
            )
        ConfigError.raise_if_any(problems)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Draws the pictures every `every_n_steps` optimizer steps."""
        if self._batch is None:
            whole = AudioBatch.from_nemo(batch)
            count = self.utterances
            transcripts = Transcripts(whole.transcripts.labels[:count], whole.transcripts.lengths[:count])
            self._batch = AudioBatch(whole.signal[:count], whole.lengths[:count], transcripts)
        step = trainer.global_step
        if trainer.is_global_zero and step % self.every_n_steps == 0 and step != self._last_step:
            self._last_step = step
            self._draw(trainer, pl_module, step)

    @staticmethod
    def _distillation(trainer: pl.Trainer) -> list[KnowledgeDistillation]:
        return [callback for callback in trainer.callbacks if isinstance(callback, KnowledgeDistillation)]

    def _draw(self, trainer: pl.Trainer, student: Any, step: int) -> None:
        import matplotlib.pyplot as plt

        from nemo_oracle_kd.evaluation import plots

        teacher = self._distillation(trainer)[0].distiller.teacher
        with _evaluating(student):
            answers = {
                'teacher': (teacher.model, teacher.hear(self._batch)),
                'student': (student, encode_audio(student, self._batch)),
            }
            features, feature_lengths = student.preprocessor(
                input_signal=self._batch.signal, length=self._batch.lengths
            )
        hop = float(student.cfg.preprocessor.window_stride)
        for index in range(len(self._batch.lengths)):
            tracks = [_track(name, model, answer, index) for name, (model, answer) in answers.items()]
            spectrogram = features[index, :, : int(feature_lengths[index])].float().cpu().numpy()
            figure = plots.alignments(spectrogram, hop, tracks)
            for logger in trainer.loggers:
                log_picture(logger, f'train/kd/alignment_{index}', figure, step)
            plt.close(figure)


def _track(name: str, model: Any, answer: EncodedAudio, index: int):
    from nemo_oracle_kd.evaluation.plots import Track

    facts = describe(model)
    posteriors = answer.posteriors[index, : int(answer.lengths[index])].exp().cpu().numpy()
    return Track(name, posteriors, facts.vocabulary, facts.blanks['ctc'], facts.frame_seconds or 1.0)

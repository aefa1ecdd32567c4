# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Pictures reach TensorBoard, at the steps asked for, and leave the student as it was."""

import pytest
import tiny

from nemo_oracle_kd.callbacks import AlignmentPictures, KnowledgeDistillation
from nemo_oracle_kd.errors import ConfigError


def _fit(train, teacher, folder, pictures, max_steps=4, logger=True):
    from lightning.pytorch.loggers import TensorBoardLogger

    distillation = KnowledgeDistillation({'restore_from': str(teacher)}, {'frame_kl': {}})
    trainer = tiny.trainer(
        max_steps,
        callbacks=[distillation, *pictures],
        logger=TensorBoardLogger(folder) if logger else False,
    )
    student = tiny.ctc_model(tiny.ctc_config(train, hidden=16), trainer)
    trainer.fit(student)
    return student, trainer


def test_every_second_step_shows_both_models_for_the_same_utterances(tone_corpus, tone_teacher, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, trainer = _fit(tone_corpus, tone_teacher, tmp_path, [AlignmentPictures(every_n_steps=2, utterances=2)])
    events = EventAccumulator(trainer.logger.log_dir).Reload()
    for index in range(2):
        images = events.Images(f'train/kd/alignment_{index}')
        assert [image.step for image in images] == [2, 4]
        assert all(image.width > 300 and len(image.encoded_image_string) > 5000 for image in images)


def test_drawing_does_not_change_the_training(tone_corpus, tone_teacher, tmp_path):
    import torch

    pictures = AlignmentPictures(every_n_steps=1, utterances=1)
    drawn, _ = _fit(tone_corpus, tone_teacher, tmp_path / 'a', [pictures], max_steps=2)
    plain, _ = _fit(tone_corpus, tone_teacher, tmp_path / 'b', [], max_steps=2)
    for left, right in zip(drawn.state_dict().values(), plain.state_dict().values()):
        torch.testing.assert_close(left, right)


def test_without_a_logger_for_pictures_it_says_so_before_the_first_step(tone_corpus, tone_teacher, tmp_path):
    with pytest.raises(ConfigError, match='create_tensorboard_logger=true'):
        _fit(tone_corpus, tone_teacher, tmp_path, [AlignmentPictures()], logger=False)


def test_numbers_below_one_are_refused():
    with pytest.raises(ConfigError, match='every_n_steps'):
        AlignmentPictures(every_n_steps=0)


def test_without_frame_posteriors_on_both_sides_it_says_so_before_the_first_step(tone_corpus, tone_teacher, tmp_path):
    from lightning.pytorch.loggers import TensorBoardLogger

    distillation = KnowledgeDistillation({'restore_from': str(tone_teacher)}, {'full_sum': {}})
    trainer = tiny.trainer(1, callbacks=[distillation, AlignmentPictures()], logger=TensorBoardLogger(tmp_path))
    student = tiny.rnnt_model(tiny.rnnt_config(tone_corpus, hidden=16), trainer)
    with pytest.raises(ConfigError, match='teacher and student both need a CTC head'):
        trainer.fit(student)


def test_a_student_that_is_its_own_teacher_is_no_second_model_to_draw(tone_corpus, tmp_path):
    from lightning.pytorch.loggers import TensorBoardLogger

    config = tiny.rnnt_config(tone_corpus, hidden=16, hybrid=True)
    for objective in ('frame_kl', 'one_best_path'):
        distillation = KnowledgeDistillation({'self': 'oracle'}, {objective: {}})
        trainer = tiny.trainer(1, callbacks=[distillation, AlignmentPictures()], logger=TensorBoardLogger(tmp_path))
        with pytest.raises(ConfigError, match='here the student is its own teacher: remove it'):
            trainer.fit(tiny.rnnt_model(config, trainer))

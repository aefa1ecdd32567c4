# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The page `docs/adding_an_objective.md`: its length, and what is refused. tests/test_packaging.py trains with its code."""

import page_plug_ins
import pytest


def test_the_objective_of_the_page_takes_some_thirty_lines():
    assert len(page_plug_ins.block('reverse_kl.py').splitlines()) <= 40


def test_what_is_no_objective_or_teacher_is_refused():
    from nemo_oracle_kd.distillation.teacher_kinds import register_teacher
    from nemo_oracle_kd.distillation.teachers import OnlineTeacher
    from nemo_oracle_kd.losses.frame import FrameKLLoss
    from nemo_oracle_kd.losses.objectives import OBJECTIVES, register_objective

    with pytest.raises(ValueError, match='derive its class'):
        register_objective('print', print)
    with pytest.raises(ValueError, match='set it to a dataclass with a field `weight`'):
        register_objective('other', type('Other', (FrameKLLoss,), {'config_class': dict}))
    config = OBJECTIVES['hard'].config
    with pytest.raises(ValueError, match="an objective 'frame_kl' exists already"):
        register_objective('frame_kl', type('Other', (FrameKLLoss,), {'config_class': config}))
    with pytest.raises(ValueError, match='derive its class'):
        register_teacher('print', print)
    with pytest.raises(ValueError, match="must derive from TeacherOptions and have a field 'mine'"):
        register_teacher('mine', OnlineTeacher)
    with pytest.raises(ValueError, match="a teacher 'scores' already"):
        register_teacher('scores', OnlineTeacher)

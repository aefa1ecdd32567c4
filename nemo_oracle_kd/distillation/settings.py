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
"""The config of a distillation: one mapping, the same for the callback and for `model.distillation`."""

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping

from nemo_oracle_kd.errors import ConfigError, unknown_name
from nemo_oracle_kd.losses.frame_losses import FRAME_OBJECTIVES
from nemo_oracle_kd.losses.schedule import WeightSchedule
from nemo_oracle_kd.strict_config import build

__all__ = ['DistillationConfig', 'LabelLossConfig', 'TeacherConfig']

RESAMPLING_MODES = ('none', 'nearest', 'linear')


@dataclass
class TeacherConfig:
    """Where the teacher's signals come from: an online NeMo model, run frozen beside the student.

    An oracle teacher is recognised by its class and gets the batch's transcripts as well.
    """

    restore_from: str = field(metadata={'help': 'path of a .nemo file, or the name of a pretrained NeMo model'})
    time_resampling: str = field(
        default='none',
        metadata={'help': "how the teacher's frames are brought to the student's rate: none, nearest or linear"},
    )

    memory_mb: float = field(
        default=0.0,
        metadata={'help': 'keep answers to audio that comes again in every epoch, up to so many megabytes; 0: none'},
    )

    def problems(self, path: str) -> Iterator[str]:
        if self.memory_mb < 0:
            yield f"`{path}.memory_mb` must be at least 0, not {self.memory_mb}"
        if self.time_resampling not in RESAMPLING_MODES:
            yield (
                f"`{path}.time_resampling` is {self.time_resampling!r}: choose one of {', '.join(RESAMPLING_MODES)}"
            )
        if not self.restore_from:
            yield f"`{path}.restore_from` is empty: give the path of a .nemo file or the name of a pretrained model"


@dataclass
class LabelLossConfig:
    """NeMo's own loss on the transcript."""

    weight: WeightSchedule = field(
        default_factory=lambda: WeightSchedule(1.0), metadata={'help': 'factor in the training loss'}
    )


@dataclass
class DistillationConfig:
    """Teacher, label loss and objectives of one distillation.

    Attributes:
        teacher: where signals come from.
        objectives: name -> config of the objective.
        label_loss: NeMo's own loss.
    """

    teacher: TeacherConfig
    objectives: Dict[str, Any]
    label_loss: LabelLossConfig

    @classmethod
    def from_mapping(cls, values: Mapping, path: str = 'distillation') -> 'DistillationConfig':
        """Reads and checks a config.

        Args:
            values: `teacher`, `objectives` and, optionally, `label_loss`.
            path: where the mapping stands in the user's config, for messages.

        Raises:
            ConfigError: lists every unknown key (with the nearest valid name), missing value and contradiction.
        """
        problems: List[str] = []
        sections = ('teacher', 'objectives', 'label_loss')
        problems += [f"`{path}`: {unknown_name('key', str(key), sections)}" for key in values if key not in sections]
        if values.get('teacher') is None:
            problems.append(f"`{path}.teacher` is missing: give teacher.restore_from, the path of a .nemo file")
            teacher = None
        else:
            teacher = build(TeacherConfig, values['teacher'], f'{path}.teacher', problems)
        label_loss = build(LabelLossConfig, values.get('label_loss'), f'{path}.label_loss', problems)
        named = values.get('objectives') or {}
        if not isinstance(named, Mapping):
            problems.append(
                f"`{path}.objectives` must be a mapping, as in objectives: {{frame_kl: {{weight: 0.05}}}}, not {named!r}"
            )
            named = {}
        elif not named:
            problems.append(f"`{path}.objectives` is empty: name at least one of {', '.join(FRAME_OBJECTIVES)}")
        objectives = {}
        for name, options in named.items():
            if name not in FRAME_OBJECTIVES:
                problems.append(f"`{path}.objectives`: {unknown_name('objective', str(name), FRAME_OBJECTIVES)}")
                continue
            objectives[name] = build(FRAME_OBJECTIVES[name][0], options, f'{path}.objectives.{name}', problems)
        if problems:
            raise ConfigError(problems)
        return cls(teacher, objectives, label_loss)

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
"""Teachers: where signals come from. Never an `nn.Module`, so nothing of a teacher can reach a student's weights."""

from typing import Any

import torch

from nemo_oracle_kd.bridge.describe import ModelDescription, describe
from nemo_oracle_kd.bridge.frames import frame_posteriors
from nemo_oracle_kd.bridge.restore import restore_frozen
from nemo_oracle_kd.bridge.signals import AudioBatch, FramePosteriors
from nemo_oracle_kd.distillation.settings import TeacherConfig

__all__ = ['OnlineTeacher']


class OnlineTeacher:
    """A frozen NeMo model which answers during the student's training.

    It sees the batch's audio as the loader yields it, without SpecAugment or dither (eval mode); the student's augmentation
    is the student's alone. An oracle teacher also sees the transcripts. Being no `nn.Module` it stays out of the student's
    `state_dict`, checkpoint, optimizer, DDP buffers, `.nemo` and `train()`.
    """

    def __init__(self, config: TeacherConfig):
        self.source = config.restore_from
        self.model: Any = restore_frozen(config.restore_from)
        self.description: ModelDescription = describe(self.model)

    def __deepcopy__(self, memo):
        return self  # frozen: copies of whatever holds a teacher share it

    def __getstate__(self):
        raise TypeError("a teacher is not saved: it is restored from teacher.restore_from at the start of a fit")

    def to(self, device: torch.device) -> 'OnlineTeacher':
        """Moves the teacher to the student's device."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def frame_posteriors(self, batch: AudioBatch) -> FramePosteriors:
        """Posteriors `[B, T, V]` for a batch of audio.

        Raises:
            ValueError: an oracle teacher and an utterance without transcript.
        """
        if self.description.reads_transcript and bool((batch.transcripts.lengths == 0).any()):
            raise ValueError(
                "the oracle teacher reads the transcript and an utterance of this batch has none: remove rows without "
                "`text` from the training manifest"
            )
        return frame_posteriors(self.model, batch)


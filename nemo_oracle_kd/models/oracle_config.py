# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The `oracle` section of an oracle teacher's config: the measures that keep it from copying its transcript."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from nemo_oracle_kd.modules.label_corruption import LabelCorruptionConfig

__all__ = ['OracleConfig']


@dataclass
class OracleConfig:
    """Training strategy of an oracle teacher.

    The loss of a step is `CTC(fused) + audio_ctc_weight * CTC(audio branch)`, or for a transducer
    `RNNT(fused) + audio_ctc_weight * CTC(audio branch)`. A CTC teacher may add `timing_weight * sum_t KL(gamma_t || fused)`, with
    gamma the audio branch's occupancy of the transcript, which holds the spikes where the audio branch hears the labels.

    Until the transcript is read the loss is only the CTC loss of the audio branch. It is read after `audio_only_steps` optimizer
    steps, and once the running loss of the audio branch was below `start_below`.
    """

    audio_ctc_weight: float = field(
        default=1.0, metadata={'help': 'weight of the CTC loss on the audio branch; 0: no audio branch'}
    )
    label_corruption: LabelCorruptionConfig = field(
        default_factory=LabelCorruptionConfig, metadata={'help': 'how the transcript is corrupted in training'}
    )
    timing_weight: float = field(
        default=0.0,
        metadata={
            'help': "weight of the divergence from the audio branch's occupancy of the transcript (CTC teachers)"
        },
    )
    start_below: float | None = field(
        default=None,
        metadata={
            'help': "read the transcript once the audio branch's running loss is below this many nats per label; null: at once"
        },
    )
    audio_only_steps: int = field(
        default=0,
        metadata={'help': 'least number of optimizer steps that train the audio branch before the transcript is read'},
    )
    freeze_audio_encoder: bool = field(
        default=False, metadata={'help': 'freeze the audio encoder as soon as the transcript is read'}
    )
    init_audio_encoder_from: str | None = field(
        default=None,
        metadata={'help': 'path of a .nemo file, or pretrained name, whose encoder weights are the start'},
    )
    audio_encoder_initialised_from: str | None = field(
        default=None, metadata={'help': 'written by the model: the source of its audio encoder'}
    )

    held_out_batches: int = field(
        default=4,
        metadata={'help': 'validation batches on which each validation measures whether the teacher listens; 0: none'},
    )

    def problems(self, path: str) -> Iterator[str]:
        if self.audio_ctc_weight < 0:
            yield f"`{path}.audio_ctc_weight` must be at least 0, not {self.audio_ctc_weight}"
        if not (math.isfinite(self.timing_weight) and self.timing_weight >= 0):
            yield f"`{path}.timing_weight` must be a finite number of at least 0, not {self.timing_weight}"
        if self.timing_weight > 0 and self.audio_ctc_weight == 0:
            yield (
                f"`{path}.timing_weight` is {self.timing_weight} but there is no audio branch whose timing it could hold: set "
                f"{path}.audio_ctc_weight above 0 or {path}.timing_weight to 0"
            )
        for name in ('audio_only_steps', 'held_out_batches'):
            if getattr(self, name) < 0:
                yield f"`{path}.{name}` must be at least 0, not {getattr(self, name)}"
        if self.audio_only_steps > 0 and self.audio_ctc_weight == 0:
            yield (
                f"`{path}.audio_only_steps` is {self.audio_only_steps} but there is no audio branch: set {path}.audio_ctc_weight "
                f"above 0 or {path}.audio_only_steps to 0"
            )
        if self.start_below is not None and not (math.isfinite(self.start_below) and self.start_below > 0):
            yield f"`{path}.start_below` must be a number above 0, or null to read at once, not {self.start_below}"
        if self.start_below is not None and self.audio_ctc_weight == 0:
            yield (
                f"`{path}.start_below` is {self.start_below} but there is no audio branch whose loss it could follow: set "
                f"{path}.audio_ctc_weight above 0 or {path}.start_below to null"
            )
        pretrained = self.init_audio_encoder_from or self.audio_encoder_initialised_from
        if self.freeze_audio_encoder and not pretrained and not self.audio_only_steps and self.start_below is None:
            yield (
                f"`{path}.freeze_audio_encoder` would freeze random weights: name a trained encoder in "
                f"{path}.init_audio_encoder_from or train it first, with {path}.start_below or {path}.audio_only_steps"
            )

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
    gamma the audio branch's occupancy of the transcript, which holds the spikes where the audio branch hears the labels. In the first `audio_only_steps` optimizer steps it is only the CTC
    loss of the audio branch.
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
    audio_only_steps: int = field(
        default=0, metadata={'help': 'optimizer steps that train the audio branch before the transcript is read'}
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
        pretrained = self.init_audio_encoder_from or self.audio_encoder_initialised_from
        if self.freeze_audio_encoder and not pretrained and not self.audio_only_steps:
            yield (
                f"`{path}.freeze_audio_encoder` would freeze random weights: name a trained encoder in "
                f"{path}.init_audio_encoder_from or train it first for {path}.audio_only_steps"
            )

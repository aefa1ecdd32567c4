# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The oracle branch of a student that teaches itself: a label reader and a CTC layer on top of the student's own encoder.

In the one-stage layout of arXiv 2306.10058 (EM-Network): `P(. | t, x, y) = softmax(W Fuse(H, R))` with `H` the output of the
student's encoder and `R` the encoded labels.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from nemo_oracle_kd.modules.label_corruption import LabelCorruptionConfig
from nemo_oracle_kd.modules.label_encoder import LabelEncoderConfig
from nemo_oracle_kd.modules.label_fusion import FusionConfig
from nemo_oracle_kd.modules.label_reader import LabelReader

__all__ = ['OracleBranch', 'OracleBranchOptions']


@dataclass
class OracleBranchOptions:
    """Sizes and options of an oracle branch.

    Attributes:
        audio_width: channels of the student's encoder output.
        num_labels: labels without the blank.
        width: width of label encoder and fusion.
        self_conditioning: whether the student's own posteriors are added to the query.
    """

    audio_width: int
    num_labels: int
    width: int
    self_conditioning: bool = True
    label_encoder: LabelEncoderConfig = field(default_factory=LabelEncoderConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    label_corruption: LabelCorruptionConfig = field(default_factory=LabelCorruptionConfig)


class OracleBranch(LabelReader):
    """Computes frame posteriors from the encoded audio and the transcript.

    Args:
        options: sizes and options.
    """

    def __init__(self, options: OracleBranchOptions):
        super().__init__()
        self.build_reader(
            options.audio_width, options.width, options.label_encoder, options.fusion, options.self_conditioning
        )
        self.set_num_labels(options.num_labels)
        self.label_corruption.config = options.label_corruption
        self.output = nn.Linear(options.width, options.num_labels + 1)

    def forward(
        self,
        audio: torch.Tensor,
        lengths: torch.Tensor,
        transcript: torch.Tensor,
        transcript_length: torch.Tensor,
        audio_log_probs: torch.Tensor,
    ) -> torch.Tensor:
        """
        Args:
            audio: output of the student's encoder, `[B, D, T]`.
            lengths: valid frames, `[B]`.
            transcript: label ids, `[B, U]`.
            transcript_length: `[B]`; 0 means "no text".
            audio_log_probs: the student's own posteriors `[B, T, V + 1]`, detached here.

        Returns:
            `[B, T, V + 1]`, natural log, blank last.
        """
        fused, _ = self.fuse(audio, lengths, transcript, transcript_length, audio_log_probs)
        return self.output(fused.transpose(1, 2)).float().log_softmax(dim=-1)

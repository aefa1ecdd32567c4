# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The oracle branches of a student that teaches itself: a label reader behind the student's own encoder.

The layout is the one-stage layout of arXiv 2306.10058 (EM-Network). With `H` the output of the student's encoder and `R` the
encoded labels, the branch of a CTC head gives `P(. | t, x, y) = softmax(W Fuse(H, R))`. The branch of a transducer gives `H + W Fuse(H, R)`,
from which the student's own joint computes the lattice `P(. | t, u, x, y)`.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from nemo_oracle_kd.modules.label_corruption import LabelCorruptionConfig
from nemo_oracle_kd.modules.label_encoder import LabelEncoderConfig
from nemo_oracle_kd.modules.label_fusion import FusionConfig
from nemo_oracle_kd.modules.label_reader import LabelReader

__all__ = ['OracleBranch', 'OracleBranchOptions', 'TransducerOracleBranch']


@dataclass
class OracleBranchOptions:
    """Sizes and options of an oracle branch.

    Attributes:
        audio_width: channels of the student's encoder output.
        num_labels: labels without the blank.
        width: width of label encoder and fusion.
        self_conditioning: whether the student's own posteriors are added to the query; only in the branch of a CTC head.
        label_encoder: depth, heads, dropout of the label encoder.
        fusion: depth, heads, dropout, alignment prior of the fusion.
        label_corruption: masking and dropout of labels in training.
    """

    audio_width: int
    num_labels: int
    width: int
    self_conditioning: bool = True
    label_encoder: LabelEncoderConfig = field(default_factory=LabelEncoderConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    label_corruption: LabelCorruptionConfig = field(default_factory=LabelCorruptionConfig)


class _Branch(LabelReader):
    """What both branches share: the reader, and an output layer of a given width."""

    def __init__(self, options: OracleBranchOptions, self_conditioning: bool, outputs: int):
        super().__init__()
        self.build_reader(options.audio_width, options.width, options.label_encoder, options.fusion, self_conditioning)
        self.set_num_labels(options.num_labels)
        self.label_corruption.config = options.label_corruption
        self.output = nn.Linear(options.width, outputs)


class OracleBranch(_Branch):
    """Computes frame posteriors from the encoded audio and the transcript.

    Args:
        options: sizes and options.
    """

    def __init__(self, options: OracleBranchOptions):
        super().__init__(options, options.self_conditioning, options.num_labels + 1)

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


class TransducerOracleBranch(_Branch):
    """Computes encoder output for the student's own joint from the encoded audio and the transcript.

    The output layer starts at zero, so the branch begins as the student and its loss as the student's.

    Args:
        options: sizes and options; `self_conditioning` is not used, because a transducer has no frame posteriors.
    """

    def __init__(self, options: OracleBranchOptions):
        super().__init__(options, False, options.audio_width)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self, audio: torch.Tensor, lengths: torch.Tensor, transcript: torch.Tensor, transcript_length: torch.Tensor
    ) -> torch.Tensor:
        """
        Args:
            audio: output of the student's encoder, `[B, D, T]`.
            lengths: valid frames, `[B]`.
            transcript: label ids, `[B, U]`.
            transcript_length: `[B]`; 0 means "no text".

        Returns:
            `H + W Fuse(H, R)`, `[B, D, T]`.
        """
        fused, _ = self.fuse(audio, lengths, transcript, transcript_length)
        return audio + self.output(fused.transpose(1, 2)).transpose(1, 2)

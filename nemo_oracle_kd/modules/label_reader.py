# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The part of an oracle that reads the transcript: encoder output and labels in, fused frames out.

An oracle teacher puts it behind an audio encoder of its own (`OracleEncoder`), a student that teaches itself behind its encoder
while it is trained (`OracleBranch`).
"""

from collections.abc import Iterator

import torch
from torch import nn

from nemo_oracle_kd.functional.tensors import length_mask
from nemo_oracle_kd.modules.label_corruption import LabelCorruption
from nemo_oracle_kd.modules.label_encoder import LabelEncoder, LabelEncoderConfig
from nemo_oracle_kd.modules.label_fusion import FusionConfig, LabelFusion

__all__ = ['LabelReader', 'width_problems']


def width_problems(
    width: int, label_encoder: LabelEncoderConfig, fusion: FusionConfig, path: str, key: str
) -> Iterator[str]:
    """Heads that do not divide the width.

    Args:
        width: of label encoder and fusion.
        label_encoder: its config.
        fusion: its config.
        path: where the configs stand, for messages.
        key: name of the width there.
    """
    for name, heads in (('label_encoder', label_encoder.n_heads), ('fusion', fusion.n_heads)):
        if width % heads:
            yield f"`{path}.{key}` ({width}) must be a multiple of `{path}.{name}.n_heads` ({heads})"


class LabelReader(nn.Module):
    """Lets an audio stream read labels. A subclass calls :meth:`build_reader` in its constructor.

    The attribute `label_corruption` is the identity until its `config` is set.
    """

    def build_reader(
        self,
        audio_width: int,
        d_model: int,
        label_encoder: LabelEncoderConfig,
        fusion: FusionConfig,
        self_conditioning: bool,
    ) -> None:
        """Makes all parts but those that depend on the vocabulary, see :meth:`set_num_labels`.

        Args:
            audio_width: channels of the audio encoder's output.
            d_model: width of label encoder and fusion; the audio is projected to it where the two differ.
            label_encoder: depth, heads, dropout.
            fusion: depth, heads, dropout.
            self_conditioning: add the audio branch's own posteriors, projected and detached, to the query.
        """
        self._label_encoder_config = label_encoder
        self.d_model = d_model
        self.audio_projection = nn.Identity() if audio_width == d_model else nn.Linear(audio_width, d_model)
        self.label_corruption = LabelCorruption()
        self.fusion = LabelFusion(d_model, fusion)
        self.label_encoder: LabelEncoder | None = None
        self.self_conditioning = self_conditioning
        self.posterior_projection: nn.Linear | None = None

    def set_num_labels(self, num_labels: int) -> None:
        """Creates the label encoder, or replaces its embedding table when the vocabulary changes."""
        if self.label_encoder is None:
            self.label_encoder = LabelEncoder(num_labels, self.d_model, self._label_encoder_config)
        else:
            old = self.label_encoder.embedding.weight
            fresh = LabelEncoder(num_labels, self.d_model, self._label_encoder_config)
            self.label_encoder.embedding = fresh.embedding.to(device=old.device, dtype=old.dtype)
            self.label_encoder.num_labels = num_labels
        if self.self_conditioning:
            device = next(self.fusion.parameters()).device
            self.posterior_projection = nn.Linear(num_labels + 1, self.d_model, device=device)

    def fuse(
        self,
        audio: torch.Tensor,
        lengths: torch.Tensor,
        transcript: torch.Tensor,
        transcript_length: torch.Tensor,
        audio_log_probs: torch.Tensor | None = None,
        return_attention: bool = False,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Lets the audio stream read the labels.

        Args:
            audio: output of an audio encoder, `[B, D_audio, T]`.
            lengths: valid frames, `[B]`.
            transcript: label ids, `[B, U]`; U may be 0.
            transcript_length: `[B]`; 0 means "no text".
            audio_log_probs: the audio branch's posteriors `[B, T, V + 1]`, for self-conditioning; detached here.
            return_attention: also give the cross-attention weights.

        Returns:
            `[B, D, T]` and the cross-attention maps (empty unless asked for).
        """
        if self.label_encoder is None:
            raise ValueError("the size of the vocabulary is unknown: set encoder.num_labels or call set_num_labels()")
        x = self.audio_projection(audio.transpose(1, 2))
        if self.posterior_projection is not None:
            if audio_log_probs is None:
                raise ValueError(
                    "this oracle encoder is conditioned on the audio branch's posteriors: pass audio_log_probs [B, T, V + 1]"
                )
            x = x + self.posterior_projection(audio_log_probs.detach().softmax(dim=-1).to(x.dtype))
        labels, label_lengths = self.label_corruption(
            transcript, transcript_length, self.label_encoder.num_labels, self.label_encoder.mask_id
        )
        memory, memory_mask = self.label_encoder(labels, label_lengths)
        x, maps = self.fusion(x, length_mask(lengths, x.shape[1]), memory, memory_mask, return_attention)
        return x.transpose(1, 2), maps

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The encoder of an oracle teacher: any NeMo audio encoder, plus a label encoder and a fusion of the two.

After arXiv 2111.03664 (the teacher receives the source *and* the output labels) in the layout of its successor arXiv
2306.10058:

    H = AudioEncoder(x)                    [B, T, D]
    R = LabelEncoder(y)                    [B, U, D]
    Z = CrossAttention(query = SelfAttention(H), keys = values = R)
"""

from collections.abc import Mapping
from typing import Any

import torch
from nemo.core.classes import Serialization, typecheck
from nemo.core.classes.module import NeuralModule
from nemo.core.neural_types import (
    AcousticEncodedRepresentation,
    LabelsType,
    LengthsType,
    LogprobsType,
    NeuralType,
    SpectrogramType,
)
from omegaconf import DictConfig, OmegaConf
from torch import nn

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.modules.label_encoder import LabelEncoderConfig
from nemo_oracle_kd.modules.label_fusion import FusionConfig
from nemo_oracle_kd.modules.label_reader import LabelReader, width_problems
from nemo_oracle_kd.strict_config import build_or_raise

__all__ = ['OracleEncoder']


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


class OracleEncoder(LabelReader, NeuralModule):
    """Wraps a NeMo audio encoder and lets its output attend to the transcript.

    Args:
        audio_encoder: config of any NeMo audio encoder (`{_target_: nemo.collections.asr.modules.ConformerEncoder,
            ...}`), or the built encoder. It must give `(outputs [B, D, T], lengths [B])`.
        d_model: width of label encoder and fusion; the audio encoder's output is projected to it where the two differ.
        num_labels: labels without the CTC blank; below 1: filled in by the model (:meth:`set_num_labels`).
        label_encoder: see :class:`LabelEncoderConfig`.
        fusion: see :class:`FusionConfig`.
        self_conditioning: add the audio branch's own CTC posteriors, projected and detached, to the query of the fusion
            (as self-conditioned CTC does between layers, arXiv 2104.02724). They tell the query which labels to look for,
            so that matching by content is learned at once; they come from the audio alone and open no path for copying.

    The attribute `label_corruption` is the identity until its `config` is set (the models do it from
    `oracle.label_corruption`).
    """

    def __init__(
        self,
        audio_encoder: DictConfig | dict | nn.Module,
        d_model: int,
        num_labels: int = -1,
        label_encoder: dict | None = None,
        fusion: dict | None = None,
        self_conditioning: bool = True,
    ):
        super().__init__()
        # Hydra instantiates nested `_target_` entries before this constructor runs; Python users may pass a config.
        if isinstance(audio_encoder, Mapping):
            audio_encoder = Serialization.from_config_dict(OmegaConf.create(_plain(audio_encoder)))
        audio_width = getattr(audio_encoder, '_feat_out', None)
        if not audio_width:
            raise ConfigError(
                [
                    f"`encoder.audio_encoder` ({type(audio_encoder).__name__}) does not say how wide its output is: "
                    "use a NeMo audio encoder such as ConformerEncoder or ConvASREncoder"
                ]
            )
        labels = build_or_raise(LabelEncoderConfig, _plain(label_encoder), 'encoder.label_encoder')
        fusion_config = build_or_raise(FusionConfig, _plain(fusion), 'encoder.fusion')
        ConfigError.raise_if_any(width_problems(d_model, labels, fusion_config, 'encoder', 'd_model'))
        self._feat_out = d_model
        self.audio_encoder = audio_encoder
        self.audio_feat_out = audio_width
        self.build_reader(audio_width, d_model, labels, fusion_config, self_conditioning)
        self._audio_frozen = False
        if num_labels >= 1:
            self.set_num_labels(num_labels)

    @property
    def subsampling_factor(self) -> int:
        """Feature frames per output frame (that of the audio encoder)."""
        return self.audio_encoder.subsampling_factor

    @property
    def input_types(self) -> dict[str, NeuralType]:
        return {
            'audio_signal': NeuralType(('B', 'D', 'T'), SpectrogramType()),
            'length': NeuralType(tuple('B'), LengthsType()),
            'transcript': NeuralType(('B', 'T'), LabelsType(), optional=True),
            'transcript_length': NeuralType(tuple('B'), LengthsType(), optional=True),
            'audio_log_probs': NeuralType(('B', 'T', 'D'), LogprobsType(), optional=True),
        }

    @property
    def output_types(self) -> dict[str, NeuralType]:
        return {
            'outputs': NeuralType(('B', 'D', 'T'), AcousticEncodedRepresentation()),
            'encoded_lengths': NeuralType(tuple('B'), LengthsType()),
        }

    def freeze_audio(self) -> None:
        """From now on the audio encoder gets no gradient and stays in eval mode."""
        self._audio_frozen = True
        for parameter in self.audio_encoder.parameters():
            parameter.requires_grad_(False)
        self.audio_encoder.eval()

    @property
    def audio_is_frozen(self) -> bool:
        """Whether :meth:`freeze_audio` was called."""
        return self._audio_frozen

    def train(self, mode: bool = True) -> 'OracleEncoder':
        super().train(mode)
        if self._audio_frozen:
            self.audio_encoder.eval()
        return self

    def encode_audio(self, audio_signal: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features `[B, F, T]` -> output of the audio encoder `[B, D_audio, T']` and lengths `[B]`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._audio_frozen):
            outputs = self.audio_encoder(audio_signal=audio_signal, length=length)
        return outputs[0], outputs[1]

    @typecheck()
    def forward(
        self,
        audio_signal: torch.Tensor,
        length: torch.Tensor,
        transcript: torch.Tensor | None = None,
        transcript_length: torch.Tensor | None = None,
        audio_log_probs: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            audio_signal: features, `[B, F, T]`.
            length: valid feature frames, `[B]`.
            transcript: label ids, `[B, U]`.
            transcript_length: `[B]`.
            audio_log_probs: `[B, T', V + 1]`, for self-conditioning.

        Returns:
            `[B, D, T']` and lengths `[B]`, as every NeMo encoder gives.

        Raises:
            ValueError: no transcript.
        """
        if transcript is None or transcript_length is None:
            raise ValueError(
                "an oracle encoder reads the transcript: pass transcript [B, U] and transcript_length [B] (length 0 "
                "for no text)"
            )
        audio, lengths = self.encode_audio(audio_signal, length)
        fused, _ = self.fuse(audio, lengths, transcript, transcript_length, audio_log_probs)
        return fused, lengths

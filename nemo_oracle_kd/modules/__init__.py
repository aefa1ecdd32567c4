# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Building blocks of the oracle teacher: label encoder, label corruption, fusion, and the encoder that combines them."""

from nemo_oracle_kd.modules.attention import FeedForward, MultiHeadAttention
from nemo_oracle_kd.modules.label_corruption import LabelCorruption, LabelCorruptionConfig
from nemo_oracle_kd.modules.label_encoder import LabelEncoder, LabelEncoderConfig
from nemo_oracle_kd.modules.label_fusion import FusionConfig, LabelFusion
from nemo_oracle_kd.modules.oracle_encoder import OracleEncoder

__all__ = [
    'FeedForward',
    'FusionConfig',
    'LabelCorruption',
    'LabelCorruptionConfig',
    'LabelEncoder',
    'LabelEncoderConfig',
    'LabelFusion',
    'MultiHeadAttention',
    'OracleEncoder',
]

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Students with both a transducer and a CTC head as model classes; each objective enters the heads that it can."""

from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel, EncDecHybridRNNTCTCModel

from nemo_oracle_kd.models.distillation_mixin import DistillationMixin

__all__ = ['DistillEncDecHybridRNNTCTCBPEModel', 'DistillEncDecHybridRNNTCTCModel']


class DistillEncDecHybridRNNTCTCModel(DistillationMixin, EncDecHybridRNNTCTCModel):
    """A character hybrid student with a `distillation` section in its config."""


class DistillEncDecHybridRNNTCTCBPEModel(DistillationMixin, EncDecHybridRNNTCTCBPEModel):
    """A sub-word hybrid student with a `distillation` section in its config."""

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Model classes of hybrid students, with a transducer and a CTC head. An objective applies to each head that it supports."""

from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel, EncDecHybridRNNTCTCModel

from nemo_oracle_kd.models.distillation_mixin import DistillationMixin

__all__ = ['DistillEncDecHybridRNNTCTCBPEModel', 'DistillEncDecHybridRNNTCTCModel']


class DistillEncDecHybridRNNTCTCModel(DistillationMixin, EncDecHybridRNNTCTCModel):
    """A character hybrid student with a `distillation` section in its config."""


class DistillEncDecHybridRNNTCTCBPEModel(DistillationMixin, EncDecHybridRNNTCTCBPEModel):
    """A sub-word hybrid student with a `distillation` section in its config."""

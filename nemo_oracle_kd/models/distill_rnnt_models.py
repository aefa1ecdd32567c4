# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Model classes of transducer students: RNN-T, TDT or multi-blank, depending on `model.loss.loss_name`."""

from nemo.collections.asr.models import EncDecRNNTBPEModel, EncDecRNNTModel

from nemo_oracle_kd.models.distillation_mixin import DistillationMixin

__all__ = ['DistillEncDecRNNTBPEModel', 'DistillEncDecRNNTModel']


class DistillEncDecRNNTModel(DistillationMixin, EncDecRNNTModel):
    """A character transducer student with a `distillation` section in its config."""


class DistillEncDecRNNTBPEModel(DistillationMixin, EncDecRNNTBPEModel):
    """A sub-word transducer student with a `distillation` section in its config."""

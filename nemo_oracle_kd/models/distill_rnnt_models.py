# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Transducer students as model classes: RNN-T, TDT or multi-blank, as `model.loss.loss_name` says."""

from nemo.collections.asr.models import EncDecRNNTBPEModel, EncDecRNNTModel

from nemo_oracle_kd.models.distillation_mixin import DistillationMixin

__all__ = ['DistillEncDecRNNTBPEModel', 'DistillEncDecRNNTModel']


class DistillEncDecRNNTModel(DistillationMixin, EncDecRNNTModel):
    """A character transducer student with a `distillation` section in its config."""


class DistillEncDecRNNTBPEModel(DistillationMixin, EncDecRNNTBPEModel):
    """A sub-word transducer student with a `distillation` section in its config."""

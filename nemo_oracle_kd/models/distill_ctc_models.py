# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Model classes of CTC students."""

from nemo.collections.asr.models import EncDecCTCModel, EncDecCTCModelBPE

from nemo_oracle_kd.models.distillation_mixin import DistillationMixin

__all__ = ['DistillEncDecCTCModel', 'DistillEncDecCTCModelBPE']


class DistillEncDecCTCModel(DistillationMixin, EncDecCTCModel):
    """A character CTC student with a `distillation` section in its config."""


class DistillEncDecCTCModelBPE(DistillationMixin, EncDecCTCModelBPE):
    """A sub-word CTC student with a `distillation` section in its config."""

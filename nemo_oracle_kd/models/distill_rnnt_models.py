# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Transducer students as model classes: RNN-T, TDT or multi-blank, as `model.loss.loss_name` says."""

from nemo.collections.asr.models import EncDecRNNTBPEModel, EncDecRNNTModel

from nemo_oracle_kd.models.distillation_mixin import DistillationMixin

__all__ = ['DistillEncDecRNNTBPEModel', 'DistillEncDecRNNTModel']


class DistillEncDecRNNTModel(DistillationMixin, EncDecRNNTModel):
    """A character transducer student with a `distillation` section in its config."""


class DistillEncDecRNNTBPEModel(DistillationMixin, EncDecRNNTBPEModel):
    """A sub-word transducer student with a `distillation` section in its config."""

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
"""Students with both a transducer and a CTC head as model classes; each objective enters the heads that it can."""

from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel, EncDecHybridRNNTCTCModel

from nemo_oracle_kd.models.distillation_mixin import DistillationMixin

__all__ = ['DistillEncDecHybridRNNTCTCBPEModel', 'DistillEncDecHybridRNNTCTCModel']


class DistillEncDecHybridRNNTCTCModel(DistillationMixin, EncDecHybridRNNTCTCModel):
    """A character hybrid student with a `distillation` section in its config."""


class DistillEncDecHybridRNNTCTCBPEModel(DistillationMixin, EncDecHybridRNNTCTCBPEModel):
    """A sub-word hybrid student with a `distillation` section in its config."""

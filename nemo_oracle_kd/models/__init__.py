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
"""NeMo model classes: oracle teachers and students with a `distillation` section (layer 5). Imported lazily."""

import importlib
from typing import Any

_HOME = {
    'DistillEncDecCTCModel': 'distill_ctc_models',
    'DistillEncDecCTCModelBPE': 'distill_ctc_models',
    'DistillEncDecHybridRNNTCTCBPEModel': 'distill_hybrid_models',
    'DistillEncDecHybridRNNTCTCModel': 'distill_hybrid_models',
    'DistillEncDecRNNTBPEModel': 'distill_rnnt_models',
    'DistillEncDecRNNTModel': 'distill_rnnt_models',
    'EncDecOracleCTCModel': 'oracle_ctc_models',
    'EncDecOracleCTCModelBPE': 'oracle_ctc_models',
    'EncDecOracleRNNTModel': 'oracle_rnnt_models',
    'EncDecOracleRNNTModelBPE': 'oracle_rnnt_models',
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f'{__name__}.{_HOME[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

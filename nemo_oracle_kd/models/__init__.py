# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""NeMo model classes: oracle teachers, and students with a `distillation` section (layer 5). They are imported lazily."""

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

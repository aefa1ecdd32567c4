# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Lightning callbacks for NeMo recipes (layer 5). They are imported lazily, because each imports NeMo."""

import importlib
from typing import Any

_HOME = {
    'AlignmentPictures': 'alignment_pictures',
    'KnowledgeDistillation': 'knowledge_distillation',
    'RunRecord': 'run_record',
    'TimeBudget': 'time_budget',
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f'{__name__}.{_HOME[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What a fresh process runs to tell whether importing all of NeMo, and nothing else, has registered this package."""

#: prints the verdicts; importing NeMo takes ten seconds, so what needs such a process besides is appended
IMPORT_NEMO_ALONE = """
import gc, sys
gc.disable()  # or a third of the time would go into a search for garbage
import nemo.collections.asr
import nemo.collections.asr.losses.rnnt as rnnt
from nemo.core.classes import common
from nemo.utils import exp_manager, trainer_utils
wrapped = [trainer_utils.resolve_trainer_cfg, exp_manager.exp_manager, rnnt.resolve_rnnt_loss]
print('allowed', common._is_target_allowed('nemo_oracle_kd.callbacks.KnowledgeDistillation'))
print('wrapped', all(hasattr(function, '__wrapped__') for function in wrapped))
print('from', sys.modules['nemo_oracle_kd'].__file__)
"""


def assert_registered(stdout: str) -> None:
    """Checks what :data:`IMPORT_NEMO_ALONE` printed."""
    assert 'allowed True' in stdout and 'wrapped True' in stdout

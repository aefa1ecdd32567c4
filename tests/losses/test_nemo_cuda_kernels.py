# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""NeMo's CUDA kernels of the transducer losses, in numba's CUDA simulator, give what our recursions give.

The process of the simulator is also the one in which NeMo is imported alone in an editable installation, that of `make venv`.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from registration import IMPORT_NEMO_ALONE, assert_registered

CASES = Path(__file__).with_name('cuda_simulator_cases.py')


@pytest.fixture(scope='module')
def simulated():
    """The finished process."""
    variables = {**os.environ, 'NUMBA_ENABLE_CUDASIM': '1', 'OMP_NUM_THREADS': '1'}
    code = f'{IMPORT_NEMO_ALONE}\nimport pytest\nsys.exit(pytest.main(sys.argv[1:]))'
    command = [sys.executable, '-c', code, str(CASES), '-q', '-p', 'no:cacheprovider']
    return subprocess.run(command, cwd=CASES.parent, env=variables, capture_output=True, text=True)


@pytest.mark.unit
@pytest.mark.skipif(importlib.util.find_spec('numba') is None, reason='numba is not installed')
def test_nemos_cuda_kernels_of_rnnt_multiblank_and_tdt_give_our_losses_and_gradients(simulated):
    assert simulated.returncode == 0, simulated.stdout[-5000:] + simulated.stderr[-2000:]
    assert 'passed' in simulated.stdout and 'skipped' not in simulated.stdout


@pytest.mark.unit
def test_importing_nemo_alone_registers_the_package(simulated):
    assert_registered(simulated.stdout)

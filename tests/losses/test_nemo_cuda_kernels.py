# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""NeMo's CUDA kernels of the transducer losses, in numba's CUDA simulator, give what our recursions give."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).with_name('cuda_simulator_cases.py')


@pytest.mark.unit
@pytest.mark.skipif(importlib.util.find_spec('numba') is None, reason='numba is not installed')
def test_nemos_cuda_kernels_of_rnnt_multiblank_and_tdt_give_our_losses_and_gradients():
    variables = {**os.environ, 'NUMBA_ENABLE_CUDASIM': '1', 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-m', 'pytest', str(CASES), '-q', '-p', 'no:cacheprovider']
    result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert 'passed' in result.stdout and 'skipped' not in result.stdout

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The Triton kernel of the lattice divergence: its cases in Triton's interpreter, its compilation, and when it is taken."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from lattice_cases import BLANK, batch, pair

from nemo_oracle_kd.functional import LATTICE_DIVERGENCES, lattice_divergence
from nemo_oracle_kd.functional.lattice import triton as lattice_triton
from nemo_oracle_kd.functional.lattice.triton import TRITON_SWITCH, choose_backend

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]
CASES = Path(__file__).with_name('triton_interpreter_cases.py')
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec('triton') is None, reason='triton is not installed; the extra test has it on Linux x86-64'
)
CUDA = torch.device('cuda', 0)
COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nemo_oracle_kd.functional.lattice.triton_kernel import divergence_kernel

names = 'student teacher student_bias teacher_bias gradient values classes student_stride teacher_stride scale'.split()
for divergence, products, block in zip(sys.argv[1].split(), ('*fp32', '*bf16', '*fp16'), (64, 16, 16)):
    types = [products, products, '*fp32', '*fp32', products, '*fp32', 'i32', 'i32', 'i32', 'fp32']
    constants = dict(DIVERGENCE=divergence, STUDENT_BIAS=True, TEACHER_BIAS=True, GRADIENT=True, BLOCK=block)
    signature = dict(zip(names, types)) | {name: 'constexpr' for name in constants}
    source = ASTSource(fn=divergence_kernel, signature=signature, constexprs=constants)
    kernel = triton.compile(source, target=GPUTarget('cuda', 80, 32), options={'num_warps': 4})
    print(divergence, len(kernel.asm['cubin']) > 0)
"""


def environment(**variables):
    return {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **variables}


@needs_triton
def test_the_kernel_passes_its_cases_in_tritons_interpreter():
    command = [sys.executable, '-m', 'pytest', str(CASES), '-q', '-p', 'no:cacheprovider']
    # the cases need no plug-in of pytest; loading those that are installed takes a second
    variables = environment(TRITON_INTERPRET='1', PYTEST_DISABLE_PLUGIN_AUTOLOAD='1')
    result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert 'passed' in result.stdout and 'skipped' not in result.stdout


@needs_triton
def test_the_kernel_compiles_to_gpu_code_without_a_gpu(tmp_path):
    variables = environment(TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET='0')
    script = tmp_path / 'compile.py'  # the compiler reads source from files
    script.write_text(COMPILE)
    command = [sys.executable, str(script), ' '.join(LATTICE_DIVERGENCES)]
    result = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-5000:]
    assert result.stdout.splitlines() == [f'{name} True' for name in LATTICE_DIVERGENCES]


def choice(requested='auto', bins='full', dtype=torch.float32, device=CUDA):
    return choose_backend(requested, bins, 'kl', 5, dtype, dtype, device)


@pytest.fixture
def triton_that_works(monkeypatch):
    """As on a machine with triton and a GPU on which the trial has passed."""
    monkeypatch.delenv(TRITON_SWITCH, raising=False)
    monkeypatch.setattr(lattice_triton, '_is_installed', lambda: True)
    monkeypatch.setattr(lattice_triton, '_passes_trial', lambda *arguments: True)


def test_the_kernel_is_taken_on_a_gpu_where_it_covers_the_divergence(triton_that_works):
    assert choice() == 'triton'
    assert choice(bins='topk') == choice(bins='collapsed') == 'torch'
    assert choice(dtype=torch.float64) == 'torch'
    assert choice(device=torch.device('cpu')) == 'torch'


def test_argument_and_environment_turn_the_kernel_off(triton_that_works, monkeypatch):
    assert choice('torch') == 'torch'
    monkeypatch.setenv(TRITON_SWITCH, '0')
    assert choice() == 'torch' and choice('triton') == 'triton'


def test_without_triton_pytorch_does_it(triton_that_works, monkeypatch):
    monkeypatch.setattr(lattice_triton, '_is_installed', lambda: False)
    assert choice() == 'torch'
    with pytest.raises(ValueError, match="triton is not installed; use backend='auto' or 'torch'"):
        choice('triton')


def test_a_kernel_that_fails_in_its_trial_is_not_used_and_that_is_said(monkeypatch):
    monkeypatch.delenv(TRITON_SWITCH, raising=False)
    monkeypatch.setattr(lattice_triton, '_is_installed', lambda: True)

    def without_compiler(*arguments):
        raise RuntimeError('no C compiler\nmore')

    monkeypatch.setattr(lattice_triton, '_trial_error', without_compiler)
    lattice_triton._passes_trial.cache_clear()
    with pytest.warns(RuntimeWarning, match='it fails with RuntimeError: no C compiler. PyTorch computes the same'):
        assert choice() == 'torch'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert choice() == 'torch', 'the trial is not repeated'
    lattice_triton._passes_trial.cache_clear()


def test_what_the_kernel_cannot_do_is_refused_if_it_is_asked_for():
    student, teacher = pair(dtype=torch.float32)
    with pytest.raises(ValueError, match='Unknown backend'):
        lattice_divergence(student, teacher, *batch(), BLANK, backend='cuda')
    with pytest.raises(ValueError, match="the kernel compares all classes, not bins='collapsed'"):
        lattice_divergence(student, teacher, *batch(), BLANK, bins='collapsed', backend='triton')
    with pytest.raises(ValueError, match='in float32, from float32 or half precision'):
        lattice_divergence(*pair(), *batch(), BLANK, backend='triton')


@needs_triton
def test_on_a_cpu_the_kernel_is_for_the_interpreter(monkeypatch):
    monkeypatch.delenv('TRITON_INTERPRET', raising=False)
    student, teacher = pair(dtype=torch.float32)
    with pytest.raises(ValueError, match="in Triton's interpreter only"):
        lattice_divergence(student, teacher, *batch(), BLANK, backend='triton')

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Chooses between PyTorch and the Triton kernel for a tile of lattice cells, and calls the kernel.

Triton is optional. For CUDA tensors the kernel is chosen automatically if Triton is installed, the kernel supports the
divergence (all classes, float32 arithmetic), and it agrees with PyTorch in a trial on the device at hand.
`NEMO_ORACLE_KD_TRITON=0` in the environment or `backend='torch'` turns it off. On a CPU it runs only in Triton's
interpreter, for tests.
"""

import importlib.util
import os
import warnings
from functools import lru_cache

import torch
from torch import Tensor

from nemo_oracle_kd.functional.lattice.distances import full_divergence, work_buffers

__all__ = ['LATTICE_BACKENDS', 'TRITON_SWITCH', 'choose_backend', 'fused_divergence']

LATTICE_BACKENDS = ('auto', 'torch', 'triton')
TRITON_SWITCH = 'NEMO_ORACLE_KD_TRITON'
"""Environment variable; with the value 0, 'auto' means PyTorch."""

MIN_BLOCK, MAX_BLOCK = 16, 2048
"""Classes that a program holds at a time; powers of two."""

TRIAL_ROWS = 3
PRODUCT_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def choose_backend(
    requested: str,
    bins: str,
    divergence: str,
    classes: int,
    dtype: torch.dtype,
    matmul_dtype: torch.dtype,
    device: torch.device,
) -> str:
    """Chooses the backend of a divergence: 'torch' or 'triton'.

    Args:
        requested: one of `LATTICE_BACKENDS`.
        bins: one of `LATTICE_BINS`; the kernel supports 'full'.
        divergence: a key of `LATTICE_DIVERGENCES`.
        classes: V.
        dtype: type of the divergence; the kernel supports float32.
        matmul_dtype: type of the matrix products.
        device: device of the tensors.

    Raises:
        ValueError: if the backend is unknown, or if 'triton' is requested but not possible.
    """
    if requested not in LATTICE_BACKENDS:
        raise ValueError(f"Unknown backend '{requested}'; choose one of {', '.join(LATTICE_BACKENDS)}.")
    turned_off = device.type == 'cpu' or os.environ.get(TRITON_SWITCH, '1') == '0'
    if requested == 'torch' or (requested == 'auto' and turned_off):
        return 'torch'
    obstacle = _obstacle(bins, dtype, matmul_dtype, device)
    if requested == 'triton':
        if obstacle:
            raise ValueError(f"backend='triton' is not possible: {obstacle}; use backend='auto' or 'torch'.")
        return 'triton'
    if obstacle:
        return 'torch'
    return 'triton' if _passes_trial(divergence, classes, matmul_dtype, device) else 'torch'


def fused_divergence(
    name: str,
    student: Tensor,
    teacher: Tensor,
    student_bias: Tensor | None,
    teacher_bias: Tensor | None,
    scale: float,
    gradient: bool,
) -> Tensor:
    """Divergence of the distributions `softmax((products + bias) * scale)` of a tile, by the Triton kernel.

    A class whose logit is -inf in both models is ignored. If it is -inf in only one of them, the formula applies.

    Args:
        name: a key of `LATTICE_DIVERGENCES`.
        student: `[N, V]` products in float32, float16 or bfloat16; overwritten with the gradient with respect to
            `(products + bias) * scale` if `gradient`, in its own type.
        teacher: `[N, V]` products; not changed.
        student_bias: `[V]` or None.
        teacher_bias: `[V]` or None.
        scale: one over the temperature, positive.
        gradient: whether to compute the gradient.

    Returns:
        `[N]` in nats, float32.
    """
    from nemo_oracle_kd.functional.lattice.triton_kernel import divergence_kernel

    rows, classes = student.shape
    values = torch.empty(rows, dtype=torch.float32, device=student.device)
    if rows == 0:
        return values
    block = min(MAX_BLOCK, max(MIN_BLOCK, 1 << (classes - 1).bit_length()))
    with torch.cuda.device_of(student):
        divergence_kernel[(rows,)](
            student,
            teacher,
            # without a bias the kernel still takes a pointer, which it does not read
            student if student_bias is None else student_bias,
            teacher if teacher_bias is None else teacher_bias,
            student,
            values,
            classes,
            student.stride(0),
            teacher.stride(0),
            scale,
            DIVERGENCE=name,
            STUDENT_BIAS=student_bias is not None,
            TEACHER_BIAS=teacher_bias is not None,
            GRADIENT=gradient,
            BLOCK=block,
            num_warps=8 if block > 1024 else 4,
        )
    return values


def _obstacle(bins: str, dtype: torch.dtype, matmul_dtype: torch.dtype, device: torch.device) -> str | None:
    """Why the kernel cannot be used, or None."""
    if bins != 'full':
        return f"the kernel compares all classes, not bins='{bins}'"
    if dtype != torch.float32 or matmul_dtype not in PRODUCT_TYPES:
        return f"the kernel computes in float32, from float32 or half precision, not in {dtype} from {matmul_dtype}"
    if device.type not in ('cpu', 'cuda'):
        return f"the kernel does not run on a device of type '{device.type}'"
    if not _is_installed():
        return "triton is not installed"
    if device.type == 'cpu' and not _interpreted():
        return "on a CPU the kernel runs in Triton's interpreter only (TRITON_INTERPRET=1 before the first use)"
    return None


def _is_installed() -> bool:
    return importlib.util.find_spec('triton') is not None


def _interpreted() -> bool:
    if os.environ.get('TRITON_INTERPRET') != '1':
        return False
    from nemo_oracle_kd.functional.lattice.triton_kernel import is_interpreted

    return is_interpreted()


@lru_cache(maxsize=None)
@torch.no_grad()
def _passes_trial(name: str, classes: int, matmul_dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernel compiles on the device and agrees with PyTorch there; warns if it does not.

    A missing compiler, an old GPU or a faulty combination of versions then costs speed, but does not end the training.
    """
    try:
        error = _trial_error(name, classes, matmul_dtype, device)
    except Exception as problem:  # whatever Triton, its compiler or the driver raise
        first_line = (str(problem).splitlines() or [''])[0]
        reason = f"it fails with {type(problem).__name__}: {first_line}"
    else:
        rounding = torch.finfo(matmul_dtype).eps if matmul_dtype != torch.float32 else 1e-5
        if error <= 4 * rounding:
            return True
        reason = f"its result is off by {error:.1e}"
    warnings.warn(
        f"The Triton kernel of the lattice divergence is not used on {device}: {reason}. PyTorch computes the same; "
        f"set {TRITON_SWITCH}=0 to skip the trial.",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def _trial_error(name: str, classes: int, matmul_dtype: torch.dtype, device: torch.device) -> float:
    """Largest deviation of the kernel from PyTorch in values and gradients of a few random rows."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, TRIAL_ROWS, classes)
    student, teacher = (2.0 * torch.randn(shape, generator=generator)).to(device, matmul_dtype)
    biases = torch.randn((2, classes), generator=generator).to(device)
    expected_gradient, logits = (x.float() + bias for x, bias in zip((student, teacher), biases))
    work = work_buffers(tuple(logits.shape), logits)
    expected = full_divergence(name, expected_gradient, logits, work)
    values = fused_divergence(name, student, teacher, *biases, 1.0, True)
    relative = (values - expected).abs() / expected.abs().clamp(min=1.0)
    return max(float(relative.max()), float((student.float() - expected_gradient).abs().max()))

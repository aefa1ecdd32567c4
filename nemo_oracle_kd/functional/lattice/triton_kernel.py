# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The Triton kernel for the full divergence of a tile. It needs triton and is imported only when it is used.

One program per cell reads the two rows of products, applies bias and temperature, and computes log-softmax statistics,
divergence and gradient without writing intermediate results. A tile of N x V numbers per model is read once from memory
(and again from the cache), and one gradient is written, instead of the dozen passes of `distances.full_divergence`.
"""

import triton
import triton.language as tl

__all__ = ['divergence_kernel', 'is_interpreted']


def is_interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU; they do if TRITON_INTERPRET was 1 at the first import."""
    return not isinstance(divergence_kernel, triton.runtime.JITFunction)


@triton.jit
def _logits(products, bias, columns, classes, scale, HAS_BIAS: tl.constexpr):
    # Columns beyond the last class are -inf: they have probability zero and never are the maximum.
    inside = columns < classes
    logits = tl.load(products + columns, mask=inside, other=float('-inf')).to(tl.float32)
    if HAS_BIAS:
        logits += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    return logits * scale


@triton.jit
def _statistics(products, bias, classes, scale, HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr):
    """Largest logit of a row, and the logarithm of the sum of `exp(logit - largest)`."""
    # The start is finite: from -inf, a block that holds only masked classes would compute inf - inf.
    largest = -3.0e38
    total = 0.0
    for start in range(0, classes, BLOCK):
        logits = _logits(products, bias, start + tl.arange(0, BLOCK), classes, scale, HAS_BIAS)
        new = tl.maximum(largest, tl.max(logits, axis=0))
        total = total * tl.exp(largest - new) + tl.sum(tl.exp(logits - new), axis=0)
        largest = new
    return largest, tl.log(total)


@triton.jit
def _weighted(probability, x):
    # A class of probability zero contributes nothing, even if its logarithm is -inf. NaN is passed on.
    return tl.where(probability == 0.0, 0.0, probability * x)


@triton.jit
def _to_mean(ratio):
    """`log a - log m` with `m = (a + b) / 2`, from `ratio = log a - log b`; zero for zero, and no overflow."""
    tail = tl.log((1.0 + tl.exp(-tl.abs(ratio))) * 0.5)
    return tl.minimum(ratio, 0.0) - tail


@triton.jit
def divergence_kernel(
    student,
    teacher,
    student_bias,
    teacher_bias,
    gradient,
    values,
    classes,
    student_stride,
    teacher_stride,
    scale,
    DIVERGENCE: tl.constexpr,
    STUDENT_BIAS: tl.constexpr,
    TEACHER_BIAS: tl.constexpr,
    GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Divergence of one row, and its gradient with respect to `(products + bias) * scale` of the student.

    `gradient` has the stride of the student and may be the student itself, because every block is read before it is
    written and not read again.
    """
    row = tl.program_id(0).to(tl.int64)
    student += row * student_stride
    teacher += row * teacher_stride
    gradient += row * student_stride
    q_largest, q_total = _statistics(student, student_bias, classes, scale, STUDENT_BIAS, BLOCK)
    p_largest, p_total = _statistics(teacher, teacher_bias, classes, scale, TEACHER_BIAS, BLOCK)

    value = 0.0
    share = 0.0
    for start in range(0, classes, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        log_q = _logits(student, student_bias, columns, classes, scale, STUDENT_BIAS) - q_largest - q_total
        log_p = _logits(teacher, teacher_bias, columns, classes, scale, TEACHER_BIAS) - p_largest - p_total
        q = tl.exp(log_q)
        p = tl.exp(log_p)
        if DIVERGENCE == 'kl':
            value += tl.sum(_weighted(p, log_p - log_q), axis=0)
            if GRADIENT:
                tl.store(gradient + columns, (q - p).to(gradient.dtype.element_ty), mask=columns < classes)
        elif DIVERGENCE == 'reverse_kl':
            value += tl.sum(_weighted(q, log_q - log_p), axis=0)
        else:
            value += tl.sum(_weighted(p, _to_mean(log_p - log_q)), axis=0)
            share += tl.sum(_weighted(q, _to_mean(log_q - log_p)), axis=0)

    if DIVERGENCE == 'reverse_kl':
        share = value
    if DIVERGENCE == 'jensen_shannon':
        value = 0.5 * (value + share)
    tl.store(values + row, value)

    # The gradient q (d - sum_j q_j d_j) of the other two divergences needs the complete sum first.
    if GRADIENT:
        if DIVERGENCE != 'kl':
            for start in range(0, classes, BLOCK):
                columns = start + tl.arange(0, BLOCK)
                log_q = _logits(student, student_bias, columns, classes, scale, STUDENT_BIAS) - q_largest - q_total
                log_p = _logits(teacher, teacher_bias, columns, classes, scale, TEACHER_BIAS) - p_largest - p_total
                if DIVERGENCE == 'reverse_kl':
                    grad = _weighted(tl.exp(log_q), log_q - log_p - share)
                else:
                    grad = 0.5 * _weighted(tl.exp(log_q), _to_mean(log_q - log_p) - share)
                tl.store(gradient + columns, grad.to(gradient.dtype.element_ty), mask=columns < classes)

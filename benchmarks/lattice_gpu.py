# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures time and memory of lattice distillation on a GPU, with PyTorch tiles, Triton tiles and a materialised lattice.

    python benchmarks/lattice_gpu.py --json lattice_gpu.json
    python benchmarks/lattice_gpu.py --json lattice_gpu.json --cases 8x400x80x1025 --types bfloat16

The result has one row per case B x T x U x V (V includes the blank), type of the matrix products and method. Each measurement
is a forward pass of both models and a backward pass to the student's encoder, prediction network and output layer:

    materialised    both lattices, full divergence, autograd
    checkpointed    eight frames at a time, recomputed in the backward pass
    tiled_torch     lattice_divergence(backend='torch')
    tiled_triton    lattice_divergence(backend='triton'), where triton is installed

`seconds` is the time of the best round, and `matmul_seconds` that of the four matrix products alone. `peak_mb` is the growth of
PyTorch's peak of allocated memory. `deviation` is the relative deviation of the loss from tiled_torch in float32. Without a
GPU the script prints a message and measures nothing; `--device cpu` runs the PyTorch methods without measuring memory.
"""

import argparse
import importlib.util
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from lattice import Case, Products, machine, parse_case
from tqdm import tqdm

from nemo_oracle_kd.functional import lattice_divergence
from nemo_oracle_kd.functional.lattice.tiles import cells_per_tile

DEFAULT_CASES = [(8, 200, 40, classes) for classes in (129, 1025, 4097, 8193)] + [(16, 400, 80, 1025)]
METHODS = ('materialised', 'checkpointed', 'tiled_torch', 'tiled_triton')
TYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


class GpuCase(Case):
    """The case of benchmarks/lattice.py on another device, with projections in another type as under autocast."""

    def __init__(self, shape, hidden, device, dtype):
        super().__init__(shape, hidden)
        self.student, self.teacher = (self._moved(model, device, dtype) for model in (self.student, self.teacher))
        self.targets, self.frames, self.labels = (x.to(device) for x in (self.targets, self.frames, self.labels))
        self.device, self.dtype = device, dtype

    @staticmethod
    def _moved(model, device, dtype):
        def leaf(x, dtype):
            return x.detach().to(device, dtype).requires_grad_(x.requires_grad)

        projections = {name: leaf(getattr(model, name), dtype) for name in ('encoder', 'prediction')}
        parameters = {name: leaf(getattr(model, name), torch.float32) for name in ('weight', 'bias')}
        return replace(model, **projections, **parameters)

    def run(self, method):
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return super().run(method)

    def _tiled_torch(self):
        return self._divergence('torch')

    def _tiled_triton(self):
        return self._divergence('triton')

    def _divergence(self, backend):
        arguments = (self.student, self.teacher, self.targets, self.frames, self.labels, self.blank)
        return lattice_divergence(*arguments, backend=backend)


class GpuProducts(Products):
    """The four products of the tiles on a GPU."""

    def __init__(self, shape, hidden, device, dtype):
        super().__init__(shape, hidden)
        batch, frames, labels, classes = shape
        self.tile = min(self.cells, cells_per_tile(classes, device))
        options = {'device': device, 'dtype': dtype}
        self.hidden, self.weight = torch.randn(self.tile, hidden, **options), torch.randn(classes, hidden, **options)
        self.logits = [torch.randn(self.tile, classes, **options) for _ in range(2)]
        self.grad_hidden, self.grad_weight = torch.empty_like(self.hidden), torch.zeros_like(self.weight)


def seconds(function, device):
    """Returns the duration of a call, including its work on the GPU."""
    _wait(device)
    start = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - start


def _wait(device):
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def peak_megabytes(function, device):
    """Returns the growth of the allocated memory during a call in MiB; None on a CPU, where PyTorch does not count it."""
    if device.type != 'cuda':
        return None
    _wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    function()
    _wait(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def measure(shape, dtype, methods, options):
    """Measures a case; returns its rows without the columns that all rows share."""
    device = torch.device(options.device)
    reference = GpuCase(shape, options.hidden, device, torch.float32).run('tiled_torch')
    case = GpuCase(shape, options.hidden, device, TYPES[dtype])
    products = GpuProducts(shape, options.hidden, device, TYPES[dtype])
    best = min(seconds(products.run, device) for _ in range(options.rounds + 1))
    del products
    rows = []
    for method in methods:
        try:
            loss = case.run(method)  # this also warms up: it compiles kernels and chooses those of cuBLAS
            peak = peak_megabytes(lambda method=method: case.run(method), device)
            times = [seconds(lambda method=method: case.run(method), device) for _ in range(options.rounds)]
        except torch.cuda.OutOfMemoryError:
            tqdm.write(f'{shape} {dtype} {method}: out of memory')
            torch.cuda.empty_cache()
            continue
        deviation = float(((loss - reference).abs() / reference).max())
        row = {'method': method, 'type': dtype, 'seconds': min(times), 'matmul_seconds': best}
        rows.append({**row, 'peak_mb': peak, 'deviation': deviation})
    return rows


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', metavar='OUT', help='file to write the rows to')
    parser.add_argument('--cases', nargs='+', type=parse_case, default=DEFAULT_CASES, metavar='BxTxUxV')
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS), help='default: all')
    parser.add_argument(
        '--types', nargs='+', choices=TYPES, default=['float32', 'bfloat16'], help='types of the matrix products'
    )
    parser.add_argument('--hidden', type=int, default=640, help='hidden size of both joints (default: 640)')
    parser.add_argument('--rounds', type=int, default=5, help='measured rounds (default: 5)')
    parser.add_argument('--device', default='cuda', help='default: cuda')
    return parser.parse_args(arguments)


def main(arguments=None):
    """Measures case by case; prints and writes the rows."""
    options = parse_arguments(arguments)
    if options.json:  # a bad path should fail before the measurements
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    on_gpu = options.device.startswith('cuda')
    if on_gpu and not torch.cuda.is_available():
        print('No CUDA GPU: nothing measured.')
        return 0
    methods = list(options.methods)
    if not on_gpu or importlib.util.find_spec('triton') is None:
        methods = [method for method in methods if method != 'tiled_triton']
    here = torch.cuda.get_device_name(options.device) if on_gpu else machine(torch.get_num_threads())
    here = f'{here}, torch {torch.__version__}' if on_gpu else here
    print(here)
    rows = []
    for shape in tqdm(options.cases, desc='cases'):
        for dtype in options.types:
            for row in measure(shape, dtype, methods, options):
                rows.append({**dict(zip('BTUV', shape)), **row, 'H': options.hidden, 'machine': here})
                memory = '' if row['peak_mb'] is None else f"{row['peak_mb']:9.1f} MB"
                tqdm.write(
                    f"{'x'.join(map(str, shape)):>18} {dtype:9} {row['method']:14} {row['seconds']:9.4f} s "
                    f"{row['seconds'] / row['matmul_seconds']:6.2f} x products {memory}  "
                    f"deviation {row['deviation']:.1e}"
                )
        if options.json:
            Path(options.json).write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())

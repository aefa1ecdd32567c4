# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures time and memory of lattice distillation, with a materialised lattice and in tiles.

    python benchmarks/lattice.py --json lattice.json
    python benchmarks/lattice.py --json lattice.json --cases 4x200x40x1025 4x200x40x8193

The result has one row per case B x T x U x V (V includes the blank) and method. Each measurement is a forward pass of both
models and a backward pass to the student's encoder, prediction network and output layer:

    materialised                  both lattices, full divergence, autograd
    collapsed_after_materialising both lattices, then label, blank and rest: the saving of collapsing without tiles
    checkpointed                  eight frames at a time, recomputed in the backward pass (torch.utils.checkpoint)
    tiled                         nemo_oracle_kd.functional.lattice_divergence, full divergence
    tiled_collapsed               the same with label, blank and rest

`seconds` is the time of the best round. The methods of a case take turns, because on a busy machine ratios are more reliable
than times. `matmul_seconds` is the time of the four matrix products of the tiles alone. `peak_mb` is the growth of the peak
resident size of a fresh process over its size with the inputs in place and all libraries loaded. Rows are written case by
case; --resume keeps those that are in the file. The picture is written beside the JSON file.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nemo_oracle_kd.functional import JointTensors, lattice_divergence, length_mask  # noqa: E402
from nemo_oracle_kd.functional.lattice.tiles import cells_per_tile  # noqa: E402

OVER_CLASSES = [(4, 200, 40, classes) for classes in (129, 513, 1025, 2049, 4097, 8193)]
OVER_CELLS = [(4, frames, labels, 1025) for frames, labels in ((50, 10), (100, 20), (200, 40), (300, 60), (400, 80))]
DEFAULT_CASES = list(dict.fromkeys(OVER_CLASSES + OVER_CELLS))
METHODS = ('materialised', 'collapsed_after_materialising', 'checkpointed', 'tiled', 'tiled_collapsed')
CHECKPOINT_FRAMES = 8
#: makes glibc return freed blocks at once; otherwise the memory that the allocator keeps would count for `checkpointed`
FRUGAL = {'MALLOC_ARENA_MAX': '1', 'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_TRIM_THRESHOLD_': '65536'}
WARM_UP = (1, 3, 2, 9)


class Case:
    """Random student and teacher, full lengths."""

    def __init__(self, shape, hidden):
        batch, frames, labels, classes = shape
        generator = torch.Generator().manual_seed(0)

        def joint(gradient):
            sizes = [(batch, frames, hidden), (batch, labels + 1, hidden), (classes, hidden), (classes,)]
            tensors = [torch.randn(size, generator=generator) for size in sizes]
            tensors[2].mul_(hidden**-0.5)
            return JointTensors(*(x.requires_grad_(gradient) for x in tensors), activation='relu')

        self.shape, self.student, self.teacher = shape, joint(True), joint(False)
        self.targets = torch.randint(0, classes - 1, (batch, labels), generator=generator)
        self.frames, self.labels = torch.full((batch,), frames), torch.full((batch,), labels)
        self.blank = classes - 1

    def run(self, method):
        """Forward and backward."""
        student = self.student
        for x in (student.encoder, student.prediction, student.weight, student.bias):
            x.grad = None
        loss = getattr(self, '_' + method)()
        loss.sum().backward()
        return loss.detach()

    def _tiled(self, bins='full'):
        return lattice_divergence(
            self.student, self.teacher, self.targets, self.frames, self.labels, self.blank, bins=bins
        )

    def _tiled_collapsed(self):
        return self._tiled(bins='collapsed')

    def _cells(self, student_encoder, teacher_encoder):
        """Full divergence of the cells of some frames, `[B, T', U+1]`."""
        log_q = _log_posteriors(self.student, student_encoder)
        with torch.no_grad():
            log_p = _log_posteriors(self.teacher, teacher_encoder)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    def _sum(self, cells):
        in_time = length_mask(self.frames, cells.shape[1]).unsqueeze(2)
        in_labels = length_mask(self.labels + 1, cells.shape[2]).unsqueeze(1)
        return torch.where(in_time & in_labels, cells, 0.0).sum((1, 2))

    def _materialised(self):
        return self._sum(self._cells(self.student.encoder, self.teacher.encoder))

    def _checkpointed(self):
        chunks = zip(
            self.student.encoder.split(CHECKPOINT_FRAMES, 1), self.teacher.encoder.split(CHECKPOINT_FRAMES, 1)
        )
        return self._sum(torch.cat([checkpoint(self._cells, *chunk, use_reentrant=False) for chunk in chunks], 1))

    def _collapsed_after_materialising(self):
        frames = self.student.encoder.shape[1]
        labels = torch.nn.functional.pad(self.targets, (0, 1), value=self.blank)
        index = torch.stack([labels, torch.full_like(labels, self.blank)], -1).unsqueeze(1).expand(-1, frames, -1, -1)
        last = torch.zeros(labels.shape[1], dtype=torch.bool)
        last[-1] = True

        def bins(model):
            log_probs = _log_posteriors(model, model.encoder).gather(3, index)
            label, blank = log_probs.unbind(-1)
            label = label.masked_fill(last.view(1, 1, -1), -80.0)
            rest = torch.log1p(-(label.exp() + blank.exp()).clamp(max=1 - 1e-6))
            return torch.stack([label, blank, rest], -1)

        log_q = bins(self.student)
        with torch.no_grad():
            log_p = bins(self.teacher)
        return self._sum((log_p.exp() * (log_p - log_q)).sum(-1))


def _log_posteriors(model, encoder):
    hidden = torch.relu(encoder.unsqueeze(2) + model.prediction.unsqueeze(1))
    return torch.nn.functional.linear(hidden, model.weight, model.bias).log_softmax(-1)


class Products:
    """The four matrix products of the tiles: logits of student and teacher, gradient of hidden states and of weights."""

    def __init__(self, shape, hidden):
        batch, frames, labels, classes = shape
        self.cells = batch * frames * (labels + 1)
        self.tile = min(self.cells, cells_per_tile(classes, torch.device('cpu')))
        self.hidden, self.weight = torch.randn(self.tile, hidden), torch.randn(classes, hidden)
        self.logits = [torch.randn(self.tile, classes) for _ in range(2)]
        self.grad_hidden, self.grad_weight = torch.empty(self.tile, hidden), torch.zeros(classes, hidden)

    def run(self):
        for start in range(0, self.cells, self.tile):
            count = min(self.tile, self.cells - start)
            hidden = self.hidden[:count]
            for logits in self.logits:
                torch.mm(hidden, self.weight.t(), out=logits[:count])
            torch.mm(self.logits[0][:count], self.weight, out=self.grad_hidden[:count])
            self.grad_weight.addmm_(self.logits[0][:count].t(), hidden)


def measure_times(shape, methods, hidden, rounds):
    """Best times in seconds of the methods and of the products alone, taking turns."""
    case, products = Case(shape, hidden), Products(shape, hidden)
    candidates = {method: lambda method=method: case.run(method) for method in methods}
    candidates['products'] = products.run
    best = dict.fromkeys(candidates, float('inf'))
    for _ in range(rounds + 1):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def measure_memory(shape, method, hidden):
    """Growth of the peak resident size in MB; to be called in a fresh process."""
    Case(WARM_UP, hidden).run(method)  # loads libraries; no more, or freed memory would be counted for nobody
    case = Case(shape, hidden)
    try:
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak to the present size
    except OSError:
        pass
    before = _status('VmRSS')
    case.run(method)
    peak = _status('VmHWM') or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak - before) / 1024


def _status(key):
    """A line of /proc/self/status in kB."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith(key + ':'):
            return int(line.split()[1])
    return 0


def machine(threads):
    """Describes the machine of the measurements in a line."""
    model = platform.processor() or platform.machine()
    if Path('/proc/cpuinfo').is_file():
        lines = [x for x in Path('/proc/cpuinfo').read_text().splitlines() if x.startswith('model name')]
        model = lines[0].split(':')[1].strip() if lines else model
    return f'{model}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}'


def expected_gigabytes(shape, method):
    """Estimates the least memory that a method needs, in GB, so that cases that do not fit are left out."""
    batch, frames, labels, classes = shape
    lattice = 4 * batch * frames * (labels + 1) * classes / 1e9
    return {'materialised': 6, 'collapsed_after_materialising': 4, 'checkpointed': 6}.get(method, 0) * lattice


def parse_case(text):
    """Reads '4x200x40x1025'."""
    parts = text.lower().split('x')
    if len(parts) != 4 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not of the form BxTxUxV: give four numbers, such as 4x200x40x1025"
        )
    return tuple(int(part) for part in parts)


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', metavar='OUT', help='file to write the rows to; the picture goes beside it')
    parser.add_argument('--cases', nargs='+', type=parse_case, default=DEFAULT_CASES, metavar='BxTxUxV')
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS), help='default: all')
    parser.add_argument('--hidden', type=int, default=256, help='hidden size of both joints (default: 256)')
    parser.add_argument('--rounds', type=int, default=5, help='measured rounds (default: 5)')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch (default: 2)')
    parser.add_argument(
        '--limit-gb', type=float, default=12.0, help='leave out cases that need more memory (default: 12)'
    )
    parser.add_argument('--resume', action='store_true', help='keep the rows that are already in OUT')
    parser.add_argument('--worker', choices=('time', 'memory'), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Measures case by case; prints and writes the rows."""
    options = parse_arguments(arguments)
    if options.json:  # a bad path should fail before the measurements
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    if options.worker == 'time':
        print(json.dumps(measure_times(options.cases[0], options.methods, options.hidden, options.rounds)))
        return 0
    if options.worker == 'memory':
        print(json.dumps(measure_memory(options.cases[0], options.methods[0], options.hidden)))
        return 0

    out = Path(options.json) if options.json else None
    rows = json.loads(out.read_text(encoding='utf-8')) if out and options.resume and out.is_file() else []
    done = {(*(row[key] for key in 'BTUV'), row['method']) for row in rows}
    here = machine(options.threads)
    print(here)
    bar = tqdm(options.cases, desc='cases')
    for shape in bar:
        name = 'x'.join(map(str, shape))
        bar.set_postfix_str(name)
        wanted = [method for method in options.methods if (*shape, method) not in done]
        methods = [method for method in wanted if expected_gigabytes(shape, method) <= options.limit_gb]
        for method in sorted(set(wanted) - set(methods)):
            tqdm.write(f'{name} {method}: left out, it needs more than --limit-gb {options.limit_gb:g}')
        if not methods:
            continue
        times = _worker('time', shape, methods, options)
        for method in methods:
            row = dict(zip('BTUV', shape))
            row.update(method=method, seconds=times[method], matmul_seconds=times['products'])
            row.update(peak_mb=_worker('memory', shape, [method], options), H=options.hidden, machine=here)
            rows.append(row)
            tqdm.write(
                f"{name:>18} {method:30} {row['seconds']:8.3f} s {row['seconds'] / row['matmul_seconds']:6.2f} x "
                f"products {row['peak_mb']:9.1f} MB"
            )
        if out:
            out.write_text(json.dumps(rows, indent=1) + '\n', encoding='utf-8')
    if out and rows:
        draw(rows, out.with_suffix('.png'))
    return 0


def _worker(kind, shape, methods, options):
    """Runs a measurement in a process of its own."""
    command = [sys.executable, __file__, '--worker', kind, '--cases', 'x'.join(map(str, shape)), '--methods', *methods]
    command += ['--hidden', str(options.hidden), '--rounds', str(options.rounds), '--threads', str(options.threads)]
    environment = {**os.environ, **(FRUGAL if kind == 'memory' else {})}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f'{" ".join(command[1:])} failed:\n{done.stderr}')
    return json.loads(done.stdout.splitlines()[-1])


def draw(rows, path):
    """Draws peak memory over V and over T U on logarithmic axes."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    # Each panel shows the largest family of cases that differ only in the quantity on its axis.
    panels = (('V', lambda r: r['V'], ('B', 'T', 'U')), ('T·U', lambda r: r['T'] * r['U'], ('B', 'V')))
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for axis, (label, at, fixed) in zip(axes, panels):
        families = {}
        for row in rows:
            families.setdefault(tuple(row[key] for key in fixed), []).append(row)
        key, family = max(families.items(), key=lambda item: len({at(row) for row in item[1]}))
        for method in METHODS:
            points = sorted((at(row), row['peak_mb']) for row in family if row['method'] == method)
            if points:
                axis.plot(*zip(*points), marker='o', label=method.replace('_', ' '))
        axis.set(xscale='log', yscale='log', xlabel=label)
        axis.set_title(', '.join(f'{name} = {value}' for name, value in zip(fixed, key)), fontsize=10)
        axis.grid(alpha=0.3, which='both')
    axes[0].set_ylabel('peak memory, MB')
    axes[0].legend(fontsize=8)
    figure.suptitle(f"Lattice distillation, forward and backward. {rows[0]['machine']}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == '__main__':
    sys.exit(main())

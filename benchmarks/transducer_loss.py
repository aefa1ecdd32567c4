# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Compares the time and memory of this package's RNN-T loss with those of other implementations.

    python benchmarks/transducer_loss.py --json transducer_loss.json

Every measurement is a forward and a backward pass of the loss alone, with the logits as a leaf. The candidates take turns,
round by round, and the best round of each counts: a busy machine changes the times, but hardly their ratios. Peers that are
not installed are left out and named in the result:

    warprnnt_numba, pytorch   NeMo's losses (pip install nemo_toolkit[asr]); the second at the small shape only,
                              because it needs more than a minute at the others
    fast_rnnt                 C++ (pip install fast_rnnt, from source; or put its build on PYTHONPATH)
    optimized_transducer      C++ (likewise)

Memory is the growth of the peak resident size of a fresh process over its size with the logits in place, divided by the size
of the logits (on Linux). The gradient has the size of the logits, so 1.0 is the minimum.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SHAPES = {'small': (2, 40, 10, 33), 'long': (4, 200, 40, 128), 'wide': (4, 100, 25, 513)}
"""Name -> B, T, U, V (blank included)."""

PEERS = ('ours', 'warprnnt_numba', 'pytorch', 'fast_rnnt', 'optimized_transducer')
SLOW = ('warprnnt_numba', 'pytorch')
"""Candidates that take seconds; they are measured in the first rounds only."""

TARGETS = {
    'warprnnt_numba at long': ('long', 'warprnnt_numba', 20.0),
    'fast_rnnt at wide': ('wide', 'fast_rnnt', 1 / 1.5),
}
"""Target -> shape, peer, and the least ratio of the peer's time to ours."""


def make_candidate(name, batch, classes):
    """Returns `loss(logits) -> scalar`, the sum over the batch.

    Raises:
        ImportError: the peer is not installed.
    """
    targets, frames, labels = batch
    blank = classes - 1
    if name == 'ours':
        from nemo_oracle_kd.functional import rnnt_full_sum

        return lambda logits: rnnt_full_sum(logits, targets, frames, labels, blank).sum()
    if name == 'warprnnt_numba':
        from nemo.collections.asr.parts.numba.rnnt_loss import RNNTLossNumba

        loss = RNNTLossNumba(blank=blank, reduction='none')
        return lambda logits: loss(logits, targets, frames, labels).sum()
    if name == 'pytorch':
        from nemo.collections.asr.losses.rnnt_pytorch import RNNTLossPytorch

        reference = RNNTLossPytorch(blank=blank, reduction='none')
        return lambda logits: reference(acts=logits, labels=targets, act_lens=frames, label_lens=labels).sum()
    if name == 'fast_rnnt':
        import fast_rnnt

        zeros = torch.zeros_like(frames)
        boundary = torch.stack([zeros, zeros, labels, frames], 1)
        return lambda logits: fast_rnnt.rnnt_loss(logits, targets, blank, boundary=boundary, reduction='sum')
    import optimized_transducer

    def optimized(logits):
        cells = logits.reshape(-1, classes)
        return optimized_transducer.transducer_loss(
            cells, targets.int(), frames.int(), labels.int(), blank, reduction='sum', from_log_softmax=False
        )

    return optimized


def make_batch(shape):
    """Makes random logits, and labels of full length."""
    batch, frames, labels, classes = shape
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, frames, labels + 1, classes, generator=generator)
    targets = torch.randint(0, classes - 1, (batch, labels), generator=generator)
    return logits, (targets, torch.full((batch,), frames), torch.full((batch,), labels))


def measure_times(shape, names, rounds, slow_rounds, description):
    """Measures the times of every candidate in seconds; also returns its loss and its gradient."""
    logits, batch = make_batch(shape)
    candidates = {name: make_candidate(name, batch, shape[-1]) for name in names}
    times = {name: [] for name in names}
    losses, gradients = {}, {}
    for turn in tqdm(range(rounds + 1), desc=description):
        for name, candidate in candidates.items():
            if name in SLOW and turn >= slow_rounds:
                continue
            leaf = logits.clone().requires_grad_()  # optimized_transducer writes its gradient into its input
            start = time.perf_counter()
            loss = candidate(leaf)
            loss.backward()
            elapsed = time.perf_counter() - start
            if turn > 0 or name in SLOW:  # the first round warms up
                times[name].append(elapsed)
            losses[name], gradients[name] = loss.item(), leaf.grad
    return times, losses, gradients


def peak_memory(name, shape):
    """Growth of the peak resident size in a forward and backward pass of this process, divided by the size of the logits."""
    logits, batch = make_batch((1, 2, 1, shape[-1]))
    candidate = make_candidate(name, batch, shape[-1])
    candidate(logits.requires_grad_()).backward()  # loads libraries
    logits, batch = make_batch(shape)
    candidate = make_candidate(name, batch, shape[-1])
    logits.requires_grad_()
    Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    before = _status('VmRSS')
    candidate(logits).backward()
    return (_status('VmHWM') - before) / (logits.numel() * logits.element_size())


def _status(key):
    """Returns an entry of Linux's /proc/self/status in bytes; the peak of `getrusage` would include that before an exec."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ':')) * 1024


def machine():
    """Describes the machine of the measurements."""
    model = platform.processor() or platform.machine()
    if Path('/proc/cpuinfo').is_file():
        lines = [line for line in Path('/proc/cpuinfo').read_text().splitlines() if line.startswith('model name')]
        model = lines[0].split(':')[1].strip() if lines else model
    return {
        'processor': model,
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'load_average': list(os.getloadavg()),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'system': platform.system(),
    }


def available(names):
    """Returns the installed candidates, and why the others cannot be used."""
    _, batch = make_batch((1, 2, 1, 4))
    present, missing = [], {}
    for name in names:
        try:
            make_candidate(name, batch, 4)
            present.append(name)
        except ImportError as error:
            missing[name] = str(error)
    return present, missing


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', metavar='OUT', help='file to write the results to')
    parser.add_argument('--shapes', nargs='+', choices=SHAPES, default=list(SHAPES), help='default: all')
    parser.add_argument('--peers', nargs='+', choices=PEERS, default=list(PEERS), help='default: all installed')
    parser.add_argument('--rounds', type=int, default=30, help='measured rounds (default: 30)')
    parser.add_argument('--slow-rounds', type=int, default=2, help='rounds with the slow peers (default: 2)')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch (default: 2)')
    parser.add_argument('--no-memory', action='store_true', help='measure times only')
    parser.add_argument('--peak-memory-of', nargs=2, metavar=('PEER', 'SHAPE'), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Measures, prints a table and writes the JSON file."""
    options = parse_arguments(arguments)
    if options.json:  # a bad path should fail before the measurements
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    if options.peak_memory_of:
        name, shape = options.peak_memory_of
        print(peak_memory(name, SHAPES[shape]))
        return 0

    names, missing = available([name for name in PEERS if name == 'ours' or name in options.peers])
    result = {'machine': machine(), 'rounds': options.rounds, 'not_installed': missing, 'shapes': {}, 'targets': {}}
    for label in options.shapes:
        shape = SHAPES[label]
        chosen = [name for name in names if name != 'pytorch' or label == 'small']
        title = f'{label} B{shape[0]} T{shape[1]} U{shape[2]} V{shape[3]}'
        times, losses, gradients = measure_times(shape, chosen, options.rounds, options.slow_rounds, title)
        best = {name: min(values) for name, values in times.items()}
        entry = {'B': shape[0], 'T': shape[1], 'U': shape[2], 'V': shape[3], 'candidates': {}}
        for name in chosen:
            entry['candidates'][name] = {
                'milliseconds_min': 1e3 * best[name],
                'milliseconds_median': 1e3 * statistics.median(times[name]),
                'time_over_ours': best[name] / best['ours'],
                'loss': losses[name],
                'gradient_difference': (gradients[name] - gradients['ours']).abs().max().item(),
            }
            if not options.no_memory and label != 'small' and platform.system() == 'Linux':
                command = [sys.executable, __file__, '--threads', str(options.threads)]
                command += ['--peak-memory-of', name, label]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                entry['candidates'][name]['peak_memory_in_logits'] = float(done.stdout.splitlines()[-1])
        result['shapes'][label] = entry
        write(result, options.json)  # an interrupted run keeps the shapes that are done

    for title, (label, name, least) in TARGETS.items():
        found = result['shapes'].get(label, {}).get('candidates', {}).get(name)
        if found is not None:
            ratio = found['time_over_ours']
            result['targets'][title] = {'time_over_ours': ratio, 'at_least': least, 'reached': ratio >= least}
    print_table(result)
    write(result, options.json)
    return 0


def write(result, path):
    """Writes the results if a path is given."""
    if path:
        Path(path).write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')


def print_table(result):
    """Prints the results as a table."""
    host = result['machine']
    print(f"{host['processor']}, {host['threads']} threads, torch {host['torch']}")
    for label, entry in result['shapes'].items():
        print(f"\n{label}: B{entry['B']} T{entry['T']} U{entry['U']} V{entry['V']}")
        print(f"  {'':22}{'min ms':>10}{'median ms':>11}{'/ ours':>9}{'memory':>8}{'grad diff':>11}{'loss':>13}")
        for name, found in entry['candidates'].items():
            memory = found.get('peak_memory_in_logits')
            print(
                f"  {name:22}{found['milliseconds_min']:10.2f}{found['milliseconds_median']:11.2f}"
                f"{found['time_over_ours']:9.2f}{'' if memory is None else format(memory, '.2f'):>8}"
                f"{found['gradient_difference']:11.1e}{found['loss']:13.4f}"
            )
    for name, reason in result['not_installed'].items():
        print(f"\n{name} is not installed: {reason}")
    for title, target in result['targets'].items():
        verdict = 'reached' if target['reached'] else 'missed'
        print(f"{title}: {target['time_over_ours']:.2f} times our time, at least {target['at_least']:.2f}: {verdict}")


if __name__ == '__main__':
    sys.exit(main())

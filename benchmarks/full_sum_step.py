# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures the cost of full-sum distillation from stored scores: a training step with it against NeMo's plain step.

    python benchmarks/full_sum_step.py --json full_sum_step.json

Each side is a whole `trainer.fit` in a process of its own, with the same stock NeMo model, seed, data and loss kernel
(`oracle_kd_rnnt`, or the CTC loss). One side has the callback `KnowledgeDistillation` with `teacher.scores: manifest` and the
objective `full_sum`; one row in ten is supervised. The processes take turns of a few steps, and one sleeps while the other
works, so that a busy machine slows both down alike. A turn covers everything between two steps, including the data loader and
the search for the rows of the batch.

    time_ratio     ratio of the processor times of the turns, which other work on the machine does not affect: the median over
                   the pairs of neighbouring turns; the largest of all cases
    wall_ratio     the same for wall-clock times
    memory_ratio   ratio of the growth of the peak resident size during a fit over the size before it: the median of several
                   short fits of each side in processes of their own; the largest of all cases
    peak_ratio     the same for the peak resident sizes themselves, which include the libraries

The targets are a time_ratio of 1.05 and a memory_ratio of 1.02. Memory is measured on Linux, with glibc configured to return
large blocks at once. Otherwise the peak would depend on what the allocator happens to keep, and vary by three per cent.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

CASES = {
    'rnnt': {'config': 'rnnt/separable_rnnt_char.yaml', 'fused': False},
    'rnnt_fused': {'config': 'rnnt/separable_rnnt_char.yaml', 'fused': True},
    'ctc': {'config': 'ctc/separable_ctc_char.yaml'},
}
ARMS = ('plain', 'full_sum')
TARGETS = {'time_ratio': 1.05, 'memory_ratio': 1.02}
MARK = 'FULL_SUM_STEP '


def write_corpus(folder, rows, seconds, labels):
    """Writes a few files of noise, and a scored manifest whose rows share the files but have texts of their own."""
    import numpy as np
    import soundfile

    generator = np.random.default_rng(0)
    files = []
    for index in range(16):
        path = folder / f'{index:02d}.wav'
        soundfile.write(path, 0.1 * generator.standard_normal(int(16000 * seconds)), 16000, subtype='PCM_16')
        files.append(str(path))
    lines = []
    for index in range(rows):
        words = [''.join(generator.choice(list('abcdefghijklmnopqrstuvwxyz'), 4)) for _ in range(labels // 5 + 1)]
        row = {'audio_filepath': files[index % 16], 'duration': seconds, 'text': ' '.join(words)[:labels].strip()}
        if index % 10:
            row.update(teacher_log_prob=-float(generator.uniform(1, 30)), teacher_tokens=len(row['text']))
            row.update(teacher_fingerprint='01234567-89abcdef-00000000')
        else:
            row['supervised'] = True
        lines.append(json.dumps(row) + '\n')
    path = folder / 'scored.jsonl'
    path.write_text(''.join(lines), encoding='utf-8')
    # the header that `nemo-oracle-kd score` writes beside its rows; it names the teacher's class
    Path(f'{path}.header.json').write_text(json.dumps({'teacher': {'class': 'EncDecRNNTModel'}}), encoding='utf-8')
    return path


def build(case, arm, manifest, options, extra):
    """Builds the trainer and model of one side."""
    import lightning.pytorch as pl
    from nemo.collections.asr.models import EncDecCTCModel, EncDecRNNTModel
    from omegaconf import OmegaConf

    config = OmegaConf.load(REPOSITORY / 'conf' / CASES[case]['config']).model
    config.train_ds.manifest_filepath = str(manifest)
    config.train_ds.batch_size = options.batch_size
    config.train_ds.shuffle = False
    config.pop('validation_ds')
    config.optim.pop('sched')
    config.width = options.width
    if 'joint' in config:
        config.model_defaults.update(pred_hidden=options.joint_hidden, joint_hidden=options.joint_hidden)
        config.joint.fuse_loss_wer = CASES[case]['fused']
        config.joint.fused_batch_size = max(1, options.batch_size // 2)
    callbacks = []
    if arm == 'full_sum':
        from nemo_oracle_kd.callbacks import KnowledgeDistillation

        preset = OmegaConf.load(REPOSITORY / 'conf' / 'oracle_kd' / 'full_sum.yaml')
        callbacks.append(KnowledgeDistillation(**preset))
    pl.seed_everything(0)
    trainer = pl.Trainer(
        max_steps=options.warm_up + options.turns * options.steps,
        max_epochs=-1,
        accelerator='cpu',
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10**6,  # at logged steps NeMo also decodes the batch for its word error rate
        callbacks=callbacks + extra,
    )
    return trainer, (EncDecRNNTModel if 'joint' in config else EncDecCTCModel)(cfg=config, trainer=trainer)


def work(case, arm, manifest, options):
    """Trains one side, and waits for a line on stdin after every turn."""
    import torch
    from lightning.pytorch.callbacks import Callback

    torch.set_num_threads(options.threads)

    class Turns(Callback):
        """Reports a turn, and waits for the parent to start the next one."""

        started = None

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            done = trainer.global_step - options.warm_up
            if done < 0 or done % options.steps:
                return
            if self.started is not None:
                wall, processor = time.perf_counter() - self.started[0], time.process_time() - self.started[1]
                tell(seconds=wall / options.steps, processor_seconds=processor / options.steps)
            else:
                tell(warm=True)
            if done < options.turns * options.steps and not sys.stdin.readline():
                raise SystemExit(1)
            self.started = time.perf_counter(), time.process_time()

    trainer, model = build(case, arm, manifest, options, [Turns()])
    try:
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    except OSError:
        pass
    before = status('VmRSS')
    trainer.fit(model)
    peak = status('VmHWM')
    tell(loss=float(trainer.callback_metrics['train_loss']), growth=peak - before, peak=peak)


def tell(**values):
    """Prints a marked line for the parent, because NeMo also writes to stdout."""
    print(MARK + json.dumps(values), flush=True)


def status(key):
    """Returns an entry of Linux's /proc/self/status in megabytes, and 0 on other systems."""
    path = Path('/proc/self/status')
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key + ':')), 0.0)


class Side:
    """A process that trains one side in turns."""

    def __init__(self, case, arm, manifest, arguments, log, environment=None):
        command = [sys.executable, __file__, *arguments, '--worker', case, arm, str(manifest)]
        environment = {**os.environ, **(environment or {})}
        self.log = log
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )

    def hear(self):
        """Returns the next marked line of the process.

        Raises:
            RuntimeError: the process has ended.
        """
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line[len(MARK) :])
            self.log.write(line)
        self.log.flush()
        last = Path(self.log.name).read_text(encoding='utf-8')[-2000:]
        raise RuntimeError(f'{" ".join(self.process.args[1:])} ended early: see the end of its log:\n{last}')

    def turn(self):
        """Runs one turn and returns its report."""
        self.process.stdin.write('\n')
        self.process.stdin.flush()
        return self.hear()


def measure(case, folder, options, arguments):
    """Measures times and memory of both sides of one case."""
    manifest = folder / 'scored.jsonl'
    with open(folder / f'{case}.log', 'w+', encoding='utf-8') as log:
        times = measure_times(case, manifest, options, arguments, log)
        return {**times, **measure_memory(case, manifest, options, arguments, log)}


#: one arena, so that the resident size does not depend on the allocating thread, and freed blocks are returned at once
FRUGAL = {'MALLOC_ARENA_MAX': '1', 'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_TRIM_THRESHOLD_': '65536'}


def measure_memory(case, manifest, options, arguments, log):
    """Measures the peak memory of both sides, which may run at the same time without changing it."""
    from tqdm import tqdm

    arguments, fits = [*arguments, '--turns', '0', '--warm-up', str(options.memory_steps)], {arm: [] for arm in ARMS}
    for _ in tqdm(range(options.memory_fits), desc=f'{case}, memory'):
        sides = {arm: Side(case, arm, manifest, arguments, log, FRUGAL) for arm in ARMS}
        try:
            for arm, side in sides.items():
                side.hear()
                fits[arm].append(side.hear())
                side.process.wait()
        finally:
            for side in sides.values():
                side.process.kill()
    return compare_memory(fits)


def compare_memory(fits):
    """Computes the medians over the fits of each side, and their ratios."""
    found = {}
    for key, ratio in (('growth', 'memory_ratio'), ('peak', 'peak_ratio')):
        sizes = {arm: statistics.median(fit[key] for fit in fits[arm]) for arm in ARMS}
        found[f'{key}_mb'] = sizes
        found[f'{key}_mb_of_every_fit'] = {arm: [fit[key] for fit in fits[arm]] for arm in ARMS}
        found[ratio] = sizes['full_sum'] / sizes['plain'] if sizes['plain'] else None
    return found


def measure_times(case, manifest, options, arguments, log):
    """Measures the times of both sides, which take turns."""
    from tqdm import tqdm

    sides = {}
    try:
        for arm in ARMS:  # one after the other, because their set-ups would compete for the processor
            sides[arm] = Side(case, arm, manifest, arguments, log)
            sides[arm].hear()
        turns = {arm: [] for arm in ARMS}
        for number in tqdm(range(options.turns), desc=case):
            for arm in ARMS if number % 2 else reversed(ARMS):
                turns[arm].append(sides[arm].turn())
        ends = {arm: side.hear() for arm, side in sides.items()}
        for side in sides.values():
            side.process.wait()
    finally:
        for side in sides.values():
            side.process.kill()
    return compare(turns, ends)


def compare(turns, ends):
    """Computes the ratios of the turns' times, and the last loss of each side."""
    found = {}
    for key in ('seconds', 'processor_seconds'):
        pairs = [(full_sum[key], plain[key]) for full_sum, plain in zip(turns['full_sum'], turns['plain'])]
        found[f'{key}_per_step'] = {arm: min(turn[key] for turn in turns[arm]) for arm in ARMS}
        found[f'{key}_ratio'] = statistics.median(ours / theirs for ours, theirs in pairs)
    found['wall_ratio'] = found.pop('seconds_ratio')
    found['time_ratio'] = found.pop('processor_seconds_ratio')
    found['last_loss'] = {arm: ends[arm]['loss'] for arm in ARMS}
    return found


def machine(threads):
    """Describes the machine of the measurements."""
    import torch

    model = platform.processor() or platform.machine()
    if Path('/proc/cpuinfo').is_file():
        lines = [line for line in Path('/proc/cpuinfo').read_text().splitlines() if line.startswith('model name')]
        model = lines[0].split(':')[1].strip() if lines else model
    load = list(os.getloadavg())
    return {
        'processor': model,
        'cores': os.cpu_count(),
        'threads': threads,
        'load_average': load,
        'torch': torch.__version__,
    }


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', metavar='OUT', help='file to write the results to')
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES), help='default: all')
    parser.add_argument('--batch-size', type=int, default=8, help='utterances per step (default: 8)')
    parser.add_argument('--seconds', type=float, default=6.0, help='length of an utterance (default: 6)')
    parser.add_argument('--labels', type=int, default=60, help='characters per utterance (default: 60)')
    parser.add_argument('--width', type=int, default=64, help='channels of the encoder (default: 64)')
    parser.add_argument(
        '--joint-hidden', type=int, default=320, help='size of prediction network and joint (default: 320)'
    )
    parser.add_argument('--turns', type=int, default=20, help='turns of each side (default: 20)')
    parser.add_argument('--steps', type=int, default=3, help='training steps per turn (default: 3)')
    parser.add_argument('--warm-up', type=int, default=4, help='steps before the first turn (default: 4)')
    parser.add_argument('--memory-fits', type=int, default=3, help='fits of each side for the memory (default: 3)')
    parser.add_argument('--memory-steps', type=int, default=8, help='training steps of such a fit (default: 8)')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch (default: 2)')
    parser.add_argument('--worker', nargs=3, metavar=('CASE', 'ARM', 'MANIFEST'), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Measures, prints a table and writes the JSON file."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    if options.json:  # a bad path should fail before the measurements
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    if options.worker:
        case, arm, manifest = options.worker
        work(case, arm, Path(manifest), options)
        return 0
    settings = {key: value for key, value in vars(options).items() if key not in ('json', 'cases', 'worker')}
    result = {'machine': machine(options.threads), 'settings': settings, 'cases': {}, 'targets': TARGETS}
    with tempfile.TemporaryDirectory(prefix='full_sum_step_') as name:
        folder = Path(name)
        steps = options.warm_up + options.turns * options.steps
        write_corpus(folder, options.batch_size * steps, options.seconds, options.labels)
        for case in options.cases:
            found = result['cases'][case] = measure(case, folder, options, arguments)
            print(
                f"{case:12} time x {found['time_ratio']:.3f} ({1e3 * found['processor_seconds_per_step']['plain']:.0f} ms), "
                f"wall x {found['wall_ratio']:.3f}  memory x {found['memory_ratio'] or 0:.3f} "
                f"({found['growth_mb']['plain']:.0f} MB), with libraries x {found['peak_ratio'] or 0:.3f}",
                flush=True,
            )
            for key in ('time_ratio', 'wall_ratio', 'memory_ratio', 'peak_ratio'):
                known = [entry[key] for entry in result['cases'].values() if entry[key] is not None]
                result[key] = max(known) if known else None
            if options.json:
                Path(options.json).write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures the cost of setting up a distillation, from the config to the end of the first training step.

    python benchmarks/setup.py --json setup.json

Each side is a process of its own that builds the same tiny stock NeMo model on the same scored manifest and trains one step;
imports are not measured. The side `plain` is NeMo alone, which parses the manifest and tokenises the texts. The other sides
have the callback `KnowledgeDistillation` with stored scores, which checks every row (audio files, texts, scores, the hash of
the row) and finds the line of each of NeMo's entries. The rows share a few audio files; one row in ten is supervised.

    time_ratio         ratio of the processor time with an objective to that of `plain`, the median over the rounds; other
                       work on the machine does not affect it
    wall_ratio         the same for wall-clock times
    bytes_per_row      memory that the distillation keeps to find the row of an utterance, bytes per row
    memory_per_row     growth of the resident size at the first step over that of `plain`, bytes per row (Linux)

The target is a time_ratio of 1.3.
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

PLAIN = 'plain'
OBJECTIVES = ('full_sum', 'full_sum_norm', 'hard')
TARGETS = {'time_ratio': 1.3}
MARK = 'SETUP '
LABELS = [' ', *'abcdefghijklmnopqrstuvwxyz']


def write_corpus(folder, rows, labels, nbest):
    """Writes four short files of noise, and a scored manifest with its header, whose rows share the files."""
    import numpy as np
    import soundfile

    from nemo_oracle_kd.labelling.format import ROW_KEY, header_path, row_hash

    generator = np.random.default_rng(0)
    files = []
    for index in range(4):
        files.append(str(folder / f'{index}.wav'))
        soundfile.write(files[-1], 0.1 * generator.standard_normal(16000), 16000, subtype='PCM_16')
    words = [''.join(generator.choice(LABELS[1:], 5)) for _ in range(5000)]
    path = folder / 'scored.jsonl'
    with open(path, 'w', encoding='utf-8') as file:
        for index in range(rows):
            chosen = generator.integers(len(words), size=labels // 6 + 1).tolist()
            text = ' '.join(words[word] for word in chosen)[:labels].strip()
            row = {'audio_filepath': files[index % 4], 'duration': 1.0, 'text': text, 'speaker': index % 97}
            if index % 10:
                score = round(-1.0 - index % 29, 3)
                others = [f'{text} {LABELS[1 + other]}' for other in range(nbest - 1)]
                entries = [{'text': other, 'log_prob': score - 1 - n} for n, other in enumerate(others)]
                row.update(teacher_nbest=[{'text': text, 'log_prob': score}, *entries], teacher_log_prob=score)
                row.update(teacher_tokens=len(text), teacher_fingerprint='01234567-89abcdef-00000000')
                row[ROW_KEY] = row_hash(row)
            else:
                row['supervised'] = True
            file.write(json.dumps(row) + '\n')
    header_path(path).write_text(json.dumps({'teacher': {'class': 'EncDecCTCModel'}}), encoding='utf-8')
    return path


def build(arm, manifest, extra):
    """Builds the trainer, the model and the last callback of one side."""
    import lightning.pytorch as pl
    from nemo.collections.asr.models import EncDecCTCModel
    from omegaconf import OmegaConf

    config = OmegaConf.load(REPOSITORY / 'conf' / 'ctc' / 'separable_ctc_char.yaml').model
    config.train_ds.update(manifest_filepath=str(manifest), batch_size=4, num_workers=0, shuffle=True)
    config.pop('validation_ds')
    config.optim.pop('sched')
    config.width = 8
    callbacks = list(extra)
    if arm != PLAIN:
        from nemo_oracle_kd.callbacks import KnowledgeDistillation

        preset = OmegaConf.load(REPOSITORY / 'conf' / 'oracle_kd' / f'{arm}.yaml')
        callbacks.append(KnowledgeDistillation(**preset))
    trainer = pl.Trainer(
        max_steps=1,
        accelerator='cpu',
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10**6,
        callbacks=callbacks,
    )
    return trainer, EncDecCTCModel(cfg=config, trainer=trainer), callbacks[-1]


def work(arm, manifest):
    """Builds one side, trains one step and prints the times."""
    import torch
    from lightning.pytorch.callbacks import Callback

    import nemo_oracle_kd.callbacks  # noqa: F401  imported by both, and not counted

    torch.set_num_threads(1)
    told = {}

    class End(Callback):
        """Reads the clocks at the end of the first step."""

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            told['seconds'] = time.perf_counter() - started[0]
            told['processor_seconds'] = time.process_time() - started[1]
            told['resident'] = status('VmRSS')
            if arm != PLAIN:
                told['bytes'] = callback.distiller._rows.rows.nbytes

    started = time.perf_counter(), time.process_time()
    trainer, model, callback = build(arm, manifest, [End()])
    trainer.fit(model)
    told['loss'] = float(trainer.callback_metrics['train_loss'])
    print(MARK + json.dumps(told), flush=True)


def status(key):
    """Returns an entry of Linux's /proc/self/status in bytes, and 0 on other systems."""
    path = Path('/proc/self/status')
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ':')), 0)


def run_side(arm, manifest):
    """Runs one side in a process of its own and returns its report."""
    command = [sys.executable, __file__, '--worker', arm, str(manifest)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            return json.loads(line[len(MARK) :])
    raise RuntimeError(f'{" ".join(command[1:])} ended early:\n{done.stdout[-1000:]}{done.stderr[-2000:]}')


def compare(sides, rows):
    """Computes the ratios to the plain side.

    Args:
        sides: name -> reports of its processes, in the order of the rounds.
        rows: number of rows of the manifest.
    """
    found = {}
    for arm, runs in sides.items():
        entry = found[arm] = {
            key: statistics.median(run[key] for run in runs) for key in ('seconds', 'processor_seconds')
        }
        if arm == PLAIN:
            continue
        pairs = list(zip(runs, sides[PLAIN]))
        entry['time_ratio'] = statistics.median(
            ours['processor_seconds'] / theirs['processor_seconds'] for ours, theirs in pairs
        )
        entry['wall_ratio'] = statistics.median(ours['seconds'] / theirs['seconds'] for ours, theirs in pairs)
        entry['bytes_per_row'] = runs[0]['bytes'] / rows
        entry['memory_per_row'] = (
            statistics.median(ours['resident'] - theirs['resident'] for ours, theirs in pairs) / rows
        )
    return found


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', metavar='OUT', help='file to write the results to')
    parser.add_argument('--rows', type=int, default=300_000, help='rows of the manifest (default: 300000)')
    parser.add_argument('--objectives', nargs='+', choices=OBJECTIVES, default=['full_sum'], help='default: full_sum')
    parser.add_argument('--labels', type=int, default=60, help='characters per text (default: 60)')
    parser.add_argument('--nbest', type=int, default=8, help='hypotheses per row, as `score` writes them (default: 8)')
    parser.add_argument('--rounds', type=int, default=1, help='processes per side (default: 1)')
    parser.add_argument('--worker', nargs=2, metavar=('ARM', 'MANIFEST'), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Measures, prints a table and writes the JSON file."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    if options.worker:
        work(options.worker[0], Path(options.worker[1]))
        return 0
    if options.json:  # a bad path should fail before the measurements
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    from tqdm import tqdm

    arms = (PLAIN, *options.objectives)
    sides = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory(prefix='setup_') as folder:
        manifest = write_corpus(Path(folder), options.rows, options.labels, options.nbest)
        megabytes = manifest.stat().st_size / 1e6
        for arm in tqdm([arm for _ in range(options.rounds) for arm in arms], desc='set-ups'):
            sides[arm].append(run_side(arm, manifest))
    settings = {key: value for key, value in vars(options).items() if key not in ('json', 'worker')}
    machine = {'processor': platform.processor() or platform.machine(), 'cores': os.cpu_count()}
    machine['load_average'] = list(os.getloadavg())
    found = compare(sides, options.rows)
    for arm, entry in found.items():
        more = (
            ''
            if arm == PLAIN
            else (
                f"  time x {entry['time_ratio']:.2f}, wall x {entry['wall_ratio']:.2f}, {entry['bytes_per_row']:.0f} bytes per row kept, "
                f"{entry['memory_per_row']:.0f} resident"
            )
        )
        print(
            f"{arm:14} {entry['processor_seconds']:6.1f} s ({entry['seconds']:.1f} s as they pass){more}", flush=True
        )
    if options.json:
        result = {'machine': machine, 'settings': settings, 'manifest_megabytes': megabytes, 'sides': found}
        result['time_ratio'] = max(found[arm]['time_ratio'] for arm in options.objectives)
        text = json.dumps({**result, 'targets': TARGETS}, indent=2)
        Path(options.json).write_text(text + '\n', encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())

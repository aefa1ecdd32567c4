# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures the cache of a teacher: the cost of a step with it, its size, and how far it is from the teacher beside the student.

    python benchmarks/cache.py --json cache.json
    python benchmarks/cache.py --manifest an4/train.jsonl --teacher an4.nemo --json cache.json

Three parts, of which `--parts` chooses:

    step    one training with a FastConformer student, in which plain steps of NeMo, steps that learn from the cache and steps with the
            teacher beside the student take turns, so that a busy machine slows down all of them alike. A step covers everything from
            the end of the one before, the loader and the search for rows included; that search is counted to the cached steps alone.
            cached_ratio and online_ratio are medians over the rounds of processor times relative to the plain step of the round.
    size    bytes of the files of a transducer's cache relative to its float16 lattices, two bytes per output and cell.
    bound   the gradient of frame_kl with respect to the student's logits in a frame: the largest and the mean difference between cache
            and teacher beside (sum of absolute values), and what the command `cache` prints as their bounds. With `--teacher`, a
            trained model; otherwise one with random weights, of which every tail is large.

The targets are a cached_ratio of 1.05, and files at most 1/400 (collapsed) and 1/40 (top 8) of the lattices.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

TARGETS = {'cached_ratio': 1.05, 'lattice_collapsed': 400, 'lattice_topk': 40}
ARMS = ('plain', 'cached', 'online')
LETTERS = " abcdefghijklmnopqrstuvwxyz'"


def labels_of(count):
    """So many labels: letters, and signs that no text has."""
    return [*LETTERS, *(chr(0x4E00 + number) for number in range(count - len(LETTERS)))]


def write_corpus(folder, rows, seconds, characters=40):
    """Noise with texts; returns the manifest."""
    import numpy as np
    import soundfile

    generator, lines = np.random.default_rng(0), []
    for index in range(rows):
        path = folder / f'{index:03d}.wav'
        soundfile.write(path, 0.1 * generator.standard_normal(int(16000 * seconds)), 16000, subtype='PCM_16')
        text = ''.join(generator.choice(list(LETTERS[1:27]), characters))
        lines.append(json.dumps({'audio_filepath': str(path), 'duration': seconds, 'text': text}) + '\n')
    (folder / 'corpus.jsonl').write_text(''.join(lines), encoding='utf-8')
    return folder / 'corpus.jsonl'


def conformer(labels, width, layers, manifest=None, batch_size=8, transducer=False):
    """Config of a FastConformer (8-fold subsampling) with a CTC head or a transducer."""
    from omegaconf import OmegaConf

    name = 'rnnt/separable_rnnt_char.yaml' if transducer else 'ctc/separable_ctc_char.yaml'
    config = OmegaConf.load(REPOSITORY / 'conf' / name).model
    config.labels = list(labels)
    config.train_ds.labels = list(labels)
    config.train_ds.update(manifest_filepath=None if manifest is None else str(manifest), batch_size=batch_size)
    config.pop('validation_ds')
    config.optim.pop('sched', None)
    config.encoder = {
        '_target_': 'nemo.collections.asr.modules.ConformerEncoder',
        'feat_in': config.preprocessor.features,
        'feat_out': -1,
        'n_layers': layers,
        'd_model': width,
        'subsampling': 'dw_striding',
        'subsampling_factor': 8,
        'subsampling_conv_channels': min(256, width),
        'ff_expansion_factor': 4,
        'n_heads': max(1, width // 64),
        'conv_kernel_size': 9,
    }
    if transducer:
        config.model_defaults.update(enc_hidden=width)
        config.joint.fuse_loss_wer = False
    else:
        config.decoder.update(feat_in=width, num_classes=len(labels), vocabulary=list(labels))
    if manifest is None:
        config.pop('train_ds')
    return config


def model_of(config, trainer=None, seed=0):
    """A stock NeMo model with seeded weights."""
    import torch
    from nemo.collections.asr.models import EncDecCTCModel, EncDecRNNTModel

    torch.manual_seed(seed)
    return (EncDecRNNTModel if 'joint' in config else EncDecCTCModel)(cfg=config, trainer=trainer)


def cache_of(model, manifest, folder, signal, **options):
    """Caches a model in memory; returns the report."""
    from nemo_oracle_kd.teacher_cache.registry import choose_options
    from nemo_oracle_kd.teacher_cache.writer import prepare_cache, write_cache

    model = model.eval()
    return write_cache(model, *prepare_cache(model, manifest, choose_options(model, signal, **options)), Path(folder))


def measure_step(manifest, folder, options):
    """Times of the three kinds of steps, in seconds of the processor."""
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import Callback

    from nemo_oracle_kd.bridge.rows.batch import UtteranceRows
    from nemo_oracle_kd.callbacks import KnowledgeDistillation
    from nemo_oracle_kd.distillation.teacher_settings import TeacherConfig
    from nemo_oracle_kd.distillation.teachers import OnlineTeacher

    labels = labels_of(options.outputs - 1)
    teacher = model_of(conformer(labels, options.teacher_width, options.teacher_layers), seed=1)
    teacher.save_to(str(folder / 'teacher.nemo'))
    cache_of(teacher, manifest, folder / 'cache', 'ctc_topk')
    del teacher
    online = OnlineTeacher(TeacherConfig(restore_from=str(folder / 'teacher.nemo')))
    times, searching = {arm: [] for arm in ARMS}, []

    class Turns(KnowledgeDistillation):
        """Distils from the cache, then from the model, then not at all."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.arm = ARMS[trainer.global_step % len(ARMS)]
            if trainer.global_step == 0:
                self.cached = self.distiller.teacher
            self.distiller.teacher = online if self.arm == 'online' else self.cached
            if self.arm != 'plain':
                self.distiller.begin_step(batch, trainer.global_step)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if self.arm != 'plain':
                self.distiller.metrics()

    class Clock(Callback):
        """Notes what a step took, after the first round."""

        started = None

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            done = trainer.global_step - 1  # this step is counted already
            now, arm = time.process_time(), ARMS[done % len(ARMS)]
            if done >= len(ARMS):
                times[arm].append(now - self.started - (0.0 if arm == 'cached' else sum(searching)))
            searching.clear()
            self.started = now

    take = UtteranceRows.take

    def timed(self, batch):
        begun = time.process_time()
        taken = take(self, batch)
        searching.append(time.process_time() - begun)
        return taken

    distillation = Turns({'cache': str(folder / 'cache')}, {'frame_kl': {}})
    trainer = pl.Trainer(
        max_steps=len(ARMS) * (options.rounds + 1),
        accelerator='cpu',
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10**6,
        callbacks=[distillation, Clock()],
    )
    UtteranceRows.take = timed
    try:
        config = conformer(labels, options.width, options.layers, manifest, options.batch_size)
        student = model_of(config, trainer)
        trainer.fit(student)
    finally:
        UtteranceRows.take = take
    return {
        'student_weights': sum(weight.numel() for weight in student.parameters()),
        'teacher_weights': sum(weight.numel() for weight in online.model.parameters()),
        'seconds': {arm: statistics.median(of_arm) for arm, of_arm in times.items()},
        **ratios(times),
    }


def ratios(times):
    """Medians over the rounds of the times relative to the plain step of the same round."""
    return {
        f'{arm}_ratio': statistics.median(one / plain for one, plain in zip(times[arm], times['plain']))
        for arm in ARMS[1:]
    }


def measure_size(manifest, folder, options):
    """How many times larger the float16 lattices are than the files."""
    from nemo_oracle_kd.teacher_cache.reader import TeacherCache

    model = model_of(conformer(labels_of(options.outputs - 1), 64, 1, transducer=True))
    found = {}
    for signal in ('lattice_collapsed', 'lattice_topk'):
        cache_of(model, manifest, folder / signal, signal)
        cache = TeacherCache(folder / signal)
        utterances = [cache.read(number) for number in range(len(cache))]
        cells = sum(one.frames * (one.labels + 1) for one in utterances)
        files = sum(path.stat().st_size for path in (folder / signal).iterdir())
        found[signal] = {'cells': cells, 'lattice': 2 * options.outputs * cells, 'files': files}
        found[signal]['ratio'] = found[signal]['lattice'] / files
    return found


def measure_bound(manifest, folder, options):
    """Differences of the gradients of frame_kl, and what is printed as their bound."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from nemo_oracle_kd.bridge.audio import AudioSpan, audio_batch, read_audio
    from nemo_oracle_kd.bridge.encode import encode_audio
    from nemo_oracle_kd.bridge.restore import restore_frozen
    from nemo_oracle_kd.bridge.signals import Transcripts
    from nemo_oracle_kd.corpus.manifest import read_manifest
    from nemo_oracle_kd.functional import frame_kl, length_mask
    from nemo_oracle_kd.teacher_cache.reader import TeacherCache

    if options.teacher is None:
        teacher = model_of(conformer(LETTERS, 64, 1)).eval()
    else:
        teacher = restore_frozen(options.teacher)
    index = cache_of(teacher, manifest, folder / 'bound', 'ctc_topk').index
    cache, rows, temperature = TeacherCache(folder / 'bound'), read_manifest(manifest), 2.0
    differences, losses = [], []
    generator = torch.Generator().manual_seed(0)
    rate = index.description.sample_rate
    for start in range(0, min(len(rows), options.bound_rows), options.batch_size):
        chosen = rows[start : start + options.batch_size]
        batch = audio_batch([read_audio(AudioSpan.of_row(row), rate) for row in chosen])
        with torch.no_grad():
            online = encode_audio(teacher, batch)
        empty = Transcripts(batch.transcripts.labels, batch.transcripts.lengths)
        cached = cache.answer(chosen, empty)
        lengths = torch.minimum(online.lengths, cached.lengths)
        frames, gradients, values = int(lengths.max()), [], []
        student = torch.randn(len(chosen), frames, online.log_probs.shape[2], generator=generator).requires_grad_()
        for heard in (online, cached):
            guide = pad_sequence(
                [row[:frames] for row in heard.posteriors_beside(_as_long(student, heard), temperature)],
                batch_first=True,
            )
            loss = frame_kl(student, guide, lengths, temperature)
            gradients.append(torch.autograd.grad(loss.sum(), student)[0] / temperature)
            values.append(loss.detach())
        inside = length_mask(lengths, frames)
        differences.append((gradients[0] - gradients[1]).abs().sum(2)[inside])
        losses.append(((values[1] - values[0]) / values[0]).abs())
    found, measured = torch.cat(differences), index.measured
    tail, padding = measured['tail at temperature 2'], measured['padding']
    return {
        'utterances': len(torch.cat(losses)),
        'gradient': {'mean': float(found.mean()), 'largest': float(found.max())},
        'relative_loss': {'mean': float(torch.cat(losses).mean()), 'largest': float(torch.cat(losses).max())},
        'tail': {'mean': tail[0], 'largest': tail[1]},
        'padding': {'mean': padding[0], 'largest': padding[1]},
        'bound': {'mean': 2 * tail[0] + padding[0], 'largest': 2 * tail[1] + padding[1]},
    }


def _as_long(student, heard):
    """The student's logits over as many frames as the teacher's have."""
    import torch

    missing = heard.frames - student.shape[1]
    return torch.nn.functional.pad(student.detach(), (0, 0, 0, max(0, missing)))[:, : heard.frames]


PARTS = {'step': measure_step, 'size': measure_size, 'bound': measure_bound}


def main():
    """Measures, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', type=Path, help='file for the results')
    parser.add_argument('--parts', nargs='+', choices=list(PARTS), default=list(PARTS), help='default: all')
    parser.add_argument('--manifest', type=Path, help='for sizes and bound, such as that of AN4 (default: noise)')
    parser.add_argument('--teacher', help='trained CTC model for the bound')
    parser.add_argument('--rows', type=int, default=32, help='utterances of noise')
    parser.add_argument('--seconds', type=float, default=8.0, help='of each of them')
    parser.add_argument(
        '--bound-rows', type=int, default=1000, help='utterances whose gradients are compared, at most'
    )
    parser.add_argument('--outputs', type=int, default=1025, help='of both models, blank included')
    parser.add_argument('--width', type=int, default=176, help='of the student')
    parser.add_argument('--layers', type=int, default=16, help='of the student')
    parser.add_argument('--teacher-width', type=int, default=256)
    parser.add_argument('--teacher-layers', type=int, default=16)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=10, help='of a step of each kind')
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args()

    import torch
    from nemo.utils import logging

    logging.setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    results = {'targets': TARGETS, 'machine': machine(), 'options': {k: str(v) for k, v in vars(options).items()}}
    with tempfile.TemporaryDirectory() as name:
        noise = write_corpus(Path(name), options.rows, options.seconds)
        for part in options.parts:
            manifest = noise if part == 'step' or options.manifest is None else options.manifest
            results[part] = PARTS[part](manifest, Path(name), options)
            print(json.dumps({part: results[part]}, indent=1), flush=True)
    results['machine']['load_after'] = os.getloadavg()
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')


def machine():
    """What the numbers were measured on."""
    import torch

    return {
        'processor': platform.processor() or platform.machine(),
        'cores': os.cpu_count(),
        'torch': torch.__version__,
        'load_before': os.getloadavg(),
    }


if __name__ == '__main__':
    main()

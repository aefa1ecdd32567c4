# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The price of a teacher that is the student: a training step with it, and NeMo's plain step, side by side.

    python benchmarks/self_teachers.py --json self_teachers.json

Two stock CTC students of two sizes are trained on noise, as they are and with each of `oracle`, `ema` and `view`, all of which teach
from the first step on with `frame_kl`; `oracle_occupancy` teaches the occupancy, as the preset `oracle_self` does. With `--head rnnt`
the students are RNN-Ts with a joint of 64 units, and the teachers `oracle` with `one_best_path`, as in `oracle_self_rnnt`, and `ema`. One process holds all systems of a size and gives each of them one step in turn, so that a busy machine
slows all of them down alike.

    time_ratio      processor time of a step over that of the plain student in the same turn, median over the turns
    memory_ratio    bytes that the graph of a step keeps for its backward pass (a tensor that is kept twice counts once, weights do not
                    count) over those of the plain student
    branch_share    weights that are added for the training, as a share of the student's

The target for all oracles is 1.5 in time and memory.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / 'tests' / 'helpers')]

ORACLE = {'self': 'oracle', 'start_below': None, 'teach_below': None, 'ramp': 0, 'listen_every': 0}
#: system -> teacher, objective
TEACHERS = {
    'oracle': (ORACLE, 'frame_kl'),
    'oracle_occupancy': (ORACLE, 'occupancy'),
    'ema': ({'self': 'ema', 'start_below': None, 'ramp': 0}, 'frame_kl'),
    'view': ({'self': 'view'}, 'frame_kl'),
}
TRANSDUCER_TEACHERS = {
    'oracle_rnnt': (ORACLE, 'one_best_path'),
    'ema_rnnt': ({'self': 'ema', 'start_below': None, 'ramp': 0}, 'one_best_path'),
}
TARGETS = {name: {'time_ratio': 1.5, 'memory_ratio': 1.5} for name in ('oracle', 'oracle_occupancy', 'oracle_rnnt')}


def make_student(width, blocks, labels, head='ctc'):
    """A stock student of separable convolutions, 40 ms a frame."""
    import tiny
    from omegaconf import OmegaConf

    config = tiny.ctc_config(hidden=width, labels=labels)
    if head == 'rnnt':
        config = tiny.rnnt_config(hidden=width, labels=labels, joint_hidden=64)
        config.loss = {'loss_name': 'oracle_kd_rnnt'}
    block = OmegaConf.to_container(config.encoder.jasper[1])
    config.encoder.jasper = [{**block, 'stride': [2]}] * 2 + [{**block, 'residual': True}] * blocks
    config.preprocessor.features = config.encoder.feat_in = 64
    config.preprocessor.n_fft = 512
    config.spec_augment = {'_target_': 'nemo.collections.asr.modules.SpectrogramAugmentation', 'freq_masks': 1}
    config.spec_augment.update(time_masks=1, freq_width=10, time_width=10)
    return tiny.rnnt_model(config) if head == 'rnnt' else tiny.ctc_model(config)


class System:
    """One student with its optimizer, as it is or with a teacher."""

    def __init__(self, student, teacher=None, objective=None):
        import torch

        from nemo_oracle_kd.distillation.distiller import Distiller

        self.student, self.step = student.train(), 0
        self.own_weights = sum(parameter.numel() for parameter in student.parameters())
        self.distiller = None
        if teacher is not None:
            self.distiller = Distiller({'teacher': teacher, 'objectives': {objective: None}})
            self.distiller.attach(student)
        self.weights = sum(parameter.numel() for parameter in student.parameters())
        self.optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)

    def loss(self, batch):
        """NeMo's training step up to its loss."""
        if self.distiller is not None:
            self.distiller.begin_step(batch, self.step)
        signal, lengths, labels, counts = batch
        log_probs, frames = self.student(input_signal=signal.clone(), input_signal_length=lengths)[:2]
        if hasattr(self.student, 'joint'):
            predicted = self.student.decoder(targets=labels, target_length=counts)[0]
            log_probs = self.student.joint(encoder_outputs=log_probs, decoder_outputs=predicted)
        return self.student.loss(log_probs=log_probs, targets=labels, input_lengths=frames, target_lengths=counts)

    def train(self, batch):
        """One update; its processor seconds."""
        begun = time.process_time()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(batch).backward()
        self.optimizer.step()
        self.step += 1
        return time.process_time() - begun

    def kept_bytes(self, batch):
        """What one step keeps for its backward pass."""
        import torch

        weights = {parameter.untyped_storage().data_ptr() for parameter in self.student.parameters()}
        kept = {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self.loss(batch)
        total = sum(kept.values())
        loss.backward()
        self.optimizer.zero_grad(set_to_none=True)
        return total


def measure(size, turns, batch_size, seconds, head='ctc'):
    """Ratios of one size, (channels, blocks)."""
    import torch

    labels = list(" abcdefghijklmnopqrstuvwxyz'")
    torch.manual_seed(0)
    samples = int(8000 * seconds)
    counts = torch.full((batch_size,), int(8 * seconds))
    batch = (
        0.1 * torch.randn(batch_size, samples),
        torch.full((batch_size,), samples),
        torch.randint(0, len(labels), (batch_size, int(counts.max()))),
        counts,
    )
    teachers = TEACHERS if head == 'ctc' else TRANSDUCER_TEACHERS
    systems = {
        name: System(make_student(*size, labels, head), *teachers.get(name, ())) for name in ('plain', *teachers)
    }
    for _ in range(2):  # first steps allocate
        for system in systems.values():
            system.train(batch)
    memory = {name: system.kept_bytes(batch) for name, system in systems.items()}
    times = {name: [] for name in systems}
    for _ in range(turns):
        for name, system in systems.items():
            times[name].append(system.train(batch))
    found = {'weights': systems['plain'].own_weights, 'plain_ms': round(1000 * statistics.median(times['plain']), 1)}
    for name in teachers:
        ratios = [mine / plain for mine, plain in zip(times[name], times['plain'])]
        found[name] = {
            'time_ratio': round(statistics.median(ratios), 3),
            'memory_ratio': round(memory[name] / memory['plain'], 3),
            'branch_share': round(systems[name].weights / systems[name].own_weights - 1, 3),
        }
    return found


def main(arguments=None):
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', type=Path, help='also write the figures here')
    parser.add_argument('--turns', type=int, default=15, help='steps of each system')
    parser.add_argument('--batch', type=int, default=8, help='utterances per step')
    parser.add_argument('--seconds', type=float, default=6.0, help='length of an utterance')
    parser.add_argument('--sizes', nargs='+', default=['64x4', '256x8'], help='channels x residual blocks')
    parser.add_argument('--head', choices=['ctc', 'rnnt'], default='ctc', help='of the students')
    options = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    results = {'targets': TARGETS, 'sizes': {}}
    for size in options.sizes:
        channels_blocks = tuple(map(int, size.split('x')))
        found = measure(channels_blocks, options.turns, options.batch, options.seconds, options.head)
        results['sizes'][size] = found
        print(size, json.dumps(results['sizes'][size], indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + '\n')
    return results


if __name__ == '__main__':
    main()

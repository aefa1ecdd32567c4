# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures the scoring of N-best lists under a student in training, with shared label contexts and with separate lattices.

    python benchmarks/nbest_scores.py --json nbest_scores.json
    python benchmarks/nbest_scores.py --json nbest_scores.json --scores scored.jsonl     (from nemo-oracle-kd score)

The result has one row per prediction network and way of evaluation. Each measurement is a forward and a backward pass from the
encoder's output to all weights of a stock NeMo RNN-T over characters:

    shared        nemo_oracle_kd.bridge.nbest_scores, as the objective full_sum_norm calls it
    recomputed    the same with --max-cells: logits of earlier portions are computed again in the backward pass
    separate      one lattice per hypothesis, the hypotheses of an utterance side by side, no padding

`cells` counts the joint's cells (frame, label context), and `ratio` is their share of those of separate lattices. `seconds` is
the processor time of the best round; the ways take turns. `difference` is the largest deviation of losses and gradients from
`separate`, relative to the largest entry of each tensor. `peak_mb` is the growth of the peak resident size of a fresh process.
Without --scores the lists are generated: texts of random words, and competitors with one or two words replaced, dropped or
added.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

NETWORKS = ('lstm', 'stateless')
WAYS = ('shared', 'recomputed', 'separate')


def made_up_lists(utterances, nbest):
    """Generates durations in seconds, with lists of a text of 3 to 9 random words and its competitors."""
    import random

    draw = random.Random(0)
    words = [''.join(draw.choice('abcdefghijklmnopqrstuvwxyz') for _ in range(draw.randint(1, 7))) for _ in range(200)]
    lists = []
    for _ in range(utterances):
        best = [draw.choice(words) for _ in range(draw.randint(3, 9))]
        texts = {' '.join(best): None}
        while len(texts) < nbest:
            other = list(best)
            for _ in range(draw.randint(1, 2)):
                at = draw.randrange(len(other))
                other[at : at + draw.randint(0, 1)] = [draw.choice(words)] if draw.random() < 0.8 else []
                other = other or [draw.choice(words)]
            texts[' '.join(other)] = None
        lists.append((0.4 * len(best), list(texts)))
    return lists


def read_lists(path, nbest):
    """Reads durations and texts from a scored manifest."""
    rows = [json.loads(line) for line in Path(path).read_text(encoding='utf-8').splitlines() if line.strip()]
    return [(row['duration'], [entry['text'] for entry in row['teacher_nbest'][:nbest]]) for row in rows]


class Case:
    """A model and its batches."""

    def __init__(self, network, options):
        import torch
        from nemo.collections.asr.models import EncDecRNNTModel
        from omegaconf import OmegaConf

        from nemo_oracle_kd.bridge.model import find_head
        from nemo_oracle_kd.bridge.sequence_scores import Hypotheses
        from nemo_oracle_kd.bridge.vocabulary import TextCodec

        torch.manual_seed(0)
        config = OmegaConf.load(REPOSITORY / 'conf' / 'rnnt' / 'separable_rnnt_char.yaml').model
        config.pop('train_ds'), config.pop('validation_ds')
        config.model_defaults.update(pred_hidden=options.hidden, joint_hidden=options.hidden)
        # a joint with more classes than the texts use, to measure the cost of sub-words
        config.labels = [*config.labels, *(chr(0x4E00 + i) for i in range(options.classes - len(config.labels) - 1))]
        if network == 'lstm':
            config.decoder = {
                '_target_': 'nemo.collections.asr.modules.RNNTDecoder',
                'prednet': {'pred_hidden': options.hidden, 'pred_rnn_layers': 1, 't_max': None, 'dropout': 0.0},
            }
        self.model = EncDecRNNTModel(cfg=config).eval()
        self.head = find_head(self.model)
        self.weights = [*self.model.decoder.parameters(), *self.model.joint.parameters()]
        self.max_cells = options.max_cells
        codec = TextCodec(self.model, self.head.vocabulary)
        lists = read_lists(options.scores, options.nbest) if options.scores else made_up_lists(102, options.nbest)
        self.batches, self.texts = [], sum(len(texts) for _, texts in lists) / len(lists)
        for start in range(0, len(lists), options.batch_size):
            part = lists[start : start + options.batch_size]
            frames = torch.tensor([int(seconds / 0.04) + 1 for seconds, _ in part])
            encoded = torch.randn(len(part), config.model_defaults.enc_hidden, int(frames.max()), requires_grad=True)
            labels = [[codec.encode(text) for text in texts] for _, texts in part]
            self.batches.append((encoded, frames, labels, Hypotheses.from_lists(labels)))

    def run(self, way, batches):
        """Returns losses and gradients of some batches, their cells, and the cells of separate lattices."""
        import torch

        losses, gradients, cells, separate = [], None, 0, 0
        for encoded, frames, labels, hypotheses in batches:
            if way == 'separate':
                found = self._separate(encoded, frames, labels)
            else:
                found = self._shared(encoded, frames, hypotheses, self.max_cells if way == 'recomputed' else 10**12)
            nll, of_joint, of_lattices = found
            finite = nll.isfinite()
            ours = torch.autograd.grad(nll[finite].square().sum(), [encoded, *self.weights])
            losses.append(nll[finite].detach())
            shared = list(ours[1:])
            gradients = shared if gradients is None else [a + b for a, b in zip(gradients, shared)]
            cells, separate = cells + of_joint, separate + of_lattices
        return [torch.cat(losses), *gradients], cells, separate

    def _shared(self, encoded, frames, hypotheses, max_cells):
        from nemo_oracle_kd.bridge.nbest_scores import nbest_scores

        step = SimpleNamespace(encoded=encoded, lengths=frames)
        scores = nbest_scores(self.model, self.head, step, hypotheses, max_cells)
        return scores.nll, scores.cells.evaluated, scores.cells.separate

    def _separate(self, encoded, frames, labels):
        import torch

        from nemo_oracle_kd.functional import rnnt_full_sum

        found, cells = [], 0
        for b, of_one in enumerate(labels):
            heard = encoded[b : b + 1, :, : int(frames[b])].transpose(1, 2)
            for sequence in of_one:
                targets, size = torch.tensor([sequence]).long(), torch.tensor([len(sequence)])
                predicted, _, _ = self.model.decoder(targets=targets, target_length=size)
                logits = self.model.joint.joint(heard, predicted.transpose(1, 2))
                cells += logits[..., 0].numel()
                found.append(rnnt_full_sum(logits, targets, frames[b : b + 1], size, self.head.blank))
        return torch.cat(found), cells, cells


def measure(network, ways, options, arguments):
    """Measures one prediction network; returns its rows."""
    import torch
    from tqdm import tqdm

    torch.set_num_threads(options.threads)
    case = Case(network, options)
    best = dict.fromkeys(ways, float('inf'))
    results = {}
    for _ in tqdm(range(options.rounds), desc=network):
        for way in ways:
            start = time.process_time()
            results[way] = case.run(way, case.batches)
            best[way] = min(best[way], time.process_time() - start)
    rows = []
    for way in ways:
        values, cells, separate = results[way]
        row = {'network': network, 'way': way, 'texts_per_utterance': case.texts}
        row.update(cells=cells, cells_of_separate_lattices=separate, ratio=cells / separate, seconds=best[way])
        if 'separate' in ways and way != 'separate':
            pairs = list(zip(values, results['separate'][0]))
            row['loss_difference'] = relative(*pairs[0])
            row['gradient_difference'] = max(relative(*pair) for pair in pairs[1:])
        if sys.platform == 'linux' and not options.no_memory:
            command = [sys.executable, __file__, *arguments, '--peak-memory-of', network, way]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f'{" ".join(command[1:])} failed:\n{done.stderr}')
            row['peak_mb'] = float(done.stdout.splitlines()[-1])
        rows.append(row)
    return rows


def relative(values, reference):
    """Largest deviation, divided by the largest entry; both arguments are in the order of utterances and hypotheses."""
    return float((values - reference).abs().max() / reference.abs().max())


def peak_memory(network, way, options):
    """Growth of the peak resident size in MB for the batch with the most frames; must run in a fresh process."""
    import torch

    torch.set_num_threads(options.threads)
    case = Case(network, options)
    encoded, _, labels, hypotheses = case.batches[0]
    short = type(hypotheses)(hypotheses.labels[:1, :, :3], hypotheses.lengths[:1].clamp(max=3))
    tiny = (encoded[:1, :, :3], torch.tensor([3]), [[sequence[:3] for sequence in labels[0]]], short)
    case.run(way, [tiny])  # loads libraries
    largest = max(case.batches, key=lambda batch: int(batch[1].sum()))
    Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    before = status('VmRSS')
    case.run(way, [largest])
    return (status('VmHWM') - before) / 1024


def status(key):
    """Returns an entry of Linux's /proc/self/status in kilobytes."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ':'))


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--json', metavar='OUT', help='file to write the rows to')
    parser.add_argument(
        '--scores', metavar='SCORED.jsonl', help='manifest with teacher_nbest (default: generated lists)'
    )
    parser.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS), help='default: both')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS), help='default: all')
    parser.add_argument('--nbest', type=int, default=8, help='texts per utterance (default: 8)')
    parser.add_argument('--batch-size', type=int, default=16, help='utterances per batch (default: 16)')
    parser.add_argument('--hidden', type=int, default=64, help='size of prediction network and joint (default: 64)')
    parser.add_argument(
        '--classes', type=int, default=29, help='classes of the joint, with the blank, at least 29 (default: 29)'
    )
    parser.add_argument(
        '--max-cells', type=int, default=10_000, help='cells per portion of recomputed (default: 10000)'
    )
    parser.add_argument('--rounds', type=int, default=3, help='measured rounds (default: 3)')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch (default: 2)')
    parser.add_argument('--no-memory', action='store_true', help='measure times only')
    parser.add_argument('--peak-memory-of', nargs=2, metavar=('NETWORK', 'WAY'), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.classes < 29:
        parser.error('--classes must be at least 29: the characters and the blank')
    return options


def main(arguments=None):
    """Measures, prints and writes the rows."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse_arguments(arguments)
    if options.json:  # a bad path should fail before the measurements
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    if options.peak_memory_of:
        print(peak_memory(*options.peak_memory_of, options))
        return 0
    settings = {
        key: value
        for key, value in vars(options).items()
        if key not in ('json', 'peak_memory_of', 'scores', 'no_memory')
    }
    result = {'settings': {**settings, 'lists': 'scored' if options.scores else 'made up'}, 'rows': []}
    for network in options.networks:
        result['rows'] += measure(network, options.ways, options, arguments)
        if options.json:
            Path(options.json).write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    for row in result['rows']:
        differences = [row[key] for key in ('loss_difference', 'gradient_difference') if key in row]
        print(
            f"{row['network']:10} {row['way']:11} cells x {row['ratio']:.3f} {row['seconds']:8.2f} s "
            f"{row.get('peak_mb', float('nan')):8.1f} MB  difference " + ' '.join(f'{x:.1e}' for x in differences)
        )
    return 0


if __name__ == '__main__':
    sys.exit(main())

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""``nemo-oracle-kd synthesize OUT``: a corpus with NeMo manifests, of text-to-speech voices or of rendered words."""

import argparse
import os
import time

HELP = 'make a corpus with NeMo manifests: speech from text-to-speech voices, or pictures of words'

_DESCRIPTION = """\
Make a speech corpus out of nothing: digit strings, spelled names, dates and short commands, spoken by the English
voices of eSpeak NG, with room and noise, as 16-bit FLAC files with NeMo manifests (OUT/train.jsonl, dev.jsonl,
test.jsonl). The three parts share no accent, no voice and no spelled name. The same options and seed give the same
bytes, whatever the number of workers. An interrupted run is continued by the same command.

With --images: pictures of words instead, rendered from the fonts of matplotlib and of installed font packages in many colours,
on many backgrounds, distorted, blurred and compressed, as JPEG files.
"""
_EPILOG = """\
examples:
  nemo-oracle-kd synthesize corpus                                 1200 + 120 + 200 utterances, under a minute
  nemo-oracle-kd synthesize corpus --train 5000 --seed 1           a larger one
  nemo-oracle-kd synthesize corpus --plain --kinds digits          easy: clean digit strings
  nemo-oracle-kd synthesize corpus --noise-snr 0 10 --reverb 0.8   hard: loud noise, rooms almost always
  nemo-oracle-kd synthesize corpus --kinds sentences --words m.jsonl   the words of a manifest in new orders
  nemo-oracle-kd synthesize words --images --train 100000          pictures of words, in minutes
"""
#: options that have no effect on pictures
_OF_SPEECH = ('kinds', 'sample_rate', 'plain', 'noise', 'noise_snr', 'reverb', 'rate')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('out', metavar='OUT', help='folder for the corpus: new, empty, or an interrupted run')
    parser.add_argument('--train', type=int, default=1200, metavar='N', help='training utterances (default: 1200)')
    parser.add_argument('--dev', type=int, default=120, metavar='N', help='validation utterances (default: 120)')
    parser.add_argument('--test', type=int, default=200, metavar='N', help='test utterances (default: 200)')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='seed of all random choices (default: 0)')
    parser.add_argument(
        '--kinds',
        nargs='+',
        metavar='KIND',
        default=['digits', 'spelling', 'dates', 'commands'],
        help='what is said: digits, spelling, dates, commands (default: all four); or sentences, which needs --words',
    )
    parser.add_argument(
        '--words',
        metavar='MANIFEST',
        help='for --kinds sentences: sentences of the words of its texts in new orders, about as long as its texts; '
        'with --images: two in three pictures show a word of its texts',
    )
    parser.add_argument('--images', action='store_true', help='make pictures of words instead of speech')
    parser.add_argument(
        '--overwrite', action='store_true', help='with --images: replace a corpus of pictures that is there'
    )
    parser.add_argument('--sample-rate', type=int, default=16000, metavar='HZ', help='sample rate (default: 16000)')
    parser.add_argument('--workers', type=int, metavar='N', help='processes (default: the available cores, at most 4)')
    sound = parser.add_argument_group('difficulty')
    sound.add_argument(
        '--plain',
        action='store_true',
        help='clean speech: no noise, no room, one level, each voice at its own speed and pitch; '
        'the options below have no effect',
    )
    sound.add_argument(
        '--noise', type=float, default=0.6, metavar='SHARE', help='share of utterances with noise (default: 0.6)'
    )
    sound.add_argument(
        '--noise-snr',
        nargs=2,
        type=float,
        default=[15.0, 30.0],
        metavar=('LOW', 'HIGH'),
        help='signal-to-noise ratio in dB, drawn evenly; white, pink, brown noise or babble (default: 15 30)',
    )
    sound.add_argument(
        '--reverb', type=float, default=0.3, metavar='SHARE', help='share of utterances in a room (default: 0.3)'
    )
    sound.add_argument(
        '--rate',
        nargs=2,
        type=int,
        default=[110, 180],
        metavar=('LOW', 'HIGH'),
        help='speaking rate in words per minute, drawn evenly (default: 110 180)',
    )


def run(args: argparse.Namespace) -> int:
    """Makes the corpus and prints what is in it; returns the exit status."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    workers = min(4, cores) if args.workers is None else args.workers
    if args.images:
        return _make_pictures(args, workers)
    if args.overwrite:
        raise ValueError("--overwrite goes with --images only: delete the folder of a speech corpus yourself")
    from nemo_oracle_kd.corpus.sentences import read_texts
    from nemo_oracle_kd.corpus.settings import CorpusSettings
    from nemo_oracle_kd.corpus.synthesis import synthesize_corpus

    settings = CorpusSettings(
        train=args.train,
        dev=args.dev,
        test=args.test,
        seed=args.seed,
        kinds=tuple(args.kinds),
        sample_rate=args.sample_rate,
        plain=args.plain,
        noise=args.noise,
        noise_snr=tuple(args.noise_snr),
        reverb=args.reverb,
        rate=tuple(args.rate),
        texts=() if args.words is None else read_texts(args.words),
    )
    started = time.monotonic()
    parts = synthesize_corpus(args.out, settings, workers)
    elapsed = time.monotonic() - started
    for split, part in parts.items():
        path = os.path.join(args.out, f'{split}.jsonl')
        print(f'{path}: {part["utterances"]:.0f} utterances, {part["seconds"] / 60:.1f} minutes')
    rendered = sum(part['rendered'] for part in parts.values())
    if rendered:
        share = rendered / sum(part['utterances'] for part in parts.values())
        speed = share * sum(part['seconds'] for part in parts.values()) / elapsed
        print(f'{rendered} utterances made in {elapsed:.0f} s, {speed:.0f} times faster than real time')
    else:
        print('The corpus was complete already; nothing was made.')
    return 0


def _make_pictures(args: argparse.Namespace, workers: int) -> int:
    """Makes pictures of words and prints what was made."""
    from nemo_oracle_kd.scene_text.synthesis import WordSettings, synthesize_words
    from nemo_oracle_kd.scene_text.words import words_of

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = [name for name in _OF_SPEECH if getattr(args, name) != parser.get_default(name)]
    if given:
        raise ValueError(
            f"--{given[0].replace('_', '-')} has no effect on pictures: leave it out, or leave out --images"
        )
    words = () if args.words is None else words_of(args.words)
    settings = WordSettings(args.train, args.dev, args.test, args.seed, words)
    started = time.monotonic()
    made = synthesize_words(args.out, settings, workers, overwrite=args.overwrite)
    for split in ('train', 'dev', 'test'):
        print(f"{os.path.join(args.out, split)}.jsonl: {made[split]} pictures")
    if made['rendered']:
        print(f"{made['rendered']} pictures made in {time.monotonic() - started:.0f} s")
    else:
        print('The corpus was complete already; nothing was made.')
    return 0

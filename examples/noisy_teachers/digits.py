# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Makes the corpus of docs/experiments/noisy_teachers.md: strings of spoken digits in noise, from real recordings.

    git clone https://github.com/Jakobovski/free-spoken-digit-dataset
    python examples/noisy_teachers/digits.py --recordings free-spoken-digit-dataset/recordings --out digits
    python examples/noisy_teachers/run.py --data digits --test digits/test.jsonl --out out --seeds 0 1 2

Reads the recordings `DIGIT_SPEAKER_INDEX.wav` of the Free Spoken Digit Dataset (8 kHz, six speakers, 50 of each digit; CC BY-SA
4.0) and writes 16 kHz audio and the NeMo manifests `train.jsonl` (four speakers, recordings 5 to 49), `dev.jsonl` (a fifth
speaker), `test_seen.jsonl` (the training speakers, recordings 0 to 4, which are in no other set), `test_unseen.jsonl` (the sixth
speaker) and `test.jsonl` (both). The same arguments give the same bytes.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import lfilter, resample_poly
from tqdm import tqdm

from nemo_oracle_kd.corpus.manifest import write_manifest

WORDS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
NAME = re.compile(r'(\d)_([a-z]+)_(\d+)\.wav')
SOURCE_RATE, RATE = 8000, 16000
TRAINING_SPEAKERS = ('george', 'jackson', 'nicolas', 'theo')

#: (speaker, digit) -> (index, samples), by index
Recordings = dict[tuple[str, int], list[tuple[int, np.ndarray]]]


@dataclass(frozen=True)
class Part:
    """A manifest: its speakers, and the range of the indices of their recordings."""

    name: str
    speakers: Sequence[str]
    first: int = 0
    last: int = 49


# the order matters, because the position of a part seeds it
PARTS = (
    Part('train', TRAINING_SPEAKERS, first=5),
    Part('dev', ('yweweler',)),
    Part('test_unseen', ('lucas',)),
    Part('test_seen', TRAINING_SPEAKERS, last=4),
)


def read_recordings(folder: Path) -> Recordings:
    """Reads all recordings of the data set; raises `SystemExit` with one sentence if some are missing."""
    found: Recordings = {}
    for path in folder.glob('*.wav'):
        match = NAME.fullmatch(path.name)
        if match:
            samples, rate = soundfile.read(path, dtype='float32')
            if rate != SOURCE_RATE:
                raise SystemExit(f"{path} has {rate} Hz: the Free Spoken Digit Dataset has {SOURCE_RATE} Hz.")
            found.setdefault((match[2], int(match[1])), []).append((int(match[3]), samples))
    for part in PARTS:
        for speaker in part.speakers:
            for digit in range(10):
                if not any(part.first <= index <= part.last for index, _ in found.get((speaker, digit), [])):
                    raise SystemExit(
                        f"{folder} holds no recording {digit}_{speaker}_{part.first}.wav to _{part.last}.wav: give the "
                        f"folder `recordings` of the Free Spoken Digit Dataset."
                    )
    return {key: sorted(values, key=lambda value: value[0]) for key, values in found.items()}


def without_silence(samples: np.ndarray, below_db: float = 35.0, frame: int = 80, margin: int = 160) -> np.ndarray:
    """Cuts frames of 10 ms that are 35 dB quieter than the loudest one from both ends, except for the last 20 ms."""
    count = len(samples) // frame
    if count < 5:
        return samples
    power = (samples[: count * frame].reshape(count, frame) ** 2).mean(1)
    decibels = 10 * np.log10(power + 1e-10)
    loud = np.flatnonzero(decibels > decibels.max() - below_db)
    return samples[max(0, loud[0] * frame - margin) : min(len(samples), (loud[-1] + 1) * frame + margin)]


def utterance(
    generator: np.random.Generator,
    recordings: Recordings,
    part: Part,
    speaker: str,
    digits: range,
    snr: Sequence[float],
) -> tuple[str, np.ndarray]:
    """Makes a text and its audio: words of one speaker with varying levels, 25 to 200 ms apart, in white or red noise.

    Args:
        generator: source of all randomness.
        recordings: of all speakers.
        part: which recordings are allowed.
        speaker: who speaks.
        digits: how many digits a text may have.
        snr: range of the signal-to-noise ratio in dB.
    """
    count = int(generator.integers(digits.start, digits.stop))
    text = [int(digit) for digit in generator.integers(0, 10, count)]
    pieces = [np.zeros(int(generator.integers(800, 2000)), 'float32')]
    for digit in text:
        choice = [samples for index, samples in recordings[speaker, digit] if part.first <= index <= part.last]
        word = without_silence(choice[int(generator.integers(len(choice)))])
        word = word - word.mean()
        word = word * (0.08 / (np.sqrt((word**2).mean()) + 1e-8)) * 10 ** (generator.uniform(-3, 3) / 20)
        ramp = min(40, len(word) // 4)  # avoids clicks
        word[:ramp] *= np.linspace(0, 1, ramp, dtype='float32')
        word[-ramp:] *= np.linspace(1, 0, ramp, dtype='float32')
        pieces += [word, np.zeros(int(generator.integers(200, 1600)), 'float32')]
    speech = resample_poly(np.concatenate([*pieces, np.zeros(800, 'float32')]), RATE // SOURCE_RATE, 1)
    speech = speech.astype('float32')
    speech *= 10 ** (generator.uniform(-6, 3) / 20)
    noise = generator.standard_normal(len(speech)).astype('float32')
    if generator.random() < 0.5:
        noise = lfilter([1.0], [1.0, -0.95], noise).astype('float32')
    level = np.sqrt((speech**2).mean()) / np.sqrt((noise**2).mean())
    audio = speech + noise * level * 10 ** (-generator.uniform(*snr) / 20)
    peak = np.abs(audio).max()
    return ' '.join(WORDS[digit] for digit in text), audio * (0.95 / peak if peak > 0.95 else 1.0)


def write_part(number: int, count: int, recordings: Recordings, args: argparse.Namespace) -> list[dict]:
    """Writes the audio and the manifest of `PARTS[number]`; returns its rows."""
    part, rows = PARTS[number], []
    generator = np.random.default_rng([args.seed, number])
    (args.out / 'audio' / part.name).mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(count), desc=part.name):
        speaker = part.speakers[index % len(part.speakers)]
        digits = range(args.digits[0], args.digits[1] + 1)
        text, audio = utterance(generator, recordings, part, speaker, digits, args.snr)
        path = f'audio/{part.name}/{speaker}_{index:05d}.wav'
        soundfile.write(args.out / path, audio, RATE, subtype='PCM_16')
        duration = round(len(audio) / RATE, 4)
        rows.append({'audio_filepath': path, 'duration': duration, 'text': text, 'speaker': speaker})
    write_manifest(args.out / f'{part.name}.jsonl', rows)
    return rows


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--recordings', type=Path, required=True, help='folder with 0_george_0.wav and so on')
    parser.add_argument('--out', type=Path, required=True, help='output folder')
    parser.add_argument('--train', type=int, default=600, help='utterances (default: 600)')
    parser.add_argument('--dev', type=int, default=100, help='utterances (default: 100)')
    parser.add_argument(
        '--test', type=int, default=300, help='utterances of either half of the test set (default: 300)'
    )
    parser.add_argument('--digits', type=int, nargs=2, default=(1, 3), metavar=('LOW', 'HIGH'), help='default: 1 3')
    parser.add_argument(
        '--snr', type=float, nargs=2, default=(-8, 20), metavar=('LOW', 'HIGH'), help='dB; default: -8 20'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the corpus (default: 0)')
    args = parser.parse_args()
    if (
        min(args.train, args.dev, args.test) < 1
        or not 1 <= args.digits[0] <= args.digits[1]
        or args.snr[0] > args.snr[1]
    ):
        parser.error(
            'a count is below 1, or the first of two numbers is the larger: give counts from 1, and LOW before HIGH'
        )
    return args


def main() -> None:
    """Writes the corpus."""
    args = parse()
    recordings = read_recordings(args.recordings)
    counts = {'train': args.train, 'dev': args.dev, 'test_unseen': args.test, 'test_seen': args.test}
    rows = {part.name: write_part(number, counts[part.name], recordings, args) for number, part in enumerate(PARTS)}
    write_manifest(args.out / 'test.jsonl', rows['test_seen'] + rows['test_unseen'])
    print(f'corpus: {args.out}')


if __name__ == '__main__':
    main()

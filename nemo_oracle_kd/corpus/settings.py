# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The settings of a synthetic corpus: everything that its bytes depend on."""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nemo_oracle_kd.corpus.sentences import fingerprint_of
from nemo_oracle_kd.corpus.texts import KINDS, SENTENCES, SPLITS
from nemo_oracle_kd.errors import ConfigError, unknown_name

# Raised whenever a change of this package changes the bytes of a corpus, so that old and new are never mixed.
FORMAT = 1


@dataclass(frozen=True)
class CorpusSettings:
    """Everything that the bytes of a corpus depend on.

    Attributes:
        train: number of training utterances.
        dev: number of validation utterances.
        test: number of test utterances.
        seed: seed of all random choices.
        kinds: subset of ``digits``, ``spelling``, ``dates``, ``commands``; or ``sentences`` alone.
        sample_rate: Hz.
        plain: True for clean speech: no noise, no reverberation, one level, each voice's own speed and pitch.
        noise: share of the utterances with added noise.
        noise_snr: lowest and highest signal-to-noise ratio, dB.
        reverb: share of the utterances with reverberation.
        rate: slowest and fastest speech, words per minute.
        texts: texts whose words ``sentences`` puts in new orders (:func:`~nemo_oracle_kd.corpus.sentences.read_texts`).
    """

    train: int = 1200
    dev: int = 120
    test: int = 200
    seed: int = 0
    kinds: tuple[str, ...] = KINDS
    sample_rate: int = 16000
    plain: bool = False
    noise: float = 0.6
    noise_snr: tuple[float, float] = (15.0, 30.0)
    reverb: float = 0.3
    rate: tuple[int, int] = (110, 180)
    texts: tuple[str, ...] = field(default=(), repr=False)

    def check(self) -> 'CorpusSettings':
        """Returns the settings in canonical form.

        Raises:
            ConfigError: with one sentence for every value that is out of range.
        """
        problems = []
        for split in SPLITS:
            if getattr(self, split) < 1:
                problems.append(f"--{split} must be at least 1, not {getattr(self, split)}")
        if self.seed < 0:
            problems.append(f"--seed must be at least 0, not {self.seed}")
        problems += self._problems_of_kinds()
        if not 8000 <= self.sample_rate <= 48000:
            problems.append(f"--sample-rate must be from 8000 to 48000 Hz, not {self.sample_rate}")
        for name, share in (('noise', self.noise), ('reverb', self.reverb)):
            if not 0.0 <= share <= 1.0:
                problems.append(f"--{name} must be a share of the utterances from 0 to 1, not {share}")
        for name, (low, high), least, most, unit in (
            ('noise-snr', self.noise_snr, -30.0, 100.0, 'dB'),
            ('rate', self.rate, 80, 450, 'words per minute'),
        ):
            if not least <= low <= high <= most:
                problems.append(f"--{name} must satisfy {least} <= LOW <= HIGH <= {most} {unit}, not {low} {high}")
        ConfigError.raise_if_any(problems)
        # Options that change no byte must not prevent a run from being continued.
        heard = self if not self.plain else replace(self, noise=0.0, noise_snr=(0.0, 0.0), reverb=0.0, rate=(175, 175))
        return replace(
            heard,
            kinds=tuple(kind for kind in (*KINDS, SENTENCES) if kind in self.kinds),
            noise_snr=tuple(map(float, heard.noise_snr)),
            rate=tuple(map(int, heard.rate)),
        )

    def record(self) -> dict[str, Any]:
        """The settings as ``corpus.json`` holds them, the texts by their hash; equal records mean equal bytes."""
        content = {'format': FORMAT, **asdict(self), 'words': fingerprint_of(self.texts)}
        del content['texts']
        return json.loads(json.dumps(content))

    def _problems_of_kinds(self) -> list[str]:
        known = (*KINDS, SENTENCES)
        problems = [unknown_name('kind of sentence', kind, known) for kind in self.kinds if kind not in known]
        if not self.kinds:
            problems.append(f"--kinds is empty: name at least one of {', '.join(known)}")
        elif SENTENCES not in self.kinds:
            if self.texts:
                problems.append(f"--words has no effect on {', '.join(self.kinds)}: add --kinds {SENTENCES}")
        elif len(set(self.kinds)) > 1:
            problems.append(f"--kinds {SENTENCES} goes with no other kind: make a corpus of each, and train on both")
        elif not self.texts:
            problems.append(f"--kinds {SENTENCES} needs texts: name a manifest with --words")
        elif self.train > 0:
            sentences = [text.split() for text in self.texts]
            words, longest = len({word for one in sentences for word in one}), max(map(len, sentences))
            if self.train * longest < words:
                problems.append(
                    f"--train is {self.train}, but sentences of at most {longest} words cannot hold all {words} words of --words: "
                    f"give at least {-(-words // longest)}."
                )
        return problems

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Defines the format of a scored manifest: its keys, its header, the fingerprint of the teacher, and the row filters.

A scored manifest is a NeMo manifest whose rows have the keys below besides their own. The header `<manifest>.header.json`
beside it holds in full the settings that the fingerprint abbreviates.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_oracle_kd.corpus.manifest import (
    AUDIO_KEY,
    FIELDS_KEY,
    FINGERPRINT_KEY,
    LOG_PROB_KEY,
    NBEST_KEY,
    REFERENCE_KEY,
    ROW_KEY,
    TEACHER_KEYS,
    TOKENS_KEY,
)
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = [
    'LOG_PROB_KEY',
    'NBEST_KEY',
    'TOKENS_KEY',
    'FIELDS_KEY',
    'FINGERPRINT_KEY',
    'REFERENCE_KEY',
    'ROW_KEY',
    'TEACHER_KEYS',
    'Fingerprint',
    'RowFilter',
    'character_error_rate',
    'fingerprint_of',
    'header_path',
    'model_fingerprint',
    'read_header',
    'round_log_prob',
    'row_hash',
    'scored_row',
    'short_hash',
    'teacher_identity',
    'word_error_rate',
]

#: decimals of a written log-probability; the rounding exceeds the noise of float32 encoders, but no loss is sensitive to it
DECIMALS = 3
_SHORT = 8


def round_log_prob(value: float) -> float:
    """Rounds a log-probability as it is written."""
    return round(float(value), DECIMALS) + 0.0  # + 0.0: no negative zero


@dataclass(frozen=True)
class Fingerprint:
    """Short hashes, written in each row as `teacher-vocabulary-decoding`.

    Attributes:
        teacher: weights, architecture and the head that scores.
        vocabulary: labels or tokenizer; scores per token can only be compared if it is the same.
        decoding: settings by which the texts were found.
    """

    teacher: str
    vocabulary: str
    decoding: str

    def __str__(self) -> str:
        return f'{self.teacher}-{self.vocabulary}-{self.decoding}'

    @classmethod
    def parse(cls, text: Any) -> 'Fingerprint':
        """Parses the value of `teacher_fingerprint`; a value of two parts stands for any way of decoding.

        Raises:
            ConfigError: the value is not a fingerprint.
        """
        parts = text.split('-') if isinstance(text, str) else []
        if len(parts) == 2:
            parts.append('0' * _SHORT)
        if len(parts) != 3 or any(len(part) != _SHORT for part in parts):
            raise ConfigError(
                f"{text!r} is not a teacher fingerprint: score the manifest again with `nemo-oracle-kd score`"
            )
        return cls(*parts)

    def same_scores(self, other: 'Fingerprint') -> bool:
        """Whether both mean `log P` of the same model, however the texts were found."""
        return (self.teacher, self.vocabulary) == (other.teacher, other.vocabulary)


def short_hash(value: Any) -> str:
    """Eight hexadecimal digits that stand for a value of JSON's types."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode('utf-8')).hexdigest()[:_SHORT]


def row_hash(row: Mapping[str, Any]) -> str:
    """Short hash of what a score belongs to: the audio file's name, the stretch of it, the text and the score itself.

    `nemo-oracle-kd score` writes it as `teacher_row`. A row with another duration, text or count of tokens than the one that was
    scored has another hash; the folder of the audio does not count, so that a corpus can be moved.

    Args:
        row: of a scored manifest; `duration` and `offset` in seconds, either may be missing.
    """
    audio, duration = str(row.get(AUDIO_KEY) or ''), row.get('duration')
    whole = '%s\n%.3f %.3f\n%s\n%s %s' % (
        audio[audio.rfind('/') + 1 :],
        row.get('offset') or 0.0,
        -1.0 if duration is None else duration,
        normalize_spaces(row.get('text')),
        row.get(LOG_PROB_KEY),
        row.get(TOKENS_KEY),
    )
    return '%08x' % zlib.crc32(whole.encode('utf-8', 'surrogatepass'))  # finds accidents, and is asked of every row


def scored_row(
    row: Mapping[str, Any],
    texts: Sequence[tuple[float | None, str, int | None]],
    fingerprint: Fingerprint | str,
    keep_reference: bool = True,
    fields: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Makes a row of a scored manifest.

    Args:
        row: the row that was labelled; what another teacher wrote into it is left out.
        texts: log-probability in nats, text and number of tokens of each text, the best first; a single text whose
            log-probability is `None` is written without a score.
        fingerprint: whose texts and scores these are.
        keep_reference: whether the row's own `text` is kept as its reference, unless it has one.
        fields: what else is known about the best text: name -> value, such as a `confidence` from 0 to 1.
    """
    log_prob, best, tokens = texts[0]
    scored = {key: value for key, value in row.items() if key not in (*TEACHER_KEYS, 'text')}
    if keep_reference and isinstance(row.get('text'), str) and not isinstance(row.get(REFERENCE_KEY), str):
        scored[REFERENCE_KEY] = row['text']
    scored['text'] = best
    if log_prob is not None:
        scored[NBEST_KEY] = [{'text': text, 'log_prob': value} for value, text, _ in texts]
        scored[LOG_PROB_KEY] = log_prob
        scored[TOKENS_KEY] = tokens
    if fields:
        scored[FIELDS_KEY] = dict(fields)
    scored[FINGERPRINT_KEY] = str(fingerprint)
    scored[ROW_KEY] = row_hash(scored)
    return scored


def teacher_identity(model: Any) -> str:
    """Hash of a model's weights and of the parts of its config that determine its outputs; paths are not included."""
    import torch
    from omegaconf import OmegaConf

    digest = hashlib.sha256()
    for name in ('preprocessor', 'encoder', 'decoder', 'joint', 'aux_ctc', 'transf_encoder', 'transf_decoder', 'head'):
        part = model.cfg.get(name)
        if part is not None:
            part = OmegaConf.to_container(part, resolve=True)
            digest.update(json.dumps([name, part], sort_keys=True, default=str).encode('utf-8'))
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)} '.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else b'')
    return digest.hexdigest()


def fingerprint_of(identity: str, head: str, vocabulary: str, decoding: Mapping[str, Any]) -> Fingerprint:
    """The fingerprint of scores.

    Args:
        identity: `teacher_identity(model)`.
        head: kind of the head that scores.
        vocabulary: `TextCodec.fingerprint`.
        decoding: settings that determine which texts are found.
    """
    return Fingerprint(short_hash([identity, head]), vocabulary[:_SHORT], short_hash(dict(decoding)))


def model_fingerprint(model: Any, head: str = 'auto') -> Fingerprint:
    """The fingerprint of the scores that a model would give to texts from elsewhere; compare with `same_scores`."""
    from nemo_oracle_kd.bridge.model import find_head
    from nemo_oracle_kd.bridge.vocabulary import TextCodec

    found = find_head(model, head)
    vocabulary = TextCodec(model, found.vocabulary).fingerprint
    return fingerprint_of(teacher_identity(model), found.kind, vocabulary, {'source': 'elsewhere'})


def header_path(manifest: str | Path) -> Path:
    """The path of a scored manifest's header."""
    return Path(f'{manifest}.header.json')


def read_header(manifest: str | Path) -> dict[str, Any] | None:
    """The header of a scored manifest, or `None` if it has none.

    Raises:
        ConfigError: there is one that is not JSON.
    """
    path = header_path(manifest)
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is damaged ({error}): score the manifest again with --overwrite") from None


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Word errors per reference word; if the reference is empty, `inf` for any word and 0 for none."""
    import jiwer

    if not reference.split():
        return float('inf') if hypothesis.split() else 0.0
    return float(jiwer.wer(reference, hypothesis))


def character_error_rate(reference: str, hypothesis: str) -> float:
    """Character errors per reference character; otherwise as `word_error_rate`."""
    import jiwer

    return float(jiwer.cer(reference, hypothesis)) if reference.split() else word_error_rate(reference, hypothesis)


@dataclass(frozen=True)
class RowFilter:
    """Which rows are kept. `None` keeps all.

    Attributes:
        min_log_prob_per_token: of the written text, divided by its labels (by one if it has none).
        min_words: of the written text.
        max_words: of the written text.
        min_duration: seconds.
        max_duration: seconds.
        max_wer: against the reference, as a share (0.3 for 30 %).
    """

    min_log_prob_per_token: float | None = None
    min_words: int | None = None
    max_words: int | None = None
    min_duration: float | None = None
    max_duration: float | None = None
    max_wer: float | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        for name, value in vars(self).items():
            if value is not None and not math.isfinite(value):
                problems.append(f"--{name.replace('_', '-')} must be a finite number, not {value}")
        for unit in ('words', 'duration'):
            low, high = getattr(self, f'min_{unit}'), getattr(self, f'max_{unit}')
            if low is not None and high is not None and low > high:
                problems.append(
                    f"--min-{unit} ({low}) is above --max-{unit} ({high}), so no row would be left: lower the first or raise the second"
                )
        if self.min_log_prob_per_token is not None and self.min_log_prob_per_token > 0:
            problems.append(
                f"--min-log-prob-per-token must be at most 0, such as -0.5, not {self.min_log_prob_per_token}"
            )
        if self.max_wer is not None and self.max_wer < 0:
            problems.append(f"--max-wer must be at least 0, not {self.max_wer}")
        ConfigError.raise_if_any(problems)

    def before_scoring(self, seconds: float) -> str | None:
        """Why a row is dropped without scoring, or `None`."""
        if self.min_duration is not None and seconds < self.min_duration:
            return 'too short'
        if self.max_duration is not None and seconds > self.max_duration:
            return 'too long'
        return None

    def after_scoring(self, row: Mapping[str, Any]) -> str | None:
        """Why a scored row is dropped, or `None`. With `max_wer`, the row needs its reference."""
        words = len(row['text'].split())
        if self.min_words is not None and words < self.min_words:
            return 'too few words'
        if self.max_words is not None and words > self.max_words:
            return 'too many words'
        per_token = row[LOG_PROB_KEY] / max(1, row[TOKENS_KEY])
        if self.min_log_prob_per_token is not None and per_token < self.min_log_prob_per_token:
            return 'too improbable'
        if self.max_wer is not None and word_error_rate(row[REFERENCE_KEY], row['text']) > self.max_wer:
            return 'too many errors'
        return None

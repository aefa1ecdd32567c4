# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Whether the training texts can be written by both models: found before the first step, not after hours or never."""

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

from nemo.utils import logging
from tqdm import tqdm

from nemo_oracle_kd.bridge.rows.manifests import read_lines, training_manifests
from nemo_oracle_kd.bridge.vocabulary import TextCodec, UnwritableText, normalize_spaces
from nemo_oracle_kd.corpus.manifest import SUPERVISED_KEY
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.format import NBEST_KEY

__all__ = ['check_nbest_texts', 'check_training_texts']

#: more texts than this are sampled: tokenising all texts of a large corpus twice takes minutes
TEXT_SAMPLE = 200_000
#: likewise of N-best lists
LIST_SAMPLE = 20_000


def check_training_texts(train_ds: Mapping[str, Any] | None, student: TextCodec, teacher: TextCodec | None) -> None:
    """Refuses training texts that one of the models cannot write: their score would be that of another text.

    Args:
        train_ds: `model.cfg.train_ds`; data without a manifest are left to the checks of each batch.
        student: of the student. NeMo's character models drop what they have no label for, without a word.
        teacher: of a teacher beside the student, or `None`.

    Raises:
        ConfigError: how many texts, the first of them, and the fix.
    """
    files = training_manifests(train_ds or {}).files
    texts = list(dict.fromkeys(_texts(files)))
    if len(texts) > TEXT_SAMPLE:
        logging.info(f'{TEXT_SAMPLE} of {len(texts)} different training texts are checked')
        texts = random.Random(0).sample(texts, TEXT_SAMPLE)
    same = teacher is None or teacher.fingerprint == student.fingerprint
    problems = [_problem(texts, student, 'student', lambda text: text)]
    if not problems[0] and not same:
        problems.append(_problem(texts, teacher, 'teacher', lambda text: student.decode(student.encode(text))))
    ConfigError.raise_if_any(problem for problem in problems if problem)


def check_nbest_texts(train_ds: Mapping[str, Any] | None, student: TextCodec, most: int) -> None:
    """Refuses N-best lists of which the student can write one text at most: alone it has the share 1 of the list.

    Args:
        train_ds: `model.cfg.train_ds`, whose scores were checked (`StoredScores`).
        student: of the student.
        most: hypotheses per utterance that are compared.

    Raises:
        ConfigError: no list has two texts that the student can write.
    """
    files = training_manifests(train_ds or {}).files
    generator, lists, seen = random.Random(0), [], 0
    for line in read_lines(files) if files else ():
        if _is_supervised(line.text):
            continue
        place = len(lists) if seen < LIST_SAMPLE else generator.randrange(seen + 1)
        seen += 1
        if place < LIST_SAMPLE:  # a sample of all rows without keeping them
            entries = (json.loads(line.text).get(NBEST_KEY) or [])[:most]
            lists[place : place + 1] = [[entry['text'] for entry in entries]]
    short = sum(sum(_writable(text, student) for text in texts) < 2 for texts in lists)
    if lists and short == len(lists):
        raise ConfigError(
            f"of each of {len(lists)} N-best lists of model.train_ds the student can write one text at most, and one alone always "
            "has the share 1 of a list: bring the texts to the student's alphabet, or train with full_sum instead"
        )
    if short:
        logging.warning(
            f"Of {short} of {len(lists)} N-best lists of the training data the student can write one text at most; objectives over "
            "the list learn nothing from these."
        )


def _writable(text: str, codec: TextCodec) -> bool:
    try:
        codec.encode(normalize_spaces(text))
    except UnwritableText:
        return False
    return True


def _is_supervised(line: str) -> bool:
    return f'"{SUPERVISED_KEY}"' in line and json.loads(line).get(SUPERVISED_KEY) is True


def _texts(files: list[str]) -> Iterator[str]:
    for line in read_lines(files) if files else ():
        if not _is_supervised(line.text):  # nobody scores those
            yield normalize_spaces(line.key[3])


def _problem(texts, codec: TextCodec, whose: str, read) -> str | None:
    count, first, example = 0, '', ''
    for text in tqdm(texts, desc=f'checking texts ({whose})', unit='text', delay=3, leave=False):
        try:
            codec.encode(read(text))
        except UnwritableText as error:
            count += 1
            first, example = (first, example) if first else (str(error), text)
    if not count:
        return None
    return (
        f"{count} of {len(texts)} different texts of model.train_ds cannot be written in the labels of the {whose} (the first, "
        f"{example[:60]!r}: {first}), so their score would be that of another text: {_fix(example, codec)}"
    )


def _fix(text: str, codec: TextCodec) -> str:
    for name, changed in (('lower', text.lower()), ('upper', text.upper())):
        try:
            codec.encode(changed)
        except UnwritableText:
            continue
        return f"write the texts of the manifest in {name} case"
    return "bring the texts to that model's alphabet, or leave these rows out"

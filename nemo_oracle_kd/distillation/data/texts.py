# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Checks, before the first step, that the training texts exist and that both models can write them in their labels."""

from collections.abc import Callable, Iterator

from nemo.utils import logging
from tqdm import tqdm

from nemo_oracle_kd.bridge.rows.lines import ManifestLine
from nemo_oracle_kd.bridge.vocabulary import TextCodec, UnwritableText
from nemo_oracle_kd.corpus.findings import Findings, Sample
from nemo_oracle_kd.corpus.manifest import LANGUAGE_KEY, NBEST_KEY, SUPERVISED_KEY
from nemo_oracle_kd.spaces import normalize_spaces

__all__ = ['ListCheck', 'TranscriptCheck', 'WritableCheck']

#: number of texts that are tokenised, besides every text with a new character; a fixed random sample if there are more
TEXT_SAMPLE = 20_000
#: number of N-best lists that are tokenised; a fixed random sample if there are more
LIST_SAMPLE = 2_000

#: a text, and its language if the row names one
Entry = tuple[str, str | None]

_SENTENCES = {
    'missing': "have no `text`, or one that is not a string: add the transcript",
    'unread': (
        "have no `text`, or one that is not a string: add the transcript, or set label_loss.weight=0 or label_loss.on=supervised, "
        "because no objective here reads it"
    ),
    'empty': (
        "have an empty `text`, but the oracle teacher reads the transcript: remove these rows or use a teacher that reads audio "
        "alone"
    ),
}


class TranscriptCheck:
    """Refuses rows without a transcript where one is read. NeMo itself silently treats a missing transcript as empty.

    Args:
        unsupervised: whether rows that are not marked as supervised need a `text`.
        filled: whether the `text` must not be empty.
        of_label_loss: whether the label loss alone reads the transcripts of those rows.
    """

    def __init__(self, unsupervised: bool = True, filled: bool = False, of_label_loss: bool = False):
        self.unsupervised, self.filled = unsupervised, filled
        self._missing = 'unread' if of_label_loss else 'missing'
        self.rows = 0
        self._findings = Findings(_SENTENCES)

    def see(self, line: ManifestLine) -> None:
        """Checks one row."""
        self.rows += 1
        text = line.text
        if type(text) is not str:
            supervised = line.row.get(SUPERVISED_KEY) is True
            if supervised or self.unsupervised:
                self._findings.add('missing' if supervised else self._missing, line, line.audio)
        elif self.filled and not text.strip():
            self._findings.add('empty', line, line.audio)

    def finish(self) -> Iterator[str]:
        """Yields what is wrong, in sentences that name the fix."""
        yield from self._findings.sentences(self.rows)


class WritableCheck:
    """Refuses training texts that one of the models cannot write, because their score would be that of another text.

    Supervised rows are not checked, because they are not scored.

    Args:
        student: the student's codec. NeMo's character models silently drop characters that they have no label for.
        teacher: the codec of a teacher beside the student, or `None`.
    """

    def __init__(self, student: TextCodec, teacher: TextCodec | None = None):
        self.student = student
        self.teacher = None if teacher is None or teacher.fingerprint == student.fingerprint else teacher
        self._sample = Sample(TEXT_SAMPLE)
        self._characters: set[str] = set()
        self._with_new_characters: list[Entry] = []

    def see(self, line: ManifestLine) -> None:
        """Checks one row."""
        text = line.text
        if type(text) is not str or line.row.get(SUPERVISED_KEY) is True:
            return
        if not self._characters.issuperset(text):
            self._characters.update(text)
            self._with_new_characters.append(_entry(line))
        if self._sample.wants():
            self._sample.keep(_entry(line))

    def finish(self) -> Iterator[str]:
        """Yields what is wrong, in sentences that name the fix."""
        texts = list(dict.fromkeys(self._sample.kept))
        more = [text for text in dict.fromkeys(self._with_new_characters) if text not in set(texts)]
        whole = self._sample.seen <= self._sample.size
        problem = _problem(texts, more, whole, (self.student, 'student', lambda text, language: (text, language)))
        if problem is None and self.teacher is not None:
            problem = _problem(texts, more, whole, (self.teacher, 'teacher', self._as_the_student_reads))
        if problem is not None:
            yield problem

    def _as_the_student_reads(self, text: str, language: str | None) -> Entry:
        labels = self.student.encode(text, language)
        return self.student.decode(labels), self.student.language(labels)


class ListCheck:
    """Refuses N-best lists of which the student can write at most one text, whose posterior in the list is always 1.

    Args:
        student: the student's codec.
        most: largest number of hypotheses per utterance that are compared.
    """

    def __init__(self, student: TextCodec, most: int):
        self.student, self.most = student, most
        self._sample = Sample(LIST_SAMPLE)

    def see(self, line: ManifestLine) -> None:
        """Checks one row."""
        if line.row.get(SUPERVISED_KEY) is not True and self._sample.wants():
            entries = line.row.get(NBEST_KEY)
            kept = entries[: self.most] if isinstance(entries, list) else None
            self._sample.keep((kept, line.row.get(LANGUAGE_KEY)))

    def finish(self) -> Iterator[str]:
        """Yields what is wrong, in sentences that name the fix."""
        lists = self._sample.kept
        try:
            short = sum(
                sum(self._writable(entry['text'], language) for entry in entries) < 2 for entries, language in lists
            )
        except (TypeError, KeyError, AttributeError):
            return  # not lists of texts, which the check of the scores reports
        if lists and short == len(lists):
            yield (
                f"the student can write at most one text of each of {len(lists)} N-best lists of model.train_ds, and the posterior "
                "of a single text is always 1: rewrite the texts in the student's alphabet, or train with full_sum instead"
            )
        elif short:
            logging.warning(
                f"The student can write at most one text of {short} of {len(lists)} N-best lists of the training data; objectives "
                "over the list learn nothing from these."
            )

    def _writable(self, text: str, language: str | None) -> bool:
        try:
            self.student.encode(normalize_spaces(text), language)
        except UnwritableText:
            return False
        return True


def _problem(
    texts: list[Entry], more: list[Entry], whole: bool, reader: tuple[TextCodec, str, Callable[..., Entry]]
) -> str | None:
    codec, whose, read = reader
    count, first, example = 0, '', ('', None)
    for text in tqdm(texts + more, desc=f'checking texts ({whose})', unit='text', delay=3, leave=False):
        try:
            codec.encode(*read(*text))
        except UnwritableText as error:
            count += 1
            first, example = (first, example) if first else (str(error), text)
    if not count:
        return None
    number = f"{count} of {len(texts + more)} {'different' if whole else 'sampled'} texts"
    return (
        f"{number} of model.train_ds cannot be written in the labels of the {whose} (the first, {example[0][:60]!r}: {first}), so "
        f"their score would be that of another text: {_fix(example, codec)}"
    )


def _entry(line: ManifestLine) -> Entry:
    return normalize_spaces(line.text), line.row.get(LANGUAGE_KEY)


def _fix(entry: Entry, codec: TextCodec) -> str:
    text, language = entry
    if codec.languages and language not in codec.languages:
        return f"add `{LANGUAGE_KEY}` to the rows, as NeMo needs it"
    for name, changed in (('lower', text.lower()), ('upper', text.upper())):
        try:
            codec.encode(changed, language)
        except UnwritableText:
            continue
        return f"write the texts of the manifest in {name} case"
    return "rewrite the texts in that model's alphabet, or remove these rows"

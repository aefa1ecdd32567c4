# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Sorts the labels of two vocabularies into classes that both have, for CTC heads that are compared frame by frame.

Two models that cut words differently still agree on what a label begins with, if they emit it where it begins: one spikes "▁the", the
other "▁th" and then "e". So the class of a label is its first letter, in lower case, and for two models of sub-words also whether it
begins a word. That is the finest partition in which a label and its own beginnings always have the same class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nemo_oracle_kd.bridge.model import ModelDescription

__all__ = ['LabelClasses', 'classes_of', 'shared_classes']

_MARK = '\u2581'  # SentencePiece: begins a word
_WITHIN = '##'  # WordPiece: does not


@dataclass(frozen=True)
class LabelClasses:
    """Classes of the labels of a student and a teacher; the last one is the blank.

    Attributes:
        student: `[V]` class of each label of the student, its blank last.
        teacher: `[V']` class of each label of the teacher, its blank last.
        names: what each class stands for.
        lost: labels of the teacher that no label of the student shares a class with; they count as blank.
    """

    student: torch.Tensor
    teacher: torch.Tensor
    names: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def blank(self) -> int:
        """The class of the blank."""
        return len(self.names) - 1


def shared_classes(student: Sequence[str], teacher: Sequence[str], of_characters: tuple[bool, bool]) -> LabelClasses:
    """Sorts two vocabularies.

    Args:
        student: labels without blank, in order.
        teacher: labels without blank, in order.
        of_characters: whether the student and the teacher are models of characters, in which a space is a label.
    """
    marked = not any(of_characters)
    keys = [[_key(label, _is_word_piece(labels), marked) for label in labels] for labels in (student, teacher)]
    order = {key: index for index, key in enumerate(dict.fromkeys(key for key in keys[0] if key is not None))}
    blank = len(order)
    classes = [[blank if key is None else order.get(key, blank) for key in of_one] + [blank] for of_one in keys]
    lost = tuple(label for label, key in zip(teacher, keys[1]) if key is not None and key not in order)
    names = tuple(f"{_MARK if begins else ''}{letter}" for begins, letter in order)
    return LabelClasses(*(torch.tensor(of_one) for of_one in classes), (*names, 'blank'), lost)


def _is_word_piece(labels: Sequence[str]) -> bool:
    return any(label.startswith(_WITHIN) for label in labels)


def _key(label: str, word_piece: bool, marked: bool) -> tuple[bool, str] | None:
    """Whether the label begins a word, if that is known of both models, and its first letter; `None` for a space alone."""
    if len(label) > 2 and label[0] == '<' and label[-1] == '>':
        return False, label  # a special label, such as <unk>
    if word_piece:
        begins, letters = not label.startswith(_WITHIN), label.removeprefix(_WITHIN)
    else:
        begins, letters = label.startswith(_MARK), label.lstrip(_MARK)
    letters = letters.strip()
    return (begins and marked, letters[0].casefold()[0]) if letters else None


def classes_of(student: ModelDescription, teacher: ModelDescription) -> LabelClasses:
    """The classes for two models."""
    return shared_classes(
        student.vocabulary, teacher.vocabulary, (student.tokenizer is None, teacher.tokenizer is None)
    )

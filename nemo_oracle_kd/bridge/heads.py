# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Which distribution over label sequences a NeMo model defines: CTC, RNN-T, TDT or multi-blank, and with which blank."""

import inspect
from dataclasses import dataclass
from typing import Any

from nemo_oracle_kd.bridge.describe import ctc_decoder, has_ctc_head

__all__ = ['HEADS', 'Head', 'find_head']

#: values of the option `head`; `auto` is the transducer of a hybrid model and the only head of any other
HEADS = ('auto', 'ctc', 'rnnt')


@dataclass(frozen=True)
class Head:
    """A head of a model.

    Attributes:
        kind: `ctc`, `rnnt`, `tdt` or `multiblank`.
        vocabulary: labels in order, without blanks.
        blank: id of the standard blank.
        durations: frames per duration output of a TDT, or per big blank of a multi-blank model; else empty.
    """

    kind: str
    vocabulary: tuple[str, ...]
    blank: int
    durations: tuple[int, ...] = ()


def find_head(model: Any, head: str = 'auto') -> Head:
    """Reads the head off a model.

    Args:
        model: a NeMo ASR model.
        head: `auto`, `ctc` or `rnnt` (any transducer).

    Raises:
        ValueError: the model is of another kind, lacks that head, or needs a prompt besides the audio.
    """
    if head not in HEADS:
        raise ValueError(f"the head must be one of {', '.join(HEADS)}, not {head!r}")
    name = type(model).__name__
    transducer = hasattr(model, 'joint') and hasattr(getattr(model, 'joint', None), 'num_classes_with_blank')
    if not transducer and not has_ctc_head(model):
        raise ValueError(f"{name} has neither a CTC nor a transducer head: use a CTC, RNN-T, TDT or hybrid model")
    if 'prompt' in inspect.signature(type(model).forward).parameters:
        raise ValueError(
            f"{name} reads a prompt besides the audio, which is not supported: use a model without prompts"
        )
    if head == 'ctc' and not has_ctc_head(model):
        raise ValueError(f"{name} has no CTC head: use head 'rnnt'")
    if head == 'rnnt' and not transducer:
        raise ValueError(f"{name} has no transducer head: use head 'ctc'")
    if head == 'ctc' or not transducer:
        decoder = ctc_decoder(model)
        return Head('ctc', tuple(decoder.vocabulary), decoder.num_classes_with_blank - 1)
    return _transducer_head(model)


def _transducer_head(model: Any) -> Head:
    joint = model.joint
    vocabulary = tuple(joint.vocabulary)
    last, extra = joint.num_classes_with_blank - 1, joint.num_extra_outputs
    if not extra:
        return Head('rnnt', vocabulary, last)
    durations, big_blanks = (_find_option(model, name) for name in ('durations', 'big_blank_durations'))
    if len(durations) == extra:
        return Head('tdt', vocabulary, last - extra, durations)
    if len(big_blanks) == extra:
        return Head('multiblank', vocabulary, last, big_blanks)
    raise ValueError(
        f"the joint of {type(model).__name__} has {extra} extra outputs, but neither its loss nor its decoding lists as many "
        "`durations` or `big_blank_durations`: add them to model.decoding"
    )


def _find_option(model: Any, name: str) -> tuple[int, ...]:
    """From the loss; else from the decoding, because `change_vocabulary` may have replaced the loss by a plain one."""
    kernel = getattr(getattr(model, 'loss', None), '_loss', None)
    owners = list(kernel.modules()) if kernel is not None else []  # the kernel may choose between others, by device
    for owner in (*owners, getattr(model, 'decoding', None)):
        value = getattr(owner, name, None)
        if value is not None and len(value):
            return tuple(int(duration) for duration in value)
    return ()

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Describes a NeMo ASR model: its heads with their blanks, its vocabulary and tokenizer, its frame rate.

A head is a distribution over label sequences: CTC, RNN-T, TDT or multi-blank. A hybrid model has two heads, whose blanks may
differ.
"""

import hashlib
import inspect
from dataclasses import dataclass, field
from typing import Any

from nemo_oracle_kd.functional.transducer.kinds import RNNT, TDT, MultiBlank, Transducer

__all__ = [
    'DURATION_OPTIONS',
    'HEADS',
    'Head',
    'ModelDescription',
    'TransducerFacts',
    'ctc_decoder',
    'describe',
    'find_head',
    'frame_seconds',
    'has_ctc_head',
    'tokenizer_fingerprint',
    'transducer_facts',
]

#: values of the option `head`; `auto` means the transducer of a hybrid model, and the only head of any other model
HEADS = ('auto', 'ctc', 'rnnt')

#: kinds of transducers with durations -> the option of NeMo's losses and decodings that lists them
DURATION_OPTIONS: dict[type[Transducer], str] = {TDT: 'durations', MultiBlank: 'big_blank_durations'}


@dataclass(frozen=True)
class Head:
    """A head of a model.

    Attributes:
        vocabulary: labels in order, without blanks.
        blank: id of the standard blank.
        transducer: what the outputs of its joint mean; `None` for a CTC head.
    """

    vocabulary: tuple[str, ...]
    blank: int
    transducer: Transducer | None = None

    @property
    def kind(self) -> str:
        """`ctc`, or the kind of transducer: `rnnt`, `tdt` or `multiblank`."""
        return 'ctc' if self.transducer is None else self.transducer.kind


@dataclass(frozen=True)
class ModelDescription:
    """Facts of a model that decide which signals can be compared.

    Attributes:
        name: class name, for messages.
        vocabulary: labels in order, without blank.
        tokenizer: fingerprint of the tokenizer, `None` for characters.
        blanks: head (`ctc` or `transducer`) -> id of its blank, for each head of the model. The two ids differ in a hybrid
            multi-blank model, whose joint has the big blanks before the standard one.
        sample_rate: samples per second.
        frame_seconds: seconds of audio per encoder frame, `None` if the model does not say.
        reads_transcript: whether the model is an oracle, whose forward pass needs the transcript.
        heads: `ctc`, `transducer` or both: the keys of `blanks`, or for a student the heads that it is trained with; `attention`
            for an attention decoder.
    """

    name: str
    vocabulary: tuple[str, ...]
    tokenizer: str | None
    blanks: dict[str, int]
    sample_rate: int
    frame_seconds: float | None
    reads_transcript: bool
    heads: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.heads:
            object.__setattr__(self, 'heads', tuple(self.blanks))


@dataclass(frozen=True)
class TransducerFacts:
    """Facts of a model that decide whether its lattice can be compared with another one.

    Attributes:
        name: class name, for messages.
        transducer: what the outputs of its joint mean; `None` for a model without a joint.
        vocabulary: labels in order, without blanks.
        tokenizer: fingerprint of the tokenizer, `None` for characters.
        frame_seconds: seconds of audio per encoder frame, `None` if the model does not say.
        encoder_size: values per frame of its encoder.
        reads_transcript: whether the model is an oracle.
    """

    name: str
    transducer: Transducer | None
    vocabulary: tuple[str, ...] = ()
    tokenizer: str | None = None
    frame_seconds: float | None = None
    encoder_size: int = 0
    reads_transcript: bool = False


def transducer_facts(model: Any) -> TransducerFacts:
    """Describes the transducer of a NeMo model."""
    name = type(model).__name__
    if not hasattr(model, 'joint'):
        return TransducerFacts(name, None)
    head = find_head(model, 'rnnt')
    return TransducerFacts(
        name,
        head.transducer,
        head.vocabulary,
        tokenizer_fingerprint(model),
        frame_seconds(model),
        int(model.joint.encoder_hidden),
        bool(getattr(model, 'reads_transcript', False)),
    )


def describe(model: Any) -> ModelDescription:
    """Describes a NeMo ASR model.

    Raises:
        ValueError: if the model has neither a CTC nor a transducer head, or if it needs a prompt besides the audio.
    """
    names = {'ctc': 'ctc'} if has_ctc_head(model) else {}
    if _has_transducer(model) or not names:
        names['transducer'] = 'rnnt' if names else 'auto'
    heads = {name: find_head(model, option) for name, option in names.items()}
    return ModelDescription(
        name=type(model).__name__,
        vocabulary=next(iter(heads.values())).vocabulary,
        tokenizer=tokenizer_fingerprint(model),
        blanks={name: head.blank for name, head in heads.items()},
        sample_rate=int(model.cfg.get('sample_rate', model.cfg.preprocessor.get('sample_rate', 16000))),
        frame_seconds=frame_seconds(model),
        reads_transcript=bool(getattr(model, 'reads_transcript', False)),
    )


def find_head(model: Any, head: str = 'auto') -> Head:
    """Finds a head of a model.

    Args:
        model: a NeMo ASR model.
        head: `auto`, `ctc` or `rnnt` (any transducer).

    Raises:
        ValueError: if the model is of another kind, lacks that head, or needs a prompt besides the audio.
    """
    if head not in HEADS:
        raise ValueError(f"the head must be one of {', '.join(HEADS)}, not {head!r}")
    name = type(model).__name__
    transducer = _has_transducer(model)
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
        return Head(tuple(decoder.vocabulary), decoder.num_classes_with_blank - 1)
    return _transducer_head(model)


def weight_problems(model: Any, name: str) -> list[str]:
    """Returns a sentence if weights of a model are NaN or infinite, as after a training that diverged.

    Args:
        model: a PyTorch model.
        name: name of the model in the sentence.
    """
    weights = dict(model.named_parameters())
    broken = [weight for weight, tensor in weights.items() if not bool(tensor.isfinite().all())]
    if not broken:
        return []
    return [
        f"{name} has NaN or infinity in {len(broken)} of its {len(weights)} weight tensors (the first: {broken[0]}), so all its "
        "outputs are NaN: use a checkpoint from before its training diverged"
    ]


def has_ctc_head(model: Any) -> bool:
    """Whether the model gives CTC frame posteriors."""
    return hasattr(ctc_decoder(model), 'num_classes_with_blank')


def ctc_decoder(model: Any) -> Any:
    """The CTC decoder: `decoder` of a CTC model, `ctc_decoder` of a hybrid one; `None` if there is none."""
    if hasattr(model, 'ctc_decoder'):
        return model.ctc_decoder
    return None if hasattr(model, 'joint') else getattr(model, 'decoder', None)


def _has_transducer(model: Any) -> bool:
    return hasattr(getattr(model, 'joint', None), 'num_classes_with_blank')


def _transducer_head(model: Any) -> Head:
    transducer = _transducer(model)
    return Head(tuple(model.joint.vocabulary), transducer.blank, transducer)


def _transducer(model: Any) -> Transducer:
    """The transducer of a model. The outputs of NeMo's joint are labels, big blanks, standard blank and durations, in this order."""
    last, extra = model.joint.num_classes_with_blank - 1, model.joint.num_extra_outputs
    if not extra:
        return RNNT(last)
    durations, big_blanks = (_find_option(model, DURATION_OPTIONS[kind]) for kind in (TDT, MultiBlank))
    if len(durations) == extra:
        return TDT(last - extra, durations)
    if len(big_blanks) == extra:
        return MultiBlank(last, big_blanks)
    raise ValueError(
        f"the joint of {type(model).__name__} has {extra} extra outputs, but neither its loss nor its decoding lists as many "
        "`durations` or `big_blank_durations`: add them to model.decoding"
    )


def _find_option(model: Any, name: str) -> tuple[int, ...]:
    """Reads an option from the loss, or from the decoding, because `change_vocabulary` may replace the loss by a plain one."""
    kernel = getattr(getattr(model, 'loss', None), '_loss', None)
    owners = list(kernel.modules()) if kernel is not None else []  # the kernel may hold one kernel per device
    for owner in (*owners, getattr(model, 'decoding', None)):
        value = getattr(owner, name, None)
        if value is not None and len(value):
            return tuple(int(duration) for duration in value)
    return ()


def _subsampling(model: Any) -> int | None:
    """Feature frames per encoder frame, from the encoder or from its config; `None` if neither says."""
    config = model.cfg.get('encoder', {})
    config = config.get('audio_encoder', config)  # an oracle encoder wraps the audio encoder it was given
    if 'jasper' not in config:
        factor = getattr(model.encoder, 'subsampling_factor', None) or config.get('subsampling_factor', None)
        return None if factor is None else int(factor)
    factor = 1  # NeMo's property counts one stride per block, even if every repeat has that stride
    for block in config['jasper']:
        repeats = 1 if block.get('stride_last', False) else int(block['repeat'])
        factor *= int(block['stride'][0]) ** repeats
    return factor


def frame_seconds(model: Any) -> float | None:
    """Seconds of audio per encoder frame, or `None` if the model does not say."""
    factor = _subsampling(model)
    stride = model.cfg.preprocessor.get('window_stride', None)
    return None if factor is None or stride is None else float(stride) * factor


def tokenizer_fingerprint(model: Any) -> str | None:
    """Hash of the content of the tokenizer; `None` for a model of characters.

    A multilingual model has one tokenizer per language. Its fingerprint is that of the languages with their tokenizers, in the
    order in which they share the label ids.
    """
    return _fingerprint(getattr(model, 'tokenizer', None))


def _fingerprint(tokenizer: Any) -> str | None:
    by_language = getattr(tokenizer, 'tokenizers_dict', None)
    if by_language is not None:
        parts = [(str(language), _fingerprint(one)) for language, one in by_language.items()]
        return hashlib.sha256(repr(parts).encode()).hexdigest()
    inner = getattr(tokenizer, 'tokenizer', None)
    if inner is None:
        return None
    if hasattr(inner, 'serialized_model_proto'):
        return hashlib.sha256(inner.serialized_model_proto()).hexdigest()
    return hashlib.sha256(repr(sorted(inner.get_vocab().items())).encode()).hexdigest()

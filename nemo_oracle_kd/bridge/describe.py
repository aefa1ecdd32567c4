# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What must agree between a teacher and a student, read off any NeMo ASR model."""

import hashlib
from dataclasses import dataclass
from typing import Any

__all__ = ['ModelDescription', 'describe', 'has_ctc_head', 'tokenizer_fingerprint']


@dataclass(frozen=True)
class ModelDescription:
    """Facts of a model that decide which signals can be compared.

    Attributes:
        name: class name, for messages.
        vocabulary: labels in order, without blank.
        tokenizer: fingerprint of the SentencePiece model, `None` for characters.
        blank: index of blank: of the CTC head (last), or of the transducer where there is no CTC head.
        sample_rate: samples per second.
        frame_seconds: seconds of audio per encoder frame, `None` where the encoder does not tell.
        reads_transcript: an oracle: its forward needs the transcript.
        heads: `ctc`, `transducer` or both.
    """

    name: str
    vocabulary: tuple[str, ...]
    tokenizer: str | None
    blank: int
    sample_rate: int
    frame_seconds: float | None
    reads_transcript: bool
    heads: tuple[str, ...] = ('ctc',)


def has_ctc_head(model: Any) -> bool:
    """Whether the model gives CTC frame posteriors."""
    return hasattr(ctc_decoder(model), 'num_classes_with_blank')


def ctc_decoder(model: Any) -> Any:
    """The CTC decoder: `decoder` of a CTC model, `ctc_decoder` of a hybrid one."""
    if hasattr(model, 'ctc_decoder'):
        return model.ctc_decoder
    return None if hasattr(model, 'joint') else getattr(model, 'decoder', None)


def _subsampling(model: Any) -> int | None:
    """Feature frames per encoder frame, from the encoder or from its config; `None` where neither tells."""
    config = model.cfg.get('encoder', {})
    config = config.get('audio_encoder', config)  # an oracle encoder wraps the audio encoder it was given
    if 'jasper' not in config:
        factor = getattr(model.encoder, 'subsampling_factor', None) or config.get('subsampling_factor', None)
        return None if factor is None else int(factor)
    factor = 1  # counted here: NeMo's property counts one stride per block even where every repeat strides
    for block in config['jasper']:
        repeats = 1 if block.get('stride_last', False) else int(block['repeat'])
        factor *= int(block['stride'][0]) ** repeats
    return factor


def frame_seconds(model: Any) -> float | None:
    """Seconds of audio per encoder frame, or `None` if the model does not tell."""
    factor = _subsampling(model)
    stride = model.cfg.preprocessor.get('window_stride', None)
    return None if factor is None or stride is None else float(stride) * factor


def tokenizer_fingerprint(model: Any) -> str | None:
    """Hash of the tokenizer itself, whatever its file is called; `None` for a model of characters."""
    tokenizer = getattr(getattr(model, 'tokenizer', None), 'tokenizer', None)
    if tokenizer is None:
        return None
    if hasattr(tokenizer, 'serialized_model_proto'):
        return hashlib.sha256(tokenizer.serialized_model_proto()).hexdigest()
    return hashlib.sha256(repr(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()


def describe(model: Any) -> ModelDescription:
    """Describes a NeMo ASR model: by its CTC head if it has one, else by its transducer.

    Raises:
        ValueError: the model has neither, or needs a prompt besides the audio.
    """
    from nemo_oracle_kd.bridge.heads import find_head  # which reads CTC heads by the functions above

    head = find_head(model, 'ctc' if has_ctc_head(model) else 'auto')
    return ModelDescription(
        name=type(model).__name__,
        vocabulary=head.vocabulary,
        tokenizer=tokenizer_fingerprint(model),
        blank=head.blank,
        sample_rate=int(model.cfg.get('sample_rate', model.cfg.preprocessor.get('sample_rate', 16000))),
        frame_seconds=frame_seconds(model),
        reads_transcript=bool(getattr(model, 'reads_transcript', False)),
        heads=('ctc',) * has_ctc_head(model) + ('transducer',) * hasattr(model, 'joint'),
    )

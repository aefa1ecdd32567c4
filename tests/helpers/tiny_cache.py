# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Caches of tiny teachers, and a batch with its rows."""

import json
from pathlib import Path
from typing import Any

import tiny
import torch

from nemo_oracle_kd.bridge.audio import AudioSpan, audio_batch, read_audio
from nemo_oracle_kd.bridge.encode import encode_audio
from nemo_oracle_kd.bridge.signals import AudioBatch, EncodedAudio, StudentStep, Transcripts
from nemo_oracle_kd.teacher_cache.registry import choose_options
from nemo_oracle_kd.teacher_cache.writer import CacheReport, RunOptions, prepare_cache, write_cache


def write(
    model: Any, manifest: Path, folder: Path, signal: str, run: RunOptions | None = None, **options: Any
) -> CacheReport:
    """Caches a model in memory."""
    prepared = prepare_cache(model, manifest, choose_options(model, signal, **options), run or RunOptions())
    return write_cache(model, *prepared, Path(folder))


def hybrid(kind: str = 'rnnt', seed: int = 7, hidden: int = 48, scale: float = 2.0) -> Any:
    """A hybrid teacher in eval mode whose random weights are large enough to say something."""
    model = tiny.rnnt_model(tiny.rnnt_config(kind=kind, hybrid=True, hidden=hidden, joint_hidden=32), seed=seed)
    with torch.no_grad():
        for weight in [*model.joint.parameters(), *model.decoder.parameters(), *model.ctc_decoder.parameters()]:
            weight.mul_(scale)
    return model.eval()


def rows(manifest: Path) -> list[dict[str, Any]]:
    """The rows of a manifest."""
    return [json.loads(line) for line in Path(manifest).read_text().splitlines()]


def batch(manifest: Path, count: int = 4) -> AudioBatch:
    """The first utterances of a tone corpus with their labels and rows, as a loader and the distiller give them."""
    chosen = rows(manifest)[:count]
    audio = audio_batch([read_audio(AudioSpan.of_row(row), tiny.SAMPLE_RATE) for row in chosen])
    labels = [torch.tensor([tiny.LABELS.index(label) for label in row['text']]) for row in chosen]
    lengths = torch.tensor([len(one) for one in labels])
    transcripts = Transcripts(torch.nn.utils.rnn.pad_sequence(labels, batch_first=True), lengths)
    return AudioBatch(audio.signal, audio.lengths, transcripts, chosen)


def student_step(student: Any, given: AudioBatch, head: str) -> tuple[StudentStep, torch.Tensor]:
    """What a hybrid student hands to the loss of a head, and the tensor whose gradient is compared."""
    encoded, lengths = student(input_signal=given.signal.clone(), input_signal_length=given.lengths)[:2]
    transcripts = given.transcripts
    losses = torch.zeros(len(lengths))
    if head == 'ctc':
        log_probs = student.ctc_decoder(encoder_output=encoded).detach().requires_grad_()
        return StudentStep('ctc', losses, transcripts, lengths.long(), None, log_probs=log_probs), log_probs
    encoded = encoded.detach().requires_grad_()
    predicted = student.decoder(targets=transcripts.labels, target_length=transcripts.lengths)[0]
    step = StudentStep('transducer', losses, transcripts, lengths.long(), None, encoded=encoded, predicted=predicted)
    return step, encoded


@torch.no_grad()
def heard(model: Any, given: AudioBatch) -> EncodedAudio:
    """The outputs of a hybrid model for a batch, of which each utterance is heard alone: padding changes the last frames."""
    each = [encode_audio(model, given.select([row])) for row in range(len(given.lengths))]
    pad = torch.nn.utils.rnn.pad_sequence
    log_probs = pad([one.log_probs[0] for one in each], batch_first=True)
    encoded = pad([one.encoded[0].t() for one in each], batch_first=True)
    return EncodedAudio(torch.cat([one.lengths for one in each]), log_probs, encoded.transpose(1, 2))

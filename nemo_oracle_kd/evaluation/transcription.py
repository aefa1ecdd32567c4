# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Transcribes a manifest with any NeMo ASR model, greedily, and keeps the answers as JSON lines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
from tqdm import tqdm

from nemo_oracle_kd.bridge.audio import AudioSpan, read_audio
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.restore import quiet_nemo, restore_frozen
from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.corpus.outputs import write_text_atomically

#: seconds by which a `duration` may miss the end of its file and still mean the whole: manifests round
_ROUNDING = 0.005


def load_model(path: str | Path, device: str = 'cpu') -> Any:
    """Restores a model for inference: evaluation mode, no gradients, quietly.

    Args:
        path: a ``.nemo`` file, or the name of a pretrained model.
        device: where to put it.

    Raises:
        FileNotFoundError: if the path names no file.
    """
    path = str(path)
    if path.endswith('.nemo') and not Path(path).expanduser().is_file():
        raise FileNotFoundError(f"There is no model at '{path}'; give the path of a .nemo file.")
    return restore_frozen(path, device)


def transcribe_manifest(
    model: Any,
    manifest: str | Path,
    output: str | Path | None = None,
    batch_size: int = 16,
    progress: bool = True,
    description: str = 'transcribing',
) -> list[dict]:
    """Transcribes all utterances of a manifest by greedy decoding.

    A model that reads transcripts (``model.reads_transcript``) is given the manifest's text: what it then says shows
    how well it times what it was told, and is no recognition result. All others get the audio alone.

    Args:
        model: a restored NeMo ASR model.
        manifest: NeMo manifest; relative audio paths start at its folder. A row with an ``offset``, or with a
            ``duration`` that is shorter than its file, is cut out of it.
        output: if given, the rows are written there as JSON lines, at once at the end.
        batch_size: utterances at a time; they are sorted by length to waste little on padding.
        progress: whether to show a progress bar.
        description: what the bar says.

    Returns:
        One row per utterance in the manifest's order: ``audio_filepath`` (absolute), ``text`` (the reference),
        ``pred_text`` and the other keys of the manifest's row.

    Raises:
        FileNotFoundError: if the manifest does not exist.
        ValueError: for a bad manifest or batch size, a file that is no audio or holds none where the row says, or a
            model that is neither a CTC model nor a transducer.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size starts at 1; got {batch_size}.")
    rows = read_manifest(manifest)
    find_head(model)  # refuses attention decoders, whose prompts this does not know
    _check_audio(rows, manifest)
    reads_transcript = bool(getattr(model, 'reads_transcript', False))
    use_greedy_decoding(model)
    order = sorted(range(len(rows)), key=lambda index: rows[index].get('duration', 0.0))
    texts: list[str] = [''] * len(rows)
    bar = tqdm(total=len(rows), desc=description, unit='utt', disable=not progress)
    with bar, quiet_nemo(), tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            audio = [_own_file(rows[index], model, Path(folder)) for index in batch]
            extra = {'transcripts': [rows[index]['text'] for index in batch]} if reads_transcript else {}
            try:
                answers = model.transcribe(audio, batch_size=batch_size, num_workers=0, verbose=False, **extra)
            except soundfile.LibsndfileError as error:
                raise ValueError(
                    f"an audio file of {manifest} cannot be read ({error}): mend it, or leave its row out"
                ) from None
            if isinstance(answers, tuple):  # transducers give the best hypothesis and the N-best lists
                answers = answers[0]
            for index, answer in zip(batch, answers):
                texts[index] = answer if isinstance(answer, str) else answer.text
            bar.update(len(batch))
    results = [{**row, 'pred_text': text} for row, text in zip(rows, texts)]
    if output is not None:
        write_text_atomically(output, ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in results))
    return results


def use_greedy_decoding(model: Any) -> None:
    """Switches a model that was saved with beam search to greedy decoding, so that models are compared without a search."""
    decoding = getattr(model.cfg, 'decoding', None)
    strategy = decoding.get('strategy', 'greedy_batch') if decoding is not None else 'greedy_batch'
    if not strategy.startswith('greedy'):
        decoding = decoding.copy()
        decoding.strategy = 'greedy_batch'
        with quiet_nemo():
            model.change_decoding_strategy(decoding, verbose=False)


def _check_audio(rows: Sequence[dict], manifest: str | Path) -> None:
    """Refuses rows without audio, which would otherwise be counted as errors of the model."""
    problems = []
    for row in rows:
        try:
            info = soundfile.info(row['audio_filepath'])
        except (OSError, soundfile.LibsndfileError):
            problems.append(f"{row['audio_filepath']} cannot be read as audio")
            continue
        offset = row.get('offset') or 0.0
        if offset * info.samplerate >= info.frames:
            problems.append(f"{row['audio_filepath']} holds {info.duration:g} s and nothing at {offset:g} s")
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(rows)} rows of {manifest} have no audio (the first: {problems[0]}): mend these rows or "
            "leave them out"
        )


def _own_file(row: dict, model: Any, folder: Path) -> str:
    """A file that holds just what the row is about, in one channel: its own, or a copy of its part in ``folder``.

    Parts go through files because NeMo pads waveforms shorter than a second with silence, files it leaves alone.
    """
    span, info = AudioSpan.of_row(row), soundfile.info(row['audio_filepath'])
    whole = not span.offset and (span.duration is None or span.duration >= info.duration - _ROUNDING)
    # only samples that are stored as floats can be NaN
    if whole and info.channels == 1 and info.subtype not in ('FLOAT', 'DOUBLE'):
        return span.path
    rate = int(model.cfg.sample_rate)
    signal = read_audio(AudioSpan(span.path) if whole else span, rate)
    path = folder / f'{len(list(folder.iterdir()))}.wav'
    soundfile.write(path, signal.numpy(), rate, subtype='FLOAT')
    return str(path)

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Transcribes a manifest with a NeMo CTC model or transducer by greedy decoding, and writes the results as JSON lines."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile
from tqdm import tqdm

from nemo_oracle_kd.bridge.model import find_head, weight_problems
from nemo_oracle_kd.bridge.restore import quiet_nemo, restore_frozen
from nemo_oracle_kd.corpus.outputs import write_text_atomically
from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.evaluation.inputs import AudioInputs, inputs_of


def load_model(path: str | Path, device: str = 'cpu') -> Any:
    """Restores a model for inference, in evaluation mode and without gradients; NeMo's messages are suppressed.

    Args:
        path: a ``.nemo`` file, or the name of a pretrained model.
        device: device of the model.

    Raises:
        FileNotFoundError: the path ends in ``.nemo`` and there is no such file.
        ConfigError: weights of the model are NaN or infinite.
    """
    path = str(path)
    if path.endswith('.nemo') and not Path(path).expanduser().is_file():
        raise FileNotFoundError(f"there is no model at '{path}': give the path of a .nemo file")
    model = restore_frozen(path, device)
    ConfigError.raise_if_any(weight_problems(model, f"'{path}'"))
    return model


def transcribe_manifest(
    model: Any,
    manifest: str | Path,
    output: str | Path | None = None,
    batch_size: int = 16,
    progress: bool = True,
    description: str = 'transcribing',
) -> list[dict]:
    """Transcribes all utterances of a manifest by greedy decoding.

    A model that reads transcripts (``model.reads_transcript``) is given the manifest's text. Its output then shows how well
    it places the text in time, and is not a recognition result. All other models get the audio alone.

    Args:
        model: a restored NeMo ASR model.
        manifest: NeMo manifest; relative audio paths start at its folder. A row with an ``offset``, or with a
            ``duration`` shorter than its file, is cut out of the file.
        output: file to which the rows are written as JSON lines, atomically at the end; ``None`` for no file.
        batch_size: utterances per batch; they are sorted by length to reduce padding.
        progress: whether to show a progress bar.
        description: text of the progress bar.

    Returns:
        One row per utterance in the manifest's order: ``audio_filepath`` (absolute), ``text`` (the reference),
        ``pred_text`` and the other keys of the manifest's row.

    Raises:
        FileNotFoundError: the manifest does not exist.
        ValueError: a bad manifest or batch size, a file that is not audio or has none where the row says, or a model that
            is neither a CTC model nor a transducer.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    inputs = inputs_of(model)
    rows = inputs.rows(manifest)
    find_head(model)  # refuses attention decoders, which need a prompt
    _check_inputs(rows, inputs, manifest)
    reads_transcript = bool(getattr(model, 'reads_transcript', False))
    use_greedy_decoding(model)
    order = sorted(range(len(rows)), key=lambda index: rows[index].get('duration', 0.0))
    texts: list[str] = [''] * len(rows)
    bar = tqdm(total=len(rows), desc=description, unit='utt', disable=not progress)
    with bar, quiet_nemo(), tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            audio = [inputs.file(rows[index], Path(folder)) for index in batch]
            extra = {'transcripts': [rows[index]['text'] for index in batch]} if reads_transcript else {}
            try:
                answers = model.transcribe(audio, batch_size=batch_size, num_workers=0, verbose=False, **extra)
            except soundfile.LibsndfileError as error:
                raise ValueError(
                    f"an audio file of {manifest} cannot be read ({error}): repair it, or remove its row"
                ) from None
            if isinstance(answers, tuple):  # transducers return the best hypotheses and the N-best lists
                answers = answers[0]
            for index, answer in zip(batch, answers):
                texts[index] = answer if isinstance(answer, str) else answer.text
            bar.update(len(batch))
    results = [{**row, 'pred_text': text} for row, text in zip(rows, texts)]
    if output is not None:
        write_text_atomically(output, ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in results))
    return results


def use_greedy_decoding(model: Any) -> None:
    """Switches a model that was saved with beam search to greedy decoding, so that all models are decoded alike."""
    decoding = getattr(model.cfg, 'decoding', None)
    strategy = decoding.get('strategy', 'greedy_batch') if decoding is not None else 'greedy_batch'
    if not strategy.startswith('greedy'):
        decoding = decoding.copy()
        decoding.strategy = 'greedy_batch'
        with quiet_nemo():
            model.change_decoding_strategy(decoding, verbose=False)


def _check_inputs(rows: Sequence[dict], inputs: AudioInputs, manifest: str | Path) -> None:
    """Refuses rows without an input, which would otherwise be counted as errors of the model."""
    problems = [problem for row in rows if (problem := inputs.problem(row)) is not None]
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(rows)} rows of {manifest} have no audio (the first: {problems[0]}): correct these rows, or "
            "remove them"
        )

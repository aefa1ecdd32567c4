# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Measures how much a model needs each layer of its encoder: its own loss with one layer left out at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nemo_oracle_kd.bridge.audio import AudioSpan, audio_batch, read_audio
from nemo_oracle_kd.bridge.cut.student import layer_left_out, removable_layers
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.bridge.sequence_scores import Hypotheses, score_labels
from nemo_oracle_kd.bridge.vocabulary import TextCodec
from nemo_oracle_kd.corpus.manifest import read_manifest
from nemo_oracle_kd.errors import ConfigError

__all__ = ['layer_losses', 'most_needed']


@torch.no_grad()
def layer_losses(
    model: Any, manifest: str | Path, batch_size: int = 16, progress: bool = True
) -> tuple[float, dict[int, float]]:
    """The model's loss per label on a manifest, and the loss without each layer that can be left out.

    The loss is ``-log P(text | audio)`` in nats, of the transducer of a hybrid model. Rows that have no alignment count
    nowhere.

    Args:
        model: a NeMo model in eval mode.
        manifest: NeMo manifest with text.
        batch_size: utterances at a time.
        progress: whether to show a progress bar.

    Raises:
        ValueError: a bad manifest, audio that cannot be read, a text that the model cannot write, or no row with an alignment.
    """
    rows = read_manifest(manifest)
    rows.sort(key=lambda row: row.get('duration') or 0.0)
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    count, removable = removable_layers(model)
    scores: dict[int | None, float] = dict.fromkeys([None, *removable], 0.0)
    labels = 0
    with tqdm(total=len(scores) * len(rows), desc='layers left out', unit='utt', disable=not progress) as bar:
        for batch in batches:
            read = _Batch(model, batch)
            whole = read.scores(model)
            aligned = whole.isfinite()
            labels += int(read.lengths[aligned].sum())
            scores[None] -= float(whole[aligned].sum())
            bar.update(len(batch))
            for layer in removable:
                with layer_left_out(model, layer):
                    scores[layer] -= float(read.scores(model)[aligned].sum())
                bar.update(len(batch))
    if not labels:
        raise ConfigError(f"no row of {manifest} has a text that its audio is long enough for: give other rows")
    per_label = {layer: score / labels for layer, score in scores.items()}
    return per_label.pop(None), per_label


class _Batch:
    """Audio and labels of some rows of a manifest."""

    def __init__(self, model: Any, rows: Sequence[Mapping[str, Any]]):
        self.head = find_head(model)
        codec, device = TextCodec(model, self.head.vocabulary), next(model.parameters()).device
        rate = int(model.cfg.get('sample_rate', model.cfg.preprocessor.get('sample_rate', 16000)))
        self.audio = audio_batch([read_audio(AudioSpan.of_row(row), rate) for row in rows], device)
        self.texts = Hypotheses.from_lists([[codec.encode(row['text'], row.get('lang'))] for row in rows], device)
        self.lengths = self.texts.lengths[:, 0]

    def scores(self, model: Any) -> torch.Tensor:
        """``log P(text | audio)``, ``[B]``."""
        return score_labels(model, self.head, self.audio, self.texts)[:, 0].double()


def most_needed(losses: Mapping[int, float], count: int, keep: int) -> tuple[int, ...]:
    """The ``keep`` of ``count`` layers without which the loss is highest, in rising order.

    Layers that are not in ``losses`` cannot be left out and stay.

    Raises:
        ConfigError: there are not as many, or more have to stay.
    """
    needed = count - len(losses)
    if not max(1, needed) <= keep <= count:
        raise ConfigError(
            f"--keep {keep} is not possible: give a number from {max(1, needed)} to {count}, because the encoder has {count} "
            f"layers, of which {needed} cannot be left out"
        )
    rank = sorted(losses, key=lambda layer: losses[layer])
    return tuple(layer for layer in range(count) if layer not in rank[: count - keep])

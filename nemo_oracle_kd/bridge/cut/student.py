# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Makes the archive of a smaller model from that of a larger one, and runs a model with one of its layers left out.

The new archive holds everything that the old one holds, tokenizer included. Only config and weights are replaced, so class,
vocabulary, preprocessor, prediction network and joint are NeMo's own, as before.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from torch import nn

from nemo_oracle_kd.bridge.archive import read_nemo_archive, replaced_archive
from nemo_oracle_kd.bridge.cut.conformer import cut_conformer
from nemo_oracle_kd.bridge.cut.convolutional import cut_convolutional, needed_blocks
from nemo_oracle_kd.bridge.cut.request import CutRequest
from nemo_oracle_kd.bridge.model import find_head
from nemo_oracle_kd.errors import ConfigError

__all__ = ['CutModel', 'check_can_be_cut', 'cut_model', 'layer_left_out', 'removable_layers']

#: weights outside the encoder whose axis 1 reads its output
_READERS = ('decoder.decoder_layers.0.weight', 'ctc_decoder.decoder_layers.0.weight', 'joint.enc.weight')


class CutModel(NamedTuple):
    """A smaller model.

    Attributes:
        archive: content of its `.nemo` file.
        layers: numbers of the teacher's layers that stayed.
        encoder: keys of the encoder's config that are its own.
    """

    archive: bytes
    layers: list[int]
    encoder: Mapping[str, Any]


def check_can_be_cut(model: Any, source: str) -> None:
    """Refuses models that cannot be cut.

    Args:
        model: a restored NeMo model.
        source: what the user called it.

    Raises:
        ValueError: an oracle teacher, an attention decoder, or an encoder of another kind.
    """
    if getattr(model, 'reads_transcript', False):
        raise ConfigError(
            f"{source!r} is an oracle teacher, which also reads the transcript: cut an ordinary model and use the oracle as its teacher"
        )
    find_head(model)
    if not (_is_conformer(model.encoder) or _is_convolutional(model.encoder)):
        raise ConfigError(
            f"{source!r} has the encoder {type(model.encoder).__name__}: give a model with a ConformerEncoder (Conformer, "
            "FastConformer) or a ConvASREncoder (QuartzNet, Citrinet, ContextNet)"
        )


def cut_model(path: str, model: Any, request: CutRequest) -> CutModel:
    """Cuts the model in a `.nemo` file.

    Args:
        path: the file.
        model: the model restored from it, which is left as it is.
        request: what is to stay.

    Raises:
        ConfigError: the request cannot be met for this model.
    """
    config, weights = read_nemo_archive(path)
    readers = [name for name in _READERS if name in weights]
    section = OmegaConf.to_container(config.encoder, resolve=True)
    cut = cut_conformer if _is_conformer(model.encoder) else cut_convolutional
    encoder = cut(model.encoder, section, weights, readers, request)
    OmegaConf.set_struct(config, False)
    config.encoder.update(encoder.config)
    _set_width(config, encoder.width)
    _move_intermediate_losses(config, encoder.layers)
    return CutModel(replaced_archive(path, config, encoder.weights), encoder.layers, encoder.config)


def _is_conformer(encoder: Any) -> bool:
    from nemo.collections.asr.modules import ConformerEncoder

    return isinstance(encoder, ConformerEncoder)


def _is_convolutional(encoder: Any) -> bool:
    from nemo.collections.asr.modules import ConvASREncoder

    return isinstance(encoder, ConvASREncoder)


def _set_width(config: DictConfig, width: int) -> None:
    """Tells the width of the encoder's output to all sections that NeMo's models read it from."""
    for key in (
        'decoder.feat_in',
        'aux_ctc.decoder.feat_in',
        'joint.jointnet.encoder_hidden',
        'model_defaults.enc_hidden',
    ):
        if OmegaConf.select(config, key) is not None:
            OmegaConf.update(config, key, width)


def _move_intermediate_losses(config: DictConfig, layers: list[int]) -> None:
    """Moves the CTC losses of inner layers to the last layer that stayed before each."""
    section = config.get('interctc')
    if not section or not section.get('apply_at_layers'):
        return
    moved: dict[int, float] = {}
    for layer, weight in zip(section.apply_at_layers, section.loss_weights):
        new = max(0, sum(other <= layer for other in layers) - 1)
        moved[new] = moved.get(new, 0.0) + weight
    section.apply_at_layers, section.loss_weights = list(moved), list(moved.values())


def removable_layers(model: Any) -> tuple[int, list[int]]:
    """Number of layers (or blocks) of the encoder, and those without which it still fits together."""
    layers = _layers(model.encoder)
    needed: Mapping[int, str] = {} if _is_conformer(model.encoder) else needed_blocks(model.encoder)
    return len(layers), [layer for layer in range(len(layers)) if layer not in needed]


def _layers(encoder: Any) -> Any:
    return encoder.layers if _is_conformer(encoder) else encoder.encoder


@contextlib.contextmanager
def layer_left_out(model: Any, layer: int) -> Iterator[None]:
    """Lets a model run without one layer of its encoder, which hands on what it is given."""
    layers = _layers(model.encoder)
    left_out = layers[layer]
    layers[layer] = _HandOn()
    try:
        yield
    finally:
        layers[layer] = left_out


class _HandOn(nn.Module):
    """Stands for a layer that is left out: a Conformer's, which is called by keyword, or a convolutional block."""

    def forward(self, x: Any, **others: Any) -> Any:
        """Returns its input."""
        return x

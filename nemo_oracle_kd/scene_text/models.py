# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""CTC models of word pictures: NeMo's `EncDecCTCModel` and the oracle teacher of this package, with a loader of pictures."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import fields
from typing import Any

from nemo.collections.asr.models.ctc_models import EncDecCTCModel
from nemo.core.classes.common import PretrainedModelInfo
from omegaconf import DictConfig, OmegaConf, open_dict
from torch.utils.data import DataLoader

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.models.oracle_ctc_models import EncDecOracleCTCModel
from nemo_oracle_kd.scene_text.dataset import make_loader
from nemo_oracle_kd.scene_text.pictures import FILE_KEYS, PictureInputs, PictureSize, recognised_form

__all__ = ['EncDecOraclePictureCTCModel', 'EncDecPictureCTCModel']

_PREPROCESSOR = 'nemo_oracle_kd.scene_text.preprocessor.WordPicturePreprocessor'


def _name_file_fields(train_ds: Any) -> None:
    """Notes in the config of training data under which keys a row names its picture, for whoever reads the manifest."""
    with open_dict(train_ds) if OmegaConf.is_config(train_ds) else nullcontext():
        train_ds['file_fields'] = list(FILE_KEYS)


class PictureDataMixin:
    """Reads pictures where the NeMo class reads audio.

    Args:
        cfg: config of the model.
        trainer: Lightning's trainer.
    """

    def __init__(self, cfg: DictConfig, trainer: Any = None):
        if cfg.get('train_ds') is not None:
            _name_file_fields(cfg.train_ds)
        super().__init__(cfg=cfg, trainer=trainer)

    @property
    def inputs(self) -> PictureInputs:
        """How this model reads the rows of a manifest. NeMo asks for data before the modules are built, so the config tells.

        Raises:
            ConfigError: the preprocessor is not one of pictures.
        """
        preprocessor = self.cfg.preprocessor
        if preprocessor.get('_target_') not in (None, _PREPROCESSOR):
            raise ConfigError(
                f"`model.preprocessor` is {preprocessor.get('_target_')}, which reads no pictures: use {_PREPROCESSOR}"
            )
        sizes = {one.name: preprocessor[one.name] for one in fields(PictureSize) if one.name in preprocessor}
        return PictureInputs(PictureSize(**sizes), self.cfg.decoder.vocabulary)

    def setup_training_data(self, train_data_config: Mapping[str, Any] | None) -> None:
        """Sets up the training data.

        Args:
            train_data_config: see :func:`nemo_oracle_kd.scene_text.dataset.make_loader`.
        """
        if train_data_config is not None:
            _name_file_fields(train_data_config)
        super().setup_training_data(train_data_config)

    def _setup_dataloader_from_config(self, config: Mapping[str, Any]) -> DataLoader:
        return make_loader(config, self.inputs, list(self.cfg.decoder.vocabulary))

    @classmethod
    def list_available_models(cls) -> list[PretrainedModelInfo]:
        """An empty list: NeMo's models recognise speech."""
        return []


class EncDecPictureCTCModel(PictureDataMixin, EncDecCTCModel):
    """Recogniser of word pictures over characters."""


class EncDecOraclePictureCTCModel(PictureDataMixin, EncDecOracleCTCModel):
    """Oracle teacher of word pictures: reads the picture *and* the word."""

    def encode_text(self, text: str) -> list[int]:
        """Label ids of a text, from which all is dropped that the labels do not write.

        Args:
            text: a word as it stands in a manifest.
        """
        return super().encode_text(recognised_form(text, self.head_vocabulary))

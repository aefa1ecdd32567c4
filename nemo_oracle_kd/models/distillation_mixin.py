# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The mixin that turns a NeMo model class into a student with a `distillation` section in its config.

It is for scripts and notebooks. In an existing recipe the callback does the same without another class. Such a model is
saved as a stock NeMo model: the config in the `.nemo` names NeMo's class and has no `distillation` section.
"""

import copy
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from nemo.core.classes.common import PretrainedModelInfo
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_oracle_kd.callbacks.knowledge_distillation import KnowledgeDistillation
from nemo_oracle_kd.errors import ConfigError

__all__ = ['DistillationMixin']


class DistillationMixin:
    """Gives a NeMo model the `distillation` section: `teacher`, `objectives`, `label_loss`, `supervised_share`.

    The section holds the arguments of the callback :class:`KnowledgeDistillation`, which is added when a fit begins. In a
    class definition the mixin comes before a stock NeMo class, whose name the saved model will have.

    Raises:
        ConfigError: if the section has unknown keys or contradictions.
    """

    def __init__(self, cfg: DictConfig, trainer: Trainer | None = None):
        section = cfg.get('distillation', None)
        # The section is checked first, because building the data loaders can take minutes.
        callback = self._callback(section) if section is not None else None
        super().__init__(cfg=cfg, trainer=trainer)
        self._distillation: KnowledgeDistillation | None = callback

    @staticmethod
    def _callback(section: Mapping) -> KnowledgeDistillation:
        section = OmegaConf.to_container(section, resolve=True) if OmegaConf.is_config(section) else section
        return KnowledgeDistillation(**section)

    def set_distillation(self, section: Mapping) -> None:
        """Sets or replaces the distillation, for example after `restore_from` of a stock model that is to be fine-tuned.

        Args:
            section: `teacher`, `objectives`, `label_loss`, `supervised_share`, as in the config.

        Raises:
            ConfigError: if the section has unknown keys or contradictions.
        """
        self._distillation = self._callback(section)

    def configure_callbacks(self) -> list[Callback]:
        """Adds the distillation to the trainer of a fit. Lightning calls this hook.

        Raises:
            ConfigError: if `trainer.callbacks` names a distillation too.
        """
        callbacks = list(super().configure_callbacks())
        if self._distillation is None:
            return callbacks
        others = [other for other in self.trainer.callbacks if isinstance(other, KnowledgeDistillation)]
        if any(other is not self._distillation for other in others):
            raise ConfigError(
                "both `trainer.callbacks` and `model.distillation` configure a distillation: keep one of them"
            )
        return callbacks + [self._distillation]

    def to_config_file(self, path2yaml_file: str) -> None:
        """Writes the config of the stock model, which is what the `.nemo` holds."""
        super().to_config_file(path2yaml_file)
        config = OmegaConf.load(path2yaml_file)
        config.pop('distillation', None)
        stock = self.stock_class()
        config.target = f'{stock.__module__}.{stock.__qualname__}'
        OmegaConf.save(config, path2yaml_file)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves the `distillation` section, with the teacher's path, out of a Lightning checkpoint."""
        super().on_save_checkpoint(checkpoint)
        # Copied, because Lightning passes the hyper-parameters of the model itself.
        hyper_parameters = copy.deepcopy(checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY])
        with open_dict(hyper_parameters.cfg):
            hyper_parameters.cfg.pop('distillation', None)
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = hyper_parameters

    @classmethod
    def stock_class(cls) -> Any:
        """The NeMo class that this class extends."""
        return next(base for base in cls.__mro__ if base.__module__.startswith('nemo.'))

    @classmethod
    def list_available_models(cls) -> list[PretrainedModelInfo]:
        """An empty list. With NeMo's list `ASRModel.from_pretrained` would build this class for NeMo's models."""
        return []

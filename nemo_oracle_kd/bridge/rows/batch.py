# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Finds the manifest rows of the current training batch, for every kind of loader.

NeMo's loaders drop the manifest keys that they do not know. But they can tell which utterances a batch holds: the native ones
by `return_sample_id`, Lhotse's by `return_cuts`, as a fifth item that NeMo's training steps cannot unpack. Both options are
switched on at run time, and the fifth item is removed just before the batch goes to its device.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nemo_oracle_kd.bridge.rows.lines import Visitor
from nemo_oracle_kd.bridge.rows.sources import Row, find_row_source
from nemo_oracle_kd.errors import ConfigError

__all__ = ['UtteranceRows']

_HOOK = 'on_before_batch_transfer'


class UtteranceRows:
    """Rows of a training manifest by utterance.

    Created by :meth:`find` or :meth:`attach`. An utterance is identified by the number of its line, or by audio file, offset,
    duration and text, but never by the order of the batches.
    """

    def __init__(self, model: Any, source: Any, loader: Any):
        self._model = model
        self._source = source
        self._loader = loader
        self._rows: list[Row] = []
        self._attached = False

    @classmethod
    def find(cls, model: Any) -> 'UtteranceRows':
        """Finds the training loader and its rows. The next calls are :meth:`read` and :meth:`begin`.

        This must be called before the first batch of the loader, in `Callback.setup('fit')`. Data that NeMo would set up just
        after that (`defer_setup`) are set up now.

        Args:
            model: a NeMo ASR model with its training data set up.

        Raises:
            ConfigError: if there are no training data, or if their rows cannot be traced.
        """
        loader = _training_loader(model)
        return cls(model, find_row_source(loader, model), loader)

    @classmethod
    def attach(cls, model: Any) -> 'UtteranceRows':
        """Calls :meth:`find`, :meth:`read` and :meth:`begin`.

        Raises:
            ConfigError: if there are no training data, their rows cannot be traced, or a manifest cannot be read.
        """
        rows = cls.find(model)
        problems = rows.read()
        ConfigError.raise_if_any([*problems, *rows.unmatched])
        rows.begin()
        return rows

    def read(self, visitors: Sequence[Visitor] = (), mark: str | None = None) -> list[str]:
        """Reads the manifests once, and finds the row of each utterance.

        Args:
            visitors: called with every line that the loader uses.
            mark: a key; :attr:`marked` tells in which rows it is true.

        Returns:
            Messages about what could not be read; empty if there were no problems.
        """
        return self._source.read(visitors, mark)

    @property
    def unmatched(self) -> list[str]:
        """Messages about utterances whose row :meth:`read` did not find."""
        return list(self._source.unmatched)

    @property
    def marked(self) -> np.ndarray:
        """For each utterance of the native data sets, whether the `mark` of :meth:`read` is true in its row."""
        return self._source.marked

    def begin(self) -> None:
        """Makes the loader tell which utterances it yields."""
        self._switch(True)
        model = self._model
        inherited = getattr(model, _HOOK)
        self._previous_hook = vars(model).get(_HOOK)

        def take_rows(batch: Any, dataloader_idx: int) -> Any:
            return inherited(self.take(batch), dataloader_idx)

        self._hook = take_rows
        setattr(model, _HOOK, take_rows)

    def detach(self) -> None:
        """Restores the model and its loader."""
        if not self._attached:
            return
        self._switch(False)
        if vars(self._model).get(_HOOK) is self._hook:
            if self._previous_hook is None:
                delattr(self._model, _HOOK)
            else:
                setattr(self._model, _HOOK, self._previous_hook)

    @property
    def nbytes(self) -> int:
        """Size of the index that finds the rows of NeMo's native data sets, in bytes."""
        return self._source.nbytes

    def __deepcopy__(self, memo: Any) -> 'UtteranceRows':
        return self  # bound to one model and its loader

    def __len__(self) -> int:
        """Number of utterances that are known in advance: all of NeMo's native data sets, 0 with Lhotse."""
        return len(self._source)

    def __iter__(self) -> Iterator[Row]:
        """The rows of the native data set in the order of its indices."""
        return (self._source.row(index) for index in range(len(self._source)))

    def of_batch(self) -> list[Row]:
        """The manifest rows of the last training batch, in its order and with all their keys.

        `audio_filepath` and `text` are as NeMo resolved them.

        Raises:
            RuntimeError: if no training batch has reached the model yet.
        """
        if not self._rows:
            raise RuntimeError(
                "no training batch has reached the model since its rows were attached: ask for rows in a training step only"
            )
        return self._rows

    def take(self, batch: Any) -> Any:
        """Keeps the rows of a training batch, and returns the four items that NeMo's training step unpacks.

        Raises:
            RuntimeError: if the batch comes from a loader other than the attached one.
            ValueError: if one of its entries is not exactly one utterance.
        """
        trainer = getattr(self._model, '_trainer', None)
        if not self._attached or (trainer is not None and not trainer.training):
            return batch
        if not isinstance(batch, (tuple, list)) or len(batch) != 5:
            raise RuntimeError(
                "the training batch does not tell which utterances it holds, so it comes from a loader other than the one that was "
                "set up: give the data by model.train_ds and leave it unchanged during the fit"
            )
        *items, utterances = batch
        self._rows = self._source.rows(utterances)
        if len(self._rows) != len(items[0]):
            raise RuntimeError(f"the loader named {len(self._rows)} utterances for a batch of {len(items[0])}")
        return type(batch)(items)

    def _switch(self, on: bool) -> None:
        self._source.switch(on)
        self._attached = on
        self._rows = []
        # persistent workers hold a copy of the data set with the former setting
        for loader in {id(loader): loader for loader in (self._loader, self._model._train_dl)}.values():
            if getattr(loader, 'persistent_workers', False):
                loader._iterator = None


def _training_loader(model: Any) -> Any:
    trainer = getattr(model, '_trainer', None)
    given = trainer.fit_loop._data_source.instance if trainer is not None else None
    if hasattr(given, 'dataset'):  # trainer.fit(model, loader)
        return given
    if getattr(model, '_train_dl', None) is None:
        config = model.cfg.get('train_ds') or {}
        if not config.get('defer_setup', False):
            raise ConfigError("the model has no training data: set `model.train_ds`")
        model.setup_training_data(config)  # NeMo would do this next, and now finds it done
    return model._train_dl

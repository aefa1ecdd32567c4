# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Describes how a training loader forms its batches, and replaces them by the batches of a sampler."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, Sampler

from nemo_oracle_kd.errors import ConfigError

__all__ = ['LoaderBatches', 'give_back', 'loader_batches', 'replace_batches']


@dataclass(frozen=True)
class LoaderBatches:
    """How a training loader forms its batches.

    Attributes:
        size: rows per batch and process.
        shuffle: whether the rows are shuffled.
        drop_last: whether rows that do not fill a batch are left out.
        rank: rank of this process.
        processes: number of processes that share the data.
        position: returns the epoch and the number of its batches that a resumed training has done; called when the batches
            of an epoch begin. `None` if unknown.
        counts_epochs: whether the training ends after a number of epochs rather than steps.
    """

    size: int
    shuffle: bool = True
    drop_last: bool = False
    rank: int = 0
    processes: int = 1
    position: Callable[[], tuple[int, int]] | None = None
    counts_epochs: bool = False


def loader_batches(model: Any, option: str) -> LoaderBatches:
    """Describes how the training loader of a model forms its batches.

    Args:
        model: a NeMo ASR model with its training data set up.
        option: the setting that needs other batches, for messages.

    Raises:
        ConfigError: if the data set is not a native map-style one, so that its batches cannot be replaced.
    """
    loader, trainer = model._train_dl, model._trainer
    _check_loader(model, loader, option)
    return LoaderBatches(
        size=loader.batch_size,
        shuffle=isinstance(loader.sampler, RandomSampler),
        drop_last=loader.drop_last,
        rank=model.global_rank,
        processes=model.world_size,
        position=None if trainer is None else lambda: _position(trainer.fit_loop),
        counts_epochs=trainer is not None and (trainer.max_steps or -1) < 0,
    )


def replace_batches(model: Any, sampler: Sampler) -> DataLoader:
    """Makes the training loader of a model use the batches of a sampler, and returns the loader that was replaced."""
    loader = model._train_dl
    model._train_dl = DataLoader(
        loader.dataset,
        batch_size=None,
        sampler=sampler,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
    return loader


def give_back(model: Any, loader: DataLoader) -> None:
    """Undoes :func:`replace_batches`."""
    model._train_dl = loader


def _position(fit_loop: Any) -> tuple[int, int]:
    """The epoch and the number of its batches that a checkpoint has done, as Lightning counts them.

    A checkpoint that a callback writes at the end of a batch does not count that batch, and Lightning trains on it again.
    """
    done = fit_loop.epoch_loop.batch_progress.current.completed if fit_loop.epoch_loop.restarting else 0
    return fit_loop.epoch_progress.current.processed, done


def _check_loader(model: Any, loader: Any, option: str) -> None:
    from nemo.collections.asr.data.audio_to_text import _AudioTextDataset

    problem = None
    config = model.cfg.train_ds
    if config.get('use_lhotse', False):
        problem = "Lhotse mixes its sources itself: give labelled and scored data a `weight` each in model.train_ds.input_cfg"
    elif isinstance(getattr(loader, 'dataset', None), IterableDataset) and config.get('is_concat', False):
        problem = (
            "a concatenated data set mixes its manifests itself: set model.train_ds.concat_sampling_technique=random and "
            "concat_sampling_probabilities, or list the manifests without is_concat"
        )
    elif isinstance(getattr(loader, 'dataset', None), IterableDataset):
        problem = (
            "tarred data come in the order of the archives: read them with model.train_ds.use_lhotse=true and a `weight` for "
            "each source in input_cfg"
        )
    elif not isinstance(loader, DataLoader) or not isinstance(loader.dataset, _AudioTextDataset):
        problem = "it needs NeMo's native loader with model.train_ds.manifest_filepath"
    elif loader.batch_size is None or isinstance(loader.sampler, DistributedSampler):
        problem = "semi-sorted batching makes the batches itself: set model.train_ds.use_semi_sorted_batching=false"
    elif getattr(model._trainer, 'overfit_batches', 0):
        problem = "Lightning would replace the sampler because of trainer.overfit_batches: set it to 0"
    if problem is not None:
        raise ConfigError(f"{option} cannot be applied, because {problem}; or set {option} to null")

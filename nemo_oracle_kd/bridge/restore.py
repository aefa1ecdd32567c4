# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Restores a second model next to the one in training, without any effect on the first.

NeMo keeps process-wide state about "the model being restored" (`AppState`). A nested restore overwrites it, sets up the
other model's data loaders, draws from the global random generator and prints its training config. None of that may happen
to a student because it has a teacher.
"""

import contextlib
import copy
import difflib
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from nemo_oracle_kd.bridge.archive import restore_archive
from nemo_oracle_kd.bridge.checkpoint import restore_checkpoint

__all__ = ['check_source', 'model_file', 'neutral_state', 'quiet_nemo', 'restore_frozen']


#: NeMo's state about "the model being restored"; the entries of models that have been restored are kept
_RESTORING = (
    '_is_model_being_restored',
    '_nemo_file_folder',
    '_model_restore_path',
    '_all_model_restore_paths',
    '_restore',
)


@contextlib.contextmanager
def _app_state_kept() -> Iterator[None]:
    """Resets NeMo's state about a restore in progress, and after a failed restore all state that it has changed."""
    from nemo.utils.app_state import AppState

    state = vars(AppState())
    kept = {name: copy.copy(value) if isinstance(value, (list, dict)) else value for name, value in state.items()}
    try:
        yield
    except BaseException:
        state.clear()
        state.update(kept)
        raise
    state.update({name: kept[name] for name in _RESTORING if name in kept})


@contextlib.contextmanager
def quiet_nemo(level: int = 40) -> Iterator[None]:
    """Suppresses messages of NeMo's logger below `level` (40: errors)."""
    from nemo.utils import logging

    before = logging.getEffectiveLevel()
    logging.setLevel(level)
    try:
        yield
    finally:
        logging.setLevel(before)


@contextlib.contextmanager
def neutral_state() -> Iterator[None]:
    """Leaves what is process-wide as it was: NeMo's state, and the random stream, from which a new network draws its weights.

    The random stream of a student must not depend on its teacher.
    """
    with _app_state_kept(), quiet_nemo(), torch.random.fork_rng():
        yield


def check_source(source: str) -> None:
    """Refuses a source that is neither a `.nemo` file nor a Lightning checkpoint nor, as far as can be told offline, the name of a pretrained model.

    Raises:
        FileNotFoundError: if there is no such file, and NeMo lists no pretrained model of this name. `owner/name` may be a
            model of the Hugging Face hub, which only the download can tell.
        ValueError: if the file is neither a `.nemo` archive nor a checkpoint.
    """
    path = Path(source).expanduser()
    looks_like_path = (
        source.endswith(('.nemo', '.ckpt')) or source.startswith(('/', '.', '~')) or source.count('/') > 1
    )
    if path.is_dir():
        raise ValueError(f"{source!r} is a folder: give the path of a .nemo file in it")
    if not path.is_file():
        if looks_like_path:
            raise FileNotFoundError(f"there is no model at {_place(source)}: {_FIX}")
        if '/' not in source:
            _check_pretrained_name(source)
    elif path.stat().st_size == 0:
        raise ValueError(f"{source!r} is empty: copy or download the file again")
    elif path.suffix == CHECKPOINT:
        if not zipfile.is_zipfile(path):
            raise ValueError(
                f"{source!r} cannot be read as a Lightning checkpoint: give the file that the training wrote"
            )
    elif not tarfile.is_tarfile(path):
        raise ValueError(f"{source!r} cannot be read as a .nemo file: give a file saved by model.save_to()")


#: end of the name of a Lightning checkpoint
CHECKPOINT = '.ckpt'
_FIX = "give the path of a .nemo file or the name of a pretrained model"


def _place(source: str) -> str:
    return f"{source!r} (working directory {Path.cwd()})"


def _check_pretrained_name(name: str) -> None:
    from nemo.collections.asr.models import ASRModel

    models = ASRModel.list_available_models() or []
    names = {name for model in models for name in (model.pretrained_model_name, *(model.aliases or ()))}
    if name in names:
        return
    close = difflib.get_close_matches(name, sorted(names), n=3)
    hint = f" (the nearest names: {', '.join(close)})" if close else ''
    raise FileNotFoundError(
        f"there is no model at {_place(name)}, and NeMo lists no pretrained model of this name{hint}: {_FIX}"
    )


def model_file(source: str) -> str:
    """Path of a model's `.nemo` file. A pretrained model is taken from the cache or downloaded.

    Args:
        source: path of a `.nemo` file, or name of a pretrained model in NVIDIA's catalogue or on the Hugging Face hub.

    Raises:
        FileNotFoundError: if there is no such file or pretrained model, or if it cannot be downloaded.
        ValueError: if the file is not a `.nemo` archive.
    """
    from nemo.collections.asr.models import ASRModel

    check_source(source)
    path = Path(source).expanduser()
    if path.suffix == CHECKPOINT:
        raise ValueError(
            f"{source!r} is a Lightning checkpoint: give the .nemo file here, which also holds the tokenizer (model.save_to)"
        )
    if path.is_file():
        return str(path)
    try:
        return str(ASRModel.from_pretrained(source, return_model_file=True))
    except Exception as error:  # every way of downloading raises errors of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip('.')
        what = f"there is no model at {_place(source)}, and the" if '/' in source else 'the'
        raise FileNotFoundError(
            f"{what} pretrained model {source!r} could not be fetched ({reason}): check the name and the network, or give "
            "the path of a .nemo file"
        ) from error


def restore_frozen(source: str, device: torch.device | str = 'cpu') -> Any:
    """Restores an ASR model for inference only: eval mode, no gradients, no data loaders.

    Args:
        source: path of a `.nemo` file or of a Lightning checkpoint (`.ckpt`), or name of a pretrained model.
        device: device of the weights.

    Returns:
        The model, of the class as which it was saved.

    Raises:
        FileNotFoundError: if there is no such file or pretrained model.
        ValueError: if the file is neither a `.nemo` archive nor a checkpoint, is damaged, names code that NeMo does not admit, or holds a model
            of another kind. NeMo's process-wide state is then as before.
    """
    path = Path(source).expanduser()
    if path.suffix == CHECKPOINT:
        check_source(source)
    else:
        path = Path(model_file(source))
    with neutral_state():
        restore = restore_checkpoint if path.suffix == CHECKPOINT else restore_archive
        model = restore(str(path), source, device)
    model.eval()
    model.requires_grad_(False)
    return model

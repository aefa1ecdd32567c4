# Copyright (c) 2026, the nemo_oracle_kd authors.  All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Restoring a second model next to the one in training, without a trace in the first.

NeMo keeps process-wide state about "the model being restored" (`AppState`); a nested restore overwrites it, sets up the
other model's data loaders, draws from the global random generator and prints its training config. None of that may happen
to a student because it has a teacher.
"""

import contextlib
import tarfile
from pathlib import Path
from typing import Any, Iterator

import torch
from omegaconf import open_dict

__all__ = ['check_source', 'restore_frozen', 'quiet_nemo']

_APP_STATE = (
    '_is_model_being_restored',
    '_nemo_file_folder',
    '_model_restore_path',
    '_all_model_restore_paths',
    '_restore',
)


@contextlib.contextmanager
def _app_state_kept() -> Iterator[None]:
    from nemo.utils.app_state import AppState

    state = AppState()
    kept = {name: getattr(state, name) for name in _APP_STATE if hasattr(state, name)}
    kept = {name: list(value) if isinstance(value, list) else value for name, value in kept.items()}
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(state, name, value)


@contextlib.contextmanager
def quiet_nemo(level: int = 40) -> Iterator[None]:
    """Lets only messages of at least `level` (40: errors) of NeMo's logger through."""
    from nemo.utils import logging

    before = logging.getEffectiveLevel()
    logging.setLevel(level)
    try:
        yield
    finally:
        logging.setLevel(before)


def check_source(source: str) -> None:
    """Refuses a path that does not exist; a name without a path is left to NeMo's pretrained models.

    Raises:
        FileNotFoundError: `source` looks like a path and is no file.
        ValueError: the file is no `.nemo` archive.
    """
    looks_like_path = source.endswith(('.nemo', '.ckpt')) or source.startswith(('/', '.', '~'))
    path = Path(source).expanduser()
    if looks_like_path and not path.is_file():
        raise FileNotFoundError(
            f"there is no model at {source!r} (working directory {Path.cwd()}): give the path of a .nemo file or the name of "
            "a pretrained model"
        )
    if looks_like_path and path.suffix == '.ckpt':
        raise ValueError(
            f"{source!r} is a Lightning checkpoint: give the .nemo file, which also holds the config and the tokenizer"
        )
    if looks_like_path and not tarfile.is_tarfile(path):
        raise ValueError(f"{source!r} cannot be read as a .nemo file: give a file saved by model.save_to()")


def restore_frozen(source: str, device: torch.device | str = 'cpu') -> Any:
    """Restores an ASR model for inference only: eval mode, no gradients, no data loaders.

    Args:
        source: path of a `.nemo` file or name of a pretrained model.
        device: where the weights go.

    Returns:
        The model, of the class it was saved as.

    Raises:
        FileNotFoundError: no such file.
    """
    from nemo.collections.asr.models import ASRModel

    check_source(source)
    path = Path(source).expanduser()
    # fork_rng: building a network draws initial weights; the student's random stream must not depend on its teacher
    with _app_state_kept(), quiet_nemo(), torch.random.fork_rng():
        if path.is_file():
            config = ASRModel.restore_from(str(path), return_config=True)
            with open_dict(config):
                for name in ('train_ds', 'validation_ds', 'test_ds'):
                    config.pop(name, None)
            model = ASRModel.restore_from(str(path), override_config_path=config, map_location=device)
        else:
            model = ASRModel.from_pretrained(source, map_location=device)
    model.eval()
    model.requires_grad_(False)
    return model

# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The option ``--device`` of several commands, checked before anything slow starts."""

import argparse

EXAMPLES = 'cpu, cuda or cuda:1'


def add_device_argument(parser: argparse._ActionsContainer, default: str = 'cpu') -> None:
    """Adds ``--device``; a ``default`` of ``auto`` stands for a GPU if there is one."""
    what = 'a GPU if there is one' if default == 'auto' else default
    parser.add_argument('--device', default=default, metavar='D', help=f'{EXAMPLES} (default: {what})')


def check_device(name: str) -> None:
    """Refuses a device that PyTorch does not know or does not find on this machine.

    Raises:
        ValueError: the device cannot be used.
    """
    if name in ('auto', 'cpu'):
        return
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device {name} is not a device that PyTorch knows: give {EXAMPLES}") from None
    if device.type == 'cuda' and not torch.cuda.is_available():
        built = 'is built without CUDA' if torch.version.cuda is None else 'finds no GPU and driver on this machine'
        raise ValueError(f"--device {name} cannot be used: PyTorch {torch.__version__} {built}; give --device cpu")
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        last = f'cuda:{torch.cuda.device_count() - 1}'
        raise ValueError(f"--device {name} does not exist: the GPUs of this machine are cuda:0 to {last}")
    try:
        torch.zeros(1, device=device).item()
    except Exception as error:  # each backend raises its own
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"--device {name} cannot be used ({reason}): give {EXAMPLES}") from error

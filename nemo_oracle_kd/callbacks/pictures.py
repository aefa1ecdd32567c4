# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Sends figures to the loggers of a trainer that accept pictures: TensorBoard and W&B."""

from typing import Any

__all__ = ['log_picture', 'takes_pictures']


def takes_pictures(logger: Any) -> bool:
    """Whether a logger accepts pictures."""
    return hasattr(logger, 'log_image') or hasattr(getattr(logger, 'experiment', None), 'add_figure')


def log_picture(logger: Any, name: str, figure: Any, step: int) -> None:
    """Logs a matplotlib figure; a logger that accepts none is left alone."""
    if hasattr(logger, 'log_image'):  # W&B
        logger.log_image(key=name, images=[figure], step=step)
    elif hasattr(getattr(logger, 'experiment', None), 'add_figure'):  # TensorBoard
        logger.experiment.add_figure(name, figure, global_step=step, close=False)

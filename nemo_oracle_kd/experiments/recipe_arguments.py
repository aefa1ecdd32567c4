# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Shared parts of the recipes' command lines: arguments, the table of results, and a user's mistakes in one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nemo_oracle_kd.experiments.comparison import print_table
from nemo_oracle_kd.experiments.runner import JobsFailed, JobsInterrupted
from nemo_oracle_kd.folder_lock import FolderBusy

__all__ = [
    'add_budget_argument',
    'add_data_arguments',
    'add_run_arguments',
    'add_update_arguments',
    'budgets_of',
    'one_sentence',
    'positive',
    'run_recipe',
]


def positive(text: str) -> int:
    """Parses an argument that is a count of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small: give at least 1")
    return value


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--data`, `--test` and `--out`."""
    parser.add_argument('--data', type=Path, required=True, help='folder with train.jsonl and dev.jsonl')
    parser.add_argument('--test', type=Path, required=True, help='manifest to score on')
    parser.add_argument('--out', type=Path, required=True, help='output folder')


def add_run_arguments(parser: argparse.ArgumentParser, whose: str = '') -> None:
    """Adds `--seeds` and `--parallel`.

    Args:
        parser: parser of the recipe.
        whose: end of the help text, such as ' of the students'.
    """
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0], action=_Distinct, help=f'random seeds{whose} (default: 0)'
    )
    parser.add_argument(
        '--parallel', type=positive, default=2, help='number of jobs at a time, one thread each (default: 2)'
    )


def add_update_arguments(parser: argparse.ArgumentParser, updates: int, warm_updates: int) -> None:
    """Adds `--updates` and `--warm-updates` with these defaults, for students that continue from a common model."""
    for name, default, of in (
        ('--updates', updates, 'a student'),
        ('--warm-updates', warm_updates, 'the model that the students of a seed start from'),
    ):
        parser.add_argument(name, type=positive, default=default, help=f'optimizer steps of {of} (default: {default})')


def add_budget_argument(parser: argparse.ArgumentParser, default: Sequence[float]) -> None:
    """Adds `--budgets`, processor seconds of training, with a default."""
    parser.add_argument(
        '--budgets',
        nargs='+',
        type=float,
        default=list(default),
        metavar='SECONDS',
        help=f'processor seconds of the teachers (default: {" ".join(f"{one:g}" for one in default)})',
    )


def budgets_of(args: argparse.Namespace) -> list[float]:
    """The budgets in increasing order, each once.

    Raises:
        ValueError: fewer than two, or one that is not above 0.
    """
    budgets = sorted(set(args.budgets))
    if len(budgets) < 2 or not budgets[0] > 0:
        raise ValueError(f"--budgets is {' '.join(map(str, args.budgets))}: give at least two numbers above 0")
    return budgets


class _Distinct(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        if len(set(values)) < len(values):
            parser.error(f"{option_string} holds a seed twice: give every seed once, for one training of every system")
        setattr(namespace, self.dest, values)


@contextmanager
def one_sentence(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Reports an error that a user can correct in one sentence, and exits with a status.

    Such errors are bad arguments or data (status 2), failed or interrupted jobs, and a folder in use by another run (status 1).
    """
    try:
        yield
    except (JobsFailed, JobsInterrupted, FolderBusy) as error:  # their messages include the fix
        raise SystemExit(str(error)) from None
    except (ValueError, OSError) as error:
        parser.exit(2, f'{parser.prog}: error: {error}\n')


def run_recipe(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], dict]
) -> tuple[argparse.Namespace, dict]:
    """Reads the command line, runs the recipe and prints the table of its results.

    Args:
        parser: parser of the recipe.
        run: function that runs the recipe and returns the content of `results.json`.

    Returns:
        The arguments, and the content of `results.json`.
    """
    args = parser.parse_args()
    with one_sentence(parser):
        results = run(args)
    print_table(results)
    return args, results

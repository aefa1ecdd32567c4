# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Entry point of the ``nemo-oracle-kd`` command: finds the subcommand, parses, runs, and turns errors into one sentence.

Every module of this folder is a subcommand, except this one and those whose names begin with an underscore. (The module of
``import``, a word of Python's, ends in one.) It has ``HELP`` (one line), ``add_arguments(parser)`` and ``run(args) -> int``,
inside which it imports what is slow to import. Only the module of the requested command is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

import nemo_oracle_kd
from nemo_oracle_kd.errors import unknown_name
from nemo_oracle_kd.processes import termination_ends_work

PROG = 'nemo-oracle-kd'
USAGE_ERROR = 2
INTERRUPTED = 130

DESCRIPTION = "Knowledge distillation for NeMo speech recognition, with teachers that also read the transcript."
EPILOG = """\
'nemo-oracle-kd COMMAND --help' explains a command.  Training itself runs through NeMo's own recipes:

  python speech_to_text_ctc.py ... +oracle_kd=NAME oracle_kd.teacher.restore_from=teacher.nemo
"""


def command_modules() -> dict[str, str]:
    """Returns command name -> module name, sorted by name."""
    package = importlib.import_module('nemo_oracle_kd.cli')
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return {
        name.rstrip('_').replace('_', '-'): f'nemo_oracle_kd.cli.{name}'
        for name in names
        if name != 'main' and not name.startswith('_')
    }


def make_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Makes the parser with the one subcommand ``command``, or with all of them if it is None."""
    parser = argparse.ArgumentParser(
        prog=PROG, description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--version', action='version', version=f'{PROG} {nemo_oracle_kd.__version__}')
    _add_debug(parser, default=False)
    subparsers = parser.add_subparsers(dest='command', metavar='COMMAND', title='commands')
    for name, module_name in command_modules().items():
        if command in (None, name):
            _add_command(subparsers, name, importlib.import_module(module_name))
    return parser


def _add_debug(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument('--debug', action='store_true', default=default, help="show the traceback of an error")


def _add_command(subparsers: argparse._SubParsersAction, name: str, module: ModuleType) -> None:
    subparser = subparsers.add_parser(
        name, help=module.HELP, description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(subparser)
    # SUPPRESS: 'nemo-oracle-kd --debug COMMAND' must not be undone by the subparser's default.
    _add_debug(subparser, default=argparse.SUPPRESS)
    subparser.set_defaults(run=module.run)


def one_sentence(error: BaseException) -> str:
    """Returns what a user needs to read of ``error``."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return str(error) or type(error).__name__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line ``argv`` (default: that of the process) and returns the exit code.

    Mistakes of the user (ValueError, with it ConfigError, and files that cannot be read or written) end with exit
    code 2 and one sentence on the error stream; with ``--debug`` the traceback comes first.  Other errors are mistakes
    of this package and keep their traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = command_modules()
    requested = next((argument for argument in arguments if not argument.startswith('-')), None)
    if requested is not None and requested not in commands:
        print(f"{PROG}: error: {unknown_name('command', requested, commands)}", file=sys.stderr)
        return USAGE_ERROR
    parser = make_parser(requested)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        with termination_ends_work():
            return int(args.run(args) or 0)
    except BrokenPipeError:
        # The reader of our output (head, less) has left; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        if args.debug:
            traceback.print_exc()
        print(f"{PROG} {args.command}: error: {one_sentence(error)}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"\n{PROG} {args.command}: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == '__main__':
    sys.exit(main())

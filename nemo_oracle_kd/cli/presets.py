# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""``nemo-oracle-kd presets``: lists, shows and copies the presets behind ``+oracle_kd=<name>``."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_oracle_kd.bridge.register.presets import CALLBACK_TARGET
from nemo_oracle_kd.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = "list, show or copy the presets for '+oracle_kd=NAME'"
EPILOG = """\
examples:
  nemo-oracle-kd presets                               list all presets
  nemo-oracle-kd presets show NAME                     print one, as '+oracle_kd=NAME' puts it under 'oracle_kd'
  nemo-oracle-kd presets show NAME NAME                print several merged, as '+oracle_kd=[NAME,NAME]' does
  nemo-oracle-kd presets show NAME --as-callback       print it as an entry of your own trainer.callbacks list
  nemo-oracle-kd presets cp NAME my_conf/oracle_kd/    copy one to change it; use it with --config-dir my_conf
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the actions ``show`` and ``cp``; without an action the presets are listed."""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest='action', metavar='ACTION', title='actions (default: list)')
    actions.add_parser('list', help="list all presets, one line each")
    show = actions.add_parser('show', help="print a preset, or several merged into one")
    show.add_argument('name', metavar='NAME', nargs='+')
    show.add_argument('--as-callback', action='store_true', help="print it as an entry of trainer.callbacks")
    copy = actions.add_parser('cp', help="copy a preset in order to change it")
    copy.add_argument('name', metavar='NAME')
    copy.add_argument('destination', metavar='DEST', type=str, help="file, or folder (existing or ending in '/')")
    copy.add_argument('--overwrite', '--force', action='store_true', help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    """Runs the chosen action.

    Raises:
        ConfigError: if there is no preset of that name, or the destination exists and ``--overwrite`` was not given.
    """
    if args.action == 'show':
        text = preset_text(args.name[0]) if len(args.name) == 1 else merged_text(args.name)
        print(as_callback(text) if args.as_callback else text, end='')
    elif args.action == 'cp':
        print(copy_preset(args.name, args.destination, args.overwrite))
    else:
        presets = preset_files()
        width = max(map(len, presets), default=0)
        for name in presets:
            print(f"{name:<{width}}  {summary(preset_text(name))}")
    return 0


def preset_files() -> dict[str, object]:
    """Returns preset name -> file (a ``Traversable``), sorted by name."""
    folder = resources.files('nemo_oracle_kd.conf') / 'oracle_kd'
    if not folder.is_dir():
        return {}
    files = [file for file in folder.iterdir() if file.name.endswith('.yaml')]
    return {file.name[: -len('.yaml')]: file for file in sorted(files, key=lambda file: file.name)}


def preset_text(name: str) -> str:
    """Returns the YAML text of a preset.

    Raises:
        ConfigError: if there is no preset of that name.
    """
    presets = preset_files()
    name = name.removesuffix('.yaml')
    if name not in presets:
        raise ConfigError(unknown_name('preset', name, presets))
    return presets[name].read_text(encoding='utf-8')


def merged_presets(names: Iterable[str]) -> DictConfig:
    """Merges presets as ``+oracle_kd=[NAME,NAME]`` does: where two of them set a value, the last one wins.

    Raises:
        ConfigError: if there is no preset of one of the names.
    """
    from omegaconf import OmegaConf

    return OmegaConf.merge(*(OmegaConf.create(preset_text(name)) for name in names))


def merged_text(names: Sequence[str]) -> str:
    """Returns the YAML text of merged presets.

    Raises:
        ConfigError: if there is no preset of one of the names.
    """
    from omegaconf import OmegaConf

    return f"# {' + '.join(names)}\n{OmegaConf.to_yaml(merged_presets(names))}"


def summary(text: str) -> str:
    """Returns the first comment line of a preset that is not a Hydra directive."""
    for line in text.splitlines():
        comment = line[1:].strip() if line.startswith('#') else ''
        if comment and not comment.startswith('@'):
            return comment
    return ''


def as_callback(text: str) -> str:
    """Returns the preset as an entry of ``trainer.callbacks``, with its comments."""
    body = textwrap.indent(text.rstrip() + '\n', ' ' * 6)
    return f"trainer:\n  callbacks:\n    - _target_: {CALLBACK_TARGET}\n{body}"


def copy_preset(name: str, destination: str, overwrite: bool = False) -> Path:
    """Copies a preset and returns the path of the copy; folders that are missing are made.

    Raises:
        ConfigError: if there is no preset of that name, the file exists and ``overwrite`` is False, or it cannot be
            written.
    """
    from nemo_oracle_kd.corpus.outputs import check_outputs, write_text_atomically

    text = preset_text(name)
    name = name.removesuffix('.yaml')
    target = Path(destination)
    if destination.endswith('/') or target.is_dir():
        target = target / f'{name}.yaml'
    check_outputs({'the copy': target}, overwrite=overwrite)
    write_text_atomically(target, text)
    return target

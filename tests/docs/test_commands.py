# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What the documentation tells a reader to type can be typed: commands, overrides, YAML and Python."""

import argparse
import ast
import builtins
import dataclasses
import functools
import importlib
import inspect
import itertools
import re
import sys

import pytest
import yaml
from doc_commands import COMMENTED, NOT_RUN, PAGES, STARTERS, blocks, lines_of, typed
from load_script import ROOT, load_script
from recipes import composed_from

TYPED = [
    pytest.param(path, line, id=f'{path.name}-{number}')
    for path in [*PAGES, *COMMENTED]
    for number, line in enumerate(typed(path))
]
BLOCKS = [
    pytest.param(page, body, language, id=f'{page.name}-{language}-{number}')
    for page in PAGES
    for language in ('yaml', 'python')
    for number, body in enumerate(blocks(page, language))
]


FENCE = re.compile(r'^```(\w*)\n.*?^```', re.S | re.M)
LANGUAGES = {'', 'bash', 'yaml', 'python', 'json', 'text'}
OF_A_SHELL = ('cd ', 'git ', 'export ', 'source ', 'curl ', 'wget ', 'tar ', 'apt', 'docker ', 'mkdir ')


def _that_are(*starters):
    return [case for case in TYPED if case.values[1].text.startswith(starters)]


def _in_language(language):
    return [pytest.param(*case.values[:2], id=case.id) for case in BLOCKS if case.values[2] == language]


def _relax(parser):
    """Lets a command that is only named in a sentence leave out what it requires."""
    for group in parser._mutually_exclusive_groups:
        group.required = False
    for action in parser._actions:
        action.required = False
        for choice in (action.choices or {}).values() if isinstance(action, argparse._SubParsersAction) else ():
            _relax(choice)


@functools.cache
def _parser(complete):
    from nemo_oracle_kd.cli.main import make_parser

    parser = make_parser()
    if not complete:
        _relax(parser)
    return parser


@pytest.mark.parametrize('page, line', _that_are('nemo-oracle-kd'))
def test_every_command_parses(page, line, capsys):
    from nemo_oracle_kd.cli.check import _of_presets

    try:
        args = _parser(line.complete).parse_args(line.words[1:])
    except SystemExit:
        pytest.fail(f'{page.name}: {line.text}\n{capsys.readouterr().err}')
    if getattr(args, 'preset', None):
        _check_distillation(_of_presets(*args.preset))


#: lines that scripts have read: many pages show the same
READ = set()


class _Parsed(Exception):
    """Ends a script as soon as it has read its arguments."""


@pytest.mark.parametrize('page, line', _that_are('python examples/', 'python benchmarks/'))
def test_every_script_reads_its_arguments(page, line, monkeypatch, capsys):
    script, *arguments = line.words[1:]
    assert (ROOT / script).is_file(), f'{page.name} names {script}'
    if line in READ:
        return
    READ.add(line)
    source = (ROOT / script).read_text()
    if 'hydra_runner' in source:
        _compose_recipe(source, arguments, line.complete)
        return

    def parse_args(self, *args, **kwargs):
        original(self, *args, **kwargs)
        raise _Parsed

    original = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
    monkeypatch.setattr(sys, 'argv', [script, *arguments])
    try:
        with pytest.raises(_Parsed):
            load_script(script).main()
    except SystemExit:
        pytest.fail(f'{page.name}: {line.text}\n{capsys.readouterr().err}')


def _compose_recipe(source, arguments, complete):
    """The config of a Hydra recipe with the overrides of a command line, which must name keys that exist."""
    from omegaconf import OmegaConf

    family, name = re.search(r"config_path=config_folder\('(\w+)'\), config_name='(\w+)'", source).groups()
    overrides = [word for word in arguments if not word.startswith('--')]
    for option in (word for word in arguments if word.startswith('--')):
        option, _, value = option.partition('=')
        assert option == '--config-name', option
        name = value
    config = composed_from(str(ROOT / 'conf' / family), name, overrides)
    assert not complete or not OmegaConf.missing_keys(config), f'{OmegaConf.missing_keys(config)} must be set'


@pytest.mark.parametrize('page, line', [case for case in TYPED if case.values[1].overrides])
def test_every_preset_exists_and_every_override_changes_a_key_of_it(page, line):
    overrides = list(line.overrides)
    if not any(word.startswith('+oracle_kd=') for word in overrides):
        overrides.insert(0, f'+oracle_kd={_preset_meant(page, overrides)}')
    missing = _missing_after(tuple(overrides))
    assert not line.complete or not missing, f'{page.name}: {line.text}'


@functools.cache  # many pages show the same overrides
def _missing_after(overrides):
    """The keys that are still to be set after overrides, each of which must be accepted."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    choices, missing = [], set()
    for word in OverridesParser.create().parse_overrides(list(overrides)):
        key = word.input_line.partition('=')[0]
        values = word.sweep_string_iterator() if word.is_sweep_override() else [word.input_line.partition('=')[2]]
        choices.append([f'{key}={value}' for value in values])
    for chosen in itertools.product(*choices):
        node = composed_from(None, None, chosen).oracle_kd
        missing |= OmegaConf.missing_keys(node)
        _check_distillation(OmegaConf.to_container(node, resolve=True))
    return missing


def _preset_meant(page, overrides):
    """The preset of an override in running text: that of the objective it names, or else the page's."""
    named = re.search(r'oracle_kd\.objectives\.(\w+)', ' '.join(overrides))
    presets = [
        word.partition('=')[2] for other in typed(page) for word in other.overrides if word[:11] == '+oracle_kd='
    ]
    return named.group(1) if named and not overrides[0].startswith('+') else presets[0]


def _check_distillation(section, plug_ins=()):
    """Asserts that a training would accept a section; objectives and teachers of plug-ins are left out."""
    from nemo_oracle_kd.distillation.settings import DistillationConfig

    teacher = {key: value for key, value in (section.get('teacher') or {}).items() if key not in plug_ins}
    if 'cache' not in teacher and (teacher.get('restore_from') == '???' or not teacher):
        teacher['restore_from'] = 'teacher.nemo'
    objectives = {name: options for name, options in section['objectives'].items() if name not in plug_ins}
    others = {key: value for key, value in section.items() if key not in ('_target_', 'teacher', 'objectives')}
    DistillationConfig.from_mapping({**others, 'teacher': teacher, 'objectives': objectives or {'frame_kl': {}}})


def _sections(node):
    """Every distillation in a YAML document: a preset, an entry of `trainer.callbacks`, or objectives alone."""
    from nemo_oracle_kd.losses.objectives import OBJECTIVES

    if isinstance(node, list):
        return [section for item in node for section in _sections(item)]
    if not isinstance(node, dict):
        return []
    if 'objectives' in node:
        return [node]
    if node and set(node) <= set(OBJECTIVES):
        return [{'objectives': node}]
    return [section for value in node.values() for section in _sections(value)]


def _plug_ins(page):
    return re.findall(r"'?(\w+) = \w+:\w+", page.read_text(encoding='utf-8'))


@pytest.mark.parametrize('page, body', _in_language('yaml'))
def test_every_yaml_block_configures_something_that_exists(page, body):
    document = yaml.safe_load(body)
    sections, callbacks, losses = _sections(document), _callbacks(document), _losses(document)
    for section in sections:
        _check_distillation(section, _plug_ins(page))
    for path, arguments in callbacks:
        module, _, name = path.rpartition('.')
        inspect.signature(getattr(importlib.import_module(module), name)).bind(**arguments)
    for name, options in losses:
        from nemo.collections.asr.losses.rnnt import RNNTLoss

        RNNTLoss(num_classes=4, loss_name=name, loss_kwargs=options)
    if data := _lhotse(document):
        from nemo.collections.common.data.lhotse.dataloader import LhotseDataLoadingConfig

        assert set(data) <= {'use_lhotse', *(field.name for field in dataclasses.fields(LhotseDataLoadingConfig))}
    assert (
        sections or callbacks or losses or data
    ), f'{page.name} shows YAML that no test knows: check it or mark it\n{body}'


def _callbacks(document):
    """Our callbacks other than the distillation, with their arguments."""
    trainer = document.get('trainer') if isinstance(document, dict) else None
    entries = [dict(entry) for entry in (trainer or {}).get('callbacks', ())]
    named = [(entry.pop('_target_'), entry) for entry in entries]
    return [
        (path, options) for path, options in named if path.startswith('nemo_oracle_kd.') and 'teacher' not in options
    ]


def _lhotse(document):
    """The options of a training set that Lhotse loads."""
    model = document.get('model') if isinstance(document, dict) else None
    data = (model or {}).get('train_ds') or {}
    return data if data.get('use_lhotse') else {}


def _losses(document):
    """The transducer loss of a model section, with its options."""
    model = document.get('model') if isinstance(document, dict) else None
    loss = (model or {}).get('loss')
    return [(loss['loss_name'], loss.get(f"{loss['loss_name']}_kwargs"))] if loss else []


@pytest.mark.parametrize('page, body', _in_language('python'))
def test_every_python_block_imports_what_exists_and_its_distillation_is_accepted(page, body):
    tree = ast.parse(body)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith('nemo_oracle_kd'):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], page.name
        if isinstance(node, ast.Call) and getattr(node.func, 'attr', None) == 'set_distillation':
            _check_distillation(ast.literal_eval(node.args[0]))
    known = {alias.asname or alias.name for node in ast.walk(tree) for alias in getattr(node, 'names', ())}
    known |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    known |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    called = {
        node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called - known - set(dir(builtins)) == set(), f'{page.name} calls what it does not import'


@pytest.mark.parametrize('page, line', _that_are('make '))
def test_every_make_target_exists(page, line):
    targets = re.search(r'^\.PHONY: (.*)$', (ROOT / 'Makefile').read_text(), re.M).group(1).split()
    assert [word for word in line.words[1:] if '=' not in word and word not in targets] == [], page.name


@pytest.mark.parametrize('page, line', _that_are('pip install'))
def test_what_a_page_installs_is_this_package_or_one_that_it_needs(page, line):
    setup = (ROOT / 'setup.py').read_text()
    extras = re.search(r'extras_require={(.*?)}', setup, re.S).group(1)
    for word in line.words[2:]:
        extra = re.fullmatch(r'(?:\.|nemo_oracle_kd)\[(\w+)\]', word)
        known = (
            f"'{extra.group(1)}':" in extras if extra else word == '.' or word.startswith('-') or f"'{word}" in setup
        )
        assert known, f'{page.name}: {line.text}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_kind_that_is_checked_or_says_why_not(page):
    assert set(FENCE.findall(page.read_text(encoding='utf-8'))) <= LANGUAGES
    unknown = [line for block in blocks(page, 'bash') for line in lines_of(block) if not line.startswith(STARTERS)]
    assert unknown == [], 'no test knows these commands: check them, or write <!-- not run: why --> before the block'
    shell = [
        line for block in blocks(page, '') for line in lines_of(block) if line.startswith((*STARTERS, *OF_A_SHELL))
    ]
    assert [line for line in shell if not line.startswith(STARTERS)] == []


def test_few_blocks_are_left_unchecked():
    marked = [reason for page in PAGES for reason in NOT_RUN.findall(page.read_text(encoding='utf-8'))]
    assert len(marked) <= 8 and all(len(reason.split()) > 3 for reason in marked)


def test_the_pages_show_commands_of_every_kind():
    assert len(_that_are('nemo-oracle-kd')) > 15 and len(_that_are('python ')) > 15
    assert sum(bool(case.values[1].overrides) for case in TYPED) > 15
    assert len(_in_language('yaml')) > 20 and len(_in_language('python')) > 5

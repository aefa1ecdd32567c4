# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""What a user installs: a wheel and an editable installation, each in a clean environment far from the repository."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import page_plug_ins
import pytest
from clean_environment import ROOT, CleanEnvironment, build_wheel, copy_of_the_source
from registration import IMPORT_NEMO_ALONE, assert_registered

from nemo_oracle_kd.cli.main import main, make_parser
from nemo_oracle_kd.cli.score import _worker

pytestmark = pytest.mark.packaging

PRESETS = sorted(path.stem for path in (ROOT / 'conf/oracle_kd').glob('*.yaml'))

#: an editable installation has the folder of all presets or none, so one of each kind of teacher is enough; of a wheel, any
#: file may be missing
OF_THE_EDITABLE = ['ema', 'frame_kl']

# one process for all presets: most of the time of each would be the start of Hydra
RECIPE = """
import json
import os
import sys

import hydra
from omegaconf import OmegaConf

@hydra.main(config_path='.', config_name='recipe', version_base=None)
def main(cfg):
    composed[preset] = OmegaConf.to_yaml(cfg)

composed = {}
for preset, change in json.loads(sys.argv.pop()).items():
    sys.argv[1:] = ['hydra.run.dir=.', 'hydra.output_subdir=null', f'+oracle_kd={preset}', change]
    try:
        main()
    except SystemExit:
        pass
print(json.dumps(composed))
"""
#: does what a worker of a command does: it is told by its parent, in a pickle, what to call
WORKER = """
import pickle
with open(sys.argv.pop(), 'rb') as told:
    work, arguments = pickle.load(told)
work(*arguments)
"""
RECIPE_CONFIG = """
trainer:
  callbacks:
    - _target_: lightning.pytorch.callbacks.LearningRateMonitor
"""


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    return copy_of_the_source(tmp_path_factory.mktemp('source') / 'repository')


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='module', params=['wheel', 'editable'])
def environment(request, source, wheel, tmp_path_factory):
    environment = CleanEnvironment(tmp_path_factory.mktemp(request.param) / 'venv')
    absent = environment.run_python('import nemo_oracle_kd', check=False)
    assert "No module named 'nemo_oracle_kd'" in absent.stderr, "the environment already had the package"
    environment.install(*([wheel] if request.param == 'wheel' else ['-e', source]))
    environment.kind = request.param
    return environment


def test_the_wheel_holds_the_presets_the_plugin_and_the_type_marker_but_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f'nemo_oracle_kd/conf/oracle_kd/{name}.yaml' for name in PRESETS} <= names
    assert {'nemo_oracle_kd/py.typed', 'nemo_oracle_kd/conf/__init__.py'} <= names
    assert 'hydra_plugins/nemo_oracle_kd_plugin/plugin.py' in names
    assert 'hydra_plugins/__init__.py' not in names, "it would break other Hydra plug-ins"
    top = {name.split('/')[0] for name in names}
    assert {name for name in top if not name.endswith('.dist-info')} == {'nemo_oracle_kd', 'hydra_plugins'}


def test_the_wheel_holds_every_module_of_the_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / 'nemo_oracle_kd').rglob('*.py')} <= names


@pytest.fixture(scope='module')
def worker(tone_corpus, tone_teacher, tmp_path_factory):
    """The second of two workers of `score`, in a pickle; the words of its command; the output."""
    folder = tmp_path_factory.mktemp('worker')
    output = folder / 'out.jsonl'
    words = ['score', '--teacher', tone_teacher, '--manifest', tone_corpus, '--output', output, '--device', 'cpu']
    words = [*map(str, words), '--nbest', '2', '--batch-size', '1', '--workers', '2']
    (folder / 'pickle').write_bytes(pickle.dumps((_worker, (make_parser('score').parse_args(words), 1))))
    return folder / 'pickle', words, output


@pytest.fixture(scope='module')
def with_nemo(environment, worker, tone_corpus, tone_teacher):
    """What a process says that imports NeMo alone, works for `score`, and trains with the plug-ins of docs/adding_an_objective.md.

    Of the wheel only: tests/losses/test_nemo_cuda_kernels.py does the same in the environment of `make venv`, where the
    installation is editable.
    """
    page_plug_ins.install_the_page(environment.folder / 'dependencies')
    code = IMPORT_NEMO_ALONE + WORKER + page_plug_ins.TRAINING
    return environment.run(environment.python, '-c', code, tone_corpus, tone_teacher, worker[0])


@pytest.mark.parametrize('environment', ['wheel'], indirect=True)
def test_importing_nemo_alone_registers_the_package(with_nemo):
    assert_registered(with_nemo.stdout)
    assert str(ROOT) not in with_nemo.stdout, "the package was taken from the repository"


@pytest.mark.parametrize('environment', ['wheel'], indirect=True)
def test_the_plug_ins_of_the_page_train_a_student_beside_plug_ins_that_fail(with_nemo):
    logged = dict(line.split() for line in with_nemo.stdout.splitlines() if line.startswith('train/kd/'))
    assert float(logged['train/kd/reverse_kl']) > 0
    weighted = float(logged['train/kd/reverse_kl_weighted'])
    assert weighted == pytest.approx(0.2 * float(logged['train/kd/reverse_kl']), rel=1e-5)
    told = with_nemo.stderr + with_nemo.stdout
    assert "The objective 'no_loss' of the package no_loss cannot be used: " in told and "'NoSuchLoss'" in told
    assert "The teacher 'no_teacher' of the package no_teacher cannot be used: broken" in told


@pytest.mark.parametrize('environment', ['wheel'], indirect=True)
def test_a_worker_of_score_in_a_fresh_interpreter_makes_its_part_of_the_manifest(
    with_nemo, worker, tmp_path, forked_workers
):
    _, words, output = worker
    whole = tmp_path / 'whole.jsonl'
    alone = [str(whole) if word == str(output) else word for word in words]
    assert main([*alone[:-1], '1']) == 0
    second = output.with_name('out.jsonl.1-of-2')
    content = second.read_bytes()
    assert content and whole.read_bytes().endswith(content) and not output.exists()
    made = second.stat().st_mtime_ns
    assert main([*words[:-2], '--shards', '2', '--shard', '1']) == 0
    assert second.stat().st_mtime_ns == made, 'the part is done'
    assert main(words) == 0
    assert output.read_bytes() == whole.read_bytes() and not second.exists()


@pytest.fixture(scope='module')
def composed(environment, tmp_path_factory):
    """What an app of Hydra makes of each preset, and what it wrote to stderr."""
    folder = tmp_path_factory.mktemp('app')
    (folder / 'recipe.py').write_text(RECIPE)
    (folder / 'recipe.yaml').write_text(RECIPE_CONFIG)
    changes = {}
    for preset in PRESETS if environment.kind == 'wheel' else OF_THE_EDITABLE:
        teaches_itself = '\n  self: ' in (ROOT / f'conf/oracle_kd/{preset}.yaml').read_text()
        changes[preset] = f"oracle_kd.teacher.{'self=ema' if teaches_itself else 'restore_from=t.nemo'}"
    run = environment.run(environment.python, 'recipe.py', json.dumps(changes), cwd=folder)
    return json.loads(run.stdout.splitlines()[-1]), changes, run.stderr


def test_any_hydra_app_composes_every_preset_and_keeps_its_own_callbacks(composed):
    outputs, changes, errors = composed
    assert list(outputs) == list(changes) and len(changes) >= len(OF_THE_EDITABLE), errors
    for preset, output in outputs.items():
        told = changes[preset].removeprefix('oracle_kd.teacher.').replace('=', ': ')
        assert 'LearningRateMonitor' in output, preset
        assert 'oracle_kd:\n' in output and told in output and 'objectives:\n' in output, preset


def test_the_console_command_runs_and_finds_the_installed_presets(environment):
    command = environment.folder / 'bin' / 'nemo-oracle-kd'
    assert environment.run(command, '--version').stdout.startswith('nemo-oracle-kd 0.')
    listed = [line.split()[0] for line in environment.run(command, 'presets').stdout.splitlines()]
    assert listed == PRESETS and PRESETS


def test_the_entry_point_for_hydra_names_the_plugin_class(environment):
    code = (
        "from importlib.metadata import distribution\n"
        "entries = distribution('nemo_oracle_kd').entry_points\n"
        "print([entry.load().__name__ for entry in entries if entry.group == 'hydra.plugins'])"
    )
    assert environment.run_python(code).stdout.strip() == "['OracleKDSearchPathPlugin']"


def test_the_pinned_versions_are_those_of_the_dependencies_and_hold_no_local_build():
    lines = [line for line in (ROOT / 'constraints.txt').read_text().splitlines() if not line.startswith('#')]
    names = {line.split('==')[0].lower().replace('_', '-') for line in lines}
    assert all(line.count('==') == 1 and '+' not in line for line in lines)
    assert {'torch', 'nemo-toolkit', 'lightning', 'hydra-core', 'setuptools', 'pytest', 'ruff', 'black'} <= names
    assert 'nemo-oracle-kd' not in names


def test_the_makefile_goes_on_after_an_interrupted_installation_and_skips_a_finished_one(tmp_path):
    for name in ('Makefile', 'setup.py', 'constraints.txt'):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    dry_run = ['make', '-n', '-C', str(tmp_path), 'venv']
    (tmp_path / '.venv').mkdir()
    unfinished = subprocess.run(dry_run, capture_output=True, text=True, check=True).stdout
    assert '.ci/install' in unfinished
    (tmp_path / '.venv/.installed').touch()
    assert '.ci/install' not in subprocess.run(dry_run, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize('no_uv', ['', '1'])
def test_packages_come_from_where_pip_is_told_to_look_with_and_without_uv(tmp_path, no_uv):
    described = 'Metadata-Version: 2.1\nName: found-here\nVersion: 1\n'
    tagged = 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
    content = {
        'found_here.py': '',
        'found_here-1.dist-info/METADATA': described,
        'found_here-1.dist-info/WHEEL': tagged,
    }
    links = [tmp_path / 'empty', tmp_path / 'links']
    for folder in links:
        folder.mkdir()
    with zipfile.ZipFile(links[1] / 'found_here-1-py3-none-any.whl', 'w') as wheel:
        listed = ''.join(f'{name},,\n' for name in [*content, 'found_here-1.dist-info/RECORD'])
        for name, text in {**content, 'found_here-1.dist-info/RECORD': listed}.items():
            wheel.writestr(name, text)
    environment = {**os.environ, 'PIP_FIND_LINKS': ' '.join(map(str, links)), 'NO_UV': no_uv}
    words = [ROOT / '.ci/install', sys.executable, '--no-index', '--target', tmp_path / 'installed', 'found-here']
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'installed/found_here.py').is_file()
    assert ('Successfully installed' in done.stdout) == bool(no_uv)  # the words of pip


def test_continuous_integration_runs_make_test():
    script = ROOT / '.ci/run'
    assert 'make test' in script.read_text() and script.stat().st_mode & 0o100
    assert Path(sys.executable).exists()
